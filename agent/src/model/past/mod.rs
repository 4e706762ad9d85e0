//! The past: what the figures were, second by second, and what happened in between.
//!
//! A [`Recorder`] reads it off one snapshot after the other. Nothing here knows where it is kept.

mod block;
mod event;
mod field;
mod listeners;
mod recorder;
mod step;

use std::{collections::BTreeMap, fmt, time::Duration};

use super::peer::{AccountId, Direction};

pub use self::{
    block::{Block, Columns, SLOTS},
    event::{AlertEvent, Event, FailoverEvent, Happened, RefusedReuseEvent, Who},
    field::{Field, Kind, Sample},
    recorder::{Recorded, Recorder},
};

/// Events are forgotten with time; those that say how things stand are told anew this often.
pub const RESTATED: Duration = Duration::from_hours(24);

/// Whose figures a sample holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Series {
    /// The host.
    Host,
    /// A peer.
    Account(AccountId),
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Account(AccountId { peer, port, direction: Direction::Inbound }) => {
                write!(f, "{peer} to our port {port}")
            }
            Self::Account(AccountId { peer, port, direction: Direction::Outbound }) => {
                write!(f, "ours to {peer} port {port}")
            }
        }
    }
}

/// The second in which a moment lies; before 1970, the first.
#[must_use]
pub fn second_of(moment: f64) -> u64 {
    Duration::try_from_secs_f64(moment).unwrap_or_default().as_secs()
}

/// A stretch of time, in seconds since the epoch; the end is not part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub from: u64,
    /// The second after its last.
    pub to: u64,
}

impl Span {
    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(&self, seconds: u64) -> bool {
        (self.from..self.to).contains(&seconds)
    }

    /// Its length in seconds.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// A stretch of the past, as it was kept.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Which.
    pub span: Span,
    /// The samples of each series, each with the first second it stands for, the oldest first.
    pub series: BTreeMap<Series, Vec<(u64, Sample)>>,
    /// What happened, the oldest first.
    pub events: Vec<Happened>,
}
