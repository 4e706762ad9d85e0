//! Which sockets in CLOSE_WAIT our program leaves unclosed, and which it only takes its time over.
//!
//! A leak, and a service whose clients close their half and wait long for the answer, begin alike: CLOSE_WAIT grows and nothing is closed.
//! Then they part. Where each answer takes less than a minute, the program closes more in a minute than wait at any moment: of `rate` a
//! second that take `t` seconds each, `rate * t` wait and `rate * 60` are closed. A leak closes less. One that closes most and leaks the
//! rest grows minute after minute, where the growth of a service ends with its first answer.

use std::{collections::VecDeque, time::Duration};

use super::rise::Rise;
use crate::model::CloseWaits;

/// So long a socket must have stayed, and from so long the program's pace is told.
pub(super) const STAY: Duration = Duration::from_secs(25);

const MINUTE: Duration = Duration::from_mins(1);
const HALF: Duration = Duration::from_secs(30);

/// Growth is told from three half minutes, each half a minute after the one before.
const HISTORY: Duration = Duration::from_secs(150);

/// The sockets of one port.
#[derive(Debug)]
pub(super) struct CloseWaiting {
    /// The fewest of the last hour.
    usual: Rise,
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    sockets: u64,
    entered: u64,
}

/// What the last minutes tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unclosed {
    /// Sockets that left CLOSE_WAIT within the time of [`STAY`].
    pub closed: u64,
    /// Sockets that stayed so long, above what is usual, and above those that leave in a minute at that pace.
    pub left: u64,
    /// By how much their number has grown in two minutes, if in each of them: twice the lesser growth.
    pub growth: u64,
}

impl Unclosed {
    /// The sockets that raise the alert.
    pub fn sockets(&self) -> u64 {
        self.left.max(self.growth)
    }
}

impl CloseWaiting {
    pub fn new(usual: Rise) -> Self {
        Self { usual, samples: VecDeque::new() }
    }

    /// Takes a count, one a second or so.
    pub fn update(&mut self, now: Duration, close_waits: &CloseWaits) -> Unclosed {
        let &CloseWaits { sockets, entered, .. } = close_waits;
        self.samples.push_back(Sample { at: now, sockets, entered });
        let age = |sample: &Sample| now.saturating_sub(sample.at);
        // One from so long ago, or the last before it, is kept.
        while self.samples.get(1).is_some_and(|sample| age(sample) >= HISTORY) {
            self.samples.pop_front();
        }
        let mut samples = self.samples.iter();
        let Some(before) = samples.rfind(|sample| age(sample) >= STAY) else {
            return Unclosed::default();
        };
        let closed = (before.sockets + entered).saturating_sub(before.entered + sockets);
        let fewest = self.counts(now, Duration::ZERO, age(before)).min().unwrap_or_default();
        let in_a_minute = closed * MINUTE.as_secs() / STAY.as_secs();
        let left = self.usual.update(now, fewest).saturating_sub(in_a_minute);
        Unclosed { closed, left, growth: self.growth(now).unwrap_or_default() }
    }

    /// Takes that a port has no such sockets; returns whether none are usual there, either.
    pub fn is_over(&mut self, now: Duration) -> bool {
        let entered = self.samples.back().map_or(0, |last| last.entered);
        self.update(now, &CloseWaits { entered, ..CloseWaits::default() });
        self.usual.usual() == 0
    }

    /// The lesser growth of the last two minutes, twice. From the most of one half minute to the fewest of another: numbers that go up and
    /// down do not grow.
    fn growth(&self, now: Duration) -> Option<u64> {
        self.samples.front().filter(|first| now.saturating_sub(first.at) >= HISTORY)?;
        let grown = |to: Duration| {
            let fewest = self.counts(now, to, to + HALF).min()?;
            let most = self.counts(now, to + MINUTE, to + MINUTE + HALF).max()?;
            Some(fewest.saturating_sub(most))
        };
        Some(2 * grown(Duration::ZERO)?.min(grown(MINUTE)?))
    }

    /// The counts from `least` to `most` ago.
    fn counts(&self, now: Duration, least: Duration, most: Duration) -> impl Iterator<Item = u64> {
        let within = move |sample: &&Sample| (least..=most).contains(&now.saturating_sub(sample.at));
        self.samples.iter().filter(within).map(|sample| sample.sockets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a port second by second, from `entered` and `sockets` of each; returns the most that was told, and when 50 were first.
    fn play(seconds: u64, entered: impl Fn(u64) -> u64, sockets: impl Fn(u64) -> u64) -> (u64, Option<u64>) {
        let mut port = CloseWaiting::new(Rise::above(Duration::ZERO, 0));
        let (mut most, mut told) = (0, None);
        for second in 0..seconds {
            let close_waits =
                CloseWaits { sockets: sockets(second), entered: entered(second), owners: Vec::new() };
            let unclosed = port.update(Duration::from_secs(second), &close_waits).sockets();
            most = most.max(unclosed);
            told = told.or((unclosed >= 50).then_some(second));
        }
        (most, told)
    }

    #[test]
    fn answers_that_take_less_than_a_minute_are_no_leak() {
        // 2 a second, answered after 40 s: 80 wait from then on. The most is told when the first is answered: those that have stayed for
        // 25 s are the 30 that came in the first 15 s.
        assert_eq!(play(1_200, |s| 2 * s, |s| 2 * s.min(40)), (30, None));
        // However many, when each is answered sooner than the least stay.
        assert_eq!(play(1_200, |s| 500 * s, |s| 500 * s.min(20)), (0, None));
        // The traffic doubles: 4 a second, 160 wait.
        let entered = |s: u64| if s < 600 { 2 * s } else { 1_200 + 4 * (s - 600) };
        let waiting = |s: u64| entered(s) - entered(s.saturating_sub(40));
        assert_eq!(play(1_200, entered, waiting), (30, None));
        // And ends: the last are answered.
        let entered = |s: u64| 2 * s.min(600);
        let waiting = |s: u64| entered(s) - entered(s.saturating_sub(40));
        assert_eq!(play(1_200, entered, waiting), (30, None));
    }

    #[test]
    fn a_level_that_goes_up_and_down_does_not_grow() {
        // 60 a second, answered after about 40 s.
        let waiting = |s: u64| 60 * s.min(40) + s * 7_919 % 13 * 10;
        let entered = |s: u64| 60 * s + 120;
        // So many begin at once that the service is not told from a leak until it answers: of 160 after 2 s, 20 have left 25 s later, which
        // are 48 in a minute.
        assert_eq!(play(100, entered, waiting).1, Some(27));
        // Not afterwards: it closes 1500 in 25 s, and no fewer than 1380; that is 3312 in a minute, and from 2400 to 2520 wait.
        let mut port = CloseWaiting::new(Rise::above(Duration::ZERO, 0));
        for s in 0..3_600 {
            let close_waits = CloseWaits { sockets: waiting(s), entered: entered(s), owners: Vec::new() };
            let unclosed = port.update(Duration::from_secs(s), &close_waits);
            assert!(s < 65 || unclosed.sockets() == 0, "{s}: {unclosed:?}");
        }
    }

    #[test]
    fn a_server_that_never_closes_is_told_within_half_a_minute_of_fifty() {
        // 24 customers leave after 2 s and come again a second later: 72 sockets after 8 s have stayed for 25 s after 33 s.
        let leak = |s: u64| (s + 1) / 3 * 24;
        assert_eq!(play(60, leak, leak).1, Some(33));
        // One a second: 50 after 50 s.
        assert_eq!(play(120, |s| s, |s| s).1, Some(75));
        // A busy server that stops closing: those of the second after, 25 s later.
        let stops = |s: u64| 100 * s.saturating_sub(300);
        assert_eq!(play(400, |s| 100 * s, stops).1, Some(326));
        // It stays told when nobody comes any more.
        assert_eq!(play(3_000, |s| s.min(200), |s| s.min(200)), (200, Some(75)));
    }

    #[test]
    fn a_server_that_leaks_a_tenth_is_told_within_three_minutes() {
        // 100 a second, of which 10 stay: of half minutes that begin a minute apart, the fewest of one are 300 above the most of the other.
        assert_eq!(play(160, |s| 100 * s, |s| 10 * s), (600, Some(150)));
        // One a second of a hundred: 30 in each minute.
        assert_eq!(play(160, |s| 100 * s, |s| s), (60, Some(150)));
    }

    #[test]
    fn the_clock_need_not_meet_the_second() {
        let mut port = CloseWaiting::new(Rise::above(Duration::ZERO, 0));
        let mut last = Unclosed::default();
        for second in 0..200 {
            let close_waits = CloseWaits { sockets: second, entered: 100 * second, owners: Vec::new() };
            last = port.update(Duration::from_millis(1_007 * second), &close_waits);
        }
        // 0.99 a second, from half a minute to the next that begins a minute later, or a sample more.
        assert!((58..=62).contains(&last.growth), "{last:?}");
    }

    #[test]
    fn what_left_is_what_came_and_is_not_there() {
        let mut port = CloseWaiting::new(Rise::above(Duration::ZERO, 0));
        let mut at = |second, entered, sockets| {
            let close_waits = CloseWaits { sockets, entered, owners: Vec::new() };
            port.update(Duration::from_secs(second), &close_waits)
        };
        at(0, 1_000, 60);
        assert_eq!(at(24, 1_010, 65), Unclosed::default(), "too soon to tell");
        // 60 and 30, less 88, are 2, in a minute 4.8; 60 have been there all the time.
        assert_eq!(at(25, 1_030, 88), Unclosed { closed: 2, left: 56, growth: 0 });
    }
}
