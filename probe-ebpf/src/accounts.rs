//! Finding the account an event belongs to, and booking into it.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns, maps::HashMap};
use probe_ebpf::{
    account::{
        Account, Address, BOUNDS, CHALLENGING_STATES, CONNECT_FAILURES, COUNTER_WORDS, Calls, Counters,
        Histogram, INBOUND, OUTBOUND, PeerKey, REFUSAL_ANSWERS, REFUSED_CONNECTS, REUSE_CLOCKS, WAITS,
        Waiting, Waits,
    },
    caller::{CallerKey, ProcessName},
    connection::{FourTuple, OUTBOUND_FLAG},
    port::LISTENING,
    source_ports::{PORT_BYTES, PortSet, PortSetKey},
    sweep::STATES,
    tally::Tally,
};

use crate::maps::{CALLERS, CONNECTIONS, HALF_OPEN, PEERS, PORTS, RECORDING, SOURCE_PORTS, add, tally};

/// A fresh account. In `.rodata`, because it is larger than a program's stack.
static EMPTY: Account = {
    let none = Histogram { buckets: [0; BOUNDS + 1], sum_ns: 0 };
    let no_waits = Waits { buckets: [0; 2], sum_ns: 0 };
    let counters = Counters {
        connections: 0,
        closes: [0; 4],
        syns: 0,
        syn_retries: 0,
        watched_syns: 0,
        watched_syn_retries: 0,
        time_wait_accepted: 0,
        reuse_clocks: [0; REUSE_CLOCKS],
        time_wait_refused: [0; REFUSAL_ANSWERS],
        refused_connected: [0; REFUSED_CONNECTS],
        refused_delay: no_waits,
        refused_late: 0,
        challenged_syns: [0; CHALLENGING_STATES.len()],
        challenged_duplicates: 0,
        challenged_connected: [0; REFUSED_CONNECTS],
        synack_retries: 0,
        retransmits: 0,
        resets_local: 0,
        resets_peer: 0,
        connect_failures: [0; CONNECT_FAILURES.len()],
        connect_lost_ns: 0,
        abandoned: no_waits,
        aborted_early: 0,
        answered: 0,
        answered_waits: [0; WAITS],
        spoke_first: 0,
        lifetime: none,
        reuse: none,
        connect: none,
    };
    assert!(COUNTER_WORDS * 8 == size_of::<Counters>());
    let calls = Calls { last_success_ns: 0, first_success_ns: 0, last_failure_ns: 0, first_failure_ns: 0 };
    Account {
        counters,
        calls,
        heard_ns: 0,
        sockets: [0; STATES],
        generation: 0,
        fills_in: 0,
        waiting: Waiting::NONE,
        live_at_local: 0,
        time_wait_at_local: 0,
        zero: 0,
        local: Address([0; 16]),
    }
};

/// The key under which a connection in this direction is booked.
#[inline(always)]
pub fn key(tuple: &FourTuple, direction: u8) -> PeerKey {
    let port = if direction == INBOUND { tuple.local_port } else { tuple.remote_port };
    PeerKey { addr: tuple.remote, port, direction, zero: [0; 5] }
}

/// The direction of a socket: as remembered from its birth, else by what its local port is to us.
#[inline(always)]
pub fn direction(socket: u64, local_port: u16) -> u8 {
    // SAFETY: read at once; the entry of a live socket is not replaced under its own event.
    match unsafe { CONNECTIONS.get(socket) } {
        Some(connection) if connection.flags & OUTBOUND_FLAG != 0 => OUTBOUND,
        Some(_) => INBOUND,
        None => direction_of_port(local_port),
    }
}

/// The direction of a socket whose birth was not seen: inbound when its local port is, or just was, a service.
#[inline(always)]
pub fn direction_of_port(local_port: u16) -> u8 {
    match PORTS.get(u32::from(local_port)) {
        // Most are listened on, and reading the clock costs as much as all of this.
        // SAFETY: the helper only reads the clock.
        Some(port) if port.mark == LISTENING || port.is_service(unsafe { bpf_ktime_get_ns() }) => INBOUND,
        _ => OUTBOUND,
    }
}

/// Notes that a local port is a service now, without ending the LISTENING mark.
#[inline(always)]
pub fn touch_port(local_port: u16, now: u64) {
    if let Some(port) = PORTS.get_ptr_mut(u32::from(local_port)) {
        // SAFETY: a pointer into a live array map; a racing write of a slightly different time does no harm.
        unsafe {
            if (*port).mark != LISTENING {
                (*port).mark = now;
            }
        }
    }
}

/// The account of a peer that exists beyond doubt: it completed a handshake, or we called it.
#[inline(always)]
pub fn account(key: &PeerKey) -> Option<*mut Account> {
    open(&PEERS, key).or_else(|| lost(key.direction, Tally::LostPeers))
}

/// The account of a peer of which only SYNs were seen, whose address may be forged.
#[inline(always)]
pub fn half_open_account(key: &PeerKey) -> Option<*mut Account> {
    let found = PEERS.get_ptr_mut(key).or_else(|| open(&HALF_OPEN, key));
    found.or_else(|| lost(key.direction, Tally::LostHalfOpen))
}

/// A peer's account in one of the maps, added if it is not full.
#[inline(always)]
pub fn open(accounts: &HashMap<PeerKey, Account>, key: &PeerKey) -> Option<*mut Account> {
    if let Some(found) = accounts.get_ptr_mut(key) {
        return Some(found);
    }
    // Another CPU may insert first; then this insert fails and the second look finds the other's.
    let _ = accounts.insert(key, &EMPTY, u64::from(BPF_NOEXIST));
    accounts.get_ptr_mut(key)
}

/// The overflow account, for an event whose own account finds its map full.
#[inline(always)]
fn lost(direction: u8, kind: Tally) -> Option<*mut Account> {
    tally(kind);
    overflow(direction)
}

/// The overflow account, which the agent made before it attached anything.
#[inline(always)]
pub fn overflow(direction: u8) -> Option<*mut Account> {
    PEERS.get_ptr_mut(&PeerKey::overflow(direction))
}

/// Notes a source port of a peer, if the agent tracks it.
#[inline(always)]
pub fn mark_source_port(key: &PeerKey, port: u16) {
    if let Some(ports) = recorded_ports(key) {
        set_port(ports, port);
    }
}

/// The set in which the ports of a peer are recorded now, if they are.
#[inline(always)]
fn recorded_ports(key: &PeerKey) -> Option<*mut PortSet> {
    let set = RECORDING.get(0).copied().unwrap_or_default();
    SOURCE_PORTS.get_ptr_mut(PortSetKey::new(*key, set))
}

/// Sets a port's bit.
#[inline(always)]
fn set_port(ports: *mut PortSet, port: u16) {
    let byte = usize::from(port >> 3);
    // SAFETY: a read of our own variable. The compiler knows the mask to be needless; verifiers that forget bounds at a byte swap
    // (6.1) do not, so it must not be left out.
    let byte = unsafe { (&raw const byte).read_volatile() } & (PORT_BYTES - 1);
    let bit = 1_u8 << (port & 7);
    // SAFETY: `ports` points into a live map value and `byte` is below its length. Most bits are set already, and reading is
    // cheaper than writing to a line that other CPUs read.
    unsafe {
        if (*ports).bits[byte] & bit == 0 {
            (*ports).bits[byte] |= bit;
        }
    }
}

/// Whether a census is to fill in the source ports of a peer: once for each set the agent makes.
#[inline(always)]
pub fn fills_in(key: &PeerKey, generation: u32) -> bool {
    let Some(ports) = recorded_ports(key) else { return false };
    // SAFETY: `ports` points into a live map value; only the census, of which one runs at a time, writes this field.
    unsafe {
        if (*ports).filled_in == 0 {
            (*ports).filled_in = generation;
        }
        (*ports).filled_in == generation
    }
}

/// A call of ours was answered.
///
/// # Safety
/// `account` must point into a live map value.
#[inline(always)]
pub unsafe fn succeeded(account: *mut Account, now: u64) {
    // Two CPUs may do so at once; either's time is as good.
    unsafe {
        let calls = &raw mut (*account).calls;
        if (*calls).last_success_ns <= (*calls).last_failure_ns {
            (*calls).first_success_ns = now;
        }
        (*calls).last_success_ns = now;
    }
}

/// A call of ours that began at `begun` (0: not known) came to nothing, as is seen now.
///
/// # Safety
/// As of [`succeeded`].
#[inline(always)]
pub unsafe fn came_to_nothing(account: *mut Account, begun: u64, now: u64) {
    unsafe {
        let calls = &raw mut (*account).calls;
        if (*calls).last_failure_ns <= (*calls).last_success_ns {
            (*calls).first_failure_ns = if begun == 0 { now } else { begun };
        }
        (*calls).last_failure_ns = now;
    }
}

/// Notes which process calls a destination.
#[inline(always)]
pub fn called(destination: PeerKey, name: ProcessName, now: u64) {
    let key = CallerKey { destination, name };
    if let Some(last) = CALLERS.get_ptr_mut(key) {
        // SAFETY: a pointer into a live map value, to one aligned word; of two threads at once, either's time is as good.
        unsafe { *last = now };
    } else {
        // Another thread may insert first, with a time as good as ours.
        let _ = CALLERS.insert(key, now, u64::from(BPF_NOEXIST));
    }
}

/// Books one observation.
#[inline(always)]
pub fn observe(histogram: *mut Histogram, bounds: &[u64; BOUNDS], value_ns: u64) {
    // The number of bounds below the value, without a branch for each: the sign bit of `bound - value`. Both are far
    // below 2^63, and every branch would double the paths the verifier has to walk.
    let mut bucket = 0;
    for bound in bounds {
        bucket += (bound.wrapping_sub(value_ns) >> 63) as usize;
    }
    // SAFETY: the pointer is into a live map value and `bucket` is at most `BOUNDS`, the index of the last bucket (the verifier checks it).
    unsafe {
        add(&raw mut (*histogram).buckets[bucket], 1);
        add(&raw mut (*histogram).sum_ns, value_ns);
    }
}

/// Books one wait.
#[inline(always)]
pub fn observe_wait(waits: *mut Waits, bound_ns: u64, waited_ns: u64) {
    // 1 beyond the bound, without a branch, as above.
    let bucket = (bound_ns.wrapping_sub(waited_ns) >> 63) as usize;
    // SAFETY: the pointer is into a live map value and `bucket` is at most 1 (the verifier checks it).
    unsafe {
        add(&raw mut (*waits).buckets[bucket], 1);
        add(&raw mut (*waits).sum_ns, waited_ns);
    }
}
