//! Alerts: from the figures of a moment to what someone should be told. Pure: values and a time go in, values come out.
//!
//! [`Facts`] are measured into readings, one per alert and subject ([`readings`]); a [`watch`] per reading decides whether
//! it has been bad for long enough, or good for long enough; the [`Engine`] joins them.

mod aborted;
mod close_wait;
mod engine;
mod facts;
mod growth;
mod readings;
mod rise;
mod saved;
mod text;
mod watch;

use std::{fmt, sync::Arc};

pub use engine::{CAPACITY, Change, Engine, Now};
pub use facts::{EphemeralFact, Facts, PoolFact};
pub use saved::SavedAlert;
pub use text::{advice, summary};

use crate::{
    config::{AlertName, Severity},
    model::{AccountId, Direction, Peer, PortName},
};

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host.
    Host,
    /// A port that the host listens on.
    Port(u16),
    /// A peer.
    Account(AccountId),
    /// A watched name.
    Name(Arc<str>),
}

impl Subject {
    /// The configured group it is about.
    fn group(&self) -> Option<&str> {
        match self {
            Self::Account(AccountId { peer: Peer::Group(name), .. }) => Some(name),
            _ => None,
        }
    }

    /// The port it is about, as a number.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Host | Self::Name(_) => None,
            Self::Port(port) | Self::Account(AccountId { port, .. }) => Some(*port),
        }
    }

    /// Values of the labels `peer`, `port`, `direction` and `name`; empty where there is none.
    #[must_use]
    pub fn labels(&self) -> [(&'static str, String); 4] {
        let (peer, port, direction) = match self {
            Self::Host | Self::Name(_) => (String::new(), String::new(), ""),
            Self::Port(port) => (String::new(), service(*port).to_string(), ""),
            Self::Account(id) => (id.peer.to_string(), id.port_name().to_string(), id.direction.name()),
        };
        let name = if let Self::Name(name) = self { name.to_string() } else { String::new() };
        [("peer", peer), ("port", port), ("direction", direction.to_owned()), ("name", name)]
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Port(port) => write!(f, "port {}", service(*port)),
            Self::Name(name) => f.write_str(name),
            Self::Account(id) => {
                write!(f, "{} and port {} ({})", id.peer, id.port_name(), id.direction.name())
            }
        }
    }
}

/// A port of ours as it is written.
fn service(port: u16) -> PortName {
    PortName::new(port, Direction::Inbound.name())
}

/// Which alert about what; there is at most one at a time.
pub type AlertKey = (AlertName, Subject);

/// An alert that is raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Which.
    pub name: AlertName,
    /// About what.
    pub subject: Subject,
    /// How bad.
    pub severity: Severity,
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// What was found, in a sentence with its numbers.
    pub text: String,
    /// The number that raised it, and the one it was held against.
    pub figure: Figure,
    /// When nothing will be left, in seconds since the epoch, where that is foreseen.
    pub exhausted_at: Option<u64>,
    /// Who else is touched.
    pub reach: Reach,
    /// Whether it has been announced; not while a silence holds.
    pub announced: bool,
}

impl Alert {
    /// Which alert about what.
    #[must_use]
    pub fn key(&self) -> AlertKey {
        (self.name, self.subject.clone())
    }
}

/// A number, what it counts, and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What it counts, as its threshold is named in the configuration.
    pub measure: &'static str,
    /// The number.
    pub value: f64,
    /// The threshold it passed.
    pub limit: f64,
}

impl Figure {
    /// A fact that needs no number.
    pub(crate) const NONE: Self = Self { measure: "", value: 0.0, limit: 0.0 };
}

/// How far the same alert reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Peers that it is raised for.
    pub peers: usize,
    /// Services of ours that it is raised for, by port, ascending.
    pub ports: Vec<u16>,
}
