//! A pool that is handed out in turn, as one of several servers sees it.
//!
//! The ports that reach this server within a second lie on a short arc of the circle that the pool is. The end of the arc is where the
//! peer stands, and it moves on with every connection that the peer makes, to whichever server: its speed is the rate over all servers.
//! How far it moved between two uses of a port says after how many rounds a port comes back to this server, and that says how many of
//! the SYNs here meet a TIME_WAIT once a round takes less than one lasts.

mod arc;
mod last_uses;

use std::{collections::VecDeque, iter, time::Duration};

use self::{arc::Arc, last_uses::LastUses};
use super::{kept::Kept, positions::Positions, ranges::Ranges};

/// Ports come back after so many rounds at most, as far as it is followed.
const FOLLOWED: usize = 6;

/// A pool whose bounds move by less than this part is the same, better known.
pub(super) const SAME: f64 = 0.02;

/// An arc longer than this part of the circle says nothing of an order.
const LONGEST_ARC: f64 = 0.25;

/// So few ports make no arc: chance puts three on a short one too often.
const FEWEST: usize = 4;

/// The part of the ports that must lie on the arc.
const MOST: f64 = 0.75;

/// Of the last arcs, so many
const JUDGED: usize = 10;
/// must each begin where the last one ended for the pool to be handed out in turn,
const ORDERLY: usize = 8;
/// and it is no longer when fewer do.
const STILL_ORDERLY: usize = 5;

/// What is known of ports that came back loses half of its weight in this part of a round.
const HALF_LIFE: f64 = 0.5;

/// A share of ports coming back is known from so many draws on.
const ENOUGH: f64 = 30.0;

/// Below this share, that ports come back after a number of rounds is taken for chance.
pub(super) const RARE: f64 = 0.03;

/// A pool of ports, numbered along the circle from 0.
#[derive(Debug)]
pub(super) struct Rounds {
    pool: Ranges,
    size: u32,
    /// Where the end of the arc stood.
    ends: Positions,
    /// Which of the last arcs began where the one before ended.
    orderly: VecDeque<bool>,
    in_turn: bool,
    /// Ports that are too few for an arc yet, and since when.
    waiting: Vec<u32>,
    /// Mean distance between neighbours on the last arc.
    gap: f64,
    /// Of no port while the pool is not handed out in turn.
    used: LastUses,
    /// Where the way began that is known without a break.
    begun: f64,
    /// By rounds less one, decaying: draws of which it is known whether the port was used here so many rounds before, and those that were.
    drawn: [f64; FOLLOWED],
    returned: [f64; FOLLOWED],
}

/// A port that is reached too early.
#[derive(Clone, Copy, Debug)]
struct Early {
    /// Until it is.
    seconds: f64,
    port: u16,
    /// When it was used last, in seconds.
    used_at: f64,
}

/// What is known of a pool that is handed out in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Ports that the peer uses per second, towards all servers.
    pub rate: f64,
    /// Seconds until it has gone round once, at that rate.
    pub round_seconds: f64,
    /// The share of the ports used here that are used here again after 1, 2, 3 … rounds and not before, for as many rounds as that is known
    /// of; `None` while it is known of none.
    pub returning: Option<Vec<f64>>,
    /// Seconds until a port is used here again whose TIME_WAIT has not ended; infinite if that is not foreseen.
    pub refusal_seconds: f64,
    /// Whether these seconds are not to be told: such a forecast did not come true, or connections leave no TIME_WAIT any more.
    pub is_withdrawn: bool,
    /// The share of the SYNs here that will meet a TIME_WAIT at this rate.
    pub refused_share: f64,
    /// Whether the host is at its limit of TIME_WAITs (net.ipv4.tcp_max_tw_buckets): ports of connections beyond it meet none.
    pub is_at_limit: bool,
    /// The ports that will meet one next, the first and the last in the order in which they are handed out; those between them whose
    /// connections were beyond the limit do not.
    pub next_met: Option<(u16, u16)>,
}

impl Turn {
    /// The share of the SYNs here that will meet a TIME_WAIT; `None` while it is not known which ports come back, and once the forecast is
    /// withdrawn.
    #[must_use]
    pub fn expected_refused_ratio(&self) -> Option<f64> {
        (self.returning.is_some() && !self.is_withdrawn).then_some(self.refused_share)
    }
}

impl Rounds {
    /// Nothing is known yet of how this pool is handed out.
    pub fn new(pool: &Ranges) -> Self {
        Self {
            pool: pool.clone(),
            size: pool.len(),
            ends: Positions::default(),
            orderly: VecDeque::new(),
            in_turn: false,
            waiting: Vec::new(),
            gap: 0.0,
            used: LastUses::default(),
            begun: 0.0,
            drawn: [0.0; FOLLOWED],
            returned: [0.0; FOLLOWED],
        }
    }

    /// The pool is this one, which may be a few ports more or fewer than before; if it is another, nothing is known of it.
    pub fn follow(&mut self, pool: &Ranges) {
        if self.pool == *pool {
            return;
        }
        let size = pool.len();
        let moved = f64::from(size.abs_diff(self.size)) + f64::from(self.pool.first().abs_diff(pool.first()));
        let renumbered = |number| self.pool.port(number).and_then(|port| pool.number(port));
        let stands = self.ends.last().map(|(_, place)| place);
        let last = stands.and_then(|place| renumbered(self.number(place)));
        let (Some(stands), Some(last), true) = (stands, last, moved <= SAME * f64::from(self.size)) else {
            *self = Self::new(pool);
            return;
        };
        let used = if self.in_turn { self.used.renumbered(size, renumbered) } else { LastUses::default() };
        // Where it stands is the port that it was, in the new numbers, and in the same round.
        let shift = self.round(stands) as f64 * f64::from(size) + f64::from(last) - stands;
        self.ends.shift(shift);
        self.begun += shift;
        (self.pool, self.size, self.used) = (pool.clone(), size, used);
        // They have numbers of the pool as it was.
        self.waiting.clear();
    }

    /// The number of the port that lies at a place of the way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below the size")]
    fn number(&self, place: f64) -> u32 {
        place.rem_euclid(f64::from(self.size)) as u32
    }

    /// The round in which that place lies.
    #[expect(clippy::cast_possible_truncation, reason = "after millennia")]
    fn round(&self, place: f64) -> i64 {
        place.div_euclid(f64::from(self.size)) as i64
    }

    /// Takes the ports that were used here in the last second or so.
    pub fn observe(&mut self, now: Duration, ports: impl IntoIterator<Item = u16>) {
        let now = now.as_secs_f64();
        let size = f64::from(self.size);
        let stands = self.ends.last().map(|(_, place)| place);
        for port in ports {
            let Some(port) = self.pool.number(port) else { continue };
            // A port that the peer has not gone round to again is a repeated SYN.
            let is_again = stands.is_some_and(|stands| {
                let round = self.round(stands);
                let travelled = |ago: i64| stands - (round - ago) as f64 * size - f64::from(port);
                self.used.ago(port, round).is_some_and(|ago| travelled(ago) < size / 2.0)
            });
            if !is_again {
                self.waiting.push(port);
            }
        }
        if self.waiting.len() < FEWEST {
            return;
        }
        let mut ports = std::mem::take(&mut self.waiting);
        ports.sort_unstable();
        ports.dedup();
        if ports.len() < FEWEST {
            self.waiting = ports;
            return;
        }
        let count = ports.len();
        let arc = Arc::of(ports, self.size);
        self.gap = arc.length / (arc.ports.len() - 1).max(1) as f64;
        let is_short = arc.length <= size * LONGEST_ARC && arc.ports.len() as f64 >= MOST * count as f64;
        let (first, last) = (arc.ports[0], arc.ports[arc.ports.len() - 1]);
        let before = stands.unwrap_or(f64::from(last));
        let ahead = |port: u32| (f64::from(port) - before).rem_euclid(size);
        // What came a little late lies behind the end.
        let is_behind = |port: u32| ahead(port) > size * (1.0 - LONGEST_ARC);
        let advance = if is_behind(last) { 0.0 } else { ahead(last) };
        let begins_there = is_behind(first) || ahead(first) <= size * LONGEST_ARC;
        let is_orderly = is_short && begins_there;
        self.judge(is_orderly);
        if !is_short {
            return;
        }
        let place = before + advance;
        if !is_orderly || stands.is_none() {
            // It jumped: nobody knows how far it went, nor where the ports that were used here lie on its way.
            self.ends.clear();
            self.begin(place);
        }
        self.ends.push(now, place);
        self.book(place, &arc.ports);
    }

    /// What was known of ports that come back is void; the way that is known begins here.
    fn begin(&mut self, place: f64) {
        self.begun = place;
        (self.drawn, self.returned) = Default::default();
        self.used = if self.in_turn { LastUses::new(self.size) } else { LastUses::default() };
    }

    fn judge(&mut self, is_orderly: bool) {
        self.orderly.push_back(is_orderly);
        if self.orderly.len() > JUDGED {
            self.orderly.pop_front();
        }
        let count = self.orderly.iter().filter(|&&orderly| orderly).count();
        let was_in_turn = self.in_turn;
        self.in_turn = count >= if was_in_turn { STILL_ORDERLY } else { ORDERLY };
        if self.in_turn != was_in_turn {
            self.begin(self.ends.last().map_or(0.0, |(_, place)| place));
        }
    }

    /// Notes after how many rounds these ports came back, and that they were used now, when the end stands here.
    fn book(&mut self, stands: f64, ports: &[u32]) {
        let size = f64::from(self.size);
        let (end, round) = (self.number(stands), self.round(stands));
        self.used.enter(round);
        let decay = match self.speed() {
            Some(_) => 0.5_f64.powf(1.0 / (HALF_LIFE * self.drawn_per_round().max(1.0))),
            None => 1.0,
        };
        for &port in ports {
            let round = if port > end { round - 1 } else { round };
            let place = round as f64 * size + f64::from(port);
            let known = ((place - self.begun) / size).floor();
            let ago = self.used.ago(port, round);
            for (rounds, (drawn, returned)) in (1_i32..).zip(self.drawn.iter_mut().zip(&mut self.returned)) {
                *drawn *= decay;
                *returned *= decay;
                if known >= f64::from(rounds) {
                    *drawn += 1.0;
                    *returned += f64::from(u8::from(ago == Some(i64::from(rounds))));
                }
            }
            self.used.set(port, round);
        }
    }

    /// How many ports are used here per round, about.
    fn drawn_per_round(&self) -> f64 {
        if self.gap > 0.0 { f64::from(self.size) / self.gap } else { f64::from(self.size) }
    }

    /// Ports per second that the end moves on.
    fn speed(&self) -> Option<f64> {
        self.ends.speed(self.gap.max(1.0))
    }

    /// Whether the pool is handed out in turn.
    pub fn is_in_turn(&self) -> bool {
        self.in_turn
    }

    /// What is known, if the pool is handed out in turn. A port cannot be used here again for `hold` seconds if its TIME_WAIT was kept. `here` is
    /// how many of the peer's SYNs come here per second.
    pub fn turn(&self, now: Duration, hold: f64, kept: &Kept, here: f64) -> Option<Turn> {
        let rate = self.speed().filter(|_| self.in_turn)?;
        let round_seconds = f64::from(self.size) / rate;
        let known = self.returned.iter().zip(self.drawn).take_while(|&(_, drawn)| drawn >= ENOUGH);
        let shares: Vec<f64> = known.map(|(returned, drawn)| returned / drawn).collect();
        let refused_share = (1_u32..)
            .zip(&shares)
            .filter(|&(rounds, &share)| share >= RARE && f64::from(rounds) * round_seconds < hold)
            .fold(0.0, |sum: f64, (_, share)| sum + share)
            // Each number of rounds has its share of other draws: together they may be a little more than all.
            .min(1.0);
        let mut early = self.early_uses(now.as_secs_f64(), rate, hold, &shares);
        let is_met = |early: &Early| kept.is_met(early.used_at, here);
        let first = early.find(is_met);
        let is_at_limit = kept.is_limited();
        let next_met = first.filter(|_| is_at_limit).map(|first| {
            let within_round = |early: &Early| early.seconds < round_seconds;
            let last = early.take_while(|early| is_met(early) && within_round(early)).last();
            (first.port, last.unwrap_or(first).port)
        });
        let returning = Some(shares.clone()).filter(|shares| !shares.is_empty());
        Some(Turn {
            rate,
            round_seconds,
            returning,
            refusal_seconds: first.map_or(f64::INFINITY, |first| first.seconds),
            is_withdrawn: false,
            refused_share,
            is_at_limit,
            next_met,
        })
    }

    /// The ports that the end reaches within `hold` seconds after their last use, at this speed, in order.
    fn early_uses(&self, now: f64, rate: f64, hold: f64, shares: &[f64]) -> impl Iterator<Item = Early> {
        let size = f64::from(self.size);
        let comes_back = move |rounds: i64| {
            let share = usize::try_from(rounds - 1).ok().and_then(|place| shares.get(place));
            share.is_some_and(|&share| share >= RARE)
        };
        // Mostly nothing is gone round so fast, and no port need be looked at.
        let fastest = self.ends.fastest().max(rate);
        let is_fast =
            (1..).take(FOLLOWED).any(|rounds| comes_back(rounds) && rounds as f64 * size / fastest < hold);
        let end = self.ends.last().filter(|_| is_fast);
        end.into_iter().flat_map(move |(at, stands)| {
            let stands = stands + (now - at).max(0.0) * rate;
            let farthest = (hold * rate).min(FOLLOWED as f64 * size);
            let aheads = iter::successors(Some(1.0), |ahead| Some(ahead + 1.0));
            aheads.take_while(move |&ahead| ahead <= farthest).filter_map(move |ahead| {
                let (place, seconds) = (stands + ahead, ahead / rate);
                let (number, round) = (self.number(place), self.round(place));
                let ago = self.used.ago(number, round).filter(|&ago| comes_back(ago))?;
                let used_at = self.ends.passed((round - ago) as f64 * size + f64::from(number))?;
                let port = self.pool.port(number).filter(|_| now + seconds < used_at + hold)?;
                Some(Early { seconds, port, used_at })
            })
        })
    }
}

#[cfg(test)]
mod tests;
