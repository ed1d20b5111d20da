//! What is done to a server while nobody uses it: a command of the administrator, or the administrator, who presses Enter.
//! Both are asked for their end again and again, because the balancer is observed meanwhile.

use std::io::{BufRead, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::observe::ObservedServer;

/// From TERM to KILL when the hook takes too long.
const KILL_AFTER: Duration = Duration::from_secs(10);

/// The work at one server, under way.
pub(super) enum RunningHook {
    Command {
        child: Child,
        began: Instant,
        own_group: bool,
        terminated: Option<Instant>,
    },
    /// A line from the terminal.
    Question(Receiver<bool>),
}

/// How the work is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HookStatus {
    Running,
    Succeeded,
    Failed(String),
}

/// Starts the command. Its output goes where ours goes; with `json` standard output is ours alone.
///
/// # Errors
/// If there is no `sh`.
pub(super) fn start_command(
    command: &str,
    cluster: &str,
    server: &ObservedServer,
    json: bool,
) -> anyhow::Result<RunningHook> {
    let is_terminal = std::io::stdin().is_terminal();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    for (name, value) in environment(cluster, server) {
        shell.env(name, value);
    }
    if json {
        shell.stdout(std::io::stderr());
    }
    // At a terminal it stays in our group, because only the terminal's own group may ask for a password, and Ctrl-C reaches
    // it. Elsewhere it gets a group, so that all of it can be ended.
    if !is_terminal {
        shell.stdin(Stdio::null()).process_group(0);
    }
    let child = shell.spawn().context("cannot start sh")?;
    Ok(RunningHook::Command { child, began: Instant::now(), own_group: !is_terminal, terminated: None })
}

/// What the hook is told about the server.
fn environment(cluster: &str, server: &ObservedServer) -> [(&'static str, String); 6] {
    let common = server.name.split('/').next().unwrap_or_default();
    [
        ("ICM_SERVER", server.name.clone()),
        ("ICM_SERVER_COMMON", common.to_owned()),
        ("ICM_HOSTNAME", server.hostname.clone()),
        ("ICM_CLUSTER", cluster.to_owned()),
        ("ICM_HTTP", server.http.clone().unwrap_or_default()),
        ("ICM_HTTPS", server.https.clone().unwrap_or_default()),
    ]
}

/// The process of a command and when it began, so that a later run recognises it although process IDs are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookProcess {
    pub pid: u32,
    /// In ticks since the boot of the machine; `None` = unknown.
    started: Option<u64>,
}

impl HookProcess {
    fn of(pid: u32) -> Self {
        Self { pid, started: start_time(pid) }
    }

    pub(super) fn is_running(&self) -> bool {
        self.started.is_some() && start_time(self.pid) == self.started
    }
}

/// When a process began (`starttime` of proc_pid_stat(5)); `None` = there is none, or it has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain blanks and brackets.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

/// Waits for a line at the terminal.
pub(super) fn start_question() -> RunningHook {
    let (sender, receiver) = channel();
    // A thread, because reading a line cannot be interrupted; it ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        let has_line = std::io::stdin().lock().read_line(&mut line).is_ok_and(|length| length > 0);
        let _ = sender.send(has_line);
    });
    RunningHook::Question(receiver)
}

impl RunningHook {
    /// `None` for a question.
    pub(super) fn process(&self) -> Option<HookProcess> {
        match self {
            Self::Command { child, .. } => Some(HookProcess::of(child.id())),
            Self::Question(_) => None,
        }
    }

    /// Whether it has ended. A command that runs longer than `timeout` is ended.
    ///
    /// # Errors
    /// If the system refuses to say it.
    pub(super) fn poll(&mut self, timeout: Duration) -> anyhow::Result<HookStatus> {
        match self {
            Self::Question(receiver) => Ok(match receiver.try_recv() {
                Ok(true) => HookStatus::Succeeded,
                Err(TryRecvError::Empty) => HookStatus::Running,
                Ok(false) | Err(TryRecvError::Disconnected) => {
                    HookStatus::Failed("standard input was closed before Enter was pressed".to_owned())
                }
            }),
            Self::Command { child, began, own_group, terminated } => {
                let limit = humantime::format_duration(timeout);
                if let Some(status) = child.try_wait()? {
                    return Ok(match terminated {
                        Some(_) => HookStatus::Failed(format!("it ran longer than {limit} and was ended")),
                        None if status.success() => HookStatus::Succeeded,
                        None => HookStatus::Failed(status.to_string()),
                    });
                }
                match terminated {
                    None if began.elapsed() >= timeout => {
                        send(child, *own_group, Signal::SIGTERM);
                        *terminated = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() >= KILL_AFTER => send(child, *own_group, Signal::SIGKILL),
                    _ => {}
                }
                Ok(HookStatus::Running)
            }
        }
    }

    /// Asks the command to end, once for each call; the terminal's Ctrl-C has reached it already.
    pub(super) fn interrupt(&mut self) {
        if let Self::Command { child, own_group: true, .. } = self {
            send(child, true, Signal::SIGTERM);
        }
    }

    /// Waits until the command has ended, for a short time.
    pub(super) fn wait_for_end(&mut self, pause: impl FnMut() -> bool) {
        let mut pause = pause;
        let began = Instant::now();
        while let Self::Command { child, .. } = self
            && matches!(child.try_wait(), Ok(None))
            && began.elapsed() < KILL_AFTER
            && pause()
        {}
    }
}

fn send(child: &Child, own_group: bool, signal: Signal) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let pid = Pid::from_raw(pid);
    // It may just have ended.
    let _ = if own_group { killpg(pid, signal) } else { kill(pid, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &str, timeout: Duration) -> HookStatus {
        let server = ObservedServer {
            name: "Web1/Acme".into(),
            hostname: "web1.acme.example".into(),
            http: Some("10.0.0.1:80".into()),
            ..ObservedServer::default()
        };
        let mut hook = start_command(command, "AcmeWeb", &server, false).unwrap();
        loop {
            match hook.poll(timeout).unwrap() {
                HookStatus::Running => std::thread::park_timeout(Duration::from_millis(5)),
                ended => return ended,
            }
        }
    }

    #[test]
    fn the_hook_knows_its_server_and_its_exit_code_counts() {
        let long = Duration::from_secs(600);
        let all = "$ICM_SERVER $ICM_SERVER_COMMON $ICM_HOSTNAME $ICM_CLUSTER $ICM_HTTP [$ICM_HTTPS]";
        let expected = "Web1/Acme Web1 web1.acme.example AcmeWeb 10.0.0.1:80 []";
        assert_eq!(run(&format!("test \"{all}\" = \"{expected}\""), long), HookStatus::Succeeded);
        let HookStatus::Failed(why) = run("exit 7", long) else { panic!("it failed") };
        assert!(why.contains('7'), "{why}");
    }

    #[test]
    fn a_running_hook_is_recognised_later() {
        let server = ObservedServer::default();
        let mut hook = start_command("sleep 600", "A", &server, false).unwrap();
        let process = hook.process().unwrap();
        assert!(process.is_running());
        assert!(!HookProcess { started: process.started.map(|at| at + 1), ..process }.is_running());
        hook.interrupt();
        hook.wait_for_end(|| {
            std::thread::park_timeout(Duration::from_millis(5));
            true
        });
        assert!(!process.is_running());
    }

    #[test]
    fn a_hook_that_runs_too_long_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let command = format!("sleep 600 & echo $! > {}; wait", file.display());
        let HookStatus::Failed(why) = run(&command, Duration::from_secs(2)) else { panic!("it was ended") };
        assert!(why.contains("longer than 2s"), "{why}");
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        // An orphan may remain as a zombie until init collects it.
        let is_gone = || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        for _ in 0..2_000 {
            if is_gone() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("the child of the hook still runs");
    }
}
