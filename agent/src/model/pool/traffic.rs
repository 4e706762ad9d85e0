//! What a peer did of late: enough history to say how fast it opens connections, and when which TIME_WAIT ends.

use std::{collections::VecDeque, time::Duration};

use probe_ebpf::account::{Counters, ReuseClock};

/// How long a TIME_WAIT lives, in seconds (TCP_TIMEWAIT_LEN, include/net/tcp.h, a constant since 2.4).
pub const TIME_WAIT_SECONDS: usize = 60;

/// History is kept for this long: a TIME_WAIT's life, and a census interval more.
pub(super) const KEPT: Duration = Duration::from_secs(130);

/// Windows over which a rate is taken, in seconds.
const WINDOWS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 60.0];

/// Rates of two windows differ when they are this many standard deviations of the shorter one apart.
const SIGMAS: f64 = 3.0;

/// Counters at one moment, cumulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Connections established.
    pub opened: u64,
    /// Connection attempts: those, and the ones that TIME_WAIT or an open connection refused for good.
    pub attempts: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Of these, the ones we closed: they leave a TIME_WAIT here.
    pub left: u64,
    /// SYNs that took the place of a TIME_WAIT.
    pub accepted: u64,
    /// SYNs that a TIME_WAIT refused.
    pub refused: u64,
    /// Connections on a 4-tuple seen before whose timestamps go on from those of the connection before.
    pub same_clock: u64,
    /// And those whose timestamps do not.
    pub other_clock: u64,
}

impl Totals {
    pub fn of(counters: &Counters) -> Self {
        let refused = counters.time_wait_refused.iter().sum::<u64>();
        // Of all SYNs that were refused, those that begin an attempt which was refused for good: one less than there are SYNs of an attempt
        // are repeated, the one that connects at last among them.
        let met = refused + counters.challenged_syns.iter().sum::<u64>();
        Self {
            opened: counters.connections,
            attempts: counters.connections + met.saturating_sub(counters.syn_retries),
            ended: counters.closes.iter().sum(),
            left: counters.closes[probe_ebpf::account::ClosedBy::Local as usize],
            accepted: counters.time_wait_accepted,
            refused,
            same_clock: counters.reuse_clocks[ReuseClock::Same as usize],
            other_clock: counters.reuse_clocks[ReuseClock::Other as usize],
        }
    }
}

/// Samples of a history with one each second, and one beyond it.
const SAMPLES: usize = 132;

/// The history of one peer.
#[derive(Debug)]
pub(super) struct Traffic {
    samples: VecDeque<(Duration, Totals)>,
}

impl Default for Traffic {
    fn default() -> Self {
        // As it grows by itself, it would take twice as much.
        Self { samples: VecDeque::with_capacity(SAMPLES) }
    }
}

impl Traffic {
    /// Adds what the counters are now; older samples than needed go.
    pub fn sample(&mut self, now: Duration, totals: Totals) {
        self.samples.push_back((now, totals));
        // One sample beyond the time that is kept, to interpolate from.
        while self.samples.get(1).is_some_and(|&(at, _)| now.saturating_sub(at) > KEPT) {
            self.samples.pop_front();
        }
    }

    fn last(&self) -> (Duration, Totals) {
        self.samples.back().copied().unwrap_or_default()
    }

    /// How far back the history goes, in seconds.
    pub fn age(&self) -> f64 {
        let first = self.samples.front().map_or(Duration::ZERO, |&(at, _)| at);
        self.last().0.saturating_sub(first).as_secs_f64()
    }

    /// A counter as it was `ago` seconds before the last sample, between two samples in proportion.
    fn at(&self, ago: f64, field: fn(&Totals) -> u64) -> f64 {
        let (now, last) = self.last();
        let when = now.as_secs_f64() - ago;
        let after = self.samples.partition_point(|&(at, _)| at.as_secs_f64() <= when);
        let Some((at, totals)) = self.samples.get(after) else { return field(&last) as f64 };
        let Some((before_at, before)) = after.checked_sub(1).and_then(|place| self.samples.get(place)) else {
            return field(totals) as f64;
        };
        let part = (when - before_at.as_secs_f64()) / at.saturating_sub(*before_at).as_secs_f64();
        let (from, to) = (field(before) as f64, field(totals) as f64);
        from + (to - from) * part
    }

    /// How much a counter grew from `from` to `to` seconds before the last sample (`from` is the earlier, so the larger).
    pub fn growth(&self, from: f64, to: f64, field: fn(&Totals) -> u64) -> f64 {
        (self.at(to, field) - self.at(from, field)).max(0.0)
    }

    /// The rate of a counter now, per second: over the longest window whose rate agrees with those of all shorter ones. So it is
    /// steady under noise, and follows a step at once.
    pub fn rate(&self, field: fn(&Totals) -> u64) -> f64 {
        let mut accepted: Vec<(f64, f64)> = Vec::with_capacity(WINDOWS.len());
        for window in WINDOWS {
            if window > self.age() {
                break;
            }
            let events = self.growth(window, 0.0, field);
            let rate = events / window;
            let differs = |&(rate_before, error): &(f64, f64)| (rate - rate_before).abs() > SIGMAS * error;
            if accepted.iter().any(differs) {
                break;
            }
            accepted.push((rate, (events + 1.0).sqrt() / window));
        }
        accepted.last().map_or(0.0, |&(rate, _)| rate)
    }

    /// The share of its connections that we close, over the last minute.
    pub fn left_share(&self) -> f64 {
        let ended = self.growth(TIME_WAIT_SECONDS as f64, 0.0, |totals| totals.ended);
        let left = self.growth(TIME_WAIT_SECONDS as f64, 0.0, |totals| totals.left);
        if ended > 0.0 { (left / ended).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn an_attempt_is_one_however_many_of_its_syns_are_refused() {
        // 200 connect at once, 100 once a RST has ended the TIME_WAIT, and 10 send three SYNs and give up.
        let counters = Counters {
            connections: 300,
            time_wait_refused: [100 + 30, 0, 0],
            syn_retries: 100 + 20,
            refused_connected: [100, 0, 0],
            ..Counters::zeroed()
        };
        assert_eq!(Totals::of(&counters).attempts, 310);
    }
}
