//! What the kernel remembers of connections: the open ones by socket, the closed ones by 4-tuple.

use bytemuck::{Pod, Zeroable};

use crate::account::Address;

/// A connection seen from this host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FourTuple {
    /// Local address.
    pub local: Address,
    /// Remote address.
    pub remote: Address,
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// 0, but for the memory of SYNs and for attempts, which keep the sequence number here.
    pub isn: u32,
}

impl FourTuple {
    /// The connection between two endpoints, ports in host order.
    #[must_use]
    #[inline(always)]
    pub const fn new(local: Address, remote: Address, local_port: u16, remote_port: u16) -> Self {
        Self { local, remote, local_port, remote_port, isn: 0 }
    }

    /// The connection attempt of a SYN with this sequence number, whatever port it comes from.
    #[must_use]
    #[inline(always)]
    pub const fn attempt(&self, isn: u32) -> Self {
        Self { remote_port: 0, isn, ..*self }
    }

    /// A hash that only those who know `seed` can predict. Not 0, which marks an empty slot.
    #[must_use]
    #[inline(always)]
    pub fn hash(&self, seed: u64) -> u64 {
        let words: [u64; 5] = bytemuck::cast(*self);
        let mut hash = seed;
        for word in words {
            hash = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            hash ^= hash >> 32;
        }
        // Without this, ports that follow each other land in every other set only.
        hash = hash.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        hash ^= hash >> 32;
        hash | 1
    }
}

/// An open connection, kept under the address of its socket until the socket reaches CLOSE.
///
/// The address is reused at once after that (`SLAB_TYPESAFE_BY_RCU`), so nothing may look it up later.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Connection {
    /// Monotonic time of the last step seen: our SYN, then ESTABLISHED. 0: it began before the agent did.
    pub since_ns: u64,
    /// `OUTBOUND_FLAG`, `ESTABLISHED_FLAG`, `SYN_COUNTED_FLAG`.
    pub flags: u64,
    /// Ours: when we had asked, in ticks, as the last walk saw that we waited.
    pub asked: u32,
    /// For how long we had waited then, in ticks; 0 is that we did not.
    pub waited: u32,
}

impl Connection {
    /// One that waits for nothing.
    #[must_use]
    #[inline(always)]
    pub const fn new(since_ns: u64, flags: u64) -> Self {
        Self { since_ns, flags, asked: 0, waited: 0 }
    }
}

/// This host connected; otherwise it accepted.
pub const OUTBOUND_FLAG: u64 = 1;
/// The connection was established.
pub const ESTABLISHED_FLAG: u64 = 2;
/// The first SYN has been counted.
pub const SYN_COUNTED_FLAG: u64 = 4;

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for FourTuple {}

const _: () = assert!(size_of::<FourTuple>() == 40 && align_of::<FourTuple>() == 8);
const _: () = assert!(size_of::<Connection>() == 24);

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::{IpAddr, Ipv4Addr};
    use std::{collections::HashSet, vec};

    use super::*;
    use crate::{
        account::{INBOUND, PeerKey},
        tuple_memory::WAYS,
    };

    /// Three NAT addresses that use 14,336 source ports each, the incident this memory is for.
    fn incident() -> impl Iterator<Item = FourTuple> {
        let address = |last| PeerKey::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)), 0, INBOUND).addr;
        (1..=3).flat_map(move |peer| {
            (2048..16_384).map(move |port| FourTuple::new(address(200), address(peer), 443, port))
        })
    }

    #[test]
    fn different_tuples_hash_differently_and_never_to_zero() {
        let hashes: HashSet<u64> = incident().map(|tuple| tuple.hash(7)).collect();
        assert_eq!(hashes.len(), 3 * 14_336);
        assert!(!hashes.contains(&0));
    }

    /// How many of `tuples` find their set full.
    fn homeless(tuples: impl Iterator<Item = FourTuple>, seed: u64) -> usize {
        let sets = 524_288 / u64::from(WAYS);
        let mut used = vec![0_usize; usize::try_from(sets).expect("a small number")];
        for tuple in tuples {
            let set = ((tuple.hash(seed) >> 32) * sets) >> 32;
            used[usize::try_from(set).expect("below the number of sets")] += 1;
        }
        used.iter().map(|&wanted| wanted.saturating_sub(WAYS as usize)).sum()
    }

    #[test]
    fn the_whole_incident_fits_into_the_sets_of_the_default_size() {
        for seed in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(homeless(incident(), seed), 0, "seed {seed}");
        }
    }

    #[test]
    fn ports_that_follow_each_other_spread_as_if_at_random() {
        let address = |last| PeerKey::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0, INBOUND).addr;
        let both_ends = || {
            [(5, 200), (6, 201)].into_iter().flat_map(move |(peer, service)| {
                (1024..61_024).flat_map(move |port| {
                    let out = FourTuple::new(address(peer), address(1), port, service);
                    let back = FourTuple::new(address(1), address(peer), service, port);
                    [out, back]
                })
            })
        };
        for seed in [1, 0xdead_beef] {
            // 240,000 balls into 65,536 bins of 8: 1,290 find no room at random (Poisson).
            let homeless = homeless(both_ends(), seed);
            assert!(homeless < 2_000, "seed {seed}: {homeless}");
        }
    }
}
