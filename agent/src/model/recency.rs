//! Who has been busy of late: the same memory for everything that is chosen by it.

use std::time::Duration;

/// Half of the recent events are forgotten in this time.
const HALF_LIFE: Duration = Duration::from_mins(1);

/// Whoever is chosen already counts this much heavier, so that two of equal weight do not take turns.
pub(super) const STAY: f64 = 1.25;

/// What is left of a weight after `elapsed`, as a factor.
pub(super) fn decay(elapsed: Duration) -> f64 {
    0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64())
}
