//! From which ports a peer draws, told from those it was seen to use.
//!
//! The ranges are the hulls of the ports seen, cut where a gap is too long to be chance. Whether that is all there is follows
//! from how often a new connection brings a port outside of them: hardly ever once the pool is known, every time while a
//! NAT that hands ports out in turn is still on its first round.

use std::time::Duration;

use super::{
    port_set::Ports,
    ranges::{Range, Ranges},
};

/// A pool is taken for known from this confidence on.
pub const KNOWN: f64 = 0.98;

/// And for doubtful again below this one: a few ports at its edges that came for the first time do not make a pool unknown.
const DOUBTFUL: f64 = 0.9;

/// The weight of a connection halves after so many later ones.
const HALF_LIFE: f64 = 200.0;

/// Below so many ports nothing is cut and no parity is believed: 15 in a row of one parity are chance once in 32,768 times.
const FEWEST: u32 = 16;

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
    seen: Ports,
    seen_count: u32,
    ranges: Ranges,
    /// Ports of this window.
    window: Ports,
    /// Connections of late, decaying, and those of them that came from outside the ranges known then.
    recent: f64,
    surprises: f64,
    /// Connections since the last surprise.
    calm: u64,
    window_draws: u64,
    window_began: Duration,
    is_known: bool,
}

impl Inference {
    pub fn new(now: Duration) -> Self {
        Self {
            seen: Ports::default(),
            seen_count: 0,
            ranges: Ranges::default(),
            window: Ports::default(),
            recent: 0.0,
            surprises: 0.0,
            calm: 0,
            window_draws: 0,
            window_began: now,
            is_known: false,
        }
    }

    /// Takes the ports recorded since the last call, and the number of connections since then. Returns whether the window is over and
    /// recording should begin anew.
    pub fn observe(&mut self, recorded: &Ports, draws: u64, now: Duration) -> bool {
        self.window.add(recorded);
        let mut fresh = recorded.clone();
        fresh.remove(&self.seen);
        let surprises = fresh.iter().filter(|&port| !self.ranges.contains(port)).count() as u64;
        if !fresh.is_empty() {
            self.seen.add(&fresh);
            self.judge();
        }
        // A census may fill in ports of earlier connections.
        let surprises = surprises.min(draws);
        let decay = 0.5_f64.powf(draws as f64 / HALF_LIFE);
        self.recent = self.recent * decay + draws as f64;
        self.surprises = self.surprises * decay + surprises as f64;
        self.calm = if surprises == 0 { self.calm + draws } else { 0 };
        self.window_draws += draws;

        let is_due = now.saturating_sub(self.window_began) >= WINDOW;
        let over = is_due && self.window_draws >= (ROUNDS * u64::from(self.window.len())).max(FEWEST_DRAWS);
        if over {
            // What the window before last brought, and neither of the later ones, is no part of the pool any more.
            self.seen = std::mem::take(&mut self.window);
            self.judge();
            self.window_draws = 0;
            self.window_began = now;
        }
        self.is_known = self.confidence() >= if self.is_known { DOUBTFUL } else { KNOWN };
        over
    }

    /// What follows from the ports seen.
    fn judge(&mut self) {
        self.seen_count = self.seen.len();
        self.ranges = infer(&self.seen);
    }

    /// Whether the ranges are taken for the pool.
    pub fn is_known(&self) -> bool {
        self.is_known
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
        self.seen.iter().filter(|&port| !pool.contains(port)).map(|_| 1).sum()
    }

    /// The pool as far as it is seen.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// How surely the next connection comes from [`Self::ranges`], 0 to 1.
    pub fn confidence(&self) -> f64 {
        if self.seen_count < FEWEST {
            return 0.0;
        }
        // Laplace's rule on what came of late; and after a calm of n, the rule of three: less than 3/n is left unseen, with 95 %.
        let by_surprises = 1.0 - (self.surprises + 1.0) / (self.recent + 2.0);
        let by_calm = 1.0 - 3.0 / self.calm.max(3) as f64;
        by_surprises.max(by_calm).clamp(0.0, 1.0)
    }
}

/// The ranges that a set of ports was drawn from, most likely.
fn infer(ports: &Ports) -> Ranges {
    let mut ranges = Vec::new();
    cut(ports, &mut ranges);
    Ranges::new(ranges)
}

/// Cuts at the gaps that are longer than chance makes them, and each part again by its own density.
fn cut(ports: &Ports, into: &mut Vec<Range>) {
    let Some((low, high)) = ports.bounds() else { return };
    let count = ports.len();
    if count < FEWEST {
        into.push(Range { low, high, step: 1 });
        return;
    }
    let mean = f64::from(high - low) / f64::from(count - 1);
    let longest = mean * (f64::from(count).ln() + GAP_MARGIN);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no gap is longer than 65,535"
    )]
    let gaps = ports.gaps(longest as u16);
    if gaps.is_empty() {
        into.push(Range { low, high, step: if ports.is_of_one_parity() { 2 } else { 1 } });
        return;
    }
    let mut begin = low;
    for (before, after) in gaps {
        cut(&ports.part(begin, before), into);
        begin = after;
    }
    cut(&ports.part(begin, high), into);
}

#[cfg(test)]
mod tests;
