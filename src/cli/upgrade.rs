//! `icm upgrade`: a new program in the place of a running one.
//!
//! In: the configuration file, whose `pingora.pid_file` names the process. Out: USR2 to it, then what became of
//! that: by the pid file, and, where it failed, in the words of the process itself. It starts nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use http::Method;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::admin::{AdminClient, AdminTarget};
use crate::config;
use crate::server::handover::{HELLO_TIMEOUT, READY_TIMEOUT, STEP_TIMEOUT};

/// How often it looks.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Beyond what the running process itself waits at most.
const EXTRA_TIMEOUT: Duration = Duration::from_secs(15);

/// What `upgrade` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Rules:
  The running process starts the file that it was started from, which may have been replaced, with the same
  arguments and its configuration read anew. The new process gets the listening sockets; when it is ready, the old one
  stops accepting and finishes what it has begun, within pingora.grace_period_seconds. If the new one fails, hangs or
  refuses its configuration, the old one serves on. pingora.pid_file is needed.

Exit codes:
  0 the new process serves   1 the old process serves on, or none runs, and why   64 wrong arguments

Example:
  install -m 755 icm /usr/local/bin/icm && icm upgrade -c /etc/icm/icm.yaml")]
pub struct UpgradeArgs {
    #[command(flatten)]
    admin_target: AdminTarget,
}

/// Runs it.
///
/// # Errors
/// When there is no new process in the end; the message says why.
pub fn run(arguments: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let admin_target = &arguments.admin_target;
    let outcome = upgrade(admin_target);
    if admin_target.json {
        let text = match &outcome {
            Ok((old, new)) => json!({ "ok": true, "old": old, "new": new }),
            Err(error) => json!({ "ok": false, "reason": format!("{error:#}") }),
        };
        println!("{text:#}");
        return Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let (old, new) = outcome?;
    println!("process {new} serves; process {old} finishes what it has begun and ends");
    Ok(ExitCode::SUCCESS)
}

/// Out: the old process and the new one.
fn upgrade(admin_target: &AdminTarget) -> anyhow::Result<(i32, i32)> {
    let conf = admin_target.conf.as_deref().ok_or_else(|| anyhow!("-c FILE is needed"))?;
    let loaded = config::load(conf)
        .map_err(|errors| anyhow!("nothing was done, the running process serves on:\n{errors}"))?;
    let Some(pid_file) = loaded.settings.pid_file else {
        bail!("{}: pingora.pid_file is needed, the running process is found by it", conf.display());
    };
    let old = read_pid(&pid_file)
        .with_context(|| format!("no process runs, as far as {} says", pid_file.display()))?;
    if kill(Pid::from_raw(old), None) == Err(Errno::ESRCH) {
        bail!("no process runs: {} names process {old}, which is gone", pid_file.display());
    }
    if !handles_usr2(old) {
        bail!("process {old}, which {} names, is not icm: it does not take USR2", pid_file.display());
    }
    // Its words are wanted only if it fails: an admin listener that cannot be asked is no obstacle.
    let admin = admin_target.connect().ok().flatten();
    let upgrade_status = |admin: &Option<AdminClient>| -> Option<Value> {
        let (_, status) = admin.as_ref()?.send(Method::GET, "/status").ok()?;
        (status.get("pid").and_then(Value::as_i64) == Some(old.into()))
            .then(|| status.get("upgrade").cloned())?
    };
    let before = upgrade_status(&admin);
    if state(&before) == Some("running") {
        bail!("an upgrade of process {old} is under way already");
    }
    let attempts = |upgrade_status: &Option<Value>| upgrade_status.as_ref()?.get("attempts")?.as_u64();
    kill(Pid::from_raw(old), Signal::SIGUSR2)
        .with_context(|| format!("process {old} cannot be signalled"))?;
    let (begin, timeout) = (Instant::now(), HELLO_TIMEOUT + READY_TIMEOUT + STEP_TIMEOUT + EXTRA_TIMEOUT);
    while begin.elapsed() < timeout {
        std::thread::park_timeout(POLL_INTERVAL);
        if let Ok(new) = read_pid(&pid_file)
            && new != old
            && kill(Pid::from_raw(new), None) != Err(Errno::ESRCH)
        {
            // The new process writes the file just before it serves; if it fails in between, the old one does.
            if before.is_none()
                || upgrade_status(&admin)
                    .is_none_or(|upgrade_status| state(&Some(upgrade_status)) == Some("handed_over"))
            {
                return Ok((old, new));
            }
            continue;
        }
        if kill(Pid::from_raw(old), None) == Err(Errno::ESRCH) {
            bail!("process {old} has ended, and no new one serves: see its log");
        }
        let now = upgrade_status(&admin);
        if attempts(&now) > attempts(&before) && state(&now) == Some("failed") {
            let reason = now.as_ref().and_then(|now| now.get("reason")?.as_str()).unwrap_or_default();
            bail!("upgrade failed, process {old} serves on: {reason}");
        }
    }
    let why = if before.is_none() {
        "its admin listener could not be asked, its log says why"
    } else {
        "see its log"
    };
    bail!("no new process after {}, process {old} serves on; {why}", humantime::format_duration(timeout))
}

fn state(upgrade_status: &Option<Value>) -> Option<&str> {
    upgrade_status.as_ref()?.get("state")?.as_str()
}

fn read_pid(pid_file: &Path) -> anyhow::Result<i32> {
    let text = std::fs::read_to_string(pid_file)?;
    let pid: i32 = text.trim().parse().with_context(|| format!("`{}` is no process", text.trim()))?;
    // 0 and below are groups of processes.
    if pid > 1 { Ok(pid) } else { bail!("`{pid}` is no process") }
}

/// Whether it has a handler: USR2 ends a process that has none, and a stale pid file may name anybody.
fn handles_usr2(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_none_or(|mask| mask >> (Signal::SIGUSR2 as u32 - 1) & 1 == 1)
}
