//! Which processes go on connecting to an address that its name no longer lists.
//!
//! A program that keeps what it resolved once, and a monitor or a proxy that checks every server by its address, both connect to an old address
//! after a failover. They differ in the address that took its place: only the second one connects to that, too.

use std::{net::IpAddr, sync::Arc};

use probe_ebpf::account::{OUTBOUND, PeerKey};

use super::{AT_ONCE, Names, SECOND, STILL, Standing, WatchId, figures::NameFigures, listings::Known};
use crate::model::Callers;

/// An address that came so long before another one left, or later, took its place.
const OVERLAP: u64 = 60 * SECOND;

/// How an address is used that its name no longer lists, nor any other. Times are monotonic, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleUse {
    /// Since when: since the name listed it no more, or since the first connection of these processes, if that was later.
    pub since_ns: u64,
    /// Their last connection.
    pub called_ns: u64,
    /// Whether attempts have failed since the last one that was answered.
    pub is_failing: bool,
    /// Whether all processes that connect to it connect to an address that took its place, too.
    pub calls_successor: bool,
    /// The processes, the last three to connect.
    pub processes: Vec<Arc<str>>,
}

/// An address that processes connect to though its name no longer lists it, nor any other.
#[derive(Clone, Debug, PartialEq)]
pub struct StaleAddress {
    /// The name.
    pub id: WatchId,
    /// The address.
    pub address: IpAddr,
    /// For how long the name has not listed it, in seconds.
    pub gone_seconds: f64,
    /// For how long it has been used since, in seconds: a process that first connects to it later counts from then.
    pub used_seconds: f64,
    /// How long ago one of them last connected, in seconds.
    pub called_seconds_ago: f64,
    /// Whether attempts have failed since the last one that was answered.
    pub is_failing: bool,
    /// Whether all processes that connect to it connect to an address that took its place, too.
    pub calls_successor: bool,
    /// Connections that are open, or being opened.
    pub connections: u32,
    /// The processes, the last three to connect.
    pub processes: Vec<Arc<str>>,
}

impl NameFigures {
    /// For how long processes have connected to an address that the name no longer lists, and not to one that took its place, in seconds; 0
    /// where none does.
    #[must_use]
    pub fn stale_seconds(&self, now: u64) -> f64 {
        let uses = self.uses().filter(|stale| !stale.calls_successor);
        uses.map(|stale| now.saturating_sub(stale.since_ns) as f64 / SECOND as f64).fold(0.0, f64::max)
    }

    /// Whether connections to an address that the name no longer lists fail.
    #[must_use]
    pub fn stale_fails(&self) -> bool {
        self.uses().any(|stale| stale.is_failing)
    }

    fn uses(&self) -> impl Iterator<Item = &StaleUse> {
        self.addresses.iter().filter_map(|address| address.stale_use.as_ref())
    }
}

impl Names {
    /// How an address that is gone is used, if it is.
    pub(super) fn stale_use(
        &self,
        now: u64,
        id: &WatchId,
        (address, known): (IpAddr, &Known),
        callers: &Callers,
    ) -> Option<StaleUse> {
        let left = known.left()?.latest_ns;
        let key = PeerKey::new(address, id.port, OUTBOUND);
        let connections = self.connections.get(&key).filter(|_| !self.is_listed_elsewhere(id, address))?;
        let is_use = |called: u64| called > left + AT_ONCE && now.saturating_sub(called) <= STILL;
        let calls = connections.traffic.calls;
        let is_failing = calls.last_failure_ns > calls.last_success_ns;
        // Where no process is known, only the answers are.
        let Some(by_process) = callers.calls(&key) else {
            let called_ns = connections.called;
            let (calls_successor, processes) = (false, Vec::new());
            return is_use(called_ns).then_some(StaleUse {
                since_ns: left,
                called_ns,
                is_failing,
                calls_successor,
                processes,
            });
        };
        let successors = self.successors(id, left);
        // A call from before the name left the successor, to which it came back, was one through the name.
        let calls_successor = |process: &Arc<str>| {
            successors.iter().any(|(key, before)| {
                callers.last_call_by(key, process).is_some_and(|called| called > before + AT_ONCE)
            })
        };
        let uses = by_process.filter(|(_, called)| is_use(*called));
        let (both, only): (Vec<_>, Vec<_>) = uses.partition(|(process, _)| calls_successor(process));
        let calls_successor = only.is_empty();
        // A process that connects to both addresses, and is answered by both, has not missed the move.
        let uses = if calls_successor { both } else { only };
        if uses.is_empty() || (calls_successor && !is_failing) {
            return None;
        }
        let first = |process| connections.first_calls.get(process).copied().unwrap_or(left);
        Some(StaleUse {
            since_ns: uses.iter().map(|(process, _)| first(*process)).min().unwrap_or(left).max(left),
            called_ns: uses.iter().map(|(_, called)| *called).max().unwrap_or(left),
            is_failing,
            calls_successor,
            processes: Callers::last(uses),
        })
    }

    /// The addresses that took the place of one that left then, and when the name had ceased to list each of them before; 0 where it had not.
    fn successors(&self, id: &WatchId, left: u64) -> Vec<(PeerKey, u64)> {
        let known = self.watched.get(id).into_iter().flat_map(|watched| watched.listings.known());
        known
            .filter(|(_, known)| known.is_listed() && known.came.latest_ns + OVERLAP >= left)
            // What was listed when we began to look did not come.
            .filter(|(_, known)| known.came.earliest_ns.is_some())
            .map(|(address, known)| (PeerKey::new(address, id.port, OUTBOUND), known.left_before))
            .collect()
    }

    /// The addresses that processes connect to though no name lists them any more.
    #[must_use]
    pub fn stale(&self, now: u64, figures: &[NameFigures]) -> Vec<StaleAddress> {
        let seconds = |since: u64| now.saturating_sub(since) as f64 / SECOND as f64;
        let each =
            figures.iter().flat_map(|name| name.addresses.iter().map(move |address| (&name.id, address)));
        let stale = each.filter(|(_, figures)| figures.standing == Standing::Stale);
        let stale = stale.filter_map(|(id, figures)| {
            let stale_use = figures.stale_use.clone()?;
            Some(StaleAddress {
                id: id.clone(),
                address: figures.address,
                gone_seconds: seconds(figures.left?.latest_ns),
                used_seconds: seconds(stale_use.since_ns),
                called_seconds_ago: seconds(stale_use.called_ns),
                is_failing: stale_use.is_failing,
                calls_successor: stale_use.calls_successor,
                connections: figures.connections,
                processes: stale_use.processes,
            })
        });
        stale.collect()
    }
}
