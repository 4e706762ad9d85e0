//! How long the answers of a destination of ours take.
//!
//! Waits are told by the kernel side in buckets, each twice as long as the one before (`probe_ebpf::account::Waiting`). A bucket is usual once
//! waits of that length ended in an answer: at once while little is known of the destination, else when that happens again a minute later, so that
//! a destination that has hung and answers all at once does not become one that is slow.

use std::time::Duration;

use probe_ebpf::{
    account::{Counters, WAITS, Waiting},
    sweep::{Heard, Held},
};
use serde::{Deserialize, Serialize};

/// A destination is known well once it has been heard for so long.
const KNOWN_AFTER: Duration = Duration::from_mins(10);

/// A wait of some length is usual if another one is answered so long after the first.
const AGAIN: Duration = Duration::from_mins(1);

/// What was not seen for a day or two of traffic is no longer usual.
const DAY: Duration = Duration::from_hours(24);

/// Of a destination that is not known well, waits count from this bucket on (80 s, unless configured otherwise): polls, queries with a time-out
/// of a minute, and the pauses of most metrics senders are shorter.
const UNKNOWN: usize = 3;

/// What is kept of a destination over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub(super) struct Known {
    /// It has sent data.
    pub heard: bool,
    /// For long enough to tell what is usual.
    pub settled: bool,
    /// It sends data before we do.
    pub speaks_first: bool,
    /// We send again and again, and it never does.
    pub one_way: bool,
    /// Buckets of waits that are usual, counted from the shortest: of this day, and of the one before.
    pub usual: usize,
    /// As above.
    pub usual_before: usize,
}

/// A destination of ours.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    known: Known,
    heard_first: Option<Duration>,
    day_begun: Duration,
    /// When waits of a bucket were first answered on this day.
    once: [Option<Duration>; WAITS],
    /// Connections that ended after it had sent data, since it has been watched.
    answered: u64,
    seen: Duration,
}

impl Answers {
    pub fn new(now: Duration) -> Self {
        Self::restored(now, Known::default())
    }

    /// With what was known before a restart.
    pub fn restored(now: Duration, known: Known) -> Self {
        Self { known, heard_first: None, day_begun: now, once: [None; WAITS], answered: 0, seen: now }
    }

    /// Takes what is new of its counters.
    pub fn learn(&mut self, now: Duration, new: &Counters) {
        self.known.speaks_first |= new.spoke_first > 0;
        self.answered = self.answered.saturating_add(new.answered);
        let answered = new.answered_waits.iter().enumerate().filter(|&(_, &count)| count > 0);
        for (bucket, _) in answered {
            let first = *self.once[bucket].get_or_insert(now);
            if !self.known.settled || now.saturating_sub(first) >= AGAIN {
                self.known.usual = self.known.usual.max(bucket + 1);
            }
        }
    }

    /// Takes its sockets.
    pub fn see(&mut self, now: Duration, held: &Held) {
        self.seen = now;
        let known = &mut self.known;
        if held.heard != Heard::Never {
            known.heard = true;
            let since = *self.heard_first.get_or_insert(now);
            known.settled |= now.saturating_sub(since) >= KNOWN_AFTER;
        }
        known.one_way = !known.heard && (known.one_way || held.waiting.talking > 0);
        if now.saturating_sub(self.day_begun) >= DAY {
            (known.usual_before, known.usual) = (known.usual, 0);
            (self.day_begun, self.once) = (now, [None; WAITS]);
        }
    }

    /// Connections that wait for longer than is usual.
    pub fn stalled(&self, held: &Held) -> u32 {
        let Known { settled, speaks_first, one_way, .. } = self.known;
        let Waiting { unacknowledged, first, later, unused, .. } = held.waiting;
        let usual = self.known.usual.max(self.known.usual_before);
        let unsure = usual.max(UNKNOWN);
        // On a connection that was answered before, a long wait may be what it is for: a poll, a query after the login.
        let later_from = if settled { usual } else { unsure };
        let beyond = |waits: [u32; WAITS], from: usize| waits.iter().skip(from).sum::<u32>();
        // Where others are answered, a request may be a long one; where hardly anybody has been, all of them may be: workers that wait for a job.
        // That as many were answered as wait now, and then nobody, is a hang.
        let falls_silent = held.heard == Heard::LongAgo && self.answered >= u64::from(beyond(first, usual));
        let first_from = if settled || falls_silent {
            usual
        } else if one_way {
            WAITS
        } else {
            unsure
        };
        let silent = if speaks_first { unused } else { 0 };
        unacknowledged + silent + beyond(first, first_from) + beyond(later, later_from)
    }

    /// Whether anything is known of it.
    pub fn is_worth_saving(&self) -> bool {
        self.known != Known::default()
    }

    /// When it last had sockets.
    pub fn seen(&self) -> Duration {
        self.seen
    }

    pub fn known(&self) -> Known {
        self.known
    }
}

#[cfg(test)]
mod tests;
