//! The census: one walk over all TCP sockets, summed per peer inside the kernel.

use bytemuck::{Pod, Zeroable};

use crate::account::{Address, PeerKey, Waiting};

/// Room for every TCP state number (1 ESTABLISHED … 12 NEW_SYN_RECV), a power of two so that a masked index is
/// always inside.
pub const STATES: usize = 16;

/// The kernel's state numbers (`include/net/tcp_states.h`), stable since they are ABI of `sock_diag`.
pub mod state {
    #![expect(missing_docs, reason = "the kernel's own names")]
    pub const ESTABLISHED: u32 = 1;
    pub const SYN_SENT: u32 = 2;
    pub const SYN_RECV: u32 = 3;
    pub const FIN_WAIT1: u32 = 4;
    pub const FIN_WAIT2: u32 = 5;
    pub const TIME_WAIT: u32 = 6;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const LISTEN: u32 = 10;
    pub const CLOSING: u32 = 11;
    pub const NEW_SYN_RECV: u32 = 12;
}

/// What one walk found in total, and which walk is running.
///
/// A walk may count only the sockets of each local port ([`PORTS_ONLY`]): before the first census nothing else tells a
/// service whose listener is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Sweep {
    /// Number of the walk; the agent raises it before each.
    pub generation: u32,
    /// Mini-sockets, whatever their sub-state: what `tcp_max_tw_buckets` limits.
    pub mini_sockets: u32,
    /// All sockets by state, listeners included; mini-sockets by their sub-state.
    pub sockets: [u32; STATES],
    /// `net.ipv4.ip_local_port_range`: the ports the kernel chooses for a connect().
    pub ephemeral_low: u16,
    /// The last of them.
    pub ephemeral_high: u16,
    /// [`PORTS_ONLY`] or 0.
    pub kind: u32,
    /// A connection of ours is stalled when it has waited for an answer for so long, in nanoseconds; 0 before the first walk.
    pub stalled_ns: u64,
    /// Accounts that the walk may still add to the map; the rest of it is for events.
    pub free_accounts: u32,
    /// Sockets of peers that have no account and got none.
    pub without_account: u32,
}

/// What one walk found of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub peer: PeerKey,
    /// Its sockets by state; mini-sockets by their sub-state.
    pub sockets: [u32; STATES],
    /// Connections of ours among them that wait for it.
    pub waiting: Waiting,
    /// Outbound: when it last sent data.
    pub heard: Heard,
}

/// When a destination of ours last sent data on any connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Not since the agent began to watch it.
    Never,
    /// Within the time after which a connection of ours is stalled.
    Lately,
    /// Before that.
    LongAgo,
}

/// The sockets of a peer that use one local address: a peer can take each of its ports once per address of ours, and we can take
/// each of ours once per source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAt {
    /// Who.
    pub peer: PeerKey,
    /// The local address.
    pub local: Address,
    /// Sockets that are neither in TIME_WAIT nor pending requests.
    pub live: u32,
    /// Sockets in TIME_WAIT.
    pub time_wait: u32,
}

impl HeldAt {
    /// All of them.
    #[must_use]
    pub const fn sockets(&self) -> u32 {
        self.live + self.time_wait
    }
}

/// Whose sockets, at which local address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LocalKey {
    /// Who.
    pub peer: PeerKey,
    /// The local address.
    pub local: Address,
}

/// The sockets of a peer at one local address other than the first one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct LocalSockets {
    /// The walk that wrote this row; the agent removes a row of an older one.
    pub generation: u32,
    /// See [`HeldAt::live`].
    pub live: u32,
    /// See [`HeldAt::time_wait`].
    pub time_wait: u32,
    /// Always 0.
    pub zero: u32,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub const fn none(peer: PeerKey) -> Self {
        Self { peer, sockets: [0; STATES], waiting: Waiting::NONE, heard: Heard::Never }
    }
}

/// The walk counts sockets per local port and nothing else.
pub const PORTS_ONLY: u32 = 1;

const _: () = assert!(size_of::<Sweep>() == 96);
const _: () = assert!(size_of::<LocalKey>() == 40 && size_of::<LocalSockets>() == 16);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LocalKey {}
// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LocalSockets {}

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Sweep {}
