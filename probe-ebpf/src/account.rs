//! One account per peer: the key it is kept under and the counters the kernel keeps for it.

use core::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
};

use bytemuck::{Pod, Zeroable};

use crate::sweep::STATES;

/// An IP address in 16 bytes, network order. IPv4 is written as v4-mapped IPv6 (`::ffff:a.b.c.d`), so that a host has one
/// spelling whichever socket family carried it. Aligned so that it is copied and hashed in two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u8; 16]);

/// Who a connection is with, from this host's point of view.
///
/// `port` is the service port in host order: ours when inbound,
/// the peer's when outbound.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct PeerKey {
    /// Remote address.
    pub addr: Address,
    /// Service port, host order.
    pub port: u16,
    /// [`INBOUND`] or [`OUTBOUND`].
    pub direction: u8,
    /// Always 0; there so that the key has no implicit padding.
    pub zero: [u8; 5],
}

/// The local port is one this host listens on.
pub const INBOUND: u8 = 0;
/// This host connected.
pub const OUTBOUND: u8 = 1;

impl Hash for PeerKey {
    /// All of it at once: the agent looks up each account every second, and field by field this takes three times as long.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(bytemuck::bytes_of(self));
    }
}

impl PeerKey {
    /// The key of a connection with `addr` (IPv4 or IPv6; v4-mapped IPv6 is IPv4).
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16, direction: u8) -> Self {
        let addr = match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { addr: Address(addr.octets()), port, direction, zero: [0; 5] }
    }

    /// The remote address in its one spelling.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        Ipv6Addr::from_octets(self.addr.0).to_canonical()
    }

    /// Whether this is the account that takes what no other had room for.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        *self == Self::overflow(self.direction)
    }

    /// The account that takes what no other account had room for; `::` port 0 is no peer's address.
    #[must_use]
    pub const fn overflow(direction: u8) -> Self {
        Self { addr: Address([0; 16]), port: 0, direction, zero: [0; 5] }
    }
}

/// Names one account in the kernel: half-open peers are kept apart, so that forged addresses cannot take the room of
/// real ones. A peer may have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    /// Who.
    pub peer: PeerKey,
    /// Whether it is the account of a peer that had not completed a handshake.
    pub half_open: bool,
}

/// Number of finite bucket bounds of every histogram; one more bucket takes the rest.
pub const BOUNDS: usize = 12;

/// A histogram of durations: how many fell into each bucket (not cumulated) and their sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Histogram {
    /// Observations per bucket; the last one is above every bound.
    pub buckets: [u64; BOUNDS + 1],
    /// Sum of all observations in nanoseconds.
    pub sum_ns: u64,
}

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// Upper bounds (inclusive) of the lifetime of a connection, in nanoseconds: 1 ms to 1 h.
pub const LIFETIME_BOUNDS_NS: [u64; BOUNDS] =
    [MS, 5 * MS, 10 * MS, 50 * MS, 100 * MS, 500 * MS, S, 5 * S, 10 * S, 60 * S, 300 * S, 3600 * S];
/// Upper bounds of the time between the close of a 4-tuple and its next use, dense around TIME_WAIT's 60 s.
pub const REUSE_BOUNDS_NS: [u64; BOUNDS] =
    [100 * MS, S, 5 * S, 10 * S, 20 * S, 30 * S, 45 * S, 60 * S, 75 * S, 120 * S, 300 * S, 600 * S];
/// Upper bounds of the time from our SYN to established; 1 s, 3 s and 7 s are where the SYN retries fall.
pub const CONNECT_BOUNDS_NS: [u64; BOUNDS] =
    [MS, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, S, 3 * S, 7 * S, 15 * S];

/// Who was the first to end an established connection.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// Our FIN came first.
    Local = 0,
    /// The peer's FIN came first.
    Peer = 1,
    /// A RST, ours or theirs, ended it while it was established.
    Reset = 2,
    /// The kernel gave up: retransmissions or keepalives went unanswered.
    Timeout = 3,
}

/// Why a connection attempt of ours failed.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// No answer to any SYN.
    Timeout = 0,
    /// Answered by RST or by an ICMP port unreachable.
    Refused = 1,
    /// ICMP host or network unreachable.
    Unreachable = 2,
    /// The connection was reset while connecting for another reason than a refusal.
    Reset = 3,
    /// Our application gave up first, or another error.
    Other = 4,
}

/// How a SYN that met a mini-socket and was not accepted was answered.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalAnswer {
    /// By a bare ACK with an old acknowledgement number.
    Ack = 0,
    /// By a RST: the mini-socket was still in FIN_WAIT2.
    Reset = 1,
    /// Not at all: the kernel limits how often it answers.
    None = 2,
}

/// Number of ways in [`RefusalAnswer`].
pub const REFUSAL_ANSWERS: usize = 3;

/// Everything the kernel counts for one peer. All fields only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Connections that reached ESTABLISHED.
    pub connections: u64,
    /// Connections that left ESTABLISHED, by [`ClosedBy`].
    pub closes: [u64; 4],
    /// SYNs we sent for the first time (outbound).
    pub syns: u64,
    /// SYNs repeated: by us (outbound), by the peer on a pending request or into TIME_WAIT (inbound).
    pub syn_retries: u64,
    /// SYNs that the packets show (inbound, with the SYN watch): with a sequence number of their own.
    pub watched_syns: u64,
    /// As above: repeated ones.
    pub watched_syn_retries: u64,
    /// SYNs that met a mini-socket and took its place.
    pub time_wait_accepted: u64,
    /// SYNs that met a mini-socket and were refused, by [`RefusalAnswer`].
    pub time_wait_refused: [u64; REFUSAL_ANSWERS],
    /// Connections that came about after refusals: after the client's RST took the mini-socket away, and without one.
    pub refused_connected: [u64; 2],
    /// SYN-ACKs we repeated.
    pub synack_retries: u64,
    /// Other segments we repeated.
    pub retransmits: u64,
    /// RSTs we sent on a socket.
    pub resets_local: u64,
    /// RSTs received on a socket.
    pub resets_peer: u64,
    /// Connection attempts of ours that failed, by [`ConnectFailure`].
    pub connect_failures: [u64; 5],
    /// Time from the SYN to the failure, summed over them, in nanoseconds.
    pub connect_lost_ns: u64,
    /// Connections of the peer that ended soon after few bytes of ours (inbound).
    pub aborted_early: u64,
    /// Lifetime of connections whose start was seen.
    pub lifetime: Histogram,
    /// Time between the close of a 4-tuple and its next connection.
    pub reuse: Histogram,
    /// SYN to established (outbound).
    pub connect: Histogram,
}

/// Number of `u64` words in [`Counters`].
pub const COUNTER_WORDS: usize = size_of::<Counters>() / size_of::<u64>();

/// When calls of ours to a destination came to something, and when to nothing. Monotonic times in nanoseconds; 0 is never.
///
/// An attempt comes to nothing when it fails, when its SYN has to be repeated, or when it was given up after [`PATIENCE_NS`]
/// without an answer. That it is closed once established is no failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Calls {
    /// The last handshake that was completed.
    pub last_success_ns: u64,
    /// The first one of the present run of successes, or of the last run before the failures.
    pub first_success_ns: u64,
    /// When it was last seen that an attempt comes to nothing.
    pub last_failure_ns: u64,
    /// When the first attempt began that came to nothing since the success before it.
    pub first_failure_ns: u64,
}

/// An attempt given up sooner says nothing: the answer may have been under way.
pub const PATIENCE_NS: u64 = 200 * MS;

/// The account of one peer as it lies in the kernel's map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Account {
    /// What only grows.
    pub counters: Counters,
    /// Outbound: when it was answered.
    pub calls: Calls,
    /// Sockets by TCP state as of the sweep named by `generation`.
    pub sockets: [u32; STATES],
    /// The sweep that wrote `sockets`; a row from an older sweep holds no sockets now.
    pub generation: u32,
    /// 1: that sweep fills in the peer's source ports.
    pub fills_in: u32,
    /// Of `sockets`, the connections of ours that have waited for an answer of the peer for too long.
    pub stalled: u32,
    /// Of `sockets`, those with another local address than `local`.
    pub elsewhere: u32,
    /// The local address of the first of `sockets`.
    pub local: Address,
}

const _: () = assert!(size_of::<PeerKey>() == 24 && align_of::<PeerKey>() == 8);
const _: () = assert!(size_of::<Histogram>() == 112);
const _: () = assert!(size_of::<Counters>() == 544 && COUNTER_WORDS == 68);
const _: () = assert!(size_of::<Account>() == 672 && align_of::<Account>() == 8);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PeerKey {}
// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Account {}
