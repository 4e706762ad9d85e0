//! Remembering 4-tuples and recognising them again. Two CPUs may write one set at the same time; the worst that comes of it is
//! one tuple forgotten.

use aya_ebpf::{Global, maps::Array};
use probe_ebpf::{
    connection::FourTuple,
    tally::Tally,
    tuple_memory::{
        CLOSE_UNSEEN, MINI_SOCKET, REFUSED, STAMP_FLAGS, TupleSet, TupleSlot, WAYS, WORTH_REMEMBERING_NS,
    },
};

use crate::{
    constants::{CLOSED_SETS, HASH_SEED, SYN_SETS},
    maps::{CLOSED, SYNS, tally},
};

/// Closed 4-tuples.
pub const CLOSED_TUPLES: Memory = Memory { map: &CLOSED, sets: &CLOSED_SETS, forgot: Tally::LostClosed };
/// SYNs: 4-tuples with the sequence number in the place of the padding.
pub const SEEN_SYNS: Memory = Memory { map: &SYNS, sets: &SYN_SETS, forgot: Tally::LostSyns };

const EMPTY: TupleSlot = TupleSlot { tag: 0, next_sent: 0, stamp: 0 };

/// One memory.
pub struct Memory {
    map: &'static Array<TupleSet>,
    sets: &'static Global<u32>,
    /// Where a tuple is counted that is forgotten too soon.
    forgot: Tally,
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

    /// The slot of a 4-tuple, if it is remembered.
    #[inline(always)]
    fn slot(&self, tuple: &FourTuple) -> Option<*mut TupleSlot> {
        let (set, tag) = self.set(tuple)?;
        for way in 0..WAYS as usize {
            // SAFETY: `set` points into a live array map.
            unsafe {
                let slot = &raw mut (*set).slots[way];
                if (*slot).tag == tag {
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Remembers a 4-tuple, or gives it a new stamp. Returns the old one, 0 if there was none.
    #[inline(always)]
    pub fn remember(&self, tuple: &FourTuple, now: u64, flags: u64, next_sent: u32) -> u64 {
        let Some((set, tag)) = self.set(tuple) else { return 0 };
        // SAFETY: `set` points into a live array map; `place` stays below `WAYS`.
        unsafe {
            let mut place = 0;
            let mut oldest = u64::MAX;
            let mut known = 0;
            for way in 0..WAYS as usize {
                let slot = (*set).slots[way];
                // The tuple's own slot is older than any.
                let age_key = if slot.tag == tag {
                    known = slot.stamp;
                    0
                } else {
                    slot.stamp
                };
                if age_key < oldest {
                    oldest = age_key;
                    place = way;
                }
            }
            let slot = &raw mut (*set).slots[place & (WAYS as usize - 1)];
            if oldest != 0 && now.wrapping_sub(oldest) < WORTH_REMEMBERING_NS {
                tally(self.forgot);
            }
            (*slot).stamp = (now & !STAMP_FLAGS) | flags;
            (*slot).next_sent = next_sent;
            (*slot).tag = tag;
            known
        }
    }

    /// What is remembered of a 4-tuple, an empty slot if nothing is; it is forgotten thereby.
    #[inline(always)]
    pub fn take(&self, tuple: &FourTuple) -> TupleSlot {
        let Some(slot) = self.slot(tuple) else { return EMPTY };
        // SAFETY: `slot` points into a live array map.
        unsafe {
            let taken = *slot;
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

    /// The tuple's mini-socket refused a SYN.
    #[inline(always)]
    pub fn mini_socket_refused(&self, tuple: &FourTuple, now: u64) {
        match self.slot(tuple) {
            // SAFETY: as above.
            Some(slot) => unsafe { (*slot).stamp |= REFUSED },
            None => {
                self.remember(tuple, now, MINI_SOCKET | REFUSED | CLOSE_UNSEEN, 0);
            }
        }
    }
}
