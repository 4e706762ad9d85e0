//! SYNs that met a mini-socket: what became of them.
//!
//! A refused client may be answered so that it resets our mini-socket and connects at once, or its answer is lost on the way
//! and it repeats its SYN until it gives up. Whether it connected is known here; that it gave up is for the agent to
//! notice, since nothing happens then.

use aya_ebpf::bindings::BPF_ANY;
use probe_ebpf::{
    account::{Account, INBOUND, REFUSAL_ANSWERS, RefusalAnswer},
    connection::FourTuple,
    refusal::{EndedRefusal, Refusal},
    tally::Tally,
};

use crate::{
    accounts::{account, direction_of_port, key, mark_source_port},
    constants::SYN_WATCH,
    maps::{EVIDENCE, REFUSALS, add, tally},
    programs::syn_watch::count as count_syn,
    tuples::CLOSED_TUPLES,
};

/// A SYN that a mini-socket refused.
pub struct RefusedSyn {
    /// Its sequence number.
    pub isn: u32,
    /// How it was answered.
    pub answer: RefusalAnswer,
    /// When the mini-socket last sent an ACK, in jiffies; 0 where `answer` is known otherwise.
    pub acked_at: u32,
}

/// Books a refused SYN and goes on with its story.
#[inline(always)]
pub fn refused(tuple: &FourTuple, syn: &RefusedSyn, now: u64) -> Option<()> {
    if direction_of_port(tuple.local_port) != INBOUND {
        return None;
    }
    let key = key(tuple, INBOUND);
    let account = account(&key)?;
    let isn = syn.isn;
    let story = REFUSALS.get_ptr_mut(tuple);
    let mut answer = syn.answer;
    if let Some(story) = story
        // SAFETY: `story` points into a live map value.
        && syn.acked_at != 0 && unsafe { (*story).acked_at } == syn.acked_at
    {
        // That ACK was for an earlier SYN.
        answer = RefusalAnswer::None;
    }
    // SAFETY: `account` points into a live map value; the change is an atomic add.
    unsafe { add(&raw mut (*account).counters.time_wait_refused[answer as usize], 1) };
    mark_source_port(&key, tuple.remote_port);
    if SYN_WATCH.load() != 0 {
        count_syn(account, tuple, isn, now);
    }
    CLOSED_TUPLES.mini_socket_refused(tuple, now);

    let Some(story) = story else {
        let mut answers = [0; REFUSAL_ANSWERS];
        answers[answer as usize] = 1;
        let first = Refusal {
            first_ns: now,
            last_ns: now,
            longest_pause_ns: 0,
            connected_ns: 0,
            answers,
            isn,
            retries: 0,
            attempts: 1,
            reset: 0,
            acked_at: syn.acked_at,
        };
        if REFUSALS.insert(tuple, first, u64::from(BPF_ANY)).is_err() {
            tally(Tally::LostRefusals);
        }
        return Some(());
    };
    // SAFETY: `story` points into a live map value. The SYNs of one 4-tuple come one after the other.
    unsafe {
        let pause = now.saturating_sub((*story).last_ns);
        (*story).last_ns = now;
        (*story).acked_at = syn.acked_at;
        (*story).answers[answer as usize] += 1;
        if (*story).isn == isn {
            (*story).retries += 1;
            if pause > (*story).longest_pause_ns {
                (*story).longest_pause_ns = pause;
            }
            add(&raw mut (*account).counters.syn_retries, 1);
        } else {
            (*story).isn = isn;
            (*story).attempts += 1;
        }
    }
    Some(())
}

/// The client's RST took the mini-socket away.
#[inline(always)]
pub fn reset(tuple: &FourTuple) {
    if let Some(story) = REFUSALS.get_ptr_mut(tuple) {
        // SAFETY: as above.
        unsafe { (*story).reset = 1 };
    }
}

/// A connection came about on a 4-tuple that had been refused; the story ends. It was the refused attempt that connected if
/// `next_expected`, the sequence number after its SYN's, follows that of the refused one. Else the client gave that up, and
/// another attempt was not refused at all.
#[inline(always)]
pub fn connected(tuple: &FourTuple, next_expected: Option<u32>, account: *mut Account, now: u64) {
    let Some(story) = REFUSALS.get_ptr_mut(tuple) else { return };
    // SAFETY: `story` and `account` point into live map values; the counters are changed by atomic adds. The SYNs of one
    // 4-tuple come one after the other.
    unsafe {
        let expected = (*story).isn.wrapping_add(1);
        if next_expected.is_none_or(|next| next == expected) {
            (*story).connected_ns = now;
            (*story).retries += 1;
            add(&raw mut (*account).counters.syn_retries, 1);
            let how = usize::from((*story).reset == 0);
            add(&raw mut (*account).counters.refused_connected[how & 1], 1);
        }
        match EVIDENCE.reserve::<EndedRefusal>(0) {
            Some(mut entry) => {
                entry.write(EndedRefusal { tuple: *tuple, refusal: *story });
                entry.submit(0);
            }
            None => tally(Tally::LostEvidence),
        }
    }
    let _ = REFUSALS.remove(tuple);
}
