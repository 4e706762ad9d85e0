//! What the service manager is told (sd_notify(3)): ready, alive, reloading, stopping. Where there is none, nobody is told.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// A service manager that does not read is told nothing after this time; the next round tries again.
const PATIENCE: Duration = Duration::from_millis(100);

/// The agent is attached and serves, or a reload is over.
pub(super) fn ready() {
    tell("READY=1");
}

/// The poll loop went round; what it found goes into `systemctl status`. Feeds the watchdog.
pub(super) fn alive(status: &str) {
    tell(&format!("WATCHDOG=1\nSTATUS={status}"));
}

/// The configuration is read again.
pub(super) fn reloading() {
    tell("RELOADING=1");
}

/// The agent ends.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Ok(manager) = env::var("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&manager, state) {
        log::debug!("the service manager cannot be told: {error}");
    }
}

fn send(manager: &str, state: &str) -> io::Result<()> {
    let address = match manager.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(manager)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
