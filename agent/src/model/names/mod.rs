//! Watched names: what they list, who is still called though it is no longer listed, and how failovers went.
//!
//! Connections are looked at address by address, as the kernel counts them, whatever groups the configuration makes of them. All
//! times are monotonic, in nanoseconds.

mod answer;
mod failover;
mod figures;
mod listings;
mod stale;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use probe_ebpf::{
    account::{AccountKey, BOUNDS, Calls, Histogram, OUTBOUND, PeerKey},
    sweep::{Held, state},
};

pub use self::{
    answer::{Answer, Outcome, Told},
    failover::{Failover, Part},
    figures::{AddressFigures, NameFigures, NameTrouble, Standing},
    listings::{Between, Change},
    stale::{StaleAddress, StaleUse},
};
use self::{
    failover::{Traffic, Watcher},
    listings::Listings,
};
use super::Callers;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Upper bounds of the parts of a failover, in nanoseconds: 10 ms to 5 min.
pub const FAILOVER_BOUNDS_NS: [u64; BOUNDS] = [
    10 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
];

/// Whoever asked for a name just before it changed calls what it listed then.
const AT_ONCE: u64 = 5 * SECOND;

/// Whoever called an address within this time still does.
const STILL: u64 = 60 * SECOND;

/// An address that is gone and that nobody called for this long is forgotten.
const FORGOTTEN: u64 = 86_400 * SECOND;

/// So many failovers are kept for the record.
const MOST_FAILOVERS: usize = 100;

/// So many lookups in a row must be slow.
const SLOW: usize = 5;

/// A resolver that says nothing at all for this long, beyond what was agreed, does not resolve.
const SILENT: u64 = 30 * SECOND;

/// A name at a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId {
    /// The name.
    pub name: Arc<str>,
    /// The port that is called under it.
    pub port: u16,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    every: Duration,
    /// When we began to watch it.
    since: u64,
    listings: Listings,
    watcher: Watcher,
    outcomes: [u64; Outcome::ALL.len()],
    resolve: Histogram,
    parts: [Histogram; Part::ALL.len()],
    /// How long the last lookups that were answered took.
    took: VecDeque<u64>,
    last: Option<Answer>,
    /// Since when lookups have had no addresses.
    unresolved: Option<u64>,
}

/// Connections to one address at one port.
#[derive(Clone, Debug, Default)]
struct Connections {
    traffic: Traffic,
    /// Open, or being opened.
    open: u32,
    /// When somebody last called.
    called: u64,
    /// When each process that calls was first seen to. As many as the kernel tells.
    first_calls: HashMap<Arc<str>, u64>,
}

/// All watched names.
#[derive(Debug, Default)]
pub struct Names {
    watched: BTreeMap<WatchId, Watched>,
    ids: HashMap<Arc<str>, Vec<WatchId>>,
    connections: HashMap<PeerKey, Connections>,
    failovers: Arc<[Failover]>,
}

impl Names {
    /// Watches these from now on, each resolved as often as said. Those that stay keep what is known of them.
    pub fn watch(&mut self, now: u64, watches: impl IntoIterator<Item = (WatchId, Duration)>) {
        let mut before = std::mem::take(&mut self.watched);
        self.ids.clear();
        for (id, every) in watches {
            let known = before.remove(&id).unwrap_or_else(|| Watched::new(now));
            self.ids.entry(Arc::clone(&id.name)).or_default().push(id.clone());
            self.watched.insert(id, Watched { every, ..known });
        }
        self.keep_known();
    }

    /// Takes what a resolver told of a name.
    pub fn learn(&mut self, name: &str, answer: &Answer) {
        let Some(ids) = self.ids.get(name) else { return };
        for id in ids {
            let Some(watched) = self.watched.get_mut(id) else { continue };
            watched.learn(answer);
            for (address, _) in watched.listings.known() {
                self.connections.entry(PeerKey::new(address, id.port, OUTBOUND)).or_default();
            }
        }
    }

    /// Takes what one of the kernel's accounts holds.
    pub fn read(&mut self, key: &AccountKey, calls: &Calls) {
        if key.peer.direction == OUTBOUND
            && let Some(connections) = self.connections.get_mut(&key.peer)
        {
            connections.traffic.calls = *calls;
        }
    }

    /// Takes the sockets of a census.
    pub fn settle(&mut self, census: &[Held]) {
        if self.connections.is_empty() {
            return;
        }
        for connections in self.connections.values_mut() {
            connections.open = 0;
        }
        for Held { peer, sockets, .. } in census {
            if let Some(connections) = self.connections.get_mut(peer) {
                let states = [state::SYN_SENT, state::ESTABLISHED, state::CLOSE_WAIT];
                connections.open += states.iter().map(|&state| sockets[state as usize]).sum::<u32>();
            }
        }
    }

    /// Goes on once all of a reading is taken; returns the failovers that are over now.
    pub fn conclude(&mut self, now: u64, callers: &Callers) -> Vec<Failover> {
        for (key, connections) in &mut self.connections {
            // Not its failures: a SYN is repeated long after the call.
            let called = callers.last_call(key).max(connections.traffic.calls.last_success_ns);
            connections.called = connections.called.max(called);
            let before = std::mem::take(&mut connections.first_calls);
            let first = |(process, called): (&Arc<str>, u64)| {
                (Arc::clone(process), before.get(process).copied().unwrap_or(called))
            };
            connections.first_calls = callers.calls(key).into_iter().flatten().map(first).collect();
        }
        let connections = &self.connections;
        let mut over = Vec::new();
        for (WatchId { name, port }, watched) in &mut self.watched {
            let of = |address| connections.get(&PeerKey::new(address, *port, OUTBOUND));
            let traffic = |address| of(address).map(|all| all.traffic).unwrap_or_default();
            let Watched { listings, watcher, parts, .. } = watched;
            listings.tick(now);
            if let Some(failover) = watcher.look(now, (name, *port), listings, traffic) {
                for (histogram, part) in parts.iter_mut().zip(Part::ALL) {
                    if let Some(took) = failover.part_ns(part) {
                        observe(histogram, &FAILOVER_BOUNDS_NS, took);
                    }
                }
                over.push(failover);
            }
            listings.forget(now, |address, known| {
                let left = known.left().map_or(now, |left| left.latest_ns);
                let last = of(address).map_or(left, |all| all.called.max(left));
                now.saturating_sub(last) < FORGOTTEN || of(address).is_some_and(|all| all.open > 0)
            });
        }
        for connections in self.connections.values_mut() {
            connections.traffic.success_before_ns = connections.traffic.calls.last_success_ns;
        }
        self.keep_known();
        if !over.is_empty() {
            let kept = self.failovers.iter().chain(&over).cloned().collect::<Vec<_>>();
            let excess = kept.len().saturating_sub(MOST_FAILOVERS);
            self.failovers = kept[excess..].into();
        }
        over
    }

    /// Forgets the connections to addresses that no name knows any more.
    fn keep_known(&mut self) {
        let keys = self.watched.iter().flat_map(|(id, watched)| {
            watched.listings.known().map(|(address, _)| PeerKey::new(address, id.port, OUTBOUND))
        });
        let known: HashSet<PeerKey> = keys.collect();
        self.connections.retain(|key, _| known.contains(key));
    }

    /// The names whose next change is waited for.
    pub fn hurried(&self, now: u64) -> impl Iterator<Item = &Arc<str>> {
        let hurried =
            self.watched.iter().filter(move |(_, watched)| watched.watcher.hurries(now, &watched.listings));
        hurried.map(|(id, _)| &id.name)
    }

    /// The last failovers, the oldest first.
    #[must_use]
    pub fn failovers(&self) -> Arc<[Failover]> {
        Arc::clone(&self.failovers)
    }

    /// Whether another name lists this address for the same port: then nobody knows which of them a caller means.
    fn is_listed_elsewhere(&self, id: &WatchId, address: IpAddr) -> bool {
        let others = self.watched.iter().filter(|(other, _)| *other != id && other.port == id.port);
        others.filter_map(|(_, watched)| watched.listings.get(address)).any(listings::Known::is_listed)
    }
}

impl Watched {
    fn new(now: u64) -> Self {
        let none = Histogram { buckets: [0; BOUNDS + 1], sum_ns: 0 };
        Self {
            every: Duration::ZERO,
            since: now,
            listings: Listings::default(),
            watcher: Watcher::default(),
            outcomes: [0; Outcome::ALL.len()],
            resolve: none,
            parts: [none; Part::ALL.len()],
            took: VecDeque::new(),
            last: None,
            unresolved: None,
        }
    }

    fn learn(&mut self, answer: &Answer) {
        let outcome = answer.outcome();
        self.outcomes[outcome as usize] += 1;
        let took = answer.answered_ns.saturating_sub(answer.asked_ns);
        observe(&mut self.resolve, &probe_ebpf::account::CONNECT_BOUNDS_NS, took);
        if outcome == Outcome::Answered {
            self.unresolved = None;
            self.took.push_back(took);
            if self.took.len() > SLOW {
                self.took.pop_front();
            }
        } else {
            self.unresolved.get_or_insert(answer.asked_ns);
        }
        self.listings.learn(answer);
        self.last = Some(answer.clone());
    }
}

fn observe(histogram: &mut Histogram, bounds: &[u64; BOUNDS], value_ns: u64) {
    histogram.buckets[bounds.partition_point(|bound| *bound < value_ns)] += 1;
    histogram.sum_ns += value_ns;
}

#[cfg(test)]
mod tests;
