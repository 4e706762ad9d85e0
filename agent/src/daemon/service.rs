//! What the service manager is told (sd_notify(3)): ready, alive, reloading, stopping. Where there is none, nobody is told.

use libsystemd::daemon::{NotifyState, notify};

/// The agent is attached and serves, or a reload is over.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The poll loop went round; what it found goes into `systemctl status`. Feeds the watchdog.
pub(super) fn alive(status: String) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
}

/// The configuration is read again.
pub(super) fn reloading() {
    tell(&[NotifyState::Reloading]);
}

/// The agent ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = notify(false, states) {
        log::debug!("the service manager cannot be told: {error}");
    }
}
