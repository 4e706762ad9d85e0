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
    account::{Address, INBOUND, OUTBOUND},
    connection::{Connection, ESTABLISHED_FLAG, FourTuple, OUTBOUND_FLAG, SYN_COUNTED_FLAG},
    port::{LISTENING, Port, SHARED},
    sweep::{
        PORTS_ONLY, STATES, Sweep,
        state::{ESTABLISHED, LISTEN, NEW_SYN_RECV, SYN_RECV, SYN_SENT, TIME_WAIT},
    },
};

use crate::{
    accounts::{account, direction_of_port, fills_in, half_open_account, key, mark_source_port},
    constants::TW_SUBSTATE,
    maps::{CONNECTIONS, PORTS, SWEEP},
    socket::{Common, Progress, field, ticks},
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
    // SAFETY: a pointer into a live array map that only this program writes; the helper only reads the clock.
    unsafe {
        // Sockets are stamped with ticks; how long one takes the agent tells from two walks.
        if (*sweep).ticks_at_ns == 0 {
            (*sweep).ticks = ticks();
            (*sweep).ticks_at_ns = bpf_ktime_get_ns();
        }
    }
    // SAFETY: `sweep` and `port` point into live array maps; only this program writes the sums and the counts, and only
    // one walk runs at a time. A mark may be changed by an event at the same time, to one that is as good.
    unsafe {
        if state == LISTEN {
            (*port).mark = LISTENING;
        } else {
            count_on_port(port, &*sweep);
            if (*port).mark != LISTENING && was_service(&*port, tuple.local_port, &*sweep) {
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
    let key = key(&tuple, direction);
    let row = if state == SYN_RECV { half_open_account(&key) } else { account(&key) }?;
    // SAFETY: `row` points into a live map value whose `sockets` only this program writes.
    unsafe {
        if (*row).generation != (*sweep).generation {
            (*row).sockets = [0; STATES];
            (*row).stalled = 0;
            (*row).elsewhere = 0;
            (*row).local = Address([0; 16]);
            (*row).generation = (*sweep).generation;
            (*row).fills_in = u32::from(fills_in(&key, (*sweep).generation));
        }
        (*row).sockets[state as usize & (STATES - 1)] += 1;
        if direction == OUTBOUND {
            if (*row).local == Address([0; 16]) {
                (*row).local = tuple.local;
            }
            (*row).elsewhere += u32::from((*row).local != tuple.local);
            (*row).stalled += u32::from(is_stalled(sk, state, &*sweep));
        }
        if (*row).fills_in != 0 {
            mark_source_port(&key, tuple.remote_port);
        }
    }
    Some(())
}

/// Whether a connection of ours has waited for an answer for too long.
#[inline(always)]
fn is_stalled(sk: *const c_void, state: u32, sweep: &Sweep) -> bool {
    match state {
        // SAFETY: copied out at once, and the helper only reads the clock. The iterator holds the socket's lock while we look at it.
        SYN_SENT => match unsafe { (CONNECTIONS.get(sk as u64), bpf_ktime_get_ns()) } {
            (Some(connection), now) => {
                connection.since_ns != 0 && now.saturating_sub(connection.since_ns) > sweep.stalled_ns
            }
            (None, _) => false,
        },
        ESTABLISHED if sweep.stalled_ticks != 0 => match Progress::of(sk) {
            Some(progress) => progress.is_overdue(ticks(), sweep.stalled_ticks),
            None => false,
        },
        _ => false,
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
            // SAFETY: the helper checks what the socket is; the field lies inside the type it returns.
            unsafe {
                let tw = bpf_skc_to_tcp_timewait_sock(sk.cast_mut());
                if tw.is_null() {
                    None
                } else {
                    Some(u32::from(field::<u8>(tw.cast_const().cast(), &TW_SUBSTATE)))
                }
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
        let _ = CONNECTIONS.insert(id, Connection { since_ns: 0, flags }, u64::from(BPF_NOEXIST));
        flags
    };
    if flags & OUTBOUND_FLAG != 0 { OUTBOUND } else { INBOUND }
}
