//! Pools of source ports: from which ports each peer draws towards a service of ours, how many of them are taken, and when
//! they run out.

mod blocks;
mod chance;
mod ephemeral;
mod figures;
mod forecast;
mod inference;
mod kept;
mod memory;
mod port_set;
mod positions;
mod ranges;
mod reach;
mod recorded;
#[cfg(test)]
mod recordings;
mod rounds;
mod survival;
mod told;
mod traffic;
mod trust;
mod usage;

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use probe_ebpf::{
    account::{Counters, EPHEMERAL, INBOUND, PeerKey},
    source_ports::PortSet,
    sweep::HeldAt,
};

pub use self::{
    blocks::{Circling, Outgrown},
    chance::Chance,
    ephemeral::{Ephemeral, EphemeralFigures, LocalPorts, Reuse},
    figures::PoolFigures,
    forecast::Load,
    inference::KNOWN,
    kept::TimeWaits,
    memory::SavedPool,
    port_set::Ports,
    ranges::{Range, Ranges},
    reach::Gaps,
    rounds::Turn,
};
use self::{
    chance::lost_share,
    kept::Kept,
    memory::Memory,
    recorded::{Around, Recorded},
    traffic::Totals,
    usage::Usage,
};
use super::recency::{STAY, decay};

/// A peer's ports are recorded once it has made so many connections of late.
const ENOUGH: f64 = 32.0;

/// The pools of all peers that call us.
#[derive(Debug)]
pub struct Pools {
    capacity: usize,
    peers: HashMap<PeerKey, Peer>,
    /// Those whose ports are recorded; apart, since they are looked at each second.
    recorded: HashMap<PeerKey, Recorded>,
    /// The pools that were known, those from before the agent started, too.
    memory: Memory,
    kept: Kept,
    ranked_at: Duration,
    /// When the last census was taken.
    counted_at: Duration,
    unrecorded: u64,
    /// SYNs that were too many at once to be searched for blocks.
    unsearched: u64,
}

/// A peer that calls us.
#[derive(Debug, Default)]
struct Peer {
    totals: Totals,
    /// When it was seen first.
    since: Duration,
    /// Connections of late, decaying.
    recent: f64,
    /// Its ports deserve to be recorded, and found no room.
    crowded_out: bool,
}

/// Whose ports are to be recorded from now on, and whose no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Begin with these.
    pub record: Vec<PeerKey>,
    /// Cease with these, first.
    pub forget: Vec<PeerKey>,
}

impl Pools {
    /// No pool yet; `capacity` is how many peers' ports can be recorded.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (peers, recorded) = (HashMap::new(), HashMap::new());
        Self {
            capacity,
            peers,
            recorded,
            memory: Memory::default(),
            kept: Kept::default(),
            ranked_at: Duration::ZERO,
            counted_at: Duration::ZERO,
            unrecorded: 0,
            unsearched: 0,
        }
    }

    /// Takes up the pools that were known before a restart. `unix` is now, in seconds.
    pub fn restore(&mut self, saved: Vec<SavedPool>, unix: u64) {
        self.memory.restore(saved, unix);
    }

    /// What a restart needs: the pools that are known now, and those that were and are not contradicted. `unix` is now, in seconds.
    pub fn save(&mut self, now: Duration, unix: u64) -> Vec<SavedPool> {
        for (key, recorded) in &self.recorded {
            if let Some((ranges, confidence)) = recorded.confirmed_pool() {
                self.memory.confirm(key, ranges, confidence, recorded.accepts_reuse(now), unix);
            }
        }
        self.memory.forget_old(unix);
        self.memory.save()
    }

    /// Remembered pools that made room for others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.memory.evicted()
    }

    /// Takes the counters of an account; `is_news`: they are others than before, or those of a new account. `now` is any clock that never
    /// goes back.
    pub fn read(&mut self, now: Duration, key: &PeerKey, counters: &Counters, is_news: bool) {
        // The ports of ours that are taken together have nothing in common; the overflow account is one of them.
        if key.direction != INBOUND || key.port == EPHEMERAL {
            return;
        }
        if let Some(recorded) = self.recorded.get_mut(key) {
            recorded.read(now, Totals::of(counters));
        }
        if !is_news {
            return;
        }
        let totals = Totals::of(counters);
        let peer = self.peers.entry(*key).or_insert_with(|| Peer { since: now, ..Peer::default() });
        let opened = totals.opened.saturating_sub(peer.totals.opened);
        peer.recent += opened as f64;
        peer.totals = totals;
        if peer.crowded_out {
            self.unrecorded += opened;
        }
    }

    /// Replaces everyone's sockets by those of a census, each row those of a peer at one address of ours.
    pub fn settle(&mut self, now: Duration, census: &[HeldAt]) {
        self.counted_at = now;
        for recorded in self.recorded.values_mut() {
            recorded.begin_census(now);
        }
        for held in census {
            if let Some(recorded) = self.recorded.get_mut(&held.peer) {
                recorded.add(held);
            }
        }
    }

    /// Decides whose ports are recorded: those of the peers with the most connections of late, if they are enough or the pool is
    /// remembered. `wanted` says who is to be recorded however few they are.
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
            if stays || wanted || peer.recent >= ENOUGH || self.memory.get(key).is_some() {
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
                let remembered = self.memory.get(&key);
                // No census counted the sockets of one that came since the last.
                let usage = match peer.since {
                    since if since > self.counted_at => Usage::since(since, now, peer.totals),
                    _ => Usage::new(now, peer.totals),
                };
                place.insert(Recorded::new(now, usage, peer.totals, remembered));
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

    /// A SYN of a peer was refused by a TIME_WAIT since its ports were last looked at; `is_repeated`: as one of the same attempt was before.
    pub fn refuse(&mut self, key: &PeerKey, port: u16, is_repeated: bool) {
        if let Some(recorded) = self.recorded.get_mut(key) {
            recorded.refuse(port, is_repeated);
        }
    }

    /// Takes the ports recorded for a peer since the last time; `configured` is its pool, if that is known. Returns whether recording should
    /// begin anew.
    pub fn observe(
        &mut self,
        now: Duration,
        key: &PeerKey,
        ports: &PortSet,
        configured: Option<&Ranges>,
    ) -> bool {
        let Some(recorded) = self.recorded.get_mut(key) else { return false };
        let is_over = recorded.observe(now, ports, configured);
        self.unsearched += recorded.take_unsearched();
        if recorded.judge_remembered(is_over) {
            self.memory.give_up(key);
        }
        is_over
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

    /// SYNs that were not searched for blocks of ports because too many of a peer came at once.
    #[must_use]
    pub fn unsearched(&self) -> u64 {
        self.unsearched
    }

    /// Every pool there is. `time_waits` is what the kernel says of its TIME_WAITs; `configured` knows the pools of the configuration.
    pub fn figures<'a>(
        &'a mut self,
        now: Duration,
        time_waits: TimeWaits,
        configured: impl Fn(&PeerKey) -> Option<Ranges> + 'a,
    ) -> impl Iterator<Item = (PeerKey, PoolFigures)> + 'a {
        let totals = || self.peers.values().map(|peer| peer.totals);
        let sum = |field: fn(Totals) -> u64| totals().map(field).sum::<u64>() as f64;
        let lost = lost_share(sum(|totals| totals.accepted), sum(|totals| totals.refused));
        self.kept.observe(now, time_waits);
        let around = Around { kept: &self.kept, lost };
        self.recorded
            .iter_mut()
            .map(move |(key, recorded)| (*key, recorded.figures(now, configured(key), around)))
    }
}

#[cfg(test)]
mod tests;
