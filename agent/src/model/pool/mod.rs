//! Pools of source ports: from which ports each peer draws towards a service of ours, how many of them are taken, and when
//! they run out.

mod ephemeral;
mod forecast;
mod inference;
mod ranges;
mod traffic;
mod usage;

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use probe_ebpf::{
    account::{Counters, INBOUND, PeerKey},
    source_ports::PortSet,
    sweep::Held,
};

pub use self::{
    ephemeral::{Ephemeral, EphemeralFigures, LocalPorts, Reuse},
    forecast::Load,
    inference::KNOWN,
    ranges::{Range, Ranges},
};
use self::{
    inference::Inference,
    traffic::{TIME_WAIT_SECONDS, Totals},
    usage::Usage,
};
use super::recency::{STAY, decay};

/// A peer's ports are recorded once it has made so many connections of late.
const ENOUGH: f64 = 32.0;

/// With so many SYNs accepted into TIME_WAIT in the last minute and none refused, TIME_WAIT does not stand in this peer's way.
const ACCEPTED_ENOUGH: f64 = 8.0;

/// The pools of all peers that call us.
#[derive(Debug)]
pub struct Pools {
    capacity: usize,
    peers: HashMap<PeerKey, Peer>,
    /// Those whose ports are recorded; apart, since they are looked at each second.
    recorded: HashMap<PeerKey, Recorded>,
    ranked_at: Duration,
    unrecorded: u64,
}

/// A peer that calls us.
#[derive(Debug, Default)]
struct Peer {
    totals: Totals,
    /// Connections of late, decaying.
    recent: f64,
    /// Its ports deserve to be recorded, and found no room.
    crowded_out: bool,
}

/// A peer whose ports are recorded.
#[derive(Debug)]
struct Recorded {
    totals: Totals,
    inference: Inference,
    usage: Usage,
    /// Connections when the ports were last looked at.
    observed: u64,
    /// Whether a census has filled in the ports of the sockets there were.
    filled_in: bool,
}

/// Whose ports are to be recorded from now on, and whose no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Begin with these.
    pub record: Vec<PeerKey>,
    /// Cease with these, first.
    pub forget: Vec<PeerKey>,
}

/// One pool at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolFigures {
    /// Different source ports seen.
    pub source_ports: u32,
    /// The lowest and the highest of them.
    pub bounds: Option<(u16, u16)>,
    /// The pool as it is inferred.
    pub observed: Ranges,
    /// How surely the next connection comes from it, 0 to 1; from [`KNOWN`] on it is taken for the pool.
    pub confidence: f64,
    /// The pool as it is configured.
    pub configured: Option<Ranges>,
    /// Ports seen outside of the configured pool.
    pub outside: u32,
    /// Ports and rates.
    pub load: Load,
    /// SYNs accepted into TIME_WAIT in the last minute.
    pub accepted: f64,
    /// SYNs refused by TIME_WAIT in the last minute.
    pub refused: f64,
    /// Whether TIME_WAIT accepts whatever this peer sends, so that only live connections keep a port.
    pub accepts_reuse: bool,
    /// Seconds until no port is free, infinite when that will not be; `None` while the pool is not known.
    pub exhaustion_seconds: Option<f64>,
}

impl PoolFigures {
    /// The pool that counts: the configured one, else the observed one once it is known.
    #[must_use]
    pub fn pool(&self) -> Option<&Ranges> {
        self.configured.as_ref().or_else(|| self.observed_pool())
    }

    /// The observed pool, once it is known.
    #[must_use]
    pub fn observed_pool(&self) -> Option<&Ranges> {
        (self.confidence >= KNOWN).then_some(&self.observed)
    }

    /// The share of the pool that is taken. It may be above 1 when a configured pool is smaller than the real one.
    #[must_use]
    pub fn used_ratio(&self) -> Option<f64> {
        let size = self.pool()?.len();
        (size > 0).then(|| self.load.used() / f64::from(size))
    }

    /// The share of the pool that cannot be used for a new connection.
    #[must_use]
    pub fn blocked_ratio(&self) -> Option<f64> {
        let size = self.pool()?.len();
        (size > 0).then(|| self.blocking().used() / f64::from(size))
    }

    /// What keeps ports from being used for a new connection.
    fn blocking(&self) -> Load {
        if self.accepts_reuse { self.load.without_time_wait() } else { self.load }
    }

    /// Whether the configured pool is not the one the peer draws from: ports come from outside of it, or all of them from a part.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        let Some(configured) = &self.configured else { return false };
        let part = self.observed_pool().is_some_and(|observed| observed.len() * 10 < configured.len() * 9);
        self.outside > 0 || part
    }
}

impl Pools {
    /// No pool yet; `capacity` is how many peers' ports can be recorded.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (peers, recorded) = (HashMap::new(), HashMap::new());
        Self { capacity, peers, recorded, ranked_at: Duration::ZERO, unrecorded: 0 }
    }

    /// Takes the counters of an account; `is_news`: they are others than before, or those of a new account. `now` is any clock that never
    /// goes back.
    pub fn read(&mut self, now: Duration, key: &PeerKey, counters: &Counters, is_news: bool) {
        if key.direction != INBOUND || key.is_overflow() {
            return;
        }
        if let Some(recorded) = self.recorded.get_mut(key) {
            recorded.totals = Totals::of(counters);
            recorded.usage.traffic.sample(now, recorded.totals);
        }
        if !is_news {
            return;
        }
        let totals = Totals::of(counters);
        let peer = self.peers.entry(*key).or_default();
        let opened = totals.opened.saturating_sub(peer.totals.opened);
        peer.recent += opened as f64;
        peer.totals = totals;
        if peer.crowded_out {
            self.unrecorded += opened;
        }
    }

    /// Replaces everyone's sockets by those of a census.
    pub fn settle(&mut self, now: Duration, census: &[Held]) {
        for recorded in self.recorded.values_mut() {
            recorded.usage.begin_census(now);
        }
        for held in census {
            if let Some(recorded) = self.recorded.get_mut(&held.peer) {
                recorded.usage.add(held);
            }
        }
    }

    /// Decides whose ports are recorded: those of the peers with the most connections of late, if they are enough. `wanted` says
    /// who is to be recorded however few they are.
    pub fn choose(&mut self, now: Duration, wanted: impl Fn(&PeerKey) -> bool) -> Choice {
        let elapsed = now.saturating_sub(self.ranked_at);
        self.ranked_at = now;
        let decay = decay(elapsed);
        let mut candidates: Vec<(bool, f64, PeerKey)> = Vec::new();
        for (key, peer) in &mut self.peers {
            peer.recent *= decay;
            peer.crowded_out = false;
            let stays = self.recorded.contains_key(key);
            let wanted = wanted(key);
            if stays || wanted || peer.recent >= ENOUGH {
                candidates.push((wanted, peer.recent * if stays { STAY } else { 1.0 }, *key));
            }
        }
        candidates.sort_unstable_by(|a, b| {
            (Reverse(a.0), Reverse(a.1.to_bits()), a.2).cmp(&(Reverse(b.0), Reverse(b.1.to_bits()), b.2))
        });
        let mut choice = Choice::default();
        for (place, (_, _, key)) in candidates.into_iter().enumerate() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if place >= self.capacity {
                peer.crowded_out = true;
                if self.recorded.remove(&key).is_some() {
                    choice.forget.push(key);
                }
            } else if let Entry::Vacant(place) = self.recorded.entry(key) {
                place.insert(Recorded::new(now, peer.totals));
                choice.record.push(key);
            }
        }
        choice
    }

    /// The peers whose ports are recorded and that made connections since they were last looked at.
    #[must_use]
    pub fn due(&self) -> Vec<PeerKey> {
        self.recorded.iter().filter(|(_, recorded)| recorded.is_due()).map(|(key, _)| *key).collect()
    }

    /// Takes the ports recorded for a peer so far. Returns whether recording should begin anew.
    pub fn observe(&mut self, now: Duration, key: &PeerKey, ports: &PortSet) -> bool {
        let Some(recorded) = self.recorded.get_mut(key) else { return false };
        let draws = recorded.totals.opened.saturating_sub(recorded.observed);
        recorded.observed = recorded.totals.opened;
        recorded.filled_in = ports.filled_in != 0;
        recorded.inference.observe(ports, draws, now)
    }

    /// Forgets a peer whose account is gone. Returns whether its ports were recorded.
    pub fn forget(&mut self, key: &PeerKey) -> bool {
        self.peers.remove(key);
        self.recorded.remove(key).is_some()
    }

    /// Number of peers whose ports are recorded.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.recorded.len()
    }

    /// Connections of peers whose ports deserved to be recorded and found no room.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// Every pool there is. `configured` knows the pools of the configuration.
    pub fn figures<'a>(
        &'a self,
        now: Duration,
        configured: impl Fn(&PeerKey) -> Option<Ranges> + 'a,
    ) -> impl Iterator<Item = (PeerKey, PoolFigures)> + 'a {
        self.recorded.iter().map(move |(key, recorded)| (*key, recorded.figures(now, configured(key))))
    }
}

impl Recorded {
    fn new(now: Duration, totals: Totals) -> Self {
        Self {
            totals,
            inference: Inference::new(now),
            usage: Usage::new(now, totals),
            observed: totals.opened,
            filled_in: false,
        }
    }

    /// New connections, or a census that filled in the ports there were before.
    fn is_due(&self) -> bool {
        self.totals.opened != self.observed || !self.filled_in
    }

    fn figures(&self, now: Duration, configured: Option<Ranges>) -> PoolFigures {
        let Self { inference, usage, .. } = self;
        let traffic = &usage.traffic;
        let minute = TIME_WAIT_SECONDS as f64;
        let load = usage.load(now);
        let outside = configured.as_ref().map_or(0, |pool| inference.outside(pool));
        let accepted = traffic.growth(minute, 0.0, |totals| totals.accepted);
        let refused = traffic.growth(minute, 0.0, |totals| totals.refused);
        let mut figures = PoolFigures {
            source_ports: inference.seen(),
            bounds: inference.bounds(),
            observed: inference.ranges().clone(),
            confidence: inference.confidence(),
            configured,
            outside,
            load,
            accepted,
            refused,
            accepts_reuse: accepted >= ACCEPTED_ENOUGH && refused < 1.0,
            exhaustion_seconds: None,
        };
        figures.exhaustion_seconds =
            figures.pool().map(|pool| figures.blocking().seconds_until(f64::from(pool.len())));
        figures
    }
}

#[cfg(test)]
mod tests;
