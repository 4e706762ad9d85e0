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

#[cfg(test)]
mod tests {
    use super::*;

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
}
