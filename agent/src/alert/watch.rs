//! How long something has been bad, or good again.

use std::time::Duration;

use super::readings::Reading;
use crate::{
    alert::Figure,
    config::{AlertSettings, Measure, Severity, Thresholds},
};

/// One threshold of one subject: inactive, pending, raised, about to be over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    raised: bool,
    /// Since when the value has been the other way than `raised`.
    turned_at: Option<Duration>,
}

impl Level {
    /// One that was raised before we began.
    pub fn raised() -> Self {
        Self { raised: true, turned_at: None }
    }

    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Neither raised nor about to be.
    pub fn is_quiet(&self) -> bool {
        !self.raised && self.turned_at.is_none()
    }

    /// Takes whether the value is bad now.
    pub fn update(&mut self, now: Duration, bad: bool, settings: &AlertSettings) {
        if bad == self.raised {
            self.turned_at = None;
            return;
        }
        let since = *self.turned_at.get_or_insert(now);
        let patience = if bad { settings.hold } else { settings.keep_firing_for };
        if now.saturating_sub(since) >= patience {
            *self = Self { raised: bad, turned_at: None };
        }
    }
}

/// How a reading stands to the thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub warns: bool,
    pub is_critical: bool,
    /// The number that is worst, and its limit; `None` where a fact is wrong, or nothing is.
    pub figure: Option<Figure>,
}

/// Holds a reading against the thresholds. What is raised already stays so until it is clear.
pub(super) fn judge(reading: &Reading<'_>, settings: &AlertSettings, raised: bool) -> Verdict {
    let mut verdict = Verdict { warns: reading.is_wrong, is_critical: false, figure: None };
    for &(measure, value) in &reading.values {
        let Some(thresholds) = settings.thresholds(measure) else { continue };
        let Thresholds { warn, crit, clear } = thresholds;
        let reaches = |limit: f64| if measure.is_bad_when_low() { value <= limit } else { value >= limit };
        let figure = |limit| Some(Figure { measure: measure.key(), value, limit });
        if reaches(crit) && !reading.is_harmless && !verdict.is_critical {
            verdict = Verdict { warns: true, is_critical: true, figure: figure(crit) };
        } else if reaches(warn) && verdict.figure.is_none() {
            verdict = Verdict { warns: true, figure: figure(warn), ..verdict };
        } else if raised && is_worse(measure, value, clear) && verdict.figure.is_none() {
            verdict = Verdict { warns: true, figure: figure(clear), ..verdict };
        }
    }
    verdict
}

fn is_worse(measure: Measure, value: f64, clear: f64) -> bool {
    if measure.is_bad_when_low() { value < clear } else { value > clear }
}

/// The two levels of one alert about one subject.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Levels {
    pub warning: Level,
    pub critical: Level,
}

impl Levels {
    pub fn raised(severity: Severity) -> Self {
        let critical = if severity == Severity::Critical { Level::raised() } else { Level::default() };
        Self { warning: Level::raised(), critical }
    }

    pub fn update(&mut self, now: Duration, verdict: Verdict, settings: &AlertSettings) {
        self.warning.update(now, verdict.warns, settings);
        self.critical.update(now, verdict.is_critical, settings);
    }

    pub fn severity(&self) -> Option<Severity> {
        match (self.critical.is_raised(), self.warning.is_raised()) {
            (true, _) => Some(Severity::Critical),
            (false, true) => Some(Severity::Warning),
            (false, false) => None,
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.warning.is_quiet() && self.critical.is_quiet()
    }
}
