//! What takes ports now: the last census, and what happened since.

use std::{iter, net::IpAddr, time::Duration};

use probe_ebpf::{account::PeerKey, sweep::HeldAt};

use super::{
    forecast::Load,
    survival::Survival,
    traffic::{TIME_WAIT_SECONDS, Totals, Traffic},
};

/// Between two looks at the counters.
const LOOK: Duration = Duration::from_secs(1);

/// The ports of one peer, or towards one destination: those at the local address where most of them are taken, since a port that
/// is taken at one address is free at the others.
///
/// Only a census tells addresses apart. What happened since the last one is divided as that one was.
#[derive(Debug)]
pub(super) struct Usage {
    pub traffic: Traffic,
    /// When the last census was taken, and what it counted.
    counted_at: Duration,
    fullest: Option<HeldAt>,
    /// Sockets at all local addresses, and how many addresses that are.
    sockets: u32,
    addresses: u32,
}

impl Usage {
    /// Nothing is known yet.
    pub fn begin(now: Duration) -> Self {
        Self { traffic: Traffic::default(), counted_at: now, fullest: None, sockets: 0, addresses: 0 }
    }

    /// Nothing is taken yet, and the history begins with these counters.
    pub fn new(now: Duration, totals: Totals) -> Self {
        let mut usage = Self::begin(now);
        usage.traffic.sample(now, totals);
        usage
    }

    /// Nothing was taken when its first connections were made, before it was seen first, and these are its counters now.
    pub fn since(first_seen: Duration, now: Duration, totals: Totals) -> Self {
        let mut usage = Self::new(first_seen.saturating_sub(LOOK), Totals::default());
        usage.traffic.sample(now, totals);
        usage
    }

    /// A census begins to be booked.
    pub fn begin_census(&mut self, now: Duration) {
        (self.counted_at, self.fullest, self.sockets, self.addresses) = (now, None, 0, 0);
    }

    /// Books what a census found at one local address.
    pub fn add(&mut self, held: &HeldAt) {
        self.sockets += held.sockets();
        self.addresses += 1;
        let rank = |held: &HeldAt| (held.sockets(), held.local);
        if self.fullest.is_none_or(|fullest| rank(held) > rank(&fullest)) {
            self.fullest = Some(*held);
        }
    }

    /// The local address whose ports these are; `None` while no census found a socket.
    pub fn local(&self) -> Option<IpAddr> {
        self.fullest.map(|held| PeerKey { addr: held.local, ..held.peer }.address())
    }

    /// How many local addresses the last census found.
    pub fn addresses(&self) -> u32 {
        self.addresses
    }

    /// The part of the traffic that is the fullest address'.
    fn share(&self) -> f64 {
        self.fullest.map_or(1.0, |held| f64::from(held.sockets()) / f64::from(self.sockets.max(1)))
    }

    /// What takes ports now, and in the minute to come. `survival` has which of the ports came again, where that is known; `is_in_turn`: they are
    /// used again in the order in which they were used.
    pub fn load(&self, now: Duration, survival: Option<&Survival>, is_in_turn: bool) -> Load {
        let Self { traffic, counted_at, .. } = self;
        let since = now.saturating_sub(*counted_at).as_secs_f64();
        let share = self.share();
        let left = |from: f64, to: f64| traffic.growth(from, to, |totals| totals.left) * share;
        let accepted = |from: f64, to: f64| traffic.growth(from, to, |totals| totals.accepted) * share;
        // A TIME_WAIT whose place a SYN took does not come to its end. Where it is not known which one that is, it is the oldest one, in turn; else
        // any of those there are.
        let counted = f64::from(self.fullest.map_or(0, |held| held.time_wait));
        let meetings = |field| traffic.growth(TIME_WAIT_SECONDS as f64, 0.0, field);
        let met = meetings(|totals| totals.accepted + totals.refused);
        // Of the SYNs whose port came again, those that were refused took no place.
        let accepted_share = if met > 0.0 { meetings(|totals| totals.accepted) / met } else { 1.0 };
        let survive = |from: f64, to: f64| {
            // In the middle of the second that begins then.
            if let Some(share) = survival.and_then(|survival| survival.share(now.as_secs_f64() - from + 0.5))
            {
                return 1.0 - (1.0 - share) * accepted_share;
            }
            let taken = accepted(from, to) / counted.max(1.0);
            if is_in_turn { f64::from(u8::from(taken < 1.0)) } else { (-taken).exp() }
        };
        // TIME_WAITs that began before the census and have ended since, second by second.
        let span = TIME_WAIT_SECONDS as f64;
        let seconds = iter::successors(Some(since), |from| Some(from - 1.0)).take_while(|&from| from > 0.0);
        let end = |from: f64| left(span + from, span + (from - 1.0).max(0.0)) * survive(span + from, from);
        let ended: f64 = seconds.map(end).sum();
        let opened = traffic.growth(since, 0.0, |totals| totals.opened) * share;
        let closed = traffic.growth(since, 0.0, |totals| totals.ended) * share;
        let time_wait = (counted + left(since, 0.0) - ended - accepted(since, 0.0)).max(0.0);
        let live = (f64::from(self.fullest.map_or(0, |held| held.live)) + opened - closed).max(0.0);

        // When they end follows from when they began. Those from before the history, or that no close explains, are taken for
        // evenly old; if there are fewer than were closed (a RST ended some), all are fewer in proportion.
        let mut ends = [0.0; TIME_WAIT_SECONDS];
        for (second, ends) in (0_u32..).zip(&mut ends) {
            let from = span - f64::from(second);
            *ends = left(from, from - 1.0) * survive(from, 0.0);
        }
        let known: f64 = ends.iter().sum();
        let explained = if known > time_wait { time_wait / known } else { 1.0 };
        let unexplained = (time_wait - known).max(0.0);
        let ends = ends.map(|ends| ends * explained + unexplained / span);
        let rate = traffic.rate(|totals| totals.attempts) * traffic.left_share() * share;
        Load { time_wait, live, rate, ends }
    }
}
