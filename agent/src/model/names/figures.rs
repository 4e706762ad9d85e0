//! What there is to say about watched names.

use std::{net::IpAddr, sync::Arc, time::Duration};

use probe_ebpf::account::{Histogram, OUTBOUND, PeerKey};

use super::{
    AT_ONCE, Between, Change, Names, Outcome, Part, SECOND, SILENT, SLOW, WatchId, Watched, listings::Known,
    stale::StaleUse,
};
use crate::model::Callers;

/// How an address stands to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The last answers list it.
    Listed,
    /// The last answers do not; it may come back.
    Away,
    /// It is gone.
    Stale,
}

impl Standing {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Away => "away",
            Self::Stale => "stale",
        }
    }
}

/// An address that a name lists, or listed before.
#[derive(Clone, Debug)]
pub struct AddressFigures {
    /// The address.
    pub address: IpAddr,
    /// How it stands to the name.
    pub standing: Standing,
    /// When the name began to list it.
    pub came: Between,
    /// When it left, if the last answers are without it.
    pub left: Option<Between>,
    /// Connections that are open, or being opened.
    pub connections: u32,
    /// When somebody last called it, monotonic, in nanoseconds; 0 is never.
    pub called_ns: u64,
    /// Processes that call it, where it is stale.
    pub processes: Vec<Arc<str>>,
    /// How it is used, where it is stale and in use.
    pub stale_use: Option<StaleUse>,
}

/// One watched name.
#[derive(Clone, Debug)]
pub struct NameFigures {
    /// Which.
    pub id: WatchId,
    /// How often it is resolved.
    pub every: Duration,
    /// Addresses in the last answers, those that are not kept counted in.
    pub listed: usize,
    /// The addresses that are known.
    pub addresses: Vec<AddressFigures>,
    /// The last changes, the oldest first.
    pub changes: Vec<Change>,
    /// Lookups by [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// How long they took.
    pub resolve: Histogram,
    /// How long the parts of failovers took, by [`Part`].
    pub parts: [Histogram; Part::ALL.len()],
    /// When the last lookup ended, how, and why it has no addresses.
    pub last: Option<(u64, Outcome, Option<String>)>,
}

impl NameFigures {
    /// Connections open, or being opened, to addresses that the name no longer lists.
    #[must_use]
    pub fn stale_connections(&self) -> u64 {
        let stale = self.addresses.iter().filter(|address| address.standing == Standing::Stale);
        stale.map(|address| u64::from(address.connections)).sum()
    }
}

/// How a name resolves.
#[derive(Clone, Debug, PartialEq)]
pub struct NameTrouble {
    /// The name.
    pub name: Arc<str>,
    /// For how long it has had no addresses, in seconds.
    pub unresolved_seconds: f64,
    /// Why, in words.
    pub why: String,
    /// As long as each of the last lookups took at least, in seconds.
    pub slow_seconds: f64,
}

impl Names {
    /// What is known of each name.
    #[must_use]
    pub fn figures(&self, now: u64, callers: &Callers) -> Vec<NameFigures> {
        self.watched.iter().map(|(id, watched)| self.figures_of(now, id, watched, callers)).collect()
    }

    fn figures_of(&self, now: u64, id: &WatchId, watched: &Watched, callers: &Callers) -> NameFigures {
        let address = |(address, known): (IpAddr, &Known)| {
            let key = PeerKey::new(address, id.port, OUTBOUND);
            let connections = self.connections.get(&key);
            let standing = match () {
                () if known.is_listed() => Standing::Listed,
                () if watched.listings.is_gone(now, known) => Standing::Stale,
                () => Standing::Away,
            };
            let is_stale = standing == Standing::Stale;
            let processes = if is_stale { callers.of(&[&key]) } else { Vec::new() };
            let stale_use = if is_stale { self.stale_use(now, id, (address, known), callers) } else { None };
            AddressFigures {
                address,
                standing,
                came: known.came,
                left: known.left(),
                connections: connections.map_or(0, |connections| connections.open),
                called_ns: connections.map_or(0, |connections| connections.called),
                processes,
                stale_use,
            }
        };
        let last = watched.last.as_ref();
        NameFigures {
            id: id.clone(),
            every: watched.every,
            listed: watched.listings.count(),
            addresses: watched.listings.known().map(address).collect(),
            changes: watched.listings.changes().copied().collect(),
            outcomes: watched.outcomes,
            resolve: watched.resolve,
            parts: watched.parts,
            last: last.map(|answer| (answer.answered_ns, answer.outcome(), answer.why())),
        }
    }

    /// The destinations that nobody has called since their names ceased to list them: what came to nothing there is over.
    #[must_use]
    pub fn left_behind(&self, figures: &[NameFigures]) -> Vec<PeerKey> {
        let each =
            figures.iter().flat_map(|name| name.addresses.iter().map(move |address| (&name.id, address)));
        let left_behind = each.filter_map(|(id, figures)| {
            let AddressFigures { address, called_ns, .. } = *figures;
            let left = figures.left.filter(|_| figures.standing != Standing::Listed)?.latest_ns;
            let is_left = called_ns <= left + AT_ONCE && !self.is_listed_elsewhere(id, address);
            is_left.then(|| PeerKey::new(address, id.port, OUTBOUND))
        });
        left_behind.collect()
    }

    /// How each name resolves.
    #[must_use]
    pub fn troubles(&self, now: u64) -> Vec<NameTrouble> {
        let of = |(name, ids): (&Arc<str>, &Vec<WatchId>)| {
            let watched = self.watched.get(ids.first()?)?;
            let heard = watched.last.as_ref().map_or(watched.since, |answer| answer.answered_ns);
            let patience = SILENT.max(3 * u64::try_from(watched.every.as_nanos()).unwrap_or(u64::MAX / 4));
            let silent = (now.saturating_sub(heard) > patience).then_some(heard);
            let unresolved = watched.unresolved.or(silent);
            let why =
                watched.last.as_ref().and_then(super::Answer::why).filter(|_| watched.unresolved.is_some());
            let slow = if watched.took.len() < SLOW { None } else { watched.took.iter().min() };
            Some(NameTrouble {
                name: Arc::clone(name),
                unresolved_seconds: unresolved
                    .map_or(0.0, |since| now.saturating_sub(since) as f64 / SECOND as f64),
                why: why.unwrap_or_else(|| "nothing has been heard of it".to_owned()),
                slow_seconds: slow.map_or(0.0, |took| *took as f64 / SECOND as f64),
            })
        };
        self.ids.iter().filter_map(of).collect()
    }
}
