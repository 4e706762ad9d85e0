//! Limits of this host.

use super::{Case, Evidence, Hypothesis};
use crate::{
    model::{grouped, past::Field},
    report::words::{clock, percent},
};

/// An accept queue was full.
pub(super) fn queue_full(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case =
        Case::new("queue_full", "Our own program accepts connections too slowly: an accept queue was full");
    case.explained_by = &["dependency_hangs"];
    case.advice = &[
        "Find out why the program accepts so slowly; a longer queue (net.core.somaxconn, and the backlog that the program asks for) only helps \
         against short bursts.",
    ];
    let overflows = evidence.host_sum(Field::ListenOverflows);
    let (most, at) = evidence.host_most(Field::QueuePercent);
    let is_so = overflows > 0;
    case.weigh(
        is_so,
        format!("an accept queue was full {} times when a connection arrived", grouped(overflows)),
    );
    if most > 0 {
        case.weigh(is_so, format!("the fullest queue held {most} % of what it may, at {}", clock(at)));
    }
    case.decide(is_so)
}

/// The host's limit of TIME_WAITs was reached.
pub(super) fn buckets_full(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case =
        Case::new("bucket_limit", "The host reached its limit of TIME_WAITs (net.ipv4.tcp_max_tw_buckets)");
    case.advice = &[
        "Raise net.ipv4.tcp_max_tw_buckets: a TIME_WAIT takes little memory, and without one late packets can disturb new connections.",
    ];
    let refused = evidence.host_sum(Field::BucketOverflows);
    let (most, at) = evidence.host_most(Field::Buckets);
    let limit = evidence.settings.get("net.ipv4.tcp_max_tw_buckets").copied();
    let share = limit.filter(|&limit| limit > 0).map(|limit| f64::from(most) / limit as f64);
    let is_so = refused > 0;
    case.weigh(is_so, format!("{} connections got no TIME_WAIT because of it", grouped(refused)));
    if let (Some(limit), Some(share)) = (limit, share) {
        let figures = format!(
            "at most {} of {} were there, at {} ({})",
            grouped(most),
            grouped(limit),
            clock(at),
            percent(share)
        );
        case.weigh(share >= 0.95, figures);
    }
    case.decide(is_so)
}
