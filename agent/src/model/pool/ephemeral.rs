//! Our own ports towards each destination: how many are taken of those the kernel chooses from, and when they run out.
//!
//! A port can be taken once per destination and source address. Of a destination that is called from several addresses, the figures
//! are those of the address that takes the most ports.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr, time::Duration};

use probe_ebpf::{
    account::{Counters, OUTBOUND, PeerKey},
    sweep::HeldAt,
};

use super::{forecast::Load, traffic::Totals, usage::Usage};

/// So many destinations are followed, those with the most sockets from one source address.
const FOLLOWED: usize = 64;

/// A destination is followed once one source address takes this part of the ports.
const PART: u32 = 64;

/// The ports the kernel chooses from for a connect(), and what it may do with those in TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPorts {
    /// How many: net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports.
    pub size: u32,
    /// Whether a port in TIME_WAIT may be used again at once (net.ipv4.tcp_tw_reuse, which needs timestamps).
    pub reuse: Reuse,
}

/// When a port in TIME_WAIT may be used again for the same destination, after a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Never.
    Never,
    /// On the loopback, as is the default.
    Loopback,
    /// Always.
    Always,
}

/// The ports towards one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EphemeralFigures {
    /// Ports the kernel chooses from.
    pub size: u32,
    /// The source address that takes the most of them.
    pub local: Option<IpAddr>,
    /// From how many source addresses the destination is called.
    pub local_addresses: u32,
    /// What takes them at that address.
    pub load: Load,
    /// Whether TIME_WAIT does not stand in the way.
    pub reuses: bool,
    /// Seconds until none is free, infinite when that will not be.
    pub exhaustion_seconds: f64,
}

impl EphemeralFigures {
    /// The share that is taken.
    #[must_use]
    pub fn used_ratio(&self) -> f64 {
        self.load.used() / f64::from(self.size)
    }

    /// The share that cannot be used for a new connection.
    #[must_use]
    pub fn blocked_ratio(&self) -> f64 {
        blocking(&self.load, self.reuses).used() / f64::from(self.size)
    }
}

fn blocking(load: &Load, reuses: bool) -> Load {
    if reuses { load.without_time_wait() } else { *load }
}

/// The destinations with the most sockets.
#[derive(Debug, Default)]
pub struct Ephemeral {
    ports: Option<LocalPorts>,
    followed: HashMap<PeerKey, Usage>,
}

impl Ephemeral {
    /// Takes the counters of an account. `now` is any clock that never goes back.
    pub fn read(&mut self, now: Duration, key: &PeerKey, counters: &Counters) {
        if key.direction == OUTBOUND
            && let Some(usage) = self.followed.get_mut(key)
        {
            usage.traffic.sample(now, Totals::of(counters));
        }
    }

    /// Takes a census and the ports there are, and decides who is followed.
    pub fn settle(&mut self, now: Duration, census: &[HeldAt], ports: LocalPorts) {
        self.ports = Some(ports);
        let mine = |held: &&HeldAt| held.peer.direction == OUTBOUND && !held.peer.is_overflow();
        let least = (ports.size / PART).max(1);
        let mut fullest: HashMap<PeerKey, u32> = HashMap::new();
        for held in census.iter().filter(mine).filter(|held| held.sockets() >= least) {
            let most = fullest.entry(held.peer).or_default();
            *most = held.sockets().max(*most);
        }
        let mut heavy: Vec<(PeerKey, u32)> = fullest.into_iter().collect();
        heavy.sort_unstable_by_key(|&(peer, sockets)| (Reverse(sockets), peer));
        heavy.truncate(FOLLOWED);
        let mut before = std::mem::take(&mut self.followed);
        for (peer, _) in heavy {
            let mut usage = before.remove(&peer).unwrap_or_else(|| Usage::begin(now));
            usage.begin_census(now);
            self.followed.insert(peer, usage);
        }
        for held in census {
            if let Some(usage) = self.followed.get_mut(&held.peer) {
                usage.add(held);
            }
        }
    }

    /// The figures of each destination that is followed.
    pub fn figures(&self, now: Duration) -> impl Iterator<Item = (PeerKey, EphemeralFigures)> {
        let ports = self.ports.filter(|ports| ports.size > 0);
        self.followed.iter().filter_map(move |(key, usage)| {
            let LocalPorts { size, reuse } = ports?;
            let reuses = match reuse {
                Reuse::Never => false,
                Reuse::Loopback => key.address().is_loopback(),
                Reuse::Always => true,
            };
            let load = usage.load(now, None, false);
            let exhaustion_seconds = blocking(&load, reuses).seconds_until(f64::from(size));
            let (local, local_addresses) = (usage.local(), usage.addresses());
            let figures = EphemeralFigures { size, local, local_addresses, load, reuses, exhaustion_seconds };
            Some((*key, figures))
        })
    }
}
