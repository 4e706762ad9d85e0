//! How the connections of a peer to a port of ours end: the share that is aborted early.

use std::time::Duration;

use probe_ebpf::account::Counters;
use serde::{Deserialize, Serialize};

/// A share of fewer connections says nothing.
pub(super) const ENOUGH: u64 = 10;

/// A span of time lasts for so long, and longer while it has too few connections.
const SPAN: Duration = Duration::from_mins(5);

/// The first one is shorter, so that a change soon after the beginning is known for one.
const FIRST_SPAN: Duration = Duration::from_mins(1);

/// Spans of an hour.
pub(super) const SPANS: u8 = 12;

/// Twelve spans, an hour of traffic: what was seen in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hour {
    /// Spans so far, up to [`SPANS`].
    pub spans: u8,
    /// The lowest share of connections aborted early in any of them; 0 before the first.
    pub lowest: f64,
    /// Connections answered in full, up to [`ENOUGH`].
    pub answered: u64,
}

/// The last hour and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Hour>,
    pub last: Hour,
}

/// The connections of a peer to a port of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Endings {
    begun: Duration,
    connections: u64,
    aborted: u64,
    hours: Hours,
    seen: Duration,
}

impl Endings {
    pub(super) fn new(now: Duration) -> Self {
        Self::restored(now, Hours::default())
    }

    /// With what was known before a restart.
    pub(super) fn restored(now: Duration, hours: Hours) -> Self {
        Self { begun: now, connections: 0, aborted: 0, hours, seen: now }
    }

    pub(super) fn add(&mut self, now: Duration, new: &Counters) {
        self.seen = now;
        // A span ends with the first news after its time.
        let span = if self.usual().is_none() { FIRST_SPAN } else { SPAN };
        let all = self.connections.max(self.aborted);
        if now.saturating_sub(self.begun) >= span && all >= ENOUGH {
            let share = self.aborted as f64 / all as f64;
            let Hours { before, last } = &mut self.hours;
            if last.spans >= SPANS {
                *before = Some(std::mem::take(last));
            }
            last.lowest = if last.spans == 0 { share } else { share.min(last.lowest) };
            last.spans += 1;
            (self.begun, self.connections, self.aborted) = (now, 0, 0);
        }
        self.connections += new.connections;
        self.aborted += new.aborted_early;
        let answered = &mut self.hours.last.answered;
        *answered = answered.saturating_add(new.answered).min(ENOUGH);
    }

    /// The share of connections aborted early that was never undercut in the last hour or two; `None` before the first span.
    #[must_use]
    pub fn usual(&self) -> Option<f64> {
        let Hours { before, last } = self.hours;
        let hours = before.into_iter().chain([last]).filter(|hour| hour.spans > 0);
        hours.map(|hour| hour.lowest).reduce(f64::min)
    }

    /// Whether the peer has been watched for an hour of its traffic.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.hours.before.is_some() || self.hours.last.spans >= SPANS
    }

    /// Connections answered in full; many are counted as some.
    pub(super) fn answered(&self) -> u64 {
        self.hours.last.answered + self.hours.before.map_or(0, |hour| hour.answered)
    }

    /// When it last had news.
    pub(super) fn seen(&self) -> Duration {
        self.seen
    }

    pub(super) fn hours(&self) -> Hours {
        self.hours
    }
}
