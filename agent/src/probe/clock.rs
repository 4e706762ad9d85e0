//! The clock of the kernel side.

use rustix::time::{ClockId, clock_gettime};

/// The time now as `bpf_ktime_get_ns()` has it: CLOCK_MONOTONIC, in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
