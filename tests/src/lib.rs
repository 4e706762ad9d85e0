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

pub mod agent;
pub mod capture;
pub mod host;
pub mod nat;
pub mod topology;
pub mod traffic;
pub mod truth;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Asks `check` again and again until it is content; panics with its last complaint after `patience`.
pub fn eventually(patience: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(()) => return,
            Err(complaint) => assert!(Instant::now() < deadline, "after {patience:?}: {complaint}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// A program of this workspace, built beside the running test.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let directory = test.parent().and_then(Path::parent).expect("tests are built in target/<profile>/deps");
    let program = directory.join(name);
    assert!(program.is_file(), "{} is not built; `cargo xtask test` builds it", program.display());
    program
}
