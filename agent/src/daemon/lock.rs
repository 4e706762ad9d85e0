//! One agent per network namespace.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use anyhow::{Context as _, bail};

/// An abstract socket lives in the network namespace, needs no file, and goes with its process however that ends.
const NAME: &str = "tcpwarden";

/// Held while the agent runs.
pub(super) struct Lock {
    _listener: UnixListener,
}

/// Takes the lock of this network namespace.
pub(super) fn acquire() -> anyhow::Result<Lock> {
    let address = SocketAddr::from_abstract_name(NAME).context("abstract sockets are not supported")?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Lock { _listener: listener }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(&address) {
            Some(pid) => {
                bail!("another tcpwarden (pid {pid}) is running in this network namespace; stop it first")
            }
            None => bail!("another tcpwarden is running in this network namespace; stop it first"),
        },
        Err(error) => Err(error).context("cannot take the lock @tcpwarden"),
    }
}

/// The process that holds the lock.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    Some(credentials.pid.as_raw_nonzero().get())
}
