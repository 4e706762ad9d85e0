//! How numbers and times are put into words.

use std::time::{Duration, UNIX_EPOCH};

use super::{
    evidence::Evidence,
    judge::{Hypothesis, Verdict},
};
use crate::model::{
    grouped,
    past::{Field, second_of},
};

/// A time of day.
pub(super) fn clock(seconds: u64) -> String {
    let stamp = stamp(seconds);
    let time = stamp.split_once(' ').map_or(stamp.as_str(), |(_, time)| time);
    format!("{time} UTC")
}

/// A date and a time of day, in UTC.
pub(super) fn stamp(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}

/// A share, to as many places as it takes to say something.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 && percent > 0.0 { format!("{percent:.2} %") } else { format!("{percent:.0} %") }
}

/// A length of time.
pub(super) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        humantime::format_duration(Duration::from_secs(second_of(seconds))).to_string()
    }
}

/// What happened, why, and what to do: one sentence each.
pub(super) fn summary(evidence: &Evidence<'_>, hypotheses: &[Hypothesis]) -> [String; 3] {
    let cause = hypotheses.iter().find(|hypothesis| hypothesis.verdict == Verdict::Supported);
    let what =
        format!("From {} to {}, {}.", stamp(evidence.span.from), clock(evidence.span.to), troubles(evidence));
    let Some(cause) = cause else {
        let why = "None of the causes that this report knows of is supported by the figures.".to_owned();
        return [what, why, super::judge::advice(hypotheses).swap_remove(0)];
    };
    let figures = cause.supporting.first().map(|figures| format!(": {figures}")).unwrap_or_default();
    let why = format!("The evidence supports: {}{figures}.", lower(cause.statement));
    let what_to_do = cause.advice.first().map(|&advice| advice.to_owned()).unwrap_or_default();
    [what, why, what_to_do]
}

fn troubles(evidence: &Evidence<'_>) -> String {
    let touched = evidence.touched();
    let sum = |figure: fn(&super::Touched) -> u64| touched.iter().map(figure).sum::<u64>();
    let overflows = evidence.host_sum(Field::ListenOverflows);
    let parts: Vec<String> = [
        (sum(|peer| peer.refused), "SYNs met a TIME_WAIT and were refused"),
        (sum(|peer| peer.challenged), "SYNs met a connection still open here and were refused"),
        (sum(|peer| peer.failed), "attempts of this host to connect failed"),
        (sum(|peer| peer.aborted_early), "connections ended early"),
        (sum(|peer| peer.syn_retries), "SYNs were retransmitted"),
        (overflows, "times an accept queue was full"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", grouped(number)))
    .collect();
    let peers = touched.iter().filter(|peer| !peer.alerts.is_empty()).count();
    let who = match peers {
        0 => "no alert was raised for a peer".to_owned(),
        1 => format!(
            "{} was in trouble",
            touched.first().map(|peer| peer.who.peer.as_str()).unwrap_or_default()
        ),
        peers => format!("{peers} peers were in trouble"),
    };
    if parts.is_empty() { who } else { format!("{who}: {}", parts.join(", ")) }
}

/// A sentence within another.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!([0.0, 0.004, 0.5, 1.0].map(percent), ["0 %", "0.40 %", "50 %", "100 %"]);
        assert_eq!([0.25, 14.0, 3_725.0].map(seconds), ["250 ms", "14.0 s", "1h 2m 5s"]);
        assert_eq!(
            (stamp(1_795_000_000), clock(1_795_000_000)),
            ("2026-11-18 11:06:40".to_owned(), "11:06:40 UTC".to_owned())
        );
    }
}
