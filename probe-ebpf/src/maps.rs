//! All maps. Sizes are defaults; the agent sets the configured ones. Nothing is pinned: when the agent dies, the
//! kernel frees them.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use probe_ebpf::{
    account::{Account, PeerKey},
    caller::{CallerKey, OwnerKey},
    connection::{Connection, FourTuple},
    port::Port,
    refusal::Refusal,
    source_ports::{PortSet, PortSetKey},
    sweep::{LocalKey, LocalSockets, Sweep},
    tally::{TALLIES as KINDS, Tally},
    tuple_memory::TupleSet,
};

/// Accounts of peers that completed a handshake with us, or that we called.
#[map]
pub static PEERS: HashMap<PeerKey, Account> = HashMap::with_max_entries(16_384, 0);

/// Accounts of peers that never completed a handshake. Apart from [`PEERS`], so that a flood of spoofed SYNs cannot
/// take the room of those who did.
#[map]
pub static HALF_OPEN: HashMap<PeerKey, Account> = HashMap::with_max_entries(4_096, 0);

/// Open connections by the address of their socket.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(131_072, 0);

/// Who called which destination, the last ones: a caller that does not call again makes room.
#[map]
pub static CALLERS: LruHashMap<CallerKey, u64> = LruHashMap::with_max_entries(4_096, 0);

/// Who keeps sockets in CLOSE_WAIT, and how many, as of the last walk.
#[map]
pub static OWNERS: HashMap<OwnerKey, u64> = HashMap::with_max_entries(1_024, 0);

/// The sockets of peers that use several local addresses, by address, as of the last walk; the first address of a peer is in its account.
#[map]
pub static LOCAL_ADDRESSES: HashMap<LocalKey, LocalSockets> = HashMap::with_max_entries(8_192, 0);

/// When recently closed 4-tuples closed.
#[map]
pub static CLOSED: Array<TupleSet> = Array::with_max_entries(65_536, 0);

/// SYNs of late, while the SYN watch is on.
#[map]
pub static SYNS: Array<TupleSet> = Array::with_max_entries(8_192, 0);

/// Source ports of the peers that the agent chose to track, in two sets each.
#[map]
pub static SOURCE_PORTS: HashMap<PortSetKey, PortSet> = HashMap::with_max_entries(512, 0);

/// In which of both sets ports are recorded now; the agent changes it.
#[map]
pub static RECORDING: Array<u32> = Array::with_max_entries(1, 0);

/// Connection attempts whose SYNs are being refused, by peer and sequence number ([`FourTuple::attempt`]).
#[map]
pub static REFUSALS: HashMap<FourTuple, Refusal> = HashMap::with_max_entries(8_192, 0);

/// When a SYN was refused last, monotonic, in nanoseconds. As long as none is, nothing else is looked up of refusals.
#[map]
pub static LAST_REFUSED: Array<u64> = Array::with_max_entries(1, 0);

/// Refusals that ended in a connection ([`EndedRefusal`](probe_ebpf::refusal::EndedRefusal)): rare, and what finds no room is counted.
#[map]
pub static EVIDENCE: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// The mini-socket for which this CPU sent the last RST.
#[map]
pub static LAST_RESET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The address of the watched namespace, once a socket of it has shown it. It stays: the agent lives there.
#[map]
pub static WATCHED_NAMESPACE: Array<u64> = Array::with_max_entries(1, 0);

/// Every local port.
#[map]
pub static PORTS: Array<Port> = Array::with_max_entries(65_536, 0);

/// The running census.
#[map]
pub static SWEEP: Array<Sweep> = Array::with_max_entries(1, 0);

/// See [`Tally`].
#[map]
pub static TALLIES: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

/// Adds to a value that several CPUs may be changing.
#[inline(always)]
pub fn add(cell: *mut u64, amount: u64) {
    // SAFETY: every caller passes a pointer into a live map value, aligned to 8; the add is one atomic instruction.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
            cell, amount,
        );
    }
}

/// Counts one of `kind` on this CPU.
#[inline(always)]
pub fn tally(kind: Tally) {
    let Some(cell) = TALLIES.get_ptr_mut(kind as u32) else { return };
    // SAFETY: the pointer is into this CPU's slot of a per-CPU array, which no other CPU writes.
    unsafe { *cell += 1 };
}
