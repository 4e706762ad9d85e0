//! Machines that go round in blocks of their own, each followed for itself: when the first of them meets its own TIME_WAITs.
//!
//! In each aligned window of 64 to 2,048 ports the next port is a little higher than the last, or the lowest after the highest, if one machine
//! goes round there. Two machines in one window do not step so, and one whose block is larger rests at the end of the window while it is in the
//! rest of its block. So the bounds of a block are known once it was gone round.
//!
//! Clients whose own ports a NAT keeps pass through such windows, and when one enters as another leaves, it looks as if one had come round. A
//! Linux client takes every other port (net/ipv4/inet_hashtables.c, `__inet_hash_connect`), so a block is one of which nearly all ports are used.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Blocks, KEPT, LARGEST, LONGEST_STEPS, SMALLEST, Second, TIME_WAIT_SECONDS, UNSURE_SECONDS, Window, second,
};
use crate::model::pool::{Range, kept::Kept, positions::Positions};

/// A NAT passes over so many ports that are taken.
const FARTHEST: u32 = 4;

/// Of the ports gone through, this part must have been used.
const USED: f64 = 0.75;

/// Of so many SYNs in a second, more than are kept, not a minute is known.
const MOST: usize = KEPT / TIME_WAIT_SECONDS;

/// The mean of the seconds per port follows the last so many ports.
const MEAN_OVER: f64 = 8.0;

/// Where a machine stands in a window.
#[derive(Clone, Debug)]
struct Pointer {
    last: u16,
    at: u32,
    /// Ports gone through without a break, when how many.
    travelled: u32,
    /// Of these, the ones that were used.
    used: u32,
    seconds_per_port: f64,
    has_come_round: bool,
    /// Where it stood, once it has.
    positions: Positions,
}

impl Pointer {
    fn new(last: u16, at: u32) -> Self {
        Self {
            last,
            at,
            travelled: 0,
            used: 0,
            seconds_per_port: 0.0,
            has_come_round: false,
            positions: Positions::default(),
        }
    }

    /// How far a port lies ahead.
    fn ahead(&self, port: u16, size: u32) -> u32 {
        (u32::from(port) + size - u32::from(self.last)) % size
    }

    fn step(&mut self, port: u16, at: u32, size: u32) {
        let step = self.ahead(port, size);
        // A little behind it is a SYN that came late.
        if step == 0 || step >= size - FARTHEST {
            return;
        }
        let seconds = f64::from(at.saturating_sub(self.at));
        let comes_round = port < self.last;
        if step > FARTHEST || (comes_round && self.rests(at)) {
            *self = Self::new(port, at);
            return;
        }
        let weight = if self.travelled == 0 { 1.0 } else { 1.0 / MEAN_OVER };
        self.seconds_per_port += weight * (seconds / f64::from(step) - self.seconds_per_port);
        self.has_come_round |= comes_round;
        self.travelled = self.travelled.saturating_add(step);
        self.used = self.used.saturating_add(1);
        (self.last, self.at) = (port, at);
    }

    /// Whether it takes longer for the next port than it usually does.
    fn rests(&self, now: u32) -> bool {
        let seconds = f64::from(now.saturating_sub(self.at));
        seconds > f64::from(UNSURE_SECONDS) + LONGEST_STEPS * self.seconds_per_port
    }

    fn is_known(&self, size: u32) -> bool {
        let travelled = self.travelled;
        self.has_come_round && travelled >= size && f64::from(self.used) >= USED * f64::from(travelled)
    }
}

/// Where they stand.
#[derive(Debug, Default)]
pub(super) struct Pointers(BTreeMap<Window, Pointer>);

/// A block whose machine goes round so fast that its SYNs will meet its own TIME_WAITs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circling {
    /// The block.
    pub block: Range,
    /// Ports that the machine uses per second.
    pub rate: f64,
    /// Seconds until it has gone round, at that rate.
    pub round_seconds: f64,
    /// Seconds until a port is used again whose TIME_WAIT has not ended.
    pub refusal_seconds: f64,
}

impl Pointers {
    /// Takes the ports of the SYNs of a second, ascending.
    pub fn observe(&mut self, at: u32, ports: &[u16]) {
        if ports.len() > MOST {
            self.0.clear();
            return;
        }
        let sizes =
            std::iter::successors(Some(SMALLEST), |size| Some(2 * size)).take_while(|&size| size <= LARGEST);
        for size in sizes {
            for ports in ports.chunk_by(|&a, &b| Window::around(a, size).contains(b)) {
                let first = ports[0];
                let window = Window::around(first, size);
                let pointer = self.0.entry(window).or_insert_with(|| Pointer::new(first, at));
                let mut ports = ports.to_vec();
                ports.sort_unstable_by_key(|&port| pointer.ahead(port, size));
                for port in ports {
                    pointer.step(port, at, size);
                }
                if pointer.is_known(size) {
                    pointer.positions.push(at.into(), pointer.travelled.into());
                }
            }
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Blocks {
    /// The block from which the first SYN will meet a TIME_WAIT, at the rates of now.
    pub fn soonest(&self, now: Duration, kept: &Kept) -> Option<Circling> {
        let now = second(now);
        let known = self.pointers.0.iter();
        let known = known.filter(|(window, pointer)| pointer.is_known(window.size) && !pointer.rests(now));
        let circling = known.filter_map(|(&window, pointer)| self.circling(now, window, pointer, kept));
        circling.min_by(|a, b| a.refusal_seconds.total_cmp(&b.refusal_seconds))
    }

    fn circling(&self, now: u32, window: Window, pointer: &Pointer, kept: &Kept) -> Option<Circling> {
        let rate = pointer.positions.speed(1.0)?;
        let (hold, round_seconds) = (TIME_WAIT_SECONDS as f64, f64::from(window.size) / rate);
        if round_seconds >= hold {
            return None;
        }
        let mut used = vec![None; window.size as usize];
        for Second { at, ports, .. } in &self.seconds {
            for &port in ports.iter().filter(|&&port| window.contains(port)) {
                used[(u32::from(port) - window.low) as usize] = Some(*at);
            }
        }
        let stood = f64::from(now.saturating_sub(pointer.at));
        let meets = |ahead: u32| {
            let seconds = (f64::from(ahead) / rate - stood).max(0.0);
            let place = (u32::from(pointer.last) - window.low + ahead) % window.size;
            let used_at = used[place as usize]?;
            let used_ago = f64::from(now - used_at.min(now));
            (used_ago + seconds < hold && kept.is_met(f64::from(used_at), rate)).then_some(seconds)
        };
        let refusal_seconds = (1..=window.size).find_map(meets)?;
        Some(Circling { block: window.range()?, rate, round_seconds, refusal_seconds })
    }
}
