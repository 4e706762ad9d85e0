//! Whether the forecasts of one pool come true.

use std::time::Duration;

use super::traffic::Totals;

/// So long after its second a forecast is given up that has not come true.
const PATIENCE: Duration = Duration::from_secs(3);

/// That no SYN meets a TIME_WAIT says nothing before so many SYNs came.
const ENOUGH_SYNS: u64 = 3;

/// One that was given up is believed again once so much more of the pool is taken than then.
const FULLER: f64 = 0.05;

/// A miss halves the confidence, a hit halves the doubt.
const HALF: f64 = 0.5;

/// The forecasts of one pool.
#[derive(Debug)]
pub(super) struct Trust {
    /// What is foretold, and has not passed yet.
    standing: Option<Foretold>,
    /// The share that was taken when a forecast was given up: until more is, no other one is made.
    given_up_at: Option<f64>,
    confidence: f64,
}

/// A SYN that is to meet a TIME_WAIT.
#[derive(Clone, Copy, Debug)]
struct Foretold {
    due: Duration,
    /// SYNs that had met one when it was foretold.
    met: u64,
    /// SYNs when it was due.
    syns: Option<u64>,
}

impl Trust {
    pub fn new() -> Self {
        Self { standing: None, given_up_at: None, confidence: 1.0 }
    }

    /// How surely forecasts of this pool come true, 0 to 1.
    pub fn confidence(&self) -> f64 {
        self.confidence
    }

    /// Whether a forecast stands: that a SYN meets a TIME_WAIT in so many seconds, while the share `used` is taken.
    pub fn stands(&mut self, now: Duration, seconds: f64, used: f64, totals: Totals) -> bool {
        let met = totals.accepted + totals.refused;
        if let Some(foretold) = &mut self.standing {
            if now >= foretold.due {
                foretold.syns.get_or_insert(totals.attempts);
            }
            let syns = foretold.syns.map_or(0, |then| totals.attempts.saturating_sub(then));
            if met > foretold.met {
                self.confidence = 1.0 - (1.0 - self.confidence) * HALF;
                (self.standing, self.given_up_at) = (None, None);
            } else if now > foretold.due + PATIENCE && syns >= ENOUGH_SYNS {
                self.confidence *= HALF;
                (self.standing, self.given_up_at) = (None, Some(used));
            }
        }
        let Ok(left) = Duration::try_from_secs_f64(seconds) else {
            // The load is another one now.
            (self.standing, self.given_up_at) = (None, None);
            return true;
        };
        if self.given_up_at.is_some_and(|then| used < then + FULLER) {
            return false;
        }
        self.given_up_at = None;
        let due = now + left;
        match &mut self.standing {
            Some(foretold) if foretold.due <= due => {}
            Some(foretold) => foretold.due = due,
            None => self.standing = Some(Foretold { due, met, syns: None }),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(attempts: u64, refused: u64) -> Totals {
        Totals { attempts, refused, ..Totals::default() }
    }

    #[test]
    fn a_forecast_that_recedes_is_given_up_three_seconds_after_the_first_one_was_due() {
        let mut trust = Trust::new();
        // Each second it says that the pool is full in 22 s.
        let stood = (0..60)
            .filter(|&second| trust.stands(Duration::from_secs(second), 22.0, 0.27, totals(150 * second, 0)));
        assert_eq!(stood.collect::<Vec<_>>(), (0..=25).collect::<Vec<_>>());
        assert!((trust.confidence() - 0.5).abs() < 1e-9);
        assert!(trust.stands(Duration::from_mins(1), 10.0, 0.33, totals(9_000, 0)), "more is taken now");
        assert!(trust.stands(Duration::from_secs(69), 1.0, 0.9, totals(9_100, 1)));
        assert!((trust.confidence() - 0.75).abs() < 1e-9, "and that one came true");
    }

    #[test]
    fn nothing_is_missed_while_no_syn_comes_nor_once_the_load_is_another() {
        let mut trust = Trust::new();
        assert!((0..60).all(|second| trust.stands(Duration::from_secs(second), 0.0, 1.0, totals(100, 0))));
        assert!(trust.stands(Duration::from_mins(1), f64::INFINITY, 0.5, totals(100, 0)));
        assert!(trust.stands(Duration::from_secs(61), 5.0, 0.5, totals(5_000, 0)));
        assert!((trust.confidence() - 1.0).abs() < 1e-9);
    }
}
