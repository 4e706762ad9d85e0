//! The whole body of /metrics for a snapshot, word for word, and the reference in docs/metrics.md.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{ClosedBy, Counters},
    sweep::{STATES, state},
};
use tcpwarden::{
    model::{
        CensusFigures, Direction, ExportedAccount, HostFigures, LostFigures, Peer, ProbeFigures,
        QueueFigures, RunFigures, SelfFigures, Snapshot, Tells,
    },
    serve,
};

fn account(who: Option<(Peer, u16)>, direction: Direction) -> ExportedAccount {
    ExportedAccount { who, direction, counters: Counters::zeroed(), sockets: [0; STATES] }
}

fn snapshot() -> Snapshot {
    let mut nat = account(Some((Peer::Group(Arc::from("seoul \"nat\"")), 443)), Direction::Inbound);
    nat.counters.connections = 42;
    nat.counters.closes[ClosedBy::Local as usize] = 41;
    nat.counters.syn_retries = 3;
    nat.counters.lifetime.buckets[2] = 40;
    nat.counters.lifetime.buckets[12] = 1;
    nat.counters.lifetime.sum_ns = 7_200_000_000_000;
    nat.counters.reuse.buckets[7] = 5;
    nat.sockets[state::TIME_WAIT as usize] = 41;
    let backend = account(Some((Peer::Address([192, 0, 2, 1].into()), 5432)), Direction::Outbound);
    let mut sockets = [0; STATES];
    sockets[state::TIME_WAIT as usize] = 41;
    sockets[state::LISTEN as usize] = 1;
    let probe = |probe, mode, runs| ProbeFigures { probe, hook: format!("tcp:{probe}"), mode, runs };
    let runs = RunFigures { runs: 10, seconds: Some(0.000_001), missed: Some(0) };
    Snapshot {
        accounts: vec![nat, backend, account(None, Direction::Inbound), account(None, Direction::Outbound)],
        tells: Tells { retransmits: true, synack_retries: true, resets_peer: true, resets_local: true },
        host: HostFigures {
            sockets,
            time_wait_buckets: 41,
            time_wait_buckets_limit: Some(131_072),
            listen_queues: vec![QueueFigures { port: 443, waiting: 2, limit: 4096 }],
            sysctls: vec![("net.ipv4.tcp_fin_timeout", 60)],
            ..HostFigures::default()
        },
        itself: SelfFigures {
            probes: vec![
                probe("tcp_send_reset", "btf", Some(runs)),
                probe("tcp_receive_reset", "unavailable", None),
            ],
            lost: vec![LostFigures { map: "peers", events: 7 }],
            census: CensusFigures {
                cost: Duration::from_millis(2),
                sockets: 42,
                drift: -1,
                interval: Duration::from_secs(1),
            },
            peers: 2,
            peers_evicted: 1,
            config_last_reload_successful: true,
            cpu_seconds: 0.5,
            resident_bytes: 8_000_000,
            open_fds: 30,
            start_time_seconds: 1_795_000_000.25,
        },
    }
}

fn body(snapshot: &Snapshot) -> String {
    String::from_utf8(serve::render(snapshot).expect("rendered")).expect("text")
}

#[test]
fn the_whole_body() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    // The version changes with every release.
    let body = body(&snapshot()).replace(env!("CARGO_PKG_VERSION"), "VERSION");
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
    for name in ["syn_retries", "synack_retries", "retransmits", "resets"] {
        assert!(!body.contains(&format!("tcpwarden_peer_{name}_total")), "{name}");
    }
    assert!(body.contains("tcpwarden_peer_connections_total"));
    assert!(body.contains("mode=\"unavailable\""));
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
