//! The families of watched names.

use probe_ebpf::account::CONNECT_BOUNDS_NS;

use super::text::{Float, Kind, Labels, Text};
use crate::model::names::{FAILOVER_BOUNDS_NS, NameFigures, Outcome, Part};

/// Writes every family, whether a name is watched or not. `now` is monotonic, in nanoseconds.
pub(super) fn encode(names: &[NameFigures], now: u64, body: &mut Vec<u8>) {
    let mut text = Text::new(body);
    let labels =
        |figures: &NameFigures| Labels::new(&[("name", &figures.id.name), ("port", &figures.id.port)]);
    let family = "tcpwarden_watched_name_addresses";
    text.family(family, Kind::Gauge, "Addresses that the last answers list for a watched name.");
    for name in names {
        text.sample(family, &labels(name), None, name.listed);
    }
    let family = "tcpwarden_watched_name_resolutions_total";
    text.family(
        family,
        Kind::Counter,
        "Lookups of a watched name by outcome: it has addresses, it has none, nobody knows, nobody answers.",
    );
    for name in names {
        for outcome in Outcome::ALL {
            let extra = Some(("outcome", outcome.name()));
            text.sample(family, &labels(name), extra, name.outcomes[outcome as usize]);
        }
    }
    let family = "tcpwarden_watched_name_resolve_seconds";
    text.family(family, Kind::Histogram, "How long lookups of a watched name took, whatever became of them.");
    for name in names {
        let figures = &name.resolve;
        text.histogram(family, &labels(name), &CONNECT_BOUNDS_NS, &figures.buckets, figures.sum_ns);
    }
    let family = "tcpwarden_watched_name_stale_connections";
    text.family(
        family,
        Kind::Gauge,
        "Connections of ours, open or being opened as of the last census, to addresses that a watched name no longer lists.",
    );
    for name in names {
        text.sample(family, &labels(name), None, name.stale_connections());
    }
    let family = "tcpwarden_watched_name_stale_seconds";
    text.family(
        family,
        Kind::Gauge,
        "Time for which processes have gone on connecting to an address that a watched name no longer lists, and not to one that took its place; 0 if none does.",
    );
    for name in names {
        text.sample(family, &labels(name), None, Float(name.stale_seconds(now)));
    }
    let family = "tcpwarden_watched_name_stale_failing";
    text.family(
        family,
        Kind::Gauge,
        "1 while connections to an address that a watched name no longer lists fail, whichever process opens them; else 0.",
    );
    for name in names {
        text.sample(family, &labels(name), None, u64::from(name.stale_fails()));
    }
    let family = "tcpwarden_failover_seconds";
    text.family(
        family,
        Kind::Histogram,
        "Failovers of a watched name, and how long each part took: unnoticed, until the first attempt failed; dns, until the name listed the new address; reconnect, until the first connection to it; outage, all of it.",
    );
    for name in names {
        for part in Part::ALL {
            let labels =
                Labels::new(&[("name", &name.id.name), ("port", &name.id.port), ("part", &part.name())]);
            let figures = &name.parts[part as usize];
            text.histogram(family, &labels, &FAILOVER_BOUNDS_NS, &figures.buckets, figures.sum_ns);
        }
    }
}
