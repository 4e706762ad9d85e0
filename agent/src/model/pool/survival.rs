//! Which TIME_WAITs come to their end, where SYNs take the place of others: those of ports that do not come again within a minute.
//!
//! How long it takes for a port to come again depends on how the peer chooses its ports: a Linux host goes round by a few of its free ports each
//! time (net/ipv4/inet_hashtables.c, __inet_hash_connect()), neither in turn nor quite by chance. So it is counted.

use std::{collections::VecDeque, time::Duration};

use super::traffic::{KEPT, TIME_WAIT_SECONDS};

/// Looks are numbered 1 to 255, round and round.
const NUMBERS: u8 = u8::MAX;

/// So many looks are kept: more than there are, one a second, in the time that is kept.
const LOOKS: usize = 160;

/// Each time so many looks have passed, ports are forgotten that came last before those that are kept.
const SWEEP: u8 = 64;

/// SYNs that came between two looks.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    came: f64,
    /// Those of them that have not come again within a minute. Of those that came again in the second in which it ended, half.
    stayed: f64,
}

/// When each port came last.
#[derive(Debug)]
pub(super) struct Survival {
    /// By port, the number of the look at which it came last; 0 if that was before those that are kept.
    last: Box<[u8]>,
    /// The newest last.
    looks: VecDeque<Look>,
    /// The number of the newest one.
    number: u8,
}

impl Survival {
    pub fn new() -> Self {
        Self { last: vec![0; 1 << 16].into_boxed_slice(), looks: VecDeque::new(), number: 0 }
    }

    /// Takes the ports that came since the last call, and how many SYNs those are: a port that came twice stayed once.
    pub fn observe(&mut self, now: Duration, ports: impl IntoIterator<Item = u16>, syns: u64) {
        self.number = self.number % NUMBERS + 1;
        let (mut different, number) = (0_u32, self.number);
        for port in ports {
            different += 1;
            let Some(last) = self.last.get_mut(usize::from(port)) else { continue };
            let looks_ago = usize::from(age(*last, number));
            let place = self.looks.len().checked_sub(looks_ago).filter(|_| *last != 0);
            if let Some(look) = place.and_then(|place| self.looks.get_mut(place)) {
                let seconds = now.saturating_sub(look.at).as_secs_f64();
                look.stayed -= (TIME_WAIT_SECONDS as f64 + 0.5 - seconds).clamp(0.0, 1.0);
            }
            *last = number;
        }
        let stayed = f64::from(different);
        self.looks.push_back(Look { at: now, came: (syns as f64).max(stayed), stayed });
        while self.looks.len() > LOOKS
            || self.looks.front().is_some_and(|look| now.saturating_sub(look.at) > KEPT)
        {
            self.looks.pop_front();
        }
        if number.is_multiple_of(SWEEP) {
            let is_old = |last: u8| usize::from(age(last, number)) >= LOOKS;
            self.last.iter_mut().filter(|last| is_old(**last)).for_each(|last| *last = 0);
        }
    }

    /// The share of the SYNs that came at this time, in seconds, whose port did not come again within a minute, or did not so far; `None`
    /// where nothing is known of that time.
    pub fn share(&self, at: f64) -> Option<f64> {
        let place = self.looks.partition_point(|look| look.at.as_secs_f64() < at);
        // What came before the first look is not known to have come between two.
        let look = self.looks.get(place).filter(|_| place > 0)?;
        Some(if look.came > 0.0 { look.stayed / look.came } else { 1.0 })
    }
}

/// How many looks before look `now` look `number` was.
fn age(number: u8, now: u8) -> u8 {
    if number <= now { now - number } else { NUMBERS - number + now }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each second one port comes, `step` after the last one of so many.
    fn after(seconds: u64, ports: u16, step: u16) -> Survival {
        let mut survival = Survival::new();
        let mut port = 0;
        for second in 0..seconds {
            survival.observe(Duration::from_secs(second), [port], 1);
            port = (port + step) % ports;
        }
        survival
    }

    #[test]
    fn a_port_that_comes_again_within_a_minute_did_not_stay() {
        for seconds in [130, 1_000] {
            let soon = after(seconds, 59, 1);
            let last = seconds as f64 - 1.0;
            let shares =
                |survival: &Survival| [0.0, 58.0, 59.0, 70.0, 120.0].map(|ago| survival.share(last - ago));
            let (stayed, gone) = (Some(1.0), Some(0.0));
            assert_eq!(shares(&soon), [stayed, stayed, gone, gone, gone]);
            assert_eq!(shares(&after(seconds, 61, 1)), [stayed; 5], "a minute was over");
            assert_eq!(
                shares(&after(seconds, 300, 1)),
                [stayed; 5],
                "as far as the numbers go, the 255th is the first"
            );
        }
    }

    #[test]
    fn what_is_not_known_has_no_share() {
        let survival = after(20, 10, 1);
        assert_eq!(
            (survival.share(0.5), survival.share(0.0), survival.share(-11.0)),
            (Some(0.0), None, None)
        );
    }
}
