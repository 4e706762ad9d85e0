//! Requests that never became connections.

use super::{Case, Evidence, Hypothesis, Verdict};
use crate::{
    model::{grouped, past::Field},
    report::words::percent,
};

/// Connections end after a handful of bytes.
pub(super) fn aborted(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "aborted_early",
        "Clients and this host do not agree after the handshake, so that connections end after a few bytes (TLS, protocol)",
    );
    case.advice = &[
        "Compare what the service asks for (TLS versions, ciphers, certificates, protocols) with what those clients can do; look into its log for \
         failed handshakes, and at what was updated last.",
    ];
    if !evidence.tells("aborted_early") {
        return case.close(Verdict::Unknown);
    }
    let (mut is_so, mut all_aborted, mut all) = (false, 0, 0);
    for account in evidence.inbound() {
        let aborted = account.sum(Field::AbortedEarly);
        let ended = account.closed();
        all_aborted += aborted;
        all += ended;
        let share = aborted as f64 / ended.max(1) as f64;
        // Over a long span the share of a bad quarter of an hour is small: what was an alert then is none the less so.
        let was_alert = aborted > 0 && evidence.was_raised("AbortedEarly", &account.id);
        if was_alert || (aborted >= 10 && share >= 0.2) {
            is_so = true;
            case.weigh(
                true,
                format!(
                    "{} of {} connections of {} to port {} were closed early, with almost no response sent ({})",
                    grouped(aborted),
                    grouped(ended),
                    account.id.peer,
                    account.id.port_name(),
                    percent(share)
                ),
            );
        }
    }
    if !is_so {
        case.weigh(
            false,
            format!("{} of {} connections to us ended early", grouped(all_aborted), grouped(all)),
        );
    }
    case.decide(is_so)
}
