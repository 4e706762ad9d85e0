//! One account per peer: the key it is kept under and the counters the kernel keeps for it.

use core::{
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv6Addr},
};

use bytemuck::{Pod, Zeroable};

use crate::sweep::{STATES, state};

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

/// Stands for all ports of ours whose listeners were short-lived, as those of passive FTP are: they tell nothing, and each would be an account.
pub const EPHEMERAL: u16 = 0;

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

    /// The peer's account for the ports of short-lived listeners.
    #[must_use]
    pub const fn ephemeral(&self) -> Self {
        Self { port: EPHEMERAL, ..*self }
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

/// Waits, told apart by one bound; a histogram of few words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Waits {
    /// Those within the bound, which they may reach, and those beyond it.
    pub buckets: [u64; 2],
    /// Sum of all in nanoseconds.
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
    /// Another error.
    Other = 4,
    /// No local port was free: no SYN was sent, and the destination has nothing to do with it.
    NoPort = 5,
    /// Our program closed the socket before its SYN was answered.
    Abandoned = 6,
}

/// The values of [`ConnectFailure`], as they are written everywhere.
pub const CONNECT_FAILURES: [&str; 7] =
    ["timeout", "refused", "unreachable", "reset", "other", "no_port", "abandoned"];

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

/// Whose clock the timestamps of a new connection on a 4-tuple seen before are of.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReuseClock {
    /// That of the connection before, as far as can be told: a TIME_WAIT accepts the SYN of a newer timestamp (net/ipv4/tcp_minisocks.c
    /// tcp_timewait_state_process(), 4.18 to 6.18).
    Same = 0,
    /// Another one: a TIME_WAIT refuses its SYN as often as not.
    Other = 1,
}

/// Number of clocks in [`ReuseClock`].
pub const REUSE_CLOCKS: usize = 2;

/// How an attempt that was refused at first connected.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedConnect {
    /// From the same port, after the client's RST took the old connection or its mini-socket away.
    AfterReset = 0,
    /// From the same port, without one.
    Retry = 1,
    /// From another port: a NAT gave the repeated SYN a new one.
    OtherPort = 2,
}

/// Number of ways in [`RefusedConnect`].
pub const REFUSED_CONNECTS: usize = 3;

/// A refused attempt that takes longer lost its answer on the way: it waits for its first retransmission timeout of a second (RFC 6298).
/// One that hears the refusal resets and repeats its SYN within milliseconds (net/ipv4/tcp_input.c tcp_rcv_synsent_state_process(), 5.10
/// to 6.18).
pub const LONG_DELAY_NS: u64 = 900 * MS;

/// States of an open connection that answers a SYN by a challenge ACK, in the order of [`Counters::challenged_syns`]
/// (RFC 5961 section 4; net/ipv4/tcp_input.c tcp_validate_incoming(), 5.10 to 6.18).
pub const CHALLENGING_STATES: [u32; 7] = [
    state::SYN_RECV,
    state::ESTABLISHED,
    state::FIN_WAIT1,
    state::FIN_WAIT2,
    state::CLOSE_WAIT,
    state::CLOSING,
    state::LAST_ACK,
];

/// How long a connection of ours has waited for an answer is told in so many buckets. The first begins at `census.stalled_after`, each other
/// at twice the time of the one before; the last has no end.
pub const WAITS: usize = 6;

/// The connections of ours to one destination that wait for it to send something, or may, as of a walk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Waiting {
    /// What we sent, a SYN or data, has not been acknowledged for longer than `census.stalled_after`.
    pub unacknowledged: u32,
    /// We asked, and the destination has never sent anything on them, by how long they have waited.
    pub first: [u32; WAITS],
    /// We asked, and the destination had answered before on them, as above.
    pub later: [u32; WAITS],
    /// Neither side has sent anything for longer than `census.stalled_after`.
    pub unused: u32,
    /// We have sent again and again, and the destination never.
    pub talking: u32,
}

impl Waiting {
    /// Nothing waits.
    pub const NONE: Self =
        Self { unacknowledged: 0, first: [0; WAITS], later: [0; WAITS], unused: 0, talking: 0 };
}

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
    /// SYNs repeated: by us (outbound), by the peer on a pending request, into TIME_WAIT or on an open connection (inbound).
    pub syn_retries: u64,
    /// SYNs that the packets show (inbound, with the SYN watch): with a sequence number of their own.
    pub watched_syns: u64,
    /// As above: repeated ones.
    pub watched_syn_retries: u64,
    /// SYNs that met a mini-socket and took its place.
    pub time_wait_accepted: u64,
    /// Connections of the peer on a 4-tuple seen before, where both carried timestamps, by [`ReuseClock`].
    pub reuse_clocks: [u64; REUSE_CLOCKS],
    /// SYNs that met a mini-socket and were refused, by [`RefusalAnswer`].
    pub time_wait_refused: [u64; REFUSAL_ANSWERS],
    /// Attempts that a mini-socket refused and that connected after all, by [`RefusedConnect`].
    pub refused_connected: [u64; REFUSED_CONNECTS],
    /// How long these took from the first refused SYN: within [`LONG_DELAY_NS`] and beyond.
    pub refused_delay: Waits,
    /// Attempts that a mini-socket refused and that still tried, or connected, beyond [`LONG_DELAY_NS`].
    pub refused_late: u64,
    /// SYNs on connections that are still open here, by [`CHALLENGING_STATES`]; SYN-ACKs, too, as the kernel counts them.
    pub challenged_syns: [u64; CHALLENGING_STATES.len()],
    /// Of these, late copies of the SYN or SYN-ACK by which the connection itself began: no attempt to open another.
    pub challenged_duplicates: u64,
    /// As `refused_connected`, of attempts that an open connection refused.
    pub challenged_connected: [u64; REFUSED_CONNECTS],
    /// SYN-ACKs we repeated.
    pub synack_retries: u64,
    /// Other segments we repeated.
    pub retransmits: u64,
    /// RSTs we sent on a socket.
    pub resets_local: u64,
    /// RSTs received on a socket.
    pub resets_peer: u64,
    /// Connection attempts of ours that failed, by [`ConnectFailure`].
    pub connect_failures: [u64; CONNECT_FAILURES.len()],
    /// Time from the SYN to the failure, summed over them, in nanoseconds.
    pub connect_lost_ns: u64,
    /// How long our program had waited for an answer when it abandoned an attempt: within [`PATIENCE_NS`] and beyond.
    pub abandoned: Waits,
    /// Connections that we ended soon after few bytes of ours though the peer had sent more (inbound).
    pub aborted_early: u64,
    /// Connections that ended after more than a few bytes of ours (inbound), or after any data of the destination (outbound).
    pub answered: u64,
    /// Waits for an answer that a walk saw and that the destination's data ended, by how long they had lasted then (outbound).
    pub answered_waits: [u64; WAITS],
    /// Sightings of connections on which the destination sent data before we did, by a walk or at their end (outbound).
    pub spoke_first: u64,
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
/// An attempt comes to nothing when it fails, when its SYN has to be repeated, or when our program abandoned it after
/// [`PATIENCE_NS`] without an answer. That it is closed once established is no failure.
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

/// An attempt abandoned sooner says nothing: the answer may have been under way.
pub const PATIENCE_NS: u64 = 200 * MS;

/// The account of one peer as it lies in the kernel's map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Account {
    /// What only grows.
    pub counters: Counters,
    /// Outbound: when it was answered.
    pub calls: Calls,
    /// Outbound: when the destination last sent data on any connection, as far as a walk or a close showed. Monotonic time in nanoseconds; 0
    /// is never.
    pub heard_ns: u64,
    /// Sockets by TCP state as of the sweep named by `generation`.
    pub sockets: [u32; STATES],
    /// The sweep that wrote `sockets`; a row from an older sweep holds no sockets now.
    pub generation: u32,
    /// 1: that sweep fills in the peer's source ports.
    pub fills_in: u32,
    /// Of `sockets`, the connections of ours that wait for the peer.
    pub waiting: Waiting,
    /// Of `sockets`, the live ones whose local address is `local`. Those of other addresses are in [`LocalSockets`](crate::sweep::LocalSockets).
    pub live_at_local: u32,
    /// The same, those in TIME_WAIT.
    pub time_wait_at_local: u32,
    /// Always 0; there so that the account has no implicit padding.
    pub zero: u32,
    /// The local address of the first of `sockets` that takes a port; pending requests do not.
    pub local: Address,
}

const _: () = assert!(size_of::<PeerKey>() == 24 && align_of::<PeerKey>() == 8);
const _: () = assert!(size_of::<Histogram>() == 112);
const _: () = assert!(size_of::<Counters>() == 792 && COUNTER_WORDS == 99);
const _: () = assert!(size_of::<Account>() == 992 && align_of::<Account>() == 8);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PeerKey {}
// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Account {}
