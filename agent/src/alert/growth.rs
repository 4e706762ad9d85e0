//! How much a counter grew within the last minute.

use std::{collections::VecDeque, time::Duration};

const MINUTE: Duration = Duration::from_mins(1);

/// The readings of a counter over the last minute.
#[derive(Debug, Default)]
pub(super) struct Growth {
    readings: VecDeque<(Duration, u64)>,
}

impl Growth {
    /// Takes a reading; returns how much the counter grew in the minute before it, from the first reading on.
    pub fn update(&mut self, now: Duration, value: u64) -> u64 {
        self.readings.push_back((now, value));
        // One reading from a minute ago, or the last before it, is what is counted from.
        while self.readings.get(1).is_some_and(|&(at, _)| now.saturating_sub(at) >= MINUTE) {
            self.readings.pop_front();
        }
        self.readings.front().map_or(0, |&(_, first)| value.saturating_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_last_minute() {
        let mut growth = Growth::default();
        let s = Duration::from_secs;
        assert_eq!(growth.update(s(5), 1_000), 0, "what was before is not ours");
        assert_eq!(growth.update(s(6), 1_003), 3);
        assert_eq!(growth.update(s(30), 1_003), 3);
        assert_eq!(growth.update(s(65), 1_004), 4);
        assert_eq!(growth.update(s(66), 1_004), 1, "three of them are a minute old");
        assert_eq!(growth.update(s(200), 1_004), 0);
        assert_eq!(growth.update(s(201), 3), 0, "a counter that began anew");
    }
}
