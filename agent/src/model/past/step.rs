//! When the traffic of a peer changes clearly.

use std::collections::VecDeque;

/// The rate now is taken over so many seconds,
const NOW: usize = 5;

/// and compared with that of so many before.
const BEFORE: usize = 30;

/// A change is a step from this many connections per second on,
const ENOUGH: f64 = 10.0;

/// if it is so large a part of the rate before,
const PART: f64 = 0.5;

/// and so many standard deviations of what the number of events alone lets expect.
const SIGMAS: f64 = 6.0;

/// The connections per second of one peer, of late.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    seconds: VecDeque<u32>,
}

impl Steps {
    /// Takes the connections of another second. Returns the rates before and after a step, and begins anew then.
    pub fn add(&mut self, connections: u32) -> Option<(f64, f64)> {
        self.seconds.push_back(connections);
        if self.seconds.len() < NOW + BEFORE {
            return None;
        }
        let sum = |range: std::ops::Range<usize>| f64::from(self.seconds.range(range).sum::<u32>());
        let (before, now) = (sum(0..BEFORE) / BEFORE as f64, sum(BEFORE..BEFORE + NOW) / NOW as f64);
        let error = (before / BEFORE as f64 + now / NOW as f64).sqrt();
        let change = (now - before).abs();
        if change >= ENOUGH && change >= before * PART && change > SIGMAS * error {
            self.seconds.clear();
            return Some((before, now));
        }
        self.seconds.pop_front();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seconds: impl IntoIterator<Item = u32>) -> Vec<(usize, f64, f64)> {
        let mut steps = Steps::default();
        let each = seconds.into_iter().enumerate();
        each.filter_map(|(at, connections)| {
            let (before, after) = steps.add(connections)?;
            Some((at, before, after))
        })
        .collect()
    }

    #[test]
    fn a_step_is_told_once_with_both_rates() {
        let told = steps(std::iter::repeat_n(100, 60).chain(std::iter::repeat_n(400, 60)));
        let [(at, before, after)] = told[..] else { panic!("one step, not {told:?}") };
        assert!((60..66).contains(&at), "it is told within seconds, not at {at}");
        assert!((99.0..=101.0).contains(&before) && after > 150.0, "{before} to {after}");
    }

    #[test]
    fn what_wavers_is_no_step() {
        assert_eq!(steps((0..600).map(|second| 100 + second % 7 * 5)), []);
        assert_eq!(steps((0..600).map(|second| if second % 5 == 0 { 40 } else { 0 })), []);
        assert_eq!(steps((0..600).map(|second| u32::from(second > 300) * 9)), [], "too few to matter");
    }

    #[test]
    fn who_comes_from_nothing_and_goes_makes_two() {
        let quiet = || std::iter::repeat_n(0, 60);
        let told = steps(quiet().chain(std::iter::repeat_n(50, 60)).chain(quiet()));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].1 == 0.0 && told[1].1 > told[1].2);
    }
}
