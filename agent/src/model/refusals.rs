//! The record of refused reuses: whose SYN met a TIME_WAIT or an open connection of ours and was not accepted, and how that ended.

use std::{collections::VecDeque, net::IpAddr, ops::Range, sync::Arc, time::Duration};

use probe_ebpf::{
    account::{INBOUND, PeerKey, REFUSAL_ANSWERS},
    refusal::{EndedRefusal, Refusal},
};

/// A client that repeats its SYN does so after 3 s at the latest (RFC 1122's first timeout) and then doubles the pause at most.
const FIRST_PAUSE_NS: u64 = 3_000_000_000;
/// What a SYN may be late by.
const MARGIN_NS: u64 = 1_000_000_000;

/// How a refused reuse ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client answered our ACK by a RST, which took the TIME_WAIT or the open connection away, and its next SYN was accepted.
    Reset,
    /// A later SYN was accepted without a RST: its timestamp was newer, or what it had met was over.
    Retry,
    /// A later SYN came from another port, which a NAT gave it, and was accepted.
    OtherPort,
    /// No SYN came any more.
    GaveUp,
}

impl End {
    /// As it is written in labels and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Retry => "retry",
            Self::OtherPort => "other_port",
            Self::GaveUp => "gave_up",
        }
    }
}

/// One refused reuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefusedReuse {
    /// When the first SYN was refused, in seconds since the epoch.
    pub began: f64,
    /// The peer, with the port of the first refused SYN.
    pub remote: (IpAddr, u16),
    /// Our address and service.
    pub local: (IpAddr, u16),
    /// TCP state of the old connection when the first SYN met it.
    pub state: u16,
    /// Refused SYNs by [`RefusalAnswer`](probe_ebpf::account::RefusalAnswer).
    pub answers: [u32; REFUSAL_ANSWERS],
    /// SYNs that repeated the first.
    pub retries: u32,
    /// From the first refused SYN to the connection, or to the last SYN of a client that gave up.
    pub waited: Duration,
    /// How it ended.
    pub end: End,
}

/// Two clocks at one moment: the kernel's monotonic one in nanoseconds, and the time of day in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// Since the epoch.
    pub unix_seconds: f64,
}

impl Clocks {
    /// The time of day of a monotonic time, in seconds since the epoch.
    #[must_use]
    pub fn unix_seconds_of(&self, monotonic_ns: u64) -> f64 {
        self.unix_seconds - (self.monotonic_ns as f64 - monotonic_ns as f64) / 1e9
    }
}

impl RefusedReuse {
    fn new(ended: &EndedRefusal, clocks: Clocks) -> Self {
        let EndedRefusal { attempt, refusal } = ended;
        let address =
            |address| PeerKey { addr: address, port: 0, direction: INBOUND, zero: [0; 5] }.address();
        let age = Duration::from_nanos(clocks.monotonic_ns.saturating_sub(refusal.first_ns));
        let last = if refusal.connected_ns > 0 { refusal.connected_ns } else { refusal.last_ns };
        Self {
            began: clocks.unix_seconds - age.as_secs_f64(),
            remote: (address(attempt.remote), refusal.port),
            local: (address(attempt.local), attempt.local_port),
            state: refusal.state,
            answers: refusal.answers,
            retries: refusal.retries,
            waited: Duration::from_nanos(last.saturating_sub(refusal.first_ns)),
            end: if refusal.connected_ns == 0 {
                End::GaveUp
            } else if refusal.last_port != refusal.port {
                End::OtherPort
            } else if refusal.reset != 0 {
                End::Reset
            } else {
                End::Retry
            },
        }
    }
}

/// Whether no further SYN of a story is to be expected at a monotonic time.
#[must_use]
pub fn has_given_up(refusal: &Refusal, now_ns: u64) -> bool {
    let longest = refusal.longest_pause_ns.saturating_mul(2).max(FIRST_PAUSE_NS).saturating_add(MARGIN_NS);
    now_ns.saturating_sub(refusal.last_ns) > longest
}

/// The port of a SYN of a story about TIME_WAIT that came within a span of the monotonic clock, and whether it repeated one refused before.
/// Of several, the one that began the story.
#[must_use]
pub fn syn_within(refusal: &Refusal, span: Range<u64>) -> Option<(u16, bool)> {
    let came = |ns: u64| ns > 0 && span.contains(&ns);
    if refusal.was_open() {
        None
    } else if came(refusal.first_ns) {
        Some((refusal.port, false))
    } else {
        (came(refusal.last_ns) || came(refusal.connected_ns)).then_some((refusal.last_port, true))
    }
}

/// The last refused reuses.
#[derive(Debug)]
pub struct Refusals {
    capacity: usize,
    log: VecDeque<RefusedReuse>,
    dropped: u64,
    shared: Arc<[RefusedReuse]>,
}

impl Refusals {
    /// None yet, and room for `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, log: VecDeque::new(), dropped: 0, shared: Arc::default() }
    }

    /// Adds some that ended; the oldest make room.
    pub fn add(&mut self, ended: &[EndedRefusal], clocks: Clocks) {
        if ended.is_empty() {
            return;
        }
        self.log.extend(ended.iter().map(|ended| RefusedReuse::new(ended, clocks)));
        let excess = self.log.len().saturating_sub(self.capacity);
        self.log.drain(..excess);
        self.dropped += excess as u64;
        self.shared = self.log.iter().copied().collect();
    }

    /// Those that are kept, the oldest first.
    #[must_use]
    pub fn last(&self) -> Arc<[RefusedReuse]> {
        Arc::clone(&self.shared)
    }

    /// How many had to make room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use probe_ebpf::{account::Address, connection::FourTuple};

    const S: u64 = 1_000_000_000;

    fn ended(first_s: u64, connected_s: u64) -> EndedRefusal {
        let address = |last| PeerKey::new([192, 0, 2, last].into(), 0, INBOUND).addr;
        let attempt = FourTuple::new(address(1), address(2), 443, 10_141).attempt(77);
        let refusal = Refusal {
            first_ns: first_s * S,
            last_ns: (first_s + 3) * S,
            connected_ns: connected_s * S,
            answers: [3, 0, 1],
            retries: 3,
            port: 10_141,
            last_port: 10_141,
            state: 1,
            ..Refusal::zeroed()
        };
        EndedRefusal { attempt, refusal }
    }

    #[test]
    fn a_story_names_the_peer_the_time_and_the_end() {
        let mut log = Refusals::new(10);
        let clocks = Clocks { monotonic_ns: 100 * S, unix_seconds: 1_000.0 };
        log.add(&[ended(90, 0), ended(95, 99)], clocks);
        let kept = log.last();
        assert_eq!(
            (kept[0].began, kept[0].waited, kept[0].end),
            (990.0, Duration::from_secs(3), End::GaveUp)
        );
        assert_eq!((kept[1].began, kept[1].waited, kept[1].end), (995.0, Duration::from_secs(4), End::Retry));
        assert_eq!(kept[0].state, 1, "ESTABLISHED");
        assert_eq!(kept[0].remote, ("192.0.2.2".parse().expect("an address"), 10_141));
        assert_ne!(Address([0; 16]), ended(0, 0).attempt.remote);
    }

    #[test]
    fn an_attempt_that_connects_from_another_port_has_an_end_of_its_own() {
        let mut log = Refusals::new(10);
        let mut moved = ended(95, 99);
        (moved.refusal.last_port, moved.refusal.reset) = (10_205, 1);
        let mut given_up = ended(90, 0);
        given_up.refusal.last_port = 10_205;
        log.add(&[moved, given_up], Clocks { monotonic_ns: 100 * S, unix_seconds: 1_000.0 });
        let kept = log.last();
        assert_eq!([kept[0].end, kept[1].end], [End::OtherPort, End::GaveUp]);
        assert_eq!(kept[0].remote.1, 10_141, "the port whose TIME_WAIT refused it");
    }

    #[test]
    fn a_story_tells_each_of_its_syns_in_the_span_in_which_it_came() {
        let mut refusal = ended(90, 99).refusal;
        refusal.last_port = 10_205;
        assert_eq!(syn_within(&refusal, 90 * S..91 * S), None, "the old connection was open");
        refusal.state = 6;
        let told = [89, 90, 91, 93, 94, 99].map(|second| syn_within(&refusal, second * S..(second + 1) * S));
        let (first, again) = (Some((10_141, false)), Some((10_205, true)));
        assert_eq!(told, [None, first, None, again, None, again]);
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut log = Refusals::new(2);
        let clocks = Clocks { monotonic_ns: 100 * S, unix_seconds: 100.0 };
        log.add(&[ended(1, 0), ended(2, 0), ended(3, 0)], clocks);
        assert_eq!(log.last().iter().map(|reuse| reuse.began).collect::<Vec<_>>(), [2.0, 3.0]);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn a_client_gives_up_when_the_next_doubled_pause_is_over() {
        let refusal =
            |longest_s| Refusal { last_ns: 10 * S, longest_pause_ns: longest_s * S, ..Refusal::zeroed() };
        assert!(!has_given_up(&refusal(0), 14 * S) && has_given_up(&refusal(0), 14 * S + 1));
        assert!(!has_given_up(&refusal(8), 27 * S) && has_given_up(&refusal(8), 27 * S + 1));
        let endless = Refusal { longest_pause_ns: u64::MAX, ..refusal(0) };
        assert!(!has_given_up(&endless, u64::MAX), "whatever the kernel side left behind");
    }
}
