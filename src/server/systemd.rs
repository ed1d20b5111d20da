//! Notifies systemd through the socket in `NOTIFY_SOCKET`, if there is one
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>). Errors are only logged.

use sd_notify::NotifyState;

/// The process serves, after its start or a reload; `systemctl status` shows `status`.
pub fn ready(status: &str) {
    // systemd would read further lines as further messages.
    let line = status.lines().next().unwrap_or_default();
    let ours = NotifyState::MainPid(std::process::id());
    notify(&[NotifyState::Ready, ours, NotifyState::Status(line)]);
}

/// A reload begins. With its time, systemd distinguishes the next READY from an earlier one.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading the configuration")]),
        Err(error) => log::warn!(target: "icm::lifecycle", "cannot notify systemd of the reload: {error}"),
    }
}

/// Makes the new process the main process of the service. It notifies systemd too, but with `NotifyAccess=main` systemd
/// accepts that only after this message. STOPPING is not sent, because the service goes on.
pub fn main_process_changed(to: u32) {
    notify(&[NotifyState::MainPid(to)]);
}

pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn notify(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!(target: "icm::lifecycle", "cannot notify systemd: {error}");
    }
}
