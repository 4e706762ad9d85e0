//! Connections of ours that wait for their destination to send something: which, and for how long.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use probe_ebpf::{
    account::{Account, WAITS},
    connection::Connection,
    sweep::{
        Sweep,
        state::{ESTABLISHED, SYN_SENT},
    },
};

use crate::{
    constants::TICK_NS,
    maps::{CONNECTIONS, SWEEP, add},
    socket::{Common, Progress, Socket, nanoseconds, ticks},
};

/// What is sent so soon after the handshake is sent once; in nanoseconds.
const AT_ONCE_NS: u64 = 1_000_000_000;

/// A FIN of the peer is a byte, too (net/ipv4/tcp_input.c tcp_rcv_nxt_update(), 5.10 to 6.18).
const FIN: u64 = 1;

/// Counts a connection of ours by what it waits for, and notes what it waited for when the walk before saw it.
///
/// # Safety
/// `row` must point into the map of accounts, no other walk may run, and `sk` must be a typed pointer to the socket of the walk.
#[inline(always)]
pub unsafe fn count(sk: *const c_void, row: *mut Account, sweep: &Sweep) {
    let state = Common::new(sk).state();
    if !matches!(state, SYN_SENT | ESTABLISHED) {
        return;
    }
    // The iterator holds the socket's lock while we look at it, so nobody replaces its entry.
    let Some(connection) = CONNECTIONS.get_ptr_mut(sk as u64) else { return };
    // SAFETY: as the caller promises; `connection` points into a live map value, and the helper only reads the clock.
    unsafe {
        let (now, since_ns) = (bpf_ktime_get_ns(), (*connection).since_ns);
        let waiting = &raw mut (*row).waiting;
        if state == SYN_SENT {
            let is_long = since_ns != 0 && now.saturating_sub(since_ns) > sweep.stalled_ns;
            (*waiting).unacknowledged += u32::from(is_long);
            return;
        }
        let Some(progress) = Progress::of(sk) else { return };
        let Progress { last_sent, last_received, sent, received, .. } = progress;
        let (ticks, patience) = (ticks(), patience(sweep));
        settle(connection, row, last_received, sweep);
        let is_long = ticks.wrapping_sub(last_received) > patience;
        if received > 0 {
            heard(row, now.saturating_sub(nanoseconds(ticks.wrapping_sub(last_received))));
            if sent == 0 {
                add(&raw mut (*row).counters.spoke_first, 1);
            }
        } else if sent == 0 {
            (*waiting).unused += u32::from(is_long);
        } else if since_ns != 0 {
            let sent_ns =
                now.saturating_sub(since_ns).saturating_sub(nanoseconds(ticks.wrapping_sub(last_sent)));
            (*waiting).talking += u32::from(sent_ns > AT_ONCE_NS);
        }
        if progress.is_unacknowledged(ticks, patience) {
            (*waiting).unacknowledged += 1;
            return;
        }
        let waited = progress.unanswered(ticks, patience / 2);
        if waited > patience {
            (*connection).asked = last_sent;
            (*connection).waited = waited;
            let bucket = bucket(waited, patience);
            let waits = if received > 0 { &raw mut (*waiting).later } else { &raw mut (*waiting).first };
            (*waits)[bucket] += 1;
        }
    }
}

/// A connection of ours is over: what is known of its last wait.
///
/// # Safety
/// `account` must point into a live map value.
#[inline(always)]
pub unsafe fn end(socket: &impl Socket, connection: &Connection, account: *mut Account, now: u64) {
    let (Some(sent), Some(received), Some(last_received)) =
        (socket.bytes_sent(), socket.bytes_received(), socket.last_received())
    else {
        return;
    };
    let Some(sweep) = SWEEP.get(0) else { return };
    if received <= FIN {
        return;
    }
    let ago = nanoseconds(ticks().wrapping_sub(last_received));
    // SAFETY: as the caller promises; all changes of counters are atomic adds.
    unsafe {
        let mut last = *connection;
        settle(&raw mut last, account, last_received, sweep);
        heard(account, now.saturating_sub(ago));
        add(&raw mut (*account).counters.answered, 1);
        if sent == 0 {
            add(&raw mut (*account).counters.spoke_first, 1);
        }
    }
}

/// Counts a wait that a walk saw if data has come since.
///
/// # Safety
/// Both must point to live values.
#[inline(always)]
unsafe fn settle(connection: *mut Connection, account: *mut Account, last_received: u32, sweep: &Sweep) {
    // SAFETY: as the caller promises.
    unsafe {
        let Connection { asked, waited, .. } = *connection;
        if waited != 0 && last_received.wrapping_sub(asked).cast_signed() > 0 {
            (*connection).waited = 0;
            add(&raw mut (*account).counters.answered_waits[bucket(waited, patience(sweep))], 1);
        }
    }
}

/// The destination sent data at that time.
///
/// # Safety
/// `account` must point into a live map value.
#[inline(always)]
unsafe fn heard(account: *mut Account, at: u64) {
    // SAFETY: one aligned word; of two CPUs at once, either's time is nearly as good.
    unsafe {
        if (*account).heard_ns < at {
            (*account).heard_ns = at;
        }
    }
}

/// A connection of ours is stalled when it has waited for longer than so many ticks.
#[inline(always)]
fn patience(sweep: &Sweep) -> u32 {
    // To the compiler, a constant of the agent's may be 0, and a division by 0 a call that the verifier refuses.
    sweep.stalled_ns.checked_div(TICK_NS.load()).unwrap_or_default() as u32
}

/// The bucket of a wait; one shorter than the first bound is in the first.
#[inline(always)]
fn bucket(waited: u32, first: u32) -> usize {
    // Without a branch for each bound, as in `observe`.
    let mut bucket = 0;
    for doubled in 1..WAITS {
        bucket += ((u64::from(first) << doubled).wrapping_sub(u64::from(waited)) >> 63) as usize;
    }
    bucket
}
