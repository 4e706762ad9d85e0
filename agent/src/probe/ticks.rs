//! How long the kernel's own tick takes. It stamps sockets in ticks, and tells nobody without rights how many make a second
//! (CONFIG_HZ: 100 to 1000).

use std::time::Duration;

/// Readings that are closer to each other tell too little.
const APART_NS: u64 = 500_000_000;

/// Told from two readings of both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ticks {
    first: Option<(u32, u64)>,
    per_second: Option<f64>,
}

impl Ticks {
    /// Takes a reading of the tick counter and of the monotonic clock, in nanoseconds; 0 is none.
    pub fn observe(&mut self, ticks: u32, at_ns: u64) {
        if at_ns == 0 || self.per_second.is_some() {
            return;
        }
        let (first, first_ns) = *self.first.get_or_insert((ticks, at_ns));
        let apart = at_ns.saturating_sub(first_ns);
        if apart >= APART_NS {
            let per_second = f64::from(ticks.wrapping_sub(first)) * 1e9 / apart as f64;
            self.per_second = (per_second > 0.0).then_some(per_second);
        }
    }

    /// How many ticks a time takes; 0 while that is not known.
    pub fn within(&self, time: Duration) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        self.per_second.map_or(0, |per_second| (time.as_secs_f64() * per_second) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_a_second_apart_tell_the_tick() {
        let mut ticks = Ticks::default();
        ticks.observe(0, 0);
        ticks.observe(u32::MAX - 9, 1_000_000_000);
        ticks.observe(u32::MAX, 1_040_000_000);
        assert_eq!(ticks.within(Duration::from_secs(10)), 0, "not known so soon");
        ticks.observe(240, 2_000_000_000);
        assert_eq!(ticks.within(Duration::from_secs(10)), 2_500);
    }
}
