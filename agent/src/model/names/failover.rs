//! Failovers: from the last connection to the old address of a name to the first one to the new.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use probe_ebpf::account::Calls;

use super::listings::{Between, Listings};

const SECOND: u64 = 1_000_000_000;

/// A failure that was last seen longer ago belongs to another time than ours.
const FRESH: u64 = 60 * SECOND;

/// Addresses that were called within this time before the failure, and go on answering, took nothing over. Nor does a success as long
/// before the failure tell when the old address ceased to answer.
const IN_USE: u64 = 60 * SECOND;

/// As long after an address was no longer listed, its end still belongs to that move.
const SAME_MOVE: u64 = 60 * SECOND;

/// A failover that nobody completed in this time is none any more.
const GIVEN_UP: u64 = 3_600 * SECOND;

/// For so long after a failure was noticed it is worth asking for the name all the time.
const HURRY: u64 = 30 * SECOND;

/// Which part of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From the last success to the first failure.
    Unnoticed,
    /// From there until the name listed the new address.
    Dns,
    /// From there to the first success.
    Reconnect,
    /// From the last success to the first.
    Outage,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unnoticed, Self::Dns, Self::Reconnect, Self::Outage];

    /// Value of the `part` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unnoticed => "unnoticed",
            Self::Dns => "dns",
            Self::Reconnect => "reconnect",
            Self::Outage => "outage",
        }
    }
}

/// A failover that is over. Times are monotonic, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The name.
    pub name: Arc<str>,
    /// The port.
    pub port: u16,
    /// The address that ceased to answer.
    pub old: IpAddr,
    /// The address that took over.
    pub new: IpAddr,
    /// The last connection to the old one, if there was one.
    pub last_success_ns: Option<u64>,
    /// When the first attempt began that came to nothing.
    pub first_failure_ns: u64,
    /// When the name began to list the new one, if it did about then.
    pub dns_changed: Option<Between>,
    /// The first connection to the new one.
    pub first_success_ns: u64,
}

impl Failover {
    /// How long a part took, in nanoseconds, where that is known.
    #[must_use]
    pub fn part_ns(&self, part: Part) -> Option<u64> {
        let Self { first_failure_ns: failed, first_success_ns: connected, .. } = *self;
        // What lies further back tells when somebody called, not when the address ceased to answer.
        let last =
            self.last_success_ns.filter(|last| (failed.saturating_sub(IN_USE)..=failed).contains(last));
        let changed =
            self.dns_changed.map(|changed| changed.middle_ns().clamp(failed, connected.max(failed)));
        match part {
            Part::Unnoticed => last.map(|last| failed - last),
            Part::Dns => changed.map(|changed| changed - failed),
            Part::Reconnect => changed.map(|changed| connected.saturating_sub(changed)),
            Part::Outage => Some(connected.saturating_sub(last.unwrap_or(failed))),
        }
    }
}

/// What is known of the connections to one address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// As the kernel keeps it.
    pub calls: Calls,
    /// `last_success_ns` as it was when it was looked at before.
    pub success_before_ns: u64,
}

impl Traffic {
    fn is_failing(&self) -> bool {
        self.calls.last_failure_ns > self.calls.last_success_ns
    }

    /// The first success since `failure`; `None` where there is none, or where the address was in use before it.
    fn took_over(&self, failure: u64) -> Option<u64> {
        let Calls { first_success_ns, last_success_ns, .. } = self.calls;
        if first_success_ns > failure {
            return Some(first_success_ns);
        }
        let was_in_use = self.success_before_ns >= failure.saturating_sub(IN_USE);
        // Who answered long ago, and never failed since, has no first success of its own: the last is less than a second later.
        (last_success_ns > failure && !was_in_use).then_some(last_success_ns)
    }
}

/// A failure that may become a failover.
#[derive(Clone, Debug)]
struct Failing {
    address: IpAddr,
    last_success_ns: u64,
    first_failure_ns: u64,
    noticed_ns: u64,
    /// Those that were in use besides it, and answered.
    others: Vec<IpAddr>,
}

/// Follows one name at one port.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    failing: Option<Failing>,
    /// Failures that need no more looking at, by when they began.
    settled: BTreeMap<IpAddr, u64>,
}

impl Watcher {
    /// Whether the next change of the name is waited for.
    pub fn hurries(&self, now: u64, listings: &Listings) -> bool {
        self.failing.as_ref().is_some_and(|failing| {
            now.saturating_sub(failing.noticed_ns) < HURRY
                && listings.get(failing.address).is_some_and(super::listings::Known::is_listed)
        })
    }

    /// Looks at the connections to each known address; returns the failover that is over now.
    pub fn look(
        &mut self,
        now: u64,
        (name, port): (&Arc<str>, u16),
        listings: &Listings,
        traffic: impl Fn(IpAddr) -> Traffic,
    ) -> Option<Failover> {
        if self.failing.is_none() {
            self.failing = self.notice(now, listings, &traffic);
        }
        let failing = self.failing.clone()?;
        let failed = failing.first_failure_ns;
        let old = traffic(failing.address);
        let recovered = (!old.is_failing()).then_some(old.calls.first_success_ns);
        let others = listings
            .known()
            .map(|(address, _)| address)
            .filter(|address| *address != failing.address && !failing.others.contains(address));
        let new = others.filter_map(|address| Some((traffic(address).took_over(failed)?, address))).min();
        let is_over =
            new.is_some() || recovered.is_some() || now.saturating_sub(failing.noticed_ns) > GIVEN_UP;
        if !is_over {
            return None;
        }
        self.failing = None;
        // Other addresses that fail as well are part of the same.
        self.settled = listings
            .known()
            .map(|(address, _)| (address, traffic(address)))
            .filter(|(_, traffic)| traffic.is_failing())
            .map(|(address, traffic)| (address, traffic.calls.first_failure_ns))
            .collect();
        let (first_success_ns, new) =
            new.filter(|(at, _)| recovered.is_none_or(|recovered| *at < recovered))?;
        let changed = listings.get(new).map(|known| known.came);
        Some(Failover {
            name: Arc::clone(name),
            port,
            old: failing.address,
            new,
            last_success_ns: (failing.last_success_ns > 0).then_some(failing.last_success_ns),
            first_failure_ns: failed,
            dns_changed: changed.filter(|changed| {
                changed.earliest_ns.is_some() && changed.latest_ns >= failed.saturating_sub(SAME_MOVE)
            }),
            first_success_ns,
        })
    }

    /// The failure that began first, of those that began while the name listed the address, or not long after.
    fn notice(&self, now: u64, listings: &Listings, traffic: &impl Fn(IpAddr) -> Traffic) -> Option<Failing> {
        let failing = listings.known().filter_map(|(address, known)| {
            let each = traffic(address);
            let Calls { first_failure_ns, last_failure_ns, last_success_ns, .. } = each.calls;
            let is_fresh = now.saturating_sub(last_failure_ns) <= FRESH;
            let is_settled = self.settled.get(&address) == Some(&first_failure_ns);
            let is_of_move = known.left().is_none_or(|left| first_failure_ns <= left.latest_ns + SAME_MOVE);
            (each.is_failing() && is_fresh && !is_settled && is_of_move).then_some((
                first_failure_ns,
                address,
                last_success_ns,
            ))
        });
        let (first_failure_ns, address, last_success_ns) = failing.min()?;
        let is_in_use = |other: &IpAddr| {
            let each = traffic(*other);
            *other != address
                && each.success_before_ns >= first_failure_ns.saturating_sub(IN_USE)
                && each.calls.first_success_ns < first_failure_ns
                && !each.is_failing()
        };
        let others = listings.known().map(|(other, _)| other).filter(is_in_use).collect();
        Some(Failing { address, last_success_ns, first_failure_ns, noticed_ns: now, others })
    }
}

#[cfg(test)]
mod tests;
