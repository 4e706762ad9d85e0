//! The host's own figures: settings, counters, accept queues, what watched names list, and what the agent itself uses.

mod counters;
mod listeners;
pub mod names;
mod process;
mod sysctl;

pub use counters::{Counters, SocketStats};
pub use listeners::{ListenQueue, listen_queues};
pub use process::{ProcessUsage, most_open_files};
pub use sysctl::{ephemeral_port_count, ephemeral_ports, read as sysctls, value as sysctl};

/// The host's name.
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
