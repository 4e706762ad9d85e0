//! The lab: hosts as network namespaces joined by veth, real clients and servers as processes of their own, and ground
//! truth taken by other means than the agent's code.
//!
//! Everything a test makes is a value; dropping it takes it away again, in reverse order, also when the test fails.
//! Helpers panic rather than return errors, so that a failure shows where it happened.

#![deny(missing_docs)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "helpers of tests fail by panicking"
)]

pub mod aborted_early;
pub mod agent;
pub mod alarms;
mod alert_table;
pub mod alerting;
pub mod attaching;
pub mod browser;
pub mod capture;
pub mod certificates;
pub mod dashboard;
pub mod dns;
pub mod ephemeral_ports;
pub mod failover;
pub mod fleet;
pub mod half_open;
pub mod hanging_dependency;
pub mod healthy;
pub mod host;
pub mod http;
pub mod inconclusive;
pub mod journal;
pub mod lan;
pub mod machine;
pub mod monitoring;
pub mod nat;
pub mod nginx;
pub mod pod;
mod process;
pub mod reports;
pub mod screen;
pub mod soak;
pub mod stale_address;
pub mod story;
pub mod suite;
pub mod topology;
pub mod traffic;
pub mod truth;
mod witness;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Asks `check` again and again until it is content; panics with its last complaint after `patience`.
pub fn eventually(patience: Duration, check: impl FnMut() -> Result<(), String>) {
    if let Err(complaint) = within(patience, check) {
        panic!("after {patience:?}: {complaint}");
    }
}

/// As [`eventually`], but returns what `check` found, or the last complaint.
///
/// # Errors
/// What `check` complained of after `patience`.
pub fn within<T, E>(patience: Duration, mut check: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(found) => return Ok(found),
            Err(complaint) if Instant::now() >= deadline => return Err(complaint),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Major and minor version of the running kernel.
#[must_use]
pub fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().expect("a release is text").split(['.', '-']);
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).expect("a release has numbers");
    (next(), next())
}

/// A path of the workspace.
pub(crate) fn workspace(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Names the agent to be used instead of the one that is built beside the running test: as it is shipped, say.
const AGENT: &str = "LAB_AGENT";

/// A program of this workspace, built beside the running test.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    if let Some(agent) = std::env::var_os(AGENT).filter(|_| name == "tcpwarden") {
        return agent.into();
    }
    let own = std::env::current_exe().expect("it has a path");
    // Tests are built in target/<profile>/deps, programs above it.
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = beside.into_iter().find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; `cargo xtask test` builds it"))
}
