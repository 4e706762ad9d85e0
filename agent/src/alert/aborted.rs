//! Connections that were aborted early, above the share that is usual for their peer.
//!
//! Health checks and small services look just like a peer that is cut off, so the share alone says nothing. What was not so before is wrong.
//! Of a peer that was not seen before it is not known: it is told where others on the port are answered in full, but only as a warning.

use super::{readings::Reading, text::Sentence};
use crate::{
    config::Measure,
    model::{
        AccountId, Events,
        habits::{Endings, Habits},
    },
};

/// A share means nothing unless it stands for so many connections.
const ENOUGH: f64 = 10.0;

/// Each way to look at the last minute of an account; the worst counts.
pub(super) fn readings<'a>(account: &'a AccountId, events: &Events, habits: &Habits) -> Vec<Reading<'a>> {
    let Events { aborted, connections, .. } = *events;
    if (aborted as f64) < ENOUGH {
        return Vec::new();
    }
    // Those that began before the minute may be the more.
    let all = connections.max(aborted);
    let above = |usual: f64, is_known: bool| {
        let excess = aborted as f64 - usual * all as f64;
        let ratio = if excess < ENOUGH { 0.0 } else { excess / all as f64 };
        let sentence = Sentence::Aborted { account, aborted, all, usual: is_known.then_some(usual) };
        Reading { is_harmless: !is_known, ..Reading::of(vec![(Measure::AbortedRatio, ratio)], sentence) }
    };
    let endings = habits.endings(account);
    let known = endings.and_then(Endings::usual).map(|usual| above(usual, true));
    let is_new = !endings.is_some_and(Endings::is_settled) && habits.is_answering(account.port);
    known.into_iter().chain(is_new.then(|| above(0.0, false))).collect()
}
