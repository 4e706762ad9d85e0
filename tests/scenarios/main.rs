//! Every scenario plays on a kernel and needs root; where either is missing it fails and says so.

mod census;
mod endings;
mod faults;
mod metrics;
mod preexisting;
