//! The whole body of /metrics for a snapshot, word for word, and the reference in docs/metrics.md.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod view;

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use tcpwarden::{
    model::{Snapshot, Tells, pool::PoolFigures},
    serve::{self, RefusedConnections, View},
};

use view::{alerts, snapshot};

fn body(snapshot: &Snapshot) -> String {
    let view = View { snapshot: Arc::new(snapshot.clone()), alerts: alerts() };
    String::from_utf8(serve::render(&view, &RefusedConnections::default()).expect("rendered")).expect("text")
}

/// The snapshot with another number in each counter and gauge, so that no two series could be taken for each other.
fn distinct() -> Snapshot {
    let mut snapshot = snapshot();
    for (account, from) in snapshot.accounts.iter_mut().zip((1_000_u32..).step_by(1_000)) {
        let counters: &mut [u64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut account.counters));
        for (counter, number) in counters.iter_mut().zip(from..) {
            *counter = u64::from(number);
        }
        for (sockets, number) in account.sockets.iter_mut().zip(from + 500..) {
            *sockets = number;
        }
        (account.stalled, account.gave_up) = (from + 600, u64::from(from + 601));
        account.challenged_gave_up = u64::from(from + 602);
    }
    for (sockets, number) in snapshot.host.sockets.iter_mut().zip(9_000..) {
        *sockets = number;
    }
    snapshot.host.time_wait_overflows = 9_101;
    snapshot.host.listen_overflows = 9_102;
    snapshot.host.listen_drops = 9_103;
    snapshot.host.syncookies_sent = 9_104;
    snapshot.host.syn_challenges = 9_105;
    snapshot
}

#[test]
fn the_whole_body() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    // The version changes with every release.
    let body = body(&distinct()).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &body).expect("written");
    }
    let expected = fs::read_to_string(&golden).expect("the golden file is there");
    for (got, right) in body.lines().zip(expected.lines()) {
        assert_eq!(got, right, "UPDATE_GOLDEN=1 cargo test --test exposition writes the file anew");
    }
    assert_eq!(body.lines().count(), expected.lines().count());
}

#[test]
fn what_the_kernel_does_not_tell_has_no_series() {
    let blind = Snapshot { tells: Tells::default(), ..snapshot() };
    let body = body(&blind);
    for name in
        ["syn_retries", "synack_retries", "retransmits", "resets", "time_wait_syns", "challenged_syns"]
    {
        assert!(!body.contains(&format!("tcpwarden_peer_{name}_total")), "{name}");
    }
    assert!(body.contains("tcpwarden_peer_connections_total"));
    assert!(body.contains("mode=\"unavailable\""));
}

#[test]
fn the_syn_watch_takes_the_place_of_what_events_tell() {
    let mut watched = snapshot();
    watched.accounts[0].counters.watched_syns = 50;
    watched.accounts[0].counters.watched_syn_retries = 9;
    let sample = |body: &str, name: &str| {
        let inbound = |line: &&str| line.starts_with(name) && line.contains("seoul");
        body.lines().find(inbound).and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned())
    };
    let without = body(&watched);
    assert_eq!(sample(&without, "tcpwarden_peer_syns_total"), None);
    assert_eq!(sample(&without, "tcpwarden_peer_syn_retries_total").as_deref(), Some("3"));
    watched.tells.syn_watch = true;
    let with = body(&watched);
    assert_eq!(sample(&with, "tcpwarden_peer_syns_total").as_deref(), Some("50"));
    assert_eq!(sample(&with, "tcpwarden_peer_syn_retries_total").as_deref(), Some("9"));
}

#[test]
fn a_pool_that_is_not_known_has_no_size_and_no_ratio() {
    let mut unknown = snapshot();
    let pool = unknown.accounts[0].pool.take().expect("it is known");
    unknown.accounts[0].pool = Some(PoolFigures {
        confidence: 0.5,
        is_known: false,
        configured: None,
        reachable: None,
        exhaustion_seconds: None,
        ..pool
    });
    let body = body(&unknown);
    for name in ["size", "reachable_ports", "used_ratio", "exhaustion_seconds"] {
        assert!(!body.contains(&format!("tcpwarden_peer_pool_{name}{{")), "{name}");
    }
    assert!(body.contains("tcpwarden_peer_source_ports{"));
}

fn families(body: &str) -> BTreeSet<String> {
    body.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_reference_lists_exactly_the_families_there_are() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let reference = fs::read_to_string(file).expect("the reference is there");
    // The first cell of every table row is the name of a family.
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(listed, families(&body(&snapshot())));
}
