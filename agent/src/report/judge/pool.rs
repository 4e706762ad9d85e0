//! Pools of ports that were too small.

use super::{Case, Evidence, Hypothesis};
use crate::{
    model::{AccountId, grouped, past::Field, pool::Turn},
    report::{
        evidence::Account,
        words::{clock, percent, seconds},
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
        "Ask whoever runs the NAT or the balancer before this host for more source ports: a wider range, more addresses, or, where one machine has \
         outgrown its block, a larger block per machine.",
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
        let mut is_expected = false;
        if let Some((turn, here, at)) = account.fastest_round() {
            let is_at_limit = evidence.host_sum(Field::BucketOverflows) > 0;
            let turn = Turn { is_at_limit, ..turn };
            let AccountId { peer, port, .. } = &account.id;
            let is_too_fast = turn.refused_share > 0.0;
            is_expected = is_too_fast && turn.refusal_seconds.is_finite();
            case.weigh(
                is_too_fast,
                format!("at {}, {peer} towards port {port} {}", clock(at), turn.text(here)),
            );
        }
        if !is_short && refused == 0 && !is_expected {
            continue;
        }
        short += 1;
        // One of several servers sees a part of the ports taken.
        if let Some((ratio, at)) = used.filter(|_| is_short || !is_expected) {
            case.weigh(is_short, fullness(evidence, account, ratio, at));
        }
        if refused > 0 {
            let first = account.first(|sample| sample.refused() > 0).map(clock).unwrap_or_default();
            let ours = account.sum(Field::ClosedLocal);
            let closed = account.closed();
            case.weigh(
                true,
                format!(
                    "{} SYNs of {} met a TIME_WAIT and were refused, the first at {first}; {} attempts were given up, {} waited for 0.9 s or \
                     more{}. We closed {} of {} connections first, so the TIME_WAITs are here",
                    grouped(refused),
                    account.id.peer,
                    grouped(account.sum(Field::GaveUp)),
                    grouped(account.sum(Field::RefusedLate)),
                    came_through(account),
                    grouped(ours),
                    grouped(closed),
                ),
            );
        }
        for (time, text) in evidence.outgrown(&account.id) {
            case.weigh(true, format!("at {}, of {}, {text}", clock(time), account.id.peer));
        }
        if let Some(mean) = account.mean_seconds(Field::ReusedAfterMillis, &[Field::Reused]) {
            let again = account.sum(Field::Reused);
            let figures = format!(
                "{} connections of {} reused a source port, {mean:.0} s after its last connection was closed on average",
                grouped(again),
                account.id.peer
            );
            case.weigh(mean < 120.0, figures);
        }
    }
    match worst {
        None => {
            let known = evidence.inbound().count();
            case.weigh(
                false,
                format!("no pool of source ports became known; {} peers connected", grouped(known)),
            );
        }
        Some(ratio) if short == 0 => {
            case.weigh(false, format!("no peer used more than {} of its pool", percent(ratio)));
        }
        Some(_) => {}
    }
    let refused: u64 = evidence.inbound().map(Account::refused).sum();
    if refused == 0 && evidence.tells("time_wait_syns") {
        let open: u64 = evidence.inbound().map(|account| account.sum(Field::Challenged)).sum();
        let beside = if open > 0 {
            format!(
                "; {} met connections that were still open, whose ports TIME_WAIT does not keep",
                grouped(open)
            )
        } else {
            String::new()
        };
        case.weigh(false, format!("TIME_WAIT refused no SYN{beside}"));
    }
    case.decide(short > 0)
}

/// How many refused attempts connected after all, and how long that took.
fn came_through(account: &Account<'_>) -> String {
    let ends = [Field::ConnectedAfterReset, Field::ConnectedAfterRetry, Field::ConnectedFromOtherPort];
    let Some(mean) = account.mean_seconds(Field::RefusedMillis, &ends) else { return String::new() };
    format!(", {} connected after {} on average", grouped(account.sums(&ends)), seconds(mean))
}

fn fullness(evidence: &Evidence<'_>, account: &Account<'_>, ratio: f64, at: u64) -> String {
    let size = account.pool_size().unwrap_or_default();
    let ports = match evidence.pool_of(&account.id) {
        Some((ports, all)) if size < all => {
            format!(
                "the {} of its {} ports ({ports}) that can come to this server",
                grouped(size),
                grouped(all)
            )
        }
        Some((ports, _)) => format!("its {} ports ({ports})", grouped(size)),
        None => format!("its {} ports", grouped(size)),
    };
    format!(
        "{} used {} of {ports} towards port {} at {}: up to {} in TIME_WAIT, up to {:.0} connections per second, where {:.0} fill \
         it (each keeps its port for 60 s)",
        account.id.peer,
        percent(ratio),
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
    for account in evidence.outbound() {
        let without_port = account.sum(Field::FailedNoPort);
        if without_port > 0 {
            short = true;
            case.weigh(
                true,
                format!(
                    "{} connect() calls to {} port {} failed because no local port was free (EADDRNOTAVAIL)",
                    grouped(without_port),
                    account.id.peer,
                    account.id.port
                ),
            );
        }
    }
    if !short {
        case.weigh(false, "no connect() failed because no local port was free".to_owned());
        let figures = match worst {
            Some(ratio) => format!("no destination used more than {} of our ports", percent(ratio)),
            None => "no destination used enough of our ports to be measured (a 64th of them)".to_owned(),
        };
        case.weigh(false, figures);
    }
    case.decide(short)
}
