//! Destinations of ours that did not answer.

use super::{Case, Evidence, Hypothesis};
use crate::{
    model::{
        grouped,
        past::{Event, Field, Sample, second_of},
    },
    report::{
        evidence::Account,
        words::{clock, seconds},
    },
};

/// From so many failed attempts on, it is no accident.
const ENOUGH: u64 = 3;

/// A name no longer lists the address that is called.
pub(super) fn moved(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "backend_moved",
        "A destination has moved to another address, and a program still calls the old one (stale DNS)",
    );
    case.advice = &[
        "Restart or reconfigure the program that calls the old address, and have it resolve the name again by itself: a resolver setting, or a \
         reload when the name changes.",
    ];
    let mut is_so = false;
    for happened in &evidence.events {
        match &happened.event {
            Event::AlertRaised(alert) if alert.alert == "StaleAddress" => {
                is_so = true;
                case.weigh(true, format!("at {}: {}", clock(second_of(happened.time)), alert.text));
            }
            Event::AddressChanged { name, address, came, .. } => {
                let verb = if *came { "began to list" } else { "ceased to list" };
                case.weigh(true, format!("{name} {verb} {address} at {}", clock(second_of(happened.time))));
            }
            _ => {}
        }
    }
    if is_so {
        for account in evidence.outbound().filter(|account| account.failed() >= ENOUGH) {
            case.weigh(true, failures(account));
        }
    } else {
        case.supporting.clear();
        let failed: u64 = evidence.outbound().map(Account::failed).sum();
        let figures = if failed == 0 {
            "no attempt of ours to connect failed".to_owned()
        } else {
            "no program called an address that its watched name ([[watch]]) no longer listed".to_owned()
        };
        case.weigh(false, figures);
    }
    case.decide(is_so)
}

/// A name's service moved, and that took time.
pub(super) fn failed_over(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new("failover", "A service failed over to another address, and that took time");
    case.advice = &[
        "Shorten the part that took longest: detection (health checks, timeouts of the clients), the name (its TTL, how fast it is updated), or \
         reconnecting (retry pauses of the clients).",
    ];
    let mut is_so = false;
    for happened in &evidence.events {
        let Event::Failover(failover) = &happened.event else { continue };
        is_so = true;
        let part = |name: &str, part: Option<f64>| part.map(|part| format!("{name} {}", seconds(part)));
        let parts: Vec<String> = [
            part("until a call failed", failover.unnoticed_seconds),
            part("until the name listed the new address", failover.dns_seconds),
            part("until the new one was connected", failover.reconnect_seconds),
        ]
        .into_iter()
        .flatten()
        .collect();
        case.weigh(
            true,
            format!(
                "{} port {} moved from {} to {}: an outage of {} until {} ({})",
                failover.name,
                failover.port,
                failover.old,
                failover.new,
                failover.outage_seconds.map_or_else(|| "unknown length".to_owned(), seconds),
                clock(second_of(happened.time)),
                parts.join(", ")
            ),
        );
    }
    if !is_so {
        case.weigh(false, "no watched name had its connections move from one address to another".to_owned());
    }
    case.decide(is_so)
}

/// A destination answered nothing.
pub(super) fn gone(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new("backend_gone", "A destination of ours does not answer, or refuses");
    case.explained_by = &["backend_moved", "failover"];
    case.advice = &[
        "See whether that destination runs and whether the way to it is open; meanwhile, shorten connect timeouts so that callers do not wait.",
    ];
    let mut is_so = false;
    let (mut failed, mut connections) = (0, 0);
    for account in evidence.outbound() {
        let nothing = account.failed();
        let established = account.sum(Field::Connections);
        failed += nothing;
        connections += established;
        if nothing >= ENOUGH && nothing * 10 >= nothing + established {
            is_so = true;
            case.weigh(true, failures(account));
            if let Some(mean) = account.mean_seconds(Field::AbandonedMillis, &[Field::FailedAbandoned]) {
                case.weigh(
                    true,
                    format!(
                        "our program gave up {} connects to {} port {}, after {} on average; nothing had answered",
                        grouped(account.sum(Field::FailedAbandoned)),
                        account.id.peer,
                        account.id.port,
                        seconds(mean)
                    ),
                );
            }
        }
    }
    if !is_so {
        case.weigh(
            false,
            format!(
                "{} of our {} attempts to connect failed",
                grouped(failed),
                grouped(failed + connections)
            ),
        );
    }
    case.decide(is_so)
}

/// A destination accepted, and answered late or not at all.
pub(super) fn hangs(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "dependency_hangs",
        "A destination of ours accepts connections and does not answer, and our program waits for it",
    );
    case.explained_by = &["backend_moved", "backend_gone"];
    case.advice = &[
        "Give calls to that destination a short timeout and a bound on how many may wait, and go on without it where that can be done.",
    ];
    let mut is_so = evidence.alerts().contains_key("DependencyHanging");
    let mut most = 0;
    for account in evidence.outbound() {
        let (stalled, at) = account.most(Field::Stalled);
        most = most.max(stalled);
        let (open, _) = account.most(Field::Established);
        if stalled >= 10 && stalled * 2 >= open {
            is_so = true;
            case.weigh(
                true,
                format!(
                    "{} connections to {} port {} waited for an answer at {}, of {} open at most",
                    grouped(stalled),
                    account.id.peer,
                    account.id.port,
                    clock(at),
                    grouped(open)
                ),
            );
        }
    }
    if is_so {
        let overflows = evidence.host_sum(Field::ListenOverflows);
        if overflows > 0 {
            case.weigh(
                true,
                format!("meanwhile an accept queue of ours was full {} times", grouped(overflows)),
            );
        }
        let close_wait = evidence.inbound().map(|account| account.most(Field::CloseWait).0).max();
        if let Some(close_wait) = close_wait.filter(|&most| most > 0) {
            case.weigh(
                true,
                format!(
                    "and up to {} clients of one peer had gone away before our program closed",
                    grouped(close_wait)
                ),
            );
        }
    } else if evidence.tells("stalled") {
        case.weigh(
            false,
            format!("no destination had more than {} connections that waited for an answer", grouped(most)),
        );
    } else {
        return case.close(super::Verdict::Unknown);
    }
    case.decide(is_so)
}

fn failures(account: &Account<'_>) -> String {
    let failed = account.failed();
    let mean = account.mean_seconds(Field::FailedMillis, &Sample::FAILED);
    let each = mean.map(|mean| format!(", after {} on average", seconds(mean))).unwrap_or_default();
    let reasons: Vec<String> = [
        ("without an answer", Field::FailedTimeout),
        ("given up by our program", Field::FailedAbandoned),
        ("refused", Field::FailedRefused),
        ("unreachable", Field::FailedUnreachable),
        ("otherwise", Field::FailedOther),
    ]
    .into_iter()
    .map(|(reason, field)| (reason, account.sum(field)))
    .filter(|(_, attempts)| *attempts > 0)
    .map(|(reason, attempts)| format!("{} {reason}", grouped(attempts)))
    .collect();
    format!(
        "{} attempts to connect to {} port {} failed ({}){each}; {} connected; {} SYNs were retransmitted",
        grouped(failed),
        account.id.peer,
        account.id.port,
        reasons.join(", "),
        grouped(account.sum(Field::Connections)),
        grouped(account.sum(Field::SynRetries))
    )
}
