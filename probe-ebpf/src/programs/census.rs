//! `iter/tcp`: who holds which sockets now, summed per peer in the kernel; no per-socket data leaves it.
//!
//! The kernel shows listeners first, then everything else (net/ipv4/tcp_ipv4.c bpf_iter_tcp), so a local port is
//! known as a service before its connections come by.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_ktime_get_ns, generated::bpf_skc_to_tcp_timewait_sock},
};
use core::ffi::c_void;
use probe_ebpf::{
    account::{Account, Address, INBOUND, OUTBOUND, PeerKey, Waiting},
    connection::{Connection, ESTABLISHED_FLAG, FourTuple, OUTBOUND_FLAG, SYN_COUNTED_FLAG},
    port::{LISTENING, Port, SHARED},
    sweep::{
        LocalKey, LocalSockets, PORTS_ONLY, STATES, Sweep,
        state::{LISTEN, NEW_SYN_RECV, SYN_RECV, SYN_SENT, TIME_WAIT},
    },
    tally::Tally,
};

use crate::{
    accounts::{direction_of_port, fills_in, key, mark_source_port, open, overflow},
    constants::TW_SUBSTATE,
    maps::{CONNECTIONS, HALF_OPEN, LOCAL_ADDRESSES, PEERS, PORTS, SWEEP, tally},
    printed::field_of,
    socket::{Common, was_accepted},
    waits,
};

/// `struct bpf_iter__tcp` (net/ipv4/tcp_ipv4.c): each pointer takes 8 bytes.
#[repr(C)]
pub struct TcpIter {
    meta: *const c_void,
    sk_common: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn census(ctx: *mut TcpIter) -> i32 {
    // SAFETY: the kernel passes a context of this layout; `sk_common` is null after the last socket.
    let sk = unsafe { (*ctx).sk_common };
    if !sk.is_null() {
        let _ = try_census(sk);
    }
    0
}

#[inline(always)]
fn try_census(sk: *const c_void) -> Option<()> {
    let sweep = SWEEP.get_ptr_mut(0)?;
    let common = Common::new(sk);
    let state = shown_state(sk, common)?;
    let tuple = common.tuple();
    let port = PORTS.get_ptr_mut(u32::from(tuple.local_port))?;
    // SAFETY: `sweep` and `port` point into live array maps; only this program writes the sums and the counts, and only
    // one walk runs at a time. A mark may be changed by an event at the same time, to one that is as good.
    unsafe {
        if state == LISTEN {
            (*port).mark = LISTENING;
        } else {
            count_on_port(port, &*sweep);
            if (*port).mark != LISTENING
                && (was_service(&*port, tuple.local_port, &*sweep) || was_accepted(sk))
            {
                (*port).mark = bpf_ktime_get_ns();
            }
        }
        if (*sweep).kind == PORTS_ONLY {
            return Some(());
        }
        (*sweep).sockets[state as usize & (STATES - 1)] += 1;
        (*sweep).mini_sockets += u32::from(common.state() == TIME_WAIT);
    }
    if state == LISTEN {
        return Some(());
    }
    let direction = direction_in_census(sk, common, &tuple);
    let mut key = key(&tuple, direction);
    // SAFETY: `port` points into a live array map.
    if direction == INBOUND && state != SYN_RECV && unsafe { is_ephemeral(&key, &*port) } {
        key = key.ephemeral();
    }
    // SAFETY: `sweep` points into a live array map that only this program writes.
    let row = unsafe { account_in_walk(&key, state, sweep) }?;
    // SAFETY: `row` points into a live map value whose `sockets` only this program writes.
    unsafe {
        if (*row).generation != (*sweep).generation {
            (*row).sockets = [0; STATES];
            (*row).waiting = Waiting::NONE;
            (*row).live_at_local = 0;
            (*row).time_wait_at_local = 0;
            (*row).local = Address([0; 16]);
            (*row).generation = (*sweep).generation;
            (*row).fills_in = u32::from(fills_in(&key, (*sweep).generation));
        }
        (*row).sockets[state as usize & (STATES - 1)] += 1;
        if (*row).fills_in != 0 {
            mark_source_port(&key, tuple.remote_port);
        }
        // A pending request may come from a forged address, which must not take the room of a real one.
        if state != SYN_RECV {
            count_at_local(row, &key, &tuple.local, state, (*sweep).generation);
            // Last, where the verifier need not follow the rest of the walk for each of its paths.
            if direction == OUTBOUND {
                waits::count(sk, row, &*sweep);
            }
        }
    }
    Some(())
}

/// Whether a socket counts as one of its peer's on ports of short-lived listeners. An account that an event has made is the agent's to decide
/// on, which knows whether it is old.
#[inline(always)]
fn is_ephemeral(key: &PeerKey, port: &Port) -> bool {
    // SAFETY: the helper only reads the clock.
    port.opened_ns != 0
        && port.is_short_lived(unsafe { bpf_ktime_get_ns() })
        && PEERS.get_ptr_mut(key).is_none()
}

/// The account in which a socket is counted: the peer's own, else the overflow account. A socket without an account is there in the next walk
/// again, and is no event that is lost: each walk says how many there are.
///
/// # Safety
/// `sweep` must point into the map of walks, and no other walk may run.
#[inline(always)]
unsafe fn account_in_walk(key: &PeerKey, state: u32, sweep: *mut Sweep) -> Option<*mut Account> {
    if let Some(found) = PEERS.get_ptr_mut(key) {
        return Some(found);
    }
    let sweep = unsafe { &mut *sweep };
    let opened = if state == SYN_RECV {
        open(&HALF_OPEN, key)
    } else if sweep.free_accounts > 0 {
        sweep.free_accounts -= 1;
        open(&PEERS, key)
    } else {
        None
    };
    if opened.is_none() {
        sweep.without_account += 1;
    }
    opened.or_else(|| overflow(key.direction))
}

/// Counts a socket of a peer on the local address it uses.
///
/// # Safety
/// `row` must point into the map of accounts, and no other walk may run.
#[inline(always)]
unsafe fn count_at_local(row: *mut Account, key: &PeerKey, local: &Address, state: u32, generation: u32) {
    let time_wait = u32::from(state == TIME_WAIT);
    unsafe {
        if (*row).local == Address([0; 16]) {
            (*row).local = *local;
        }
        if (*row).local == *local {
            (*row).time_wait_at_local += time_wait;
            (*row).live_at_local += 1 - time_wait;
            return;
        }
    }
    let place = LocalKey { peer: *key, local: *local };
    if let Some(cell) = LOCAL_ADDRESSES.get_ptr_mut(&place) {
        // SAFETY: a pointer into a live map value that only this program writes.
        let cell = unsafe { &mut *cell };
        if cell.generation != generation {
            (cell.live, cell.time_wait, cell.generation) = (0, 0, generation);
        }
        cell.time_wait += time_wait;
        cell.live += 1 - time_wait;
        return;
    }
    let first = LocalSockets { generation, live: 1 - time_wait, time_wait, zero: 0 };
    if LOCAL_ADDRESSES.insert(place, first, u64::from(BPF_NOEXIST)).is_err() {
        tally(Tally::LostLocalAddresses);
    }
}

/// Counts a socket on its local port.
///
/// # Safety
/// `port` must point into the map of ports, and no other walk may run.
#[inline(always)]
unsafe fn count_on_port(port: *mut Port, sweep: &Sweep) {
    let port = unsafe { &mut *port };
    if port.generation != sweep.generation {
        port.sockets_before =
            if port.generation == sweep.generation.wrapping_sub(1) { port.sockets } else { 0 };
        port.sockets = 0;
        port.generation = sweep.generation;
    }
    port.sockets += 1;
}

/// Whether a port whose sockets were counted was a service, though nobody listens on it.
#[inline(always)]
fn was_service(port: &Port, number: u16, sweep: &Sweep) -> bool {
    port.sockets_before >= SHARED && (number < sweep.ephemeral_low || number > sweep.ephemeral_high)
}

/// The state as `ss` shows it: a mini-socket's sub-state, and SYN_RECV for a pending request.
#[inline(always)]
fn shown_state(sk: *const c_void, common: Common) -> Option<u32> {
    match common.state() {
        TIME_WAIT => {
            // SAFETY: the iterator shows TCP's sockets only, and those in this state are `tcp_timewait_sock`s.
            unsafe {
                let tw = bpf_skc_to_tcp_timewait_sock(sk.cast_mut());
                field_of::<u8>(sk, tw.cast(), &TW_SUBSTATE).map(u32::from)
            }
        }
        NEW_SYN_RECV => Some(SYN_RECV),
        state => Some(state),
    }
}

/// The direction of any socket of the walk. A full socket that began before the agent is adopted on the way, so that
/// its later events are booked in the same direction even after its listener is gone.
#[inline(always)]
fn direction_in_census(sk: *const c_void, common: Common, tuple: &FourTuple) -> u8 {
    let state = common.state();
    match state {
        NEW_SYN_RECV | SYN_RECV => return INBOUND,
        TIME_WAIT => return direction_of_port(tuple.local_port),
        _ => {}
    }
    let id = sk as u64;
    // SAFETY: copied out at once. The iterator holds the socket's lock while we look at it.
    let flags = if let Some(connection) = unsafe { CONNECTIONS.get(id) } {
        connection.flags
    } else {
        let flags = match (state, direction_of_port(tuple.local_port)) {
            (SYN_SENT, _) => OUTBOUND_FLAG | SYN_COUNTED_FLAG,
            (_, OUTBOUND) => OUTBOUND_FLAG | ESTABLISHED_FLAG,
            _ => ESTABLISHED_FLAG,
        };
        let _ = CONNECTIONS.insert(id, Connection::new(0, flags), u64::from(BPF_NOEXIST));
        flags
    };
    if flags & OUTBOUND_FLAG != 0 { OUTBOUND } else { INBOUND }
}
