//! A pool whose ports are drawn at random: when it runs out has no moment. More and more SYNs meet a TIME_WAIT instead, and the peer loses a
//! share of these.

use super::{
    forecast::Load,
    traffic::{TIME_WAIT_SECONDS, Traffic},
};

/// What becomes of SYNs that meet a TIME_WAIT is known from so many of them on, or from the first that is refused.
const ENOUGH_MEETINGS: f64 = 8.0;

/// How many SYNs meet one is measured over so many seconds, if so many are expected to.
const MEASURED_SECONDS: f64 = 20.0;
const ENOUGH_MEASURED: f64 = 30.0;

/// What is known of a pool that is drawn from at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// The share of the peer's SYNs that TIME_WAIT refused in the last minute.
    pub refused_ratio: f64,
    /// The share that it refuses in the long run at this rate; `None` while nothing is known of what becomes of SYNs that meet one.
    pub expected_refused_ratio: Option<f64>,
}

impl Chance {
    /// `ports` can come here. `lost` is the share that other peers' SYNs lose of their meetings, if that is known.
    pub(super) fn new(traffic: &Traffic, load: &Load, ports: f64, lost: Option<f64>) -> Self {
        let grown = |seconds, field| traffic.growth(seconds, 0.0, field);
        let minute = TIME_WAIT_SECONDS as f64;
        let refused = grown(minute, |totals| totals.refused);
        let opened = grown(minute, |totals| totals.opened);
        let history = traffic.age();
        let own =
            lost_share(grown(history, |totals| totals.accepted), grown(history, |totals| totals.refused));
        let held = held_back(traffic, load, ports);
        let expected_refused_ratio = own.or(lost).map(|lost| lost * met(load.rate / ports, lost, held));
        Self {
            refused_ratio: if refused > 0.0 { refused / (refused + opened) } else { 0.0 },
            expected_refused_ratio,
        }
    }
}

/// The share of SYNs that are refused of those that meet a TIME_WAIT, if it is known.
pub(super) fn lost_share(accepted: f64, refused: f64) -> Option<f64> {
    let meetings = accepted + refused;
    (refused >= 1.0 || meetings >= ENOUGH_MEETINGS).then(|| refused / meetings)
}

/// The share of the ports that are not drawn, though they are in TIME_WAIT here: a gateway leaves out those that it remembers itself. So much
/// as fewer SYNs meet a TIME_WAIT than ports were taken, in the middle of the time that is looked at.
fn held_back(traffic: &Traffic, load: &Load, ports: f64) -> f64 {
    let minute = TIME_WAIT_SECONDS as f64;
    let grown = |seconds, field| traffic.growth(seconds, 0.0, field);
    let half = MEASURED_SECONDS / 2.0;
    let ended = traffic.growth(minute + half, minute, |totals| totals.left);
    let begun = grown(half, |totals| totals.left) - grown(half, |totals| totals.accepted);
    let used = ((load.used() - begun + ended) / ports).clamp(0.0, 1.0);
    let syns = grown(MEASURED_SECONDS, |totals| totals.opened + totals.refused);
    if syns * used < ENOUGH_MEASURED {
        return 0.0;
    }
    let meeting = grown(MEASURED_SECONDS, |totals| totals.accepted + totals.refused) / syns;
    if meeting < used { (used - meeting) / (1.0 - meeting) } else { 0.0 }
}

/// The share of SYNs that meet a TIME_WAIT in the long run, where each port is drawn `rate` times a second, the share `held` of the ports is not
/// drawn, and a TIME_WAIT refuses the share `lost` of the SYNs that meet it; the others begin it anew.
///
/// A port that may be drawn is drawn `r = rate / (1 - held)` times a second, and what is left of its TIME_WAIT then are the seconds `T` that it
/// was not held back. It is taken for `T` seconds after the last SYN that it accepted; these come in a Poisson process of the rate
/// `a = r (1 - lost)`. So it is taken for `(e^aT - 1) / a` seconds on average, and then free for `1 / r`.
fn met(rate: f64, lost: f64, held: f64) -> f64 {
    if rate <= 0.0 || held >= 1.0 {
        return 0.0;
    }
    let seconds = (TIME_WAIT_SECONDS as f64 - held / rate).max(0.0);
    let rate = rate / (1.0 - held);
    let accepted = rate * (1.0 - lost);
    let taken = if accepted * seconds < 1e-6 { seconds } else { (accepted * seconds).exp_m1() / accepted };
    // Beyond any number, it is always taken.
    if taken.is_finite() { rate * taken / (1.0 + rate * taken) } else { 1.0 }
}

#[cfg(test)]
mod tests;
