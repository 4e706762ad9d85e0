//! How far a number has risen above what is usual for it: its lowest of the last hour.
//!
//! Some connections always wait, and some sockets are always about to be closed: long polls, busy services. What is wrong is that
//! they become more and more.

use std::{collections::VecDeque, time::Duration};

/// The lowest value is kept for each span of this length.
const SPAN: Duration = Duration::from_mins(5);

/// Spans that are remembered.
const SPANS: u64 = 12;

/// The lowest values of the last hour.
#[derive(Debug, Default)]
pub(super) struct Rise {
    lowest: VecDeque<(u64, u64)>,
}

impl Rise {
    /// One that begins at `usual`.
    pub fn above(now: Duration, usual: u64) -> Self {
        Self { lowest: VecDeque::from([(span(now), usual)]) }
    }

    /// Takes a value; returns how far it lies above the lowest of the last hour.
    pub fn update(&mut self, now: Duration, value: u64) -> u64 {
        let span = span(now);
        match self.lowest.back_mut() {
            Some((last, lowest)) if *last == span => *lowest = value.min(*lowest),
            _ => self.lowest.push_back((span, value)),
        }
        while self.lowest.front().is_some_and(|&(first, _)| first + SPANS < span) {
            self.lowest.pop_front();
        }
        value - self.usual()
    }

    /// The lowest value of the last hour.
    pub fn usual(&self) -> u64 {
        self.lowest.iter().map(|&(_, lowest)| lowest).min().unwrap_or_default()
    }
}

fn span(now: Duration) -> u64 {
    now.as_secs() / SPAN.as_secs()
}

/// What a number has not been below for some seconds.
#[derive(Debug, Default)]
pub(super) struct Floor {
    since: Option<Duration>,
    values: VecDeque<(Duration, u64)>,
}

/// How long a value must have held.
const HELD: Duration = Duration::from_secs(15);

impl Floor {
    /// Takes a value, one a second or so; returns the lowest of the last seconds once there were so many.
    pub fn update(&mut self, now: Duration, value: u64) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        self.values.push_back((now, value));
        while self.values.front().is_some_and(|&(at, _)| now.saturating_sub(at) > HELD) {
            self.values.pop_front();
        }
        let lowest = self.values.iter().map(|&(_, value)| value).min();
        lowest.filter(|_| now.saturating_sub(since) >= HELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_always_was_is_no_rise() {
        let mut rise = Rise::above(s(0), 200);
        assert_eq!(rise.update(s(1), 210), 10);
        assert_eq!(rise.update(s(600), 260), 60);
        assert_eq!(rise.update(s(900), 150), 0);
        assert_eq!(rise.update(s(901), 260), 110);
        // An hour later it is what is usual.
        for minute in 16..90 {
            rise.update(s(minute * 60), 260);
        }
        assert_eq!(rise.update(s(5_400), 265), 5);
    }

    #[test]
    fn a_value_must_hold_to_be_a_floor() {
        let mut floor = Floor::default();
        assert_eq!(floor.update(s(0), 0), None);
        for second in 1..=15 {
            let expected = (second == 15).then_some(0);
            assert_eq!(floor.update(s(second), 100), expected, "{second}");
        }
        assert_eq!(floor.update(s(16), 100), Some(100));
        assert_eq!(floor.update(s(17), 40), Some(40));
        assert_eq!(floor.update(s(18), 100), Some(40));
    }

    proptest! {
        #[test]
        fn a_floor_is_the_lowest_of_its_time(values in prop::collection::vec(0_u64..50, 20..80)) {
            let mut floor = Floor::default();
            for (second, &value) in (0_u64..).zip(&values) {
                let told = floor.update(s(second), value);
                if second >= 15 {
                    let from = usize::try_from(second - 15).expect("small");
                    let to = usize::try_from(second).expect("small");
                    prop_assert_eq!(told, values[from..=to].iter().copied().min());
                }
            }
        }
    }
}
