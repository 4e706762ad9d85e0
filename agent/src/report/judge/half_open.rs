//! Connections that the other end has forgotten.

use super::{Case, Evidence, Hypothesis, Verdict};
use crate::{
    model::{
        grouped,
        past::{Event, Field},
    },
    report::{evidence::Account, words::clock},
};

/// One attempt that fails repeats its SYN so often.
const ENOUGH: u64 = 3;

/// Clients, or what stands between, have forgotten connections that are still open here, and use their ports again.
pub(super) fn forgotten(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "half_open_connections",
        "Connections that the clients, or a NAT or balancer on the way, have forgotten are still open here and refuse new ones",
    );
    case.advice = &[
        "Find what drops idle connections between the clients and this host (NAT, balancer, firewall) and its idle timeout; make it send a RST to both \
         ends, or end idle connections here first: an idle timeout of the service below that one, or keepalive (SO_KEEPALIVE and a short \
         net.ipv4.tcp_keepalive_time).",
        "Set TCP_USER_TIMEOUT where the service sends first, so that data which nobody acknowledges ends a connection.",
        "At once: end the old connections (restart the service, or `ss -K`); `ss -tano` shows them, without a timer and long idle.",
    ];
    let mut is_so = evidence.alerts().contains_key("HalfOpenConnections");
    let mut all = 0;
    for account in evidence.inbound() {
        let met = account.sum(Field::Challenged);
        if met == 0 {
            continue;
        }
        all += met;
        is_so |= met >= ENOUGH;
        let first = account.first(|sample| sample[Field::Challenged] > 0).map(clock).unwrap_or_default();
        let (open, at) = account.most(Field::Established);
        case.weigh(
            met >= ENOUGH,
            format!(
                "{} SYNs of {} met a connection that was still open on port {} and were refused by a challenge ACK, the first at {first}; {} \
                 attempts were given up, {} connected after the client's RST, {} from another port, {} otherwise; up to {} of its connections were open at {}",
                grouped(met),
                account.id.peer,
                account.id.port_name(),
                grouped(account.sum(Field::ChallengedGaveUp)),
                grouped(account.sum(Field::ChallengedAfterReset)),
                grouped(account.sum(Field::ChallengedFromOtherPort)),
                grouped(account.sum(Field::ChallengedAfterRetry)),
                grouped(open),
                clock(at),
            ),
        );
    }
    let refused: u64 = evidence.inbound().map(Account::refused).sum();
    if all == 0 && evidence.tells("challenged_syns") {
        let beside =
            if refused > 0 { format!("; TIME_WAIT refused {}", grouped(refused)) } else { String::new() };
        case.weigh(false, format!("no SYN met a connection that was still open here{beside}"));
    }
    if is_so {
        let states = states(evidence);
        if !states.is_empty() {
            case.weigh(true, format!("of the attempts on record, the old connection was in {states}"));
        }
        case.weigh(refused == 0, format!("TIME_WAIT refused {} SYNs in the same span", grouped(refused)));
    }
    if !is_so && !evidence.tells("challenged_syns") {
        return case.close(Verdict::Unknown);
    }
    case.decide(is_so)
}

/// The states of the old connections in the records, the most frequent first.
fn states(evidence: &Evidence<'_>) -> String {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for happened in &evidence.events {
        let Event::RefusedReuse(reuse) = &happened.event else { continue };
        if !reuse.was_open() {
            continue;
        }
        match counts.iter_mut().find(|(state, _)| *state == reuse.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&reuse.state, 1)),
        }
    }
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let words: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{} ({})", state.to_uppercase(), grouped(*count)))
        .collect();
    words.join(", ")
}
