//! Who did not close connections.

use super::{Case, Evidence, Hypothesis};
use crate::{
    model::{grouped, past::Field},
    report::words::{clock, seconds},
};

/// From so many sockets on, something piled up.
const ENOUGH: u32 = 50;

/// Clients left connections open.
pub(super) fn client_does_not_close(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "client_does_not_close",
        "The clients do not close their connections, so that they pile up here",
    );
    // A client that is gone cannot close.
    case.explained_by = &["half_open_connections", "dependency_hangs", "server_does_not_close", "queue_full"];
    case.advice = &["Set an idle timeout for this service, and look at how its clients end a connection."];
    let mut piled = false;
    let (mut opened, mut closed, mut most, mut lived, mut ended) = (0, 0, 0, 0.0, 0);
    for account in evidence.inbound() {
        let (opens, ends) = (account.sum(Field::Connections), account.closed());
        opened += opens;
        closed += ends;
        let (established, at) = account.most(Field::Established);
        most = most.max(established);
        if let Some(mean) = account.mean_seconds(
            Field::LivedMillis,
            &[Field::ClosedLocal, Field::ClosedPeer, Field::ClosedReset, Field::ClosedTimeout],
        ) {
            lived += mean * ends as f64;
            ended += ends;
        }
        let left_open = opens.saturating_sub(ends);
        if established >= ENOUGH && left_open * 2 > opens && opens >= u64::from(ENOUGH) {
            piled = true;
            case.weigh(
                true,
                format!(
                    "{} opened {} connections to port {} and {} of them ended; {} were open at {}",
                    account.id.peer,
                    grouped(opens),
                    account.id.port_name(),
                    grouped(ends),
                    grouped(established),
                    clock(at)
                ),
            );
        }
    }
    if !piled {
        case.weigh(
            false,
            format!(
                "of {} connections to us {} ended in the same span, and no peer had more than {} open at once",
                grouped(opened),
                grouped(closed),
                grouped(most)
            ),
        );
        if ended > 0 {
            case.weigh(false, format!("they lived for {} on average", seconds(lived / ended as f64)));
        }
    }
    case.decide(piled)
}

/// Our own program left connections open.
pub(super) fn server_does_not_close(evidence: &Evidence<'_>) -> Hypothesis {
    let mut case = Case::new(
        "server_does_not_close",
        "Our own program does not close connections that its clients have closed",
    );
    case.explained_by = &["dependency_hangs"];
    case.advice = &[
        "Find where the program keeps a connection after its client has closed it (CLOSE_WAIT): `ss -tnp state close-wait`.",
    ];
    let mut most = 0;
    let mut piled = evidence.alerts().contains_key("CloseWaitGrowing");
    if piled {
        case.weigh(true, "connections in CLOSE_WAIT grew (CloseWaitGrowing was raised)".to_owned());
    }
    for account in evidence.inbound() {
        let (close_wait, at) = account.most(Field::CloseWait);
        most = most.max(close_wait);
        if close_wait >= ENOUGH {
            piled = true;
            case.weigh(
                true,
                format!(
                    "{} connections of {} to port {} were in CLOSE_WAIT at {}",
                    grouped(close_wait),
                    account.id.peer,
                    account.id.port_name(),
                    clock(at)
                ),
            );
        }
    }
    if !piled {
        case.weigh(
            false,
            format!("no peer had more than {} connections in CLOSE_WAIT at once", grouped(most)),
        );
        let (ours, all) = evidence.inbound().fold((0, 0), |(ours, all), account| {
            (ours + account.sum(Field::ClosedLocal), all + account.closed())
        });
        if all > 0 {
            case.weigh(
                false,
                format!("we closed {} of {} connections first ourselves", grouped(ours), grouped(all)),
            );
        }
    }
    case.decide(piled)
}
