//! What takes ports now: the last census, and what happened since.

use std::time::Duration;

use probe_ebpf::sweep::{Held, state::TIME_WAIT};

use super::{
    forecast::Load,
    traffic::{TIME_WAIT_SECONDS, Totals, Traffic},
};

/// The ports of one peer, or towards one destination.
#[derive(Debug)]
pub(super) struct Usage {
    pub traffic: Traffic,
    /// When the last census was taken, and what it counted.
    counted_at: Duration,
    time_wait: u32,
    live: u32,
}

impl Usage {
    /// Nothing is known yet.
    pub fn begin(now: Duration) -> Self {
        Self { traffic: Traffic::default(), counted_at: now, time_wait: 0, live: 0 }
    }

    /// Nothing is taken yet, and the history begins with these counters.
    pub fn new(now: Duration, totals: Totals) -> Self {
        let mut usage = Self::begin(now);
        usage.traffic.sample(now, totals);
        usage
    }

    /// A census begins to be booked.
    pub fn begin_census(&mut self, now: Duration) {
        (self.counted_at, self.time_wait, self.live) = (now, 0, 0);
    }

    /// Books what a census found.
    pub fn add(&mut self, held: &Held) {
        let time_wait = held.sockets[TIME_WAIT as usize];
        self.time_wait += time_wait;
        self.live += held.sockets.iter().sum::<u32>() - time_wait;
    }

    /// What takes ports now, and in the minute to come.
    pub fn load(&self, now: Duration) -> Load {
        let Self { traffic, counted_at, .. } = self;
        let since = now.saturating_sub(*counted_at).as_secs_f64();
        let left = |from: f64, to: f64| traffic.growth(from, to, |totals| totals.left);
        // TIME_WAITs that began before the census and have ended since.
        let span = TIME_WAIT_SECONDS as f64;
        let ended = left(span + since, span);
        let opened = traffic.growth(since, 0.0, |totals| totals.opened);
        let closed = traffic.growth(since, 0.0, |totals| totals.ended);
        let accepted = traffic.growth(since, 0.0, |totals| totals.accepted);
        let time_wait = (f64::from(self.time_wait) + left(since, 0.0) - ended - accepted).max(0.0);
        let live = (f64::from(self.live) + opened - closed).max(0.0);

        // When they end follows from when they began. Those from before the history, or that no close explains, are taken for
        // evenly old; if there are fewer than were closed (a RST ended some), all are fewer in proportion.
        let known = left(span, 0.0);
        let explained = if known > time_wait { time_wait / known } else { 1.0 };
        let unexplained = (time_wait - known).max(0.0);
        let mut ends = [0.0; TIME_WAIT_SECONDS];
        for (second, ends) in (0_u32..).zip(&mut ends) {
            let from = span - f64::from(second);
            *ends = left(from, from - 1.0) * explained + unexplained / span;
        }
        let rate = traffic.rate(|totals| totals.attempts) * traffic.left_share();
        Load { time_wait, live, rate, ends }
    }
}
