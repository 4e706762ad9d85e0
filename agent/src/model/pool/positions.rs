//! Where somebody who goes round in a circle of ports stood in the last minute, and how fast they go.

use std::collections::VecDeque;

/// Positions are remembered for so long, in seconds: a TIME_WAIT's life, and a little more.
const REMEMBERED: f64 = 64.0;

/// A speed is no chance over so many seconds.
const SPELL: f64 = 3.0;

/// Windows over which the speed is taken, in seconds: the longest that agrees with the shorter ones.
const WINDOWS: [f64; 9] = [2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 22.0, 35.0, 60.0];

/// A position lies so many gaps from where the peer stands, as a standard deviation; both ends of a way together.
const UNSURE: f64 = 2.0;

/// Speeds of two windows differ when they are so many standard deviations of the shorter one apart.
const SIGMAS: f64 = 3.0;

/// A position strays by so many gaps from an even pace. A window in which it strays further more than once begins before a step of the load:
/// that shows here before the speeds differ.
const STRAYS: f64 = 3.0;

#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    /// When, in seconds on the caller's clock, and where: in ports travelled since the beginning. Ascending in both.
    last: VecDeque<(f64, f64)>,
    /// The last place that is not remembered any more.
    forgotten: Option<f64>,
}

impl Positions {
    /// It stands there now.
    pub fn push(&mut self, now: f64, place: f64) {
        self.last.push_back((now, place));
        while let Some((_, place)) = self.last.pop_front_if(|&mut (at, _)| now - at > REMEMBERED) {
            self.forgotten = Some(place);
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// When and where it stood last.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.last.back().copied()
    }

    /// When it came to a place, or beyond it; `None` if that is not remembered.
    pub fn passed(&self, place: f64) -> Option<f64> {
        let after = self.last.partition_point(|&(_, stood)| stood < place);
        let &(at, _) = self.last.get(after)?;
        self.forgotten.is_none_or(|forgotten| forgotten < place).then_some(at)
    }

    /// All places get another number.
    pub fn shift(&mut self, by: f64) {
        self.last
            .iter_mut()
            .map(|(_, place)| place)
            .chain(&mut self.forgotten)
            .for_each(|place| *place += by);
    }

    /// Ports per second, where each position lies about so many ports from where the peer stood then.
    pub fn speed(&self, gap: f64) -> Option<f64> {
        let (now, stands) = self.last()?;
        let mut speeds: Vec<(f64, f64)> = Vec::with_capacity(WINDOWS.len());
        for window in WINDOWS {
            let from = self.last.partition_point(|&(at, _)| at < now - window - 0.5);
            let (began, place) = self.last[from];
            let seconds = now - began;
            if seconds < 1.0 {
                continue;
            }
            let speed = (stands - place) / seconds;
            let strays = |&&(at, is): &&(f64, f64)| (is - place - speed * (at - began)).abs() > STRAYS * gap;
            if !speeds.is_empty() && self.last.range(from..).filter(strays).count() > 1 {
                break;
            }
            speeds.push((speed, UNSURE * gap / seconds));
        }
        let differ =
            |shorter: (f64, f64), longer: (f64, f64)| (shorter.0 - longer.0).abs() > SIGMAS * shorter.1;
        // A position that lay unusually far back misleads the window that begins with it, and no other.
        if let [first, second, third, fourth, ..] = speeds[..]
            && differ(first, second)
            && !differ(second, third)
            && !differ(second, fourth)
        {
            speeds.remove(0);
        }
        let agrees = |place: usize| speeds[..place].iter().all(|&shorter| !differ(shorter, speeds[place]));
        let longest = (0..speeds.len()).take_while(|&place| agrees(place)).last()?;
        let (speed, _) = speeds[longest];
        (speed > 0.0).then_some(speed)
    }

    /// The most ports per second, over a few seconds each.
    pub fn fastest(&self) -> f64 {
        let mut fastest = 0.0_f64;
        let mut from = 0;
        for (place, &(at, stands)) in self.last.iter().enumerate() {
            let (began, stood) = self.last[from];
            if at - began >= SPELL {
                fastest = fastest.max((stands - stood) / (at - began));
                from = place;
            }
        }
        fastest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_place_was_passed_is_known_for_a_minute() {
        let mut positions = Positions::default();
        (0..=100_u32).for_each(|second| positions.push(second.into(), f64::from(10 * second)));
        assert_eq!(positions.passed(995.0), Some(100.0));
        assert_eq!(positions.passed(360.0), Some(36.0), "64 s ago");
        assert_eq!((positions.passed(350.0), positions.passed(1_001.0)), (None, None));
        positions.shift(-500.0);
        assert_eq!(positions.passed(495.0), Some(100.0));
    }
}
