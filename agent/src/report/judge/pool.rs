//! Pools of ports that were too small.

use super::{Case, Evidence, Hypothesis};
use crate::{
    model::{grouped, past::Field},
    report::{
        evidence::Account,
        words::{clock, percent},
    },
};

/// From this share on a pool was short.
const SHORT: f64 = 0.8;

/// Who calls us had too few source ports.
pub(super) fn too_small(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case =
        Case::new("pool_too_small", "The clients' pool of source ports is too small for their traffic");
    case.advice = &[
        "Let the clients keep their connections open and use them again (a connection pool, keep-alive): that takes the load off every port.",
        "Ask whoever runs the NAT or the balancer before this host for more source ports: a wider range, or more addresses.",
        "Let the client close first, so that TIME_WAIT is on its side, or enable TCP timestamps on the way: a newer timestamp is accepted into TIME_WAIT.",
    ];
    let mut short = 0;
    let mut worst: Option<f64> = None;
    for account in evidence.inbound() {
        let used = account.most_used();
        if let Some((ratio, _)) = used {
            worst = Some(worst.map_or(ratio, |worst| worst.max(ratio)));
        }
        let refused = account.refused();
        let is_short = used.is_some_and(|(ratio, _)| ratio >= SHORT);
        if !is_short && refused == 0 {
            continue;
        }
        short += 1;
        if let Some((ratio, at)) = used {
            case.weigh(is_short, fullness(evidence, account, ratio, at));
        }
        if refused > 0 {
            let first = account.first(|sample| sample.refused() > 0).map(clock).unwrap_or_default();
            let ours = account.sum(Field::ClosedLocal);
            let closed = account.closed();
            case.weigh(
                true,
                format!(
                    "{} SYNs of {} met a TIME_WAIT and were refused, the first at {first}; {} attempts were given up. We closed {} of {} \
                     connections first, so the TIME_WAITs are here",
                    grouped(refused),
                    account.id.peer,
                    grouped(account.sum(Field::GaveUp)),
                    grouped(ours),
                    grouped(closed),
                ),
            );
        }
        if let Some(mean) = account.mean_seconds(Field::ReusedAfterMillis, &[Field::Reused]) {
            let again = account.sum(Field::Reused);
            let figures = format!(
                "{} connections of {} came on a port seen before, {mean:.0} s after it was closed on average",
                grouped(again),
                account.id.peer
            );
            case.weigh(mean < 120.0, figures);
        }
    }
    match worst {
        None => {
            let known = evidence.inbound().count();
            case.weigh(false, format!("no pool became known among {} peers that called us", grouped(known)));
        }
        Some(ratio) if short == 0 => {
            case.weigh(false, format!("no peer used more than {} of its pool", percent(ratio)));
        }
        Some(_) => {}
    }
    let refused: u64 = evidence.inbound().map(Account::refused).sum();
    if refused == 0 && evidence.tells("time_wait_syns") {
        case.weigh(false, "TIME_WAIT refused no SYN".to_owned());
    }
    case.decide(short > 0)
}

fn fullness(evidence: &Evidence<'_>, account: &Account<'_>, ratio: f64, at: u64) -> String {
    let size = account.pool_size().unwrap_or_default();
    let ports = evidence.ports_of(&account.id).map(|ports| format!(" ({ports})")).unwrap_or_default();
    format!(
        "{} used {} of its {} ports{ports} towards port {} at {}: up to {} in TIME_WAIT, up to {:.0} connections per second, where {:.0} fill \
         it (each keeps its port for 60 s)",
        account.id.peer,
        percent(ratio),
        grouped(size),
        account.id.port,
        clock(at),
        grouped(account.most(Field::TimeWait).0),
        account.most_per_second(),
        f64::from(size) / 60.0
    )
}

/// We had too few ports towards a destination.
pub(super) fn ours_too_small(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "own_ports_too_few",
        "This host has too few ports for its own connections to a destination",
    );
    case.advice = &[
        "Keep connections to that destination open and use them again.",
        "Widen net.ipv4.ip_local_port_range, call from more local addresses, or call more destination addresses.",
    ];
    let mut worst: Option<f64> = None;
    let mut short = false;
    for account in evidence.outbound() {
        let Some((ratio, at)) = account.most_used() else { continue };
        worst = Some(worst.map_or(ratio, |worst| worst.max(ratio)));
        if ratio >= SHORT {
            short = true;
            let size = account.pool_size().unwrap_or_default();
            case.weigh(
                true,
                format!(
                    "{} of our {} ports towards {} port {} were taken at {}, up to {} of them by TIME_WAIT",
                    percent(ratio),
                    grouped(size),
                    account.id.peer,
                    account.id.port,
                    clock(at),
                    grouped(account.most(Field::TimeWait).0)
                ),
            );
        }
    }
    if !short {
        let figures = match worst {
            Some(ratio) => format!("no destination had more than {} of our ports", percent(ratio)),
            None => "no destination had so many of our ports that they were worth following".to_owned(),
        };
        case.weigh(false, figures);
    }
    case.decide(short)
}
