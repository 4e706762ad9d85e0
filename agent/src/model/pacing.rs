//! How long to wait until the next census, so that the agent stays within its share of a core.

use std::time::Duration;

/// The interval at which a census that took `cost` of CPU time uses `budget` of one core, within `(min, max)`.
#[must_use]
pub fn next_interval(cost: Duration, budget: f64, (min, max): (Duration, Duration)) -> Duration {
    Duration::try_from_secs_f64(cost.as_secs_f64() / budget).unwrap_or(max).clamp(min, max)
}

#[cfg(test)]
mod tests {
    use super::next_interval;
    use proptest::prelude::*;
    use std::time::Duration;

    const RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

    #[test]
    fn a_cheap_census_is_taken_every_second_and_a_dear_one_rarely() {
        let after = |ms| next_interval(Duration::from_millis(ms), 0.01, RANGE);
        assert_eq!(after(2), Duration::from_secs(1));
        assert_eq!(after(80), Duration::from_secs(8));
        assert_eq!(after(5_000), Duration::from_mins(1));
    }

    proptest! {
        #[test]
        fn the_budget_holds_below_the_longest_interval(cost_us in 0_u64..10_000_000, budget in 0.0001_f64..1.0) {
            let cost = Duration::from_micros(cost_us);
            let interval = next_interval(cost, budget, RANGE);
            prop_assert!(interval >= RANGE.0 && interval <= RANGE.1);
            if interval < RANGE.1 {
                prop_assert!(cost.as_secs_f64() <= interval.as_secs_f64() * budget * 1.000_001);
            }
        }
    }
}
