//! Remembering 4-tuples and recognising them again. Two CPUs may write one set at the same time; the worst that comes of it is
//! one tuple forgotten.

use core::hint::black_box;

use aya_ebpf::{Global, maps::Array};
use probe_ebpf::{
    connection::FourTuple,
    tally::Tally,
    tuple_memory::{
        CLOSE_UNSEEN, MINI_SOCKET, RESET, STAMP_FLAGS, TupleSet, TupleSlot, WAYS, WORTH_REMEMBERING_NS,
    },
};

use crate::{
    constants::{CLOSED_SETS, HASH_SEED, SYN_SETS},
    maps::{CLOSED, SYNS, tally},
};

/// Closed 4-tuples.
pub const CLOSED_TUPLES: Memory =
    Memory { map: &CLOSED, sets: &CLOSED_SETS, forgot: Tally::LostClosed, by_sequence: false };
/// SYNs, by 4-tuple and sequence number. Of the millions that a flood brings, two of one hash would be taken for a repeated one.
pub const SEEN_SYNS: Memory =
    Memory { map: &SYNS, sets: &SYN_SETS, forgot: Tally::LostSyns, by_sequence: true };

const EMPTY: TupleSlot = TupleSlot { tag: 0, next_sent: 0, stamp: 0 };

/// One memory.
pub struct Memory {
    map: &'static Array<TupleSet>,
    sets: &'static Global<u32>,
    /// Where a tuple is counted that is forgotten too soon.
    forgot: Tally,
    /// Whether a tuple is the same only if its sequence number is, too.
    by_sequence: bool,
}

impl Memory {
    /// The set of a 4-tuple, and its tag.
    #[inline(always)]
    fn set(&self, tuple: &FourTuple) -> Option<(*mut TupleSet, u32)> {
        let hash = tuple.hash(HASH_SEED.load());
        // The high bits, scaled to the number of sets.
        let index = ((hash >> 32) * u64::from(self.sets.load())) >> 32;
        // The low bit of a hash is set, so that no tag is 0.
        Some((self.map.get_ptr_mut(index as u32)?, hash as u32))
    }

    /// The set and the place in it of a 4-tuple, if it is remembered.
    #[inline(always)]
    fn find(&self, tuple: &FourTuple) -> Option<(*mut TupleSet, usize)> {
        let (set, tag) = self.set(tuple)?;
        let mut place = 0;
        let mut found = 0;
        for way in 0..WAYS as usize {
            // SAFETY: `set` points into a live array map.
            let hit = all_ones_if_equal(unsafe { (*set).slots[way].tag }, tag);
            place = (place & !hit) | (way as u64 & hit);
            found |= hit;
        }
        if found == 0 {
            return None;
        }
        Some((set, below_ways(place)))
    }

    /// The slot of a 4-tuple, if it is remembered.
    #[inline(always)]
    fn slot(&self, tuple: &FourTuple) -> Option<*mut TupleSlot> {
        let (set, place) = self.find(tuple)?;
        // SAFETY: `set` points into a live array map.
        Some(unsafe { &raw mut (*set).slots[place] })
    }

    /// Remembers a 4-tuple, or gives it a new stamp. Returns the old one, 0 if there was none. `timestamp`: the peer's last, 0 where it is not
    /// known.
    #[inline(always)]
    pub fn remember(&self, tuple: &FourTuple, now: u64, flags: u64, next_sent: u32, timestamp: u32) -> u64 {
        let Some((set, tag)) = self.set(tuple) else { return 0 };
        // SAFETY: `set` points into a live array map; the mask keeps the place below `WAYS`.
        unsafe {
            // The oldest stamp, with its place instead of its flags.
            let mut oldest = u64::MAX >> 1;
            let mut known = 0;
            for way in 0..WAYS as usize {
                let slot = (*set).slots[way];
                let mut hit = all_ones_if_equal(slot.tag, tag);
                if self.by_sequence {
                    hit &= all_ones_if_equal(slot.next_sent, next_sent);
                }
                known |= slot.stamp & hit;
                // The tuple's own slot is older than any, an empty one than the others.
                let age = (slot.stamp & !STAMP_FLAGS) | u64::from(WAYS);
                oldest = earlier(oldest, (age & !hit) | way as u64);
            }
            let place = below_ways(oldest);
            (*set).timestamps[place] = timestamp;
            let slot = &raw mut (*set).slots[place];
            let in_use = (*slot).tag != 0 && known == 0;
            if in_use && now.wrapping_sub((*slot).stamp) < WORTH_REMEMBERING_NS {
                tally(self.forgot);
            }
            (*slot).stamp = (now & !STAMP_FLAGS) | flags;
            (*slot).next_sent = next_sent;
            (*slot).tag = tag;
            known
        }
    }

    /// What is remembered of a 4-tuple, and the peer's last timestamp; an empty slot and 0 if nothing is. It is forgotten thereby.
    #[inline(always)]
    pub fn take(&self, tuple: &FourTuple) -> (TupleSlot, u32) {
        let Some((set, place)) = self.find(tuple) else { return (EMPTY, 0) };
        // SAFETY: `set` points into a live array map.
        unsafe {
            let slot = &raw mut (*set).slots[place];
            let taken = (*slot, (*set).timestamps[place]);
            *slot = EMPTY;
            taken
        }
    }

    /// The 60 s of the tuple's mini-socket begin anew.
    #[inline(always)]
    pub fn mini_socket_restarts(&self, tuple: &FourTuple, now: u64) {
        if let Some(slot) = self.slot(tuple) {
            // SAFETY: as above.
            unsafe { (*slot).stamp = (now & !STAMP_FLAGS) | ((*slot).stamp & STAMP_FLAGS) };
        }
    }

    /// The tuple has no mini-socket any more, or got none.
    #[inline(always)]
    pub fn mini_socket_gone(&self, tuple: &FourTuple) {
        if let Some(slot) = self.slot(tuple) {
            // SAFETY: as above.
            unsafe { (*slot).stamp &= !MINI_SOCKET };
        }
    }

    /// The peer's RST took the tuple's mini-socket away.
    #[inline(always)]
    pub fn mini_socket_reset(&self, tuple: &FourTuple, now: u64) {
        match self.slot(tuple) {
            // SAFETY: as above.
            Some(slot) => unsafe { (*slot).stamp = ((*slot).stamp & !MINI_SOCKET) | RESET },
            None => {
                self.remember(tuple, now, RESET | CLOSE_UNSEEN, 0, 0);
            }
        }
    }
}

// The verifier follows every path, and eight slots with a branch each have thousands: these have none. The compiler would make
// branches of them again if it knew the mask to be all ones or nothing.

/// All bits set if both are equal, else none.
#[inline(always)]
fn all_ones_if_equal(a: u32, b: u32) -> u64 {
    // Only 0 - 1 has the sign bit.
    black_box(sign_mask(u64::from(a ^ b).wrapping_sub(1)))
}

/// The lesser of two times, which are far below 2^63.
#[inline(always)]
fn earlier(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    b.wrapping_add(difference & black_box(sign_mask(difference)))
}

/// The place in the low bits of `number`. The compiler may know the bits above to be none, the verifier does not.
#[inline(always)]
fn below_ways(number: u64) -> usize {
    black_box(number) as usize & (WAYS as usize - 1)
}

/// All bits set if the number has the sign bit, else none.
#[inline(always)]
fn sign_mask(number: u64) -> u64 {
    (number.cast_signed() >> 63).cast_unsigned()
}
