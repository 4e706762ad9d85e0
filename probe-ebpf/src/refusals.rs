//! SYNs that met a mini-socket or an open connection: what became of them.
//!
//! A refused client may be answered so that it resets our side and connects at once, or its answer is lost on the way
//! and it repeats its SYN until it gives up. Whether it connected is known here; that it gave up is for the agent to
//! notice, since nothing happens then.
//!
//! A NAT forgets its mapping when the client's RST passes, and may give the repeated SYN another port. So the story is one of an
//! attempt, known by the peer and the sequence number of its SYN.

use aya_ebpf::bindings::BPF_ANY;
use probe_ebpf::{
    account::{Account, INBOUND, LONG_DELAY_NS, REFUSAL_ANSWERS, RefusalAnswer, RefusedConnect},
    connection::FourTuple,
    refusal::{EndedRefusal, Refusal},
    sweep::state::{CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, SYN_RECV, TIME_WAIT},
    tally::Tally,
    tuple_memory::WORTH_REMEMBERING_NS,
};

use crate::{
    accounts::{account, direction, direction_of_port, key, mark_source_port, observe_wait},
    constants::SYN_WATCH,
    maps::{EVIDENCE, LAST_REFUSED, REFUSALS, add, tally},
    programs::syn_watch::count as count_syn,
};

/// A SYN that a mini-socket or an open connection refused.
pub struct RefusedSyn {
    /// Its sequence number.
    pub isn: u32,
    /// How it was answered.
    pub answer: RefusalAnswer,
    /// When the old side last sent an ACK out of turn, in jiffies; 0 where `answer` is known otherwise.
    pub acked_at: u32,
}

/// Books a SYN that a mini-socket refused, and goes on with its story.
#[inline(always)]
pub fn refused(tuple: &FourTuple, syn: &RefusedSyn, now: u64) -> Option<()> {
    if direction_of_port(tuple.local_port) != INBOUND {
        return None;
    }
    let key = key(tuple, INBOUND);
    let account = account(&key)?;
    let answer = go_on(account, tuple, syn, TIME_WAIT, now)?;
    // SAFETY: `account` points into a live map value; the change is an atomic add.
    unsafe { add(&raw mut (*account).counters.time_wait_refused[answer as usize], 1) };
    mark_source_port(&key, tuple.remote_port);
    Some(())
}

/// A segment with SYN on an open connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Challenged {
    /// A SYN with a number of its own: an attempt to open another connection.
    Attempt,
    /// A late copy of the SYN by which the connection began.
    OwnSyn,
    /// The same of the SYN-ACK.
    OwnSynAck,
    /// Another SYN-ACK.
    Other,
}

/// Books a segment with SYN on a connection that is still open in `state`. If it is an attempt to connect to us, its story goes on.
#[inline(always)]
pub fn challenged(
    socket: u64,
    tuple: &FourTuple,
    state: u32,
    kind: Challenged,
    syn: &RefusedSyn,
    now: u64,
) -> Option<()> {
    let direction = direction(socket, tuple.local_port);
    let account = account(&key(tuple, direction))?;
    let slot = match state {
        SYN_RECV => 0,
        ESTABLISHED => 1,
        FIN_WAIT1 => 2,
        FIN_WAIT2 => 3,
        CLOSE_WAIT => 4,
        CLOSING => 5,
        _ => 6,
    };
    // What is not booked shows in the drift against the kernel's own count.
    tally(Tally::ChallengedSyns);
    // SAFETY: `account` points into a live map value; all changes are atomic adds.
    unsafe {
        let counters = &raw mut (*account).counters;
        add(&raw mut (*counters).challenged_syns[slot], 1);
        if matches!(kind, Challenged::OwnSyn | Challenged::OwnSynAck) {
            add(&raw mut (*counters).challenged_duplicates, 1);
        }
        if kind == Challenged::OwnSyn && direction == INBOUND {
            add(&raw mut (*counters).syn_retries, 1);
            if SYN_WATCH.load() != 0 {
                count_syn(account, tuple, syn.isn, || false, now);
            }
        }
    }
    // What becomes of a handshake that crosses another is not followed.
    if kind != Challenged::Attempt || direction != INBOUND || state == SYN_RECV {
        return None;
    }
    go_on(account, tuple, syn, state, now).map(|_| ())
}

/// Goes on with the story of a refused SYN's attempt; says how it was answered.
#[inline(always)]
fn go_on(
    account: *mut Account,
    tuple: &FourTuple,
    syn: &RefusedSyn,
    state: u32,
    now: u64,
) -> Option<RefusalAnswer> {
    if let Some(last) = LAST_REFUSED.get_ptr_mut(0) {
        // SAFETY: a pointer into a live array map, to one aligned word; of two CPUs at once, either's time is as good.
        unsafe { *last = now };
    }
    let attempt = tuple.attempt(syn.isn);
    let story = REFUSALS.get_ptr_mut(&attempt);
    let mut answer = syn.answer;
    if let Some(story) = story
        // SAFETY: `story` points into a live map value.
        && syn.acked_at != 0 && unsafe { (*story).acked_at } == syn.acked_at
    {
        // That ACK was for an earlier SYN.
        answer = RefusalAnswer::None;
    }
    if SYN_WATCH.load() != 0 {
        count_syn(account, tuple, syn.isn, || story.is_some(), now);
    }
    let Some(story) = story else {
        let mut answers = [0; REFUSAL_ANSWERS];
        answers[answer as usize] = 1;
        let first = Refusal {
            first_ns: now,
            last_ns: now,
            longest_pause_ns: 0,
            connected_ns: 0,
            answers,
            retries: 0,
            acked_at: syn.acked_at,
            port: tuple.remote_port,
            last_port: tuple.remote_port,
            state: state as u16,
            reset: 0,
            late: 0,
        };
        if REFUSALS.insert(attempt, first, u64::from(BPF_ANY)).is_err() {
            tally(Tally::LostRefusals);
        }
        return Some(answer);
    };
    // SAFETY: `story` and `account` point into live map values; the account's counters are changed by atomic adds. The SYNs of one attempt
    // come one after the other.
    unsafe {
        let pause = now.saturating_sub((*story).last_ns);
        (*story).last_ns = now;
        (*story).acked_at = syn.acked_at;
        (*story).last_port = tuple.remote_port;
        (*story).answers[answer as usize] += 1;
        (*story).retries += 1;
        if pause > (*story).longest_pause_ns {
            (*story).longest_pause_ns = pause;
        }
        add(&raw mut (*account).counters.syn_retries, 1);
        count_late(account, story, now);
    }
    Some(answer)
}

/// Counts an attempt once as late that a mini-socket refused.
///
/// # Safety
/// Both must point into live map values.
#[inline(always)]
unsafe fn count_late(account: *mut Account, story: *mut Refusal, now: u64) {
    unsafe {
        let waited = now.saturating_sub((*story).first_ns);
        if waited > LONG_DELAY_NS && (*story).late == 0 && !(*story).was_open() {
            (*story).late = 1;
            add(&raw mut (*account).counters.refused_late, 1);
        }
    }
}

/// Whether any SYN was refused so lately that its attempt may go on.
#[inline(always)]
pub fn are_recent(now: u64) -> bool {
    // SAFETY: a pointer into a live array map, to one aligned word.
    LAST_REFUSED
        .get_ptr(0)
        .is_some_and(|last| unsafe { *last != 0 && now.wrapping_sub(*last) < WORTH_REMEMBERING_NS })
}

/// Whether a SYN of this attempt was refused before.
#[inline(always)]
pub fn is_known(tuple: &FourTuple, isn: u32) -> bool {
    REFUSALS.get_ptr(tuple.attempt(isn)).is_some()
}

/// A connection came about, `reset`: on a 4-tuple whose old connection or mini-socket the client's RST took away. If its attempt had been
/// refused, on this port or on another one, the story ends. `next_expected` is the sequence number after its SYN's.
#[inline(always)]
pub fn connected(
    tuple: &FourTuple,
    next_expected: Option<u32>,
    reset: bool,
    account: *mut Account,
    now: u64,
) {
    let Some(next) = next_expected else { return };
    let attempt = tuple.attempt(next.wrapping_sub(1));
    let Some(story) = REFUSALS.get_ptr_mut(&attempt) else { return };
    // SAFETY: `story` and `account` point into live map values; the counters are changed by atomic adds. The SYNs of one attempt come one
    // after the other.
    unsafe {
        (*story).connected_ns = now;
        (*story).retries += 1;
        (*story).last_port = tuple.remote_port;
        let counters = &raw mut (*account).counters;
        add(&raw mut (*counters).syn_retries, 1);
        let how = if (*story).port != tuple.remote_port {
            RefusedConnect::OtherPort
        } else if reset {
            (*story).reset = 1;
            RefusedConnect::AfterReset
        } else {
            RefusedConnect::Retry
        };
        if (*story).was_open() {
            add(&raw mut (*counters).challenged_connected[how as usize], 1);
        } else {
            add(&raw mut (*counters).refused_connected[how as usize], 1);
            let waited = now.saturating_sub((*story).first_ns);
            observe_wait(&raw mut (*counters).refused_delay, LONG_DELAY_NS, waited);
            count_late(account, story, now);
        }
        match EVIDENCE.reserve::<EndedRefusal>(0) {
            Some(mut entry) => {
                entry.write(EndedRefusal { attempt, refusal: *story });
                entry.submit(0);
            }
            None => tally(Tally::LostEvidence),
        }
    }
    let _ = REFUSALS.remove(&attempt);
}
