//! Pools that were known once: what a restart, or a peer that comes back after an idle time, can start from.

use std::{collections::HashMap, net::IpAddr};

use anyhow::ensure;
use probe_ebpf::account::{INBOUND, PeerKey};
use serde::{Deserialize, Serialize};

use super::{
    inference::KNOWN,
    ranges::{Range, Ranges},
};

/// So many pools are remembered; beyond that, the one that was not confirmed for the longest time makes room.
const CAPACITY: usize = 4_096;

/// A pool in more pieces is not remembered.
const MOST_RANGES: usize = 64;

/// A pool that was not confirmed for so many seconds is forgotten.
const KEPT: u64 = 7 * 24 * 3_600;

/// The time of confirmation is kept in steps of so many seconds, so that the same pool is not written again and again.
const STEP: u64 = 3_600;

/// A pool that was known, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPool {
    /// The peer's address.
    pub peer: IpAddr,
    /// The service port.
    pub port: u16,
    /// First port, last port and step of each range, ascending.
    pub ranges: Vec<(u16, u16, u16)>,
    /// How surely the next connection came from it, [`KNOWN`] to 1.
    pub confidence: f64,
    /// Whether TIME_WAIT accepted whatever the peer sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepts_reuse: bool,
    /// When it was last known by the ports seen: Unix time in seconds, rounded down to the hour.
    pub confirmed: u64,
}

impl SavedPool {
    fn key(&self) -> PeerKey {
        PeerKey::new(self.peer, self.port, INBOUND)
    }

    /// # Errors
    /// When it is none that could have been written.
    pub fn check(&self) -> anyhow::Result<()> {
        let Self { peer, ranges, confidence, .. } = self;
        ensure!((KNOWN..=1.0).contains(confidence), "the pool of {peer} has a confidence of {confidence}");
        let are_many = ranges.is_empty() || ranges.len() > MOST_RANGES;
        ensure!(!are_many, "the pool of {peer} has {} ranges", ranges.len());
        let is_range = |&(low, high, step): &(u16, u16, u16)| {
            low <= high && [1, 2].contains(&step) && (high - low).is_multiple_of(step)
        };
        let ascends = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        ensure!(ascends && ranges.iter().all(is_range), "the pool of {peer} has ranges that are none");
        Ok(())
    }

    /// The ranges.
    pub(super) fn ranges(&self) -> Ranges {
        Ranges::new(self.ranges.iter().map(|&(low, high, step)| Range { low, high, step }).collect())
    }
}

/// The pools that were known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pools: HashMap<PeerKey, SavedPool>,
    evicted: u64,
}

impl Memory {
    /// Takes up what was saved. `unix` is now.
    pub fn restore(&mut self, saved: Vec<SavedPool>, unix: u64) {
        for pool in saved {
            self.insert(pool);
        }
        self.forget_old(unix);
    }

    pub fn get(&self, key: &PeerKey) -> Option<&SavedPool> {
        self.pools.get(key)
    }

    /// A pool is known now, by the ports seen.
    pub fn confirm(
        &mut self,
        key: &PeerKey,
        ranges: &Ranges,
        confidence: f64,
        accepts_reuse: bool,
        unix: u64,
    ) {
        let ranges = ranges.as_slice();
        if ranges.len() > MOST_RANGES {
            self.give_up(key);
            return;
        }
        self.insert(SavedPool {
            peer: key.address(),
            port: key.port,
            ranges: ranges.iter().map(|range| (range.low, range.high, range.step)).collect(),
            confidence: (confidence * 100.0).floor() / 100.0,
            accepts_reuse,
            confirmed: unix - unix % STEP,
        });
    }

    fn insert(&mut self, pool: SavedPool) {
        let key = pool.key();
        if self.pools.len() >= CAPACITY && !self.pools.contains_key(&key) {
            let oldest = self.pools.iter().min_by_key(|(key, pool)| (pool.confirmed, **key));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.pools.remove(&oldest);
                self.evicted += 1;
            }
        }
        self.pools.insert(key, pool);
    }

    /// Ports were seen that are not of this pool.
    pub fn give_up(&mut self, key: &PeerKey) {
        self.pools.remove(key);
    }

    /// Forgets what was not confirmed for long. A time of confirmation that is yet to come is one of a clock that was wrong.
    pub fn forget_old(&mut self, unix: u64) {
        self.pools.retain(|_, pool| pool.confirmed <= unix && unix - pool.confirmed <= KEPT);
    }

    /// Pools that made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is to be written down, in an order of its own.
    pub fn save(&self) -> Vec<SavedPool> {
        let mut pools: Vec<SavedPool> = self.pools.values().cloned().collect();
        pools.sort_unstable_by_key(SavedPool::key);
        pools
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> PeerKey {
        PeerKey::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 443, INBOUND)
    }

    fn saved(ranges: &[(u16, u16, u16)], confidence: f64) -> SavedPool {
        let (peer, port) = (key(1).address(), 443);
        SavedPool { peer, port, ranges: ranges.to_vec(), confidence, accepts_reuse: false, confirmed: 0 }
    }

    #[test]
    fn what_is_saved_is_remembered_until_it_is_old() {
        let pool = Ranges::new(vec![Range { low: 2_048, high: 16_382, step: 2 }]);
        let mut memory = Memory::default();
        memory.confirm(&key(1), &pool, 0.996, false, 10_000);
        let saved = memory.save();
        assert!(saved.iter().all(|pool| pool.check().is_ok()));
        assert_eq!((saved[0].confidence, saved[0].confirmed), (0.99, 7_200));
        let restored = |unix| {
            let mut memory = Memory::default();
            memory.restore(saved.clone(), unix);
            memory.get(&key(1)).map(SavedPool::ranges)
        };
        assert_eq!(restored(7_200 + KEPT), Some(pool));
        assert_eq!(restored(7_201 + KEPT), None);
        assert_eq!(restored(7_199), None, "confirmed in the future");
    }

    #[test]
    fn the_memory_is_bounded_and_what_makes_room_is_counted() {
        let mut memory = Memory::default();
        let pool = Ranges::whole(&[(1, 2)]);
        for (number, unix) in (0..).zip((0..=CAPACITY as u64).map(|hour| hour * STEP)) {
            memory.confirm(&key(number), &pool, 1.0, false, unix);
        }
        assert_eq!((memory.save().len(), memory.evicted()), (CAPACITY, 1));
        assert!(memory.get(&key(0)).is_none() && memory.get(&key(1)).is_some());
        memory.confirm(&key(1), &pool, 1.0, false, u64::MAX);
        assert_eq!(memory.evicted(), 1, "it has a place already");
        let scattered: Vec<(u16, u16)> = (0..65).map(|place| (place * 10, place * 10)).collect();
        memory.confirm(&key(1), &Ranges::whole(&scattered), 1.0, false, u64::MAX);
        assert!(memory.get(&key(1)).is_none(), "in too many pieces");
    }

    #[test]
    fn what_cannot_have_been_saved_is_no_pool() {
        assert!(saved(&[(1, 2, 1), (4, 8, 2)], 1.0).check().is_ok());
        for (ranges, confidence) in [
            (&[(1, 2, 1)][..], 0.5),
            (&[(1, 2, 1)], f64::NAN),
            (&[], 1.0),
            (&[(2, 1, 1)], 1.0),
            (&[(1, 2, 0)], 1.0),
            (&[(1, 4, 2)], 1.0),
            (&[(1, 4, 1), (4, 5, 1)], 1.0),
        ] {
            assert!(saved(ranges, confidence).check().is_err(), "{ranges:?} {confidence}");
        }
    }
}
