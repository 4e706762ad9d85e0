//! The census: one walk over all TCP sockets, summed per peer inside the kernel.

use bytemuck::{Pod, Zeroable};

use crate::account::PeerKey;

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
    /// A connection of ours is stalled when it has waited for an answer for so long, in nanoseconds.
    pub stalled_ns: u64,
    /// The same in ticks of the kernel's clock (jiffies); 0 while it is not known how long one takes.
    pub stalled_ticks: u32,
    /// That clock at the first socket of the walk.
    pub ticks: u32,
    /// The monotonic clock then.
    pub ticks_at_ns: u64,
}

/// What one walk found of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub peer: PeerKey,
    /// Its sockets by state; mini-sockets by their sub-state.
    pub sockets: [u32; STATES],
    /// Connections of ours among them that have waited for an answer for too long.
    pub stalled: u32,
    /// Those of ours with another local address than the first.
    pub elsewhere: u32,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub const fn none(peer: PeerKey) -> Self {
        Self { peer, sockets: [0; STATES], stalled: 0, elsewhere: 0 }
    }
}

/// The walk counts sockets per local port and nothing else.
pub const PORTS_ONLY: u32 = 1;

const _: () = assert!(size_of::<Sweep>() == 104);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Sweep {}
