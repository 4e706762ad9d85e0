//! What stands between the clients and this host.

use super::{Case, Evidence, Hypothesis, Verdict};
use crate::{
    model::{
        grouped,
        past::{Event, Field},
    },
    report::words::percent,
};

/// No common system draws its source ports from so few (Linux: 28,232, Windows and the BSDs: 16,384).
const FEWEST: u32 = 16_384;

/// Something rewrites ports, or drops what answers.
pub(super) fn rewrites_or_drops(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "something_between",
        "Something between the clients and this host rewrites source ports or drops packets",
    );
    case.advice = &[
        "Find the NAT, firewall or balancer that gives these source ports, and ask for its port range per address and for what it does with a bare \
         ACK in answer to a SYN: if it let that ACK through, the client would answer with a RST and the next SYN would be accepted.",
    ];
    let (mut rewrites, mut drops, mut known) = (false, false, false);
    for account in evidence.inbound() {
        if let Some((ports, size)) = evidence.pool_of(&account.id) {
            known = true;
            if size < FEWEST && account.sum(Field::Connections) > u64::from(size) / 4 {
                rewrites = true;
                case.weigh(
                    true,
                    format!(
                        "{} draws from {} ports only ({ports}), fewer than any common system gives its own connections (16,384 or more)",
                        account.id.peer,
                        grouped(size)
                    ),
                );
            }
        }
        let by_ack = account.sum(Field::RefusedByAck);
        if by_ack == 0 {
            continue;
        }
        known = true;
        let after_reset = account.sums(&[Field::ConnectedAfterReset, Field::ConnectedFromOtherPort]);
        let given_up = account.sum(Field::GaveUp);
        let lost = given_up > after_reset;
        drops |= lost;
        case.weigh(
            lost,
            format!(
                "{} refused SYNs of {} were answered by a bare ACK, which a client answers by a RST at once; {} attempts connected after that \
                 RST, {} of them from another port; {} were given up",
                grouped(by_ack),
                account.id.peer,
                grouped(after_reset),
                grouped(account.sum(Field::ConnectedFromOtherPort)),
                grouped(given_up)
            ),
        );
    }
    for account in evidence.inbound() {
        let met = account.sum(Field::Challenged);
        if met == 0 {
            continue;
        }
        known = true;
        let after_reset = account.sums(&[Field::ChallengedAfterReset, Field::ChallengedFromOtherPort]);
        let given_up = account.sum(Field::ChallengedGaveUp);
        let lost = given_up > after_reset;
        drops |= lost;
        case.weigh(
            lost,
            format!(
                "{} SYNs of {} on connections still open were answered by a challenge ACK, which a client answers by a RST at once; {} \
                 attempts connected after that RST; {} were given up",
                grouped(met),
                account.id.peer,
                grouped(after_reset),
                grouped(given_up)
            ),
        );
    }
    let sequences = evidence.events.iter().filter(|happened| match &happened.event {
        Event::RefusedReuse(reuse) => reuse.end == "gave_up" && reuse.retries > 0,
        _ => false,
    });
    let repeated = sequences.count();
    if repeated > 0 && drops {
        case.weigh(
            true,
            format!(
                "of those that are on record, {} repeated their SYN before they gave up",
                grouped(repeated)
            ),
        );
    }
    if !rewrites && !drops {
        let figures = if known {
            "no busy peer had a pool of fewer than 16,384 ports, and no peer gave up more refused attempts than connected after its RST"
        } else {
            "no SYN was refused, and no pool of source ports became known"
        };
        case.weigh(false, figures.to_owned());
    }
    if !evidence.tells("time_wait_syns") && !rewrites {
        return case.close(Verdict::Unknown);
    }
    case.decide(rewrites || drops)
}

/// Handshakes lost packets for another reason than that an old connection refused them.
pub(super) fn loses_handshakes(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new("packet_loss", "Packets of handshakes are lost on the way");
    case.explained_by = &[
        "pool_too_small",
        "half_open_connections",
        "backend_moved",
        "backend_gone",
        "failover",
        "dependency_hangs",
        "queue_full",
    ];
    case.advice = &[
        "Look for loss between these peers and this host: interface errors, a full link, a firewall that limits SYNs.",
    ];
    let (mut repeated, mut connections, mut synacks) = (0, 0, 0);
    for account in &evidence.accounts {
        repeated += account.sum(Field::SynRetries);
        synacks += account.sum(Field::SynackRetries);
        connections += account.sum(Field::Connections);
    }
    let refused: u64 =
        evidence.inbound().map(|account| account.refused() + account.sum(Field::Challenged)).sum();
    let others = repeated.saturating_sub(refused) + synacks;
    let share = others as f64 / (connections + others).max(1) as f64;
    let is_so = others >= 10 && share >= 0.02;
    case.weigh(
        is_so,
        format!(
            "beside the SYNs that TIME_WAIT or open connections refused, {} SYNs and {} of our SYN-ACKs were retransmitted, at {} connections ({})",
            grouped(repeated.saturating_sub(refused)),
            grouped(synacks),
            grouped(connections),
            percent(share)
        ),
    );
    case.decide(is_so)
}
