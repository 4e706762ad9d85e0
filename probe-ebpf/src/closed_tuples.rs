//! Remembering closed 4-tuples and recognising them again. Two CPUs may write one set at the same time; the worst that comes
//! of it is one tuple forgotten.

use probe_ebpf::{
    closed::{ClosedSet, WAYS, WORTH_REMEMBERING_NS},
    connection::FourTuple,
    tally::Tally,
};

use crate::{
    constants::{CLOSED_SETS, HASH_SEED},
    maps::{CLOSED, tally},
};

/// The set of a 4-tuple, and its hash.
#[inline(always)]
fn find(tuple: &FourTuple) -> Option<(*mut ClosedSet, u64)> {
    let hash = tuple.hash(HASH_SEED.load());
    // The high bits, scaled to the number of sets.
    let index = ((hash >> 32) * u64::from(CLOSED_SETS.load())) >> 32;
    Some((CLOSED.get_ptr_mut(index as u32)?, hash))
}

/// Remembers when a 4-tuple closed.
#[inline(always)]
pub fn remember(tuple: &FourTuple, now: u64) -> Option<()> {
    let (set, hash) = find(tuple)?;
    // SAFETY: `set` points into a live array map; `place` stays below `WAYS`.
    unsafe {
        let mut place = 0;
        let mut oldest = u64::MAX;
        for way in 0..WAYS as usize {
            let slot = (*set).slots[way];
            // The tuple's own slot is older than any.
            let age_key = if slot.hash == hash { 0 } else { slot.closed_ns };
            if age_key < oldest {
                oldest = age_key;
                place = way;
            }
        }
        let slot = &raw mut (*set).slots[place & (WAYS as usize - 1)];
        if oldest != 0 && now.wrapping_sub(oldest) < WORTH_REMEMBERING_NS {
            tally(Tally::LostClosed);
        }
        (*slot).closed_ns = now;
        (*slot).hash = hash;
    }
    Some(())
}

/// When a 4-tuple closed, if that is remembered; it is forgotten thereby.
#[inline(always)]
pub fn take(tuple: &FourTuple) -> Option<u64> {
    let (set, hash) = find(tuple)?;
    // SAFETY: `set` points into a live array map.
    unsafe {
        for way in 0..WAYS as usize {
            let slot = &raw mut (*set).slots[way];
            if (*slot).hash == hash {
                let closed_ns = (*slot).closed_ns;
                (*slot).hash = 0;
                (*slot).closed_ns = 0;
                return Some(closed_ns);
            }
        }
    }
    None
}
