//! `icm upgrade`: sends USR2 to the process in `pingora.pid_file`, which then starts the new executable, and waits for the
//! result. Success shows in the pid file; the reason of a failure comes from the admin listener of the old process.

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

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Added to the timeouts of the handover itself.
const EXTRA_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = "Rules:
  First replace the executable file. icm upgrade then makes the running process start it with the same arguments; the \
new process reads the configuration again and takes over the listening sockets. When it is ready, the old process \
accepts no more connections and finishes its requests within pingora.grace_period_seconds.
  If the new process fails, hangs or rejects the configuration, the old process goes on. pingora.pid_file must be set.

Exit codes:
  0   the new process serves
  1   the upgrade failed and the old process goes on, or no process runs
  64  wrong arguments

Example:
  install -m 755 icm /usr/local/bin/icm && icm upgrade -c /etc/icm/icm.yaml")]
pub struct UpgradeArgs {
    #[command(flatten)]
    admin_target: AdminTarget,
}

/// # Errors
/// If no new process took over.
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

/// Returns the process IDs of the old and of the new process.
fn upgrade(admin_target: &AdminTarget) -> anyhow::Result<(i32, i32)> {
    let conf = admin_target.conf.as_deref().ok_or_else(|| anyhow!("-c FILE is needed"))?;
    let loaded =
        config::load(conf).map_err(|errors| anyhow!("no upgrade, the running process goes on:\n{errors}"))?;
    let Some(pid_file) = loaded.settings.pid_file else {
        bail!("{}: pingora.pid_file is needed to find the running process", conf.display());
    };
    let old = read_pid(&pid_file)
        .with_context(|| format!("no process runs according to {}", pid_file.display()))?;
    if kill(Pid::from_raw(old), None) == Err(Errno::ESRCH) {
        bail!("no process runs: {} contains process {old}, which has ended", pid_file.display());
    }
    if !handles_usr2(old) {
        bail!("process {old} in {} is not icm: it does not handle USR2", pid_file.display());
    }
    // The admin listener is optional: it only reports why an upgrade failed.
    let admin = admin_target.connect().ok().flatten();
    let upgrade_status = |admin: &Option<AdminClient>| -> Option<Value> {
        let (_, status) = admin.as_ref()?.send(Method::GET, "/status").ok()?;
        (status.get("pid").and_then(Value::as_i64) == Some(old.into()))
            .then(|| status.get("upgrade").cloned())?
    };
    let before = upgrade_status(&admin);
    if state(&before) == Some("running") {
        bail!("an upgrade of process {old} is already under way");
    }
    let attempts = |upgrade_status: &Option<Value>| upgrade_status.as_ref()?.get("attempts")?.as_u64();
    kill(Pid::from_raw(old), Signal::SIGUSR2)
        .with_context(|| format!("cannot send a signal to process {old}"))?;
    let (begin, timeout) = (Instant::now(), HELLO_TIMEOUT + READY_TIMEOUT + STEP_TIMEOUT + EXTRA_TIMEOUT);
    while begin.elapsed() < timeout {
        std::thread::park_timeout(POLL_INTERVAL);
        if let Ok(new) = read_pid(&pid_file)
            && new != old
            && kill(Pid::from_raw(new), None) != Err(Errno::ESRCH)
        {
            // The new process writes the file just before it serves. If it then fails, the old process goes on.
            if before.is_none()
                || upgrade_status(&admin)
                    .is_none_or(|upgrade_status| state(&Some(upgrade_status)) == Some("handed_over"))
            {
                return Ok((old, new));
            }
            continue;
        }
        if kill(Pid::from_raw(old), None) == Err(Errno::ESRCH) {
            bail!("process {old} has ended, but no new process serves: see its log");
        }
        let now = upgrade_status(&admin);
        if attempts(&now) > attempts(&before) && state(&now) == Some("failed") {
            let reason = now.as_ref().and_then(|now| now.get("reason")?.as_str()).unwrap_or_default();
            bail!("upgrade failed, process {old} goes on: {reason}");
        }
    }
    let why =
        if before.is_none() { "its admin listener does not answer; see its log" } else { "see its log" };
    bail!("no new process after {}, process {old} goes on; {why}", humantime::format_duration(timeout))
}

fn state(upgrade_status: &Option<Value>) -> Option<&str> {
    upgrade_status.as_ref()?.get("state")?.as_str()
}

fn read_pid(pid_file: &Path) -> anyhow::Result<i32> {
    let text = std::fs::read_to_string(pid_file)?;
    let pid: i32 = text.trim().parse().with_context(|| format!("`{}` is not a process ID", text.trim()))?;
    // 0 and negative numbers are process groups.
    if pid > 1 { Ok(pid) } else { bail!("`{pid}` is not a process ID") }
}

/// The process has a handler for USR2. Without one the signal would end it, and a stale pid file may contain any process.
fn handles_usr2(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_none_or(|mask| mask >> (Signal::SIGUSR2 as u32 - 1) & 1 == 1)
}
