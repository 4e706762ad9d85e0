//! The host's own figures: settings, counters, accept queues, and what the agent itself uses.

mod counters;
mod listeners;
mod process;
mod sysctl;

pub use counters::{Counters, SocketStats};
pub use listeners::{ListenQueue, listen_queues};
pub use process::ProcessUsage;
pub use sysctl::{ephemeral_ports, read as sysctls, value as sysctl};
