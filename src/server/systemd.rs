//! What systemd is told: ready, reloading, handed over, stopping, and by which process.
//!
//! In: turns in the life of the process. Out: datagrams to the socket that `NOTIFY_SOCKET` names; without one,
//! nothing happens. It never fails anybody: what cannot be said is logged.
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use sd_notify::NotifyState;

/// Serves, as it began to or as a reload left it; `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    // A status of several lines would be read as several messages.
    let line = status.lines().next().unwrap_or_default();
    let ours = NotifyState::MainPid(std::process::id());
    notify(&[NotifyState::Ready, ours, NotifyState::Status(line)]);
}

/// A reload begins. systemd wants the time of it, to tell the next READY from one that is late.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading the configuration")]),
        Err(error) => log::warn!(target: "icm::lifecycle", "systemd is not told of the reload: {error}"),
    }
}

/// From now on that process is the service's. It says so itself, too, but systemd listens to it only after this
/// where the unit has `NotifyAccess=main`. Nothing is said of stopping: the service does not.
pub fn main_process_changed(to: u32) {
    notify(&[NotifyState::MainPid(to)]);
}

/// Requests in flight finish, then the process ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn notify(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!(target: "icm::lifecycle", "systemd cannot be told: {error}");
    }
}
