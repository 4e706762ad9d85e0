//! From which ports a peer draws, told from those it was seen to use.
//!
//! The ranges are the hulls of the ports seen, cut where a gap is too long to be chance. Whether that is all there is follows
//! from how often a new connection brings a port outside of them: hardly ever once the pool is known, every time while a
//! NAT that hands ports out in turn is still on its first round.

use std::time::Duration;

use bytemuck::Zeroable as _;
use probe_ebpf::source_ports::PortSet;

use super::ranges::{Range, Ranges, count, ports};

/// A pool is taken for known from this confidence on.
pub const KNOWN: f64 = 0.98;

/// The weight of a connection halves after so many later ones.
const HALF_LIFE: f64 = 200.0;

/// Below so many ports nothing is cut and no parity is believed: 15 in a row of one parity are chance once in 32,768 times.
const FEWEST: u16 = 16;

/// How much longer than usual a gap must be to be none of chance: in a thousand pools, one is cut in two by mistake (e^-7).
const GAP_MARGIN: f64 = 7.0;

/// A set of ports is kept for at least this time, and until every port had its chance to come again.
const WINDOW: Duration = Duration::from_mins(5);
/// The connections that are enough for that, per port seen.
const ROUNDS: u64 = 2;
/// And at least so many.
const FEWEST_DRAWS: u64 = 1_000;

/// What is known of one peer's ports.
#[derive(Debug)]
pub(super) struct Inference {
    /// Ports of this window and the one before.
    seen: Box<PortSet>,
    seen_count: u32,
    ranges: Ranges,
    /// Connections of late, decaying, and those of them that came from outside the ranges known then.
    recent: f64,
    surprises: f64,
    /// Connections since the last surprise.
    calm: u64,
    window_draws: u64,
    window_began: Duration,
}

impl Inference {
    pub fn new(now: Duration) -> Self {
        Self {
            seen: Box::new(PortSet::zeroed()),
            seen_count: 0,
            ranges: Ranges::default(),
            recent: 0.0,
            surprises: 0.0,
            calm: 0,
            window_draws: 0,
            window_began: now,
        }
    }

    /// Takes the ports recorded in this window so far, and the number of connections since the last call. Returns whether the
    /// window is over and recording should begin anew.
    pub fn observe(&mut self, recorded: &PortSet, draws: u64, now: Duration) -> bool {
        let mut surprises = 0;
        let mut fresh = false;
        // 64 ports at a time: each busy peer is looked at every second, and hardly anything is new.
        let words = self.seen.bits.as_chunks_mut().0.iter_mut().zip(recorded.bits.as_chunks().0);
        for (index, (seen, new)) in (0_u16..).zip(words) {
            let (old, new) = (u64::from_le_bytes(*seen), u64::from_le_bytes(*new));
            let added = new & !old;
            if added == 0 {
                continue;
            }
            fresh = true;
            *seen = (old | added).to_le_bytes();
            let outside =
                (0..64).filter(|bit| added & (1 << bit) != 0 && !self.ranges.contains(index * 64 + bit));
            surprises += outside.count() as u64;
        }
        if fresh {
            self.seen_count = count(&self.seen);
            self.ranges = infer(&self.seen);
        }
        // A census may fill in ports of earlier connections.
        let surprises = surprises.min(draws);
        let decay = 0.5_f64.powf(draws as f64 / HALF_LIFE);
        self.recent = self.recent * decay + draws as f64;
        self.surprises = self.surprises * decay + surprises as f64;
        self.calm = if surprises == 0 { self.calm + draws } else { 0 };
        self.window_draws += draws;

        let rounds = ROUNDS * u64::from(count(recorded));
        let over =
            now.saturating_sub(self.window_began) >= WINDOW && self.window_draws >= rounds.max(FEWEST_DRAWS);
        if over {
            // What the window before last brought, and neither of the later ones, is no part of the pool any more.
            *self.seen = *recorded;
            self.seen_count = count(&self.seen);
            self.ranges = infer(&self.seen);
            self.window_draws = 0;
            self.window_began = now;
        }
        over
    }

    /// Number of different ports seen.
    pub fn seen(&self) -> u32 {
        self.seen_count
    }

    /// The lowest and the highest of them.
    pub fn bounds(&self) -> Option<(u16, u16)> {
        let ranges = self.ranges.as_slice();
        Some((ranges.first()?.low, ranges.last()?.high))
    }

    /// Number of ports seen outside of `pool`.
    pub fn outside(&self, pool: &Ranges) -> u32 {
        ports(&self.seen).filter(|&port| !pool.contains(port)).map(|_| 1).sum()
    }

    /// The pool as far as it is seen.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// How surely the next connection comes from [`Self::ranges`], 0 to 1.
    pub fn confidence(&self) -> f64 {
        if self.seen_count < u32::from(FEWEST) {
            return 0.0;
        }
        // Laplace's rule on what came of late; and after a calm of n, the rule of three: less than 3/n is left unseen, with 95 %.
        let by_surprises = 1.0 - (self.surprises + 1.0) / (self.recent + 2.0);
        let by_calm = 1.0 - 3.0 / self.calm.max(3) as f64;
        by_surprises.max(by_calm).clamp(0.0, 1.0)
    }
}

/// The ranges that a set of ports was drawn from, most likely.
fn infer(set: &PortSet) -> Ranges {
    let ports: Vec<u16> = ports(set).collect();
    let mut ranges = Vec::new();
    cut(&ports, &mut ranges);
    Ranges::new(ranges)
}

/// Cuts at the gaps that are longer than chance makes them, and each part again by its own density.
fn cut(ports: &[u16], into: &mut Vec<Range>) {
    let (Some(&low), Some(&high)) = (ports.first(), ports.last()) else { return };
    let step = step(ports);
    if ports.len() >= usize::from(FEWEST) {
        let mean = f64::from(high - low) / (ports.len() - 1) as f64;
        let longest = mean * ((ports.len() as f64).ln() + GAP_MARGIN);
        let is_gap = |pair: &[u16]| f64::from(pair[1] - pair[0]) > longest;
        let gaps: Vec<usize> =
            ports.windows(2).enumerate().filter(|(_, pair)| is_gap(pair)).map(|(at, _)| at + 1).collect();
        if !gaps.is_empty() {
            let ends = gaps.iter().copied().chain([ports.len()]);
            let mut begin = 0;
            for end in ends {
                cut(&ports[begin..end], into);
                begin = end;
            }
            return;
        }
    }
    into.push(Range { low, high, step });
}

/// 2 when all are even or all are odd, and there are enough to tell.
fn step(ports: &[u16]) -> u16 {
    let odd = ports.iter().filter(|&port| port % 2 == 1).count();
    if ports.len() >= usize::from(FEWEST) && (odd == 0 || odd == ports.len()) { 2 } else { 1 }
}

#[cfg(test)]
mod tests;
