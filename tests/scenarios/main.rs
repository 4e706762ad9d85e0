//! Every scenario plays on a kernel and needs root; where either is missing it fails and says so.

#![expect(clippy::panic, clippy::expect_used, reason = "tests fail by panicking")]

mod census;
mod endings;
mod faults;
mod metrics;
mod preexisting;
