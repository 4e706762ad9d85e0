//! How long the kernel's own tick takes, with which it stamps sockets (CONFIG_HZ: 100 to 1000 in a second).

use rustix::time::{ClockId, clock_getres};

/// One tick in nanoseconds: that is how finely the coarse clocks are told (kernel/time/posix-timers.c posix_get_coarse_res(), 5.10 to 6.18).
pub(super) fn tick_ns() -> u64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    u64::try_from(tick.tv_nsec).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_100_to_1000_ticks() {
        assert!((1_000_000..=10_000_000).contains(&tick_ns()), "{}", tick_ns());
    }
}
