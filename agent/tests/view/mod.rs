//! A view with something of everything: peers, a group, pools, names, alerts.

use std::{sync::Arc, time::Duration};

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{BOUNDS, Calls, ClosedBy, Counters, Histogram},
    sweep::{STATES, state},
};
use tcpwarden::{
    alert::{Alert, Figure, Reach, Subject},
    config::{AlertName, Severity},
    model::{
        AccountId, CensusFigures, Direction, ExportedAccount, HistoryFigures, HostFigures, LostFigures,
        NotificationFigures, Peer, ProbeFigures, QueueFigures, RunFigures, SelfFigures, Snapshot, Tells,
        names::{AddressFigures, Between, NameFigures, Outcome, Standing, WatchId},
        pool::{Load, PoolFigures, Ranges, Turn},
        refusals::Clocks,
    },
    serve::AlertView,
};

fn account(who: Option<(Peer, u16)>, direction: Direction) -> ExportedAccount {
    ExportedAccount {
        who,
        direction,
        counters: Counters::zeroed(),
        sockets: [0; STATES],
        stalled: 0,
        connections_per_second: 0.0,
        gave_up: 0,
        challenged_gave_up: 0,
        calls: Calls::default(),
        callers: Vec::new(),
        pool: None,
        ephemeral: None,
    }
}

fn pool() -> PoolFigures {
    PoolFigures {
        source_ports: 60,
        bounds: Some((2_048, 2_111)),
        observed: Ranges::whole(&[(2_048, 2_111)]),
        confidence: 0.99,
        is_known: true,
        remembered: false,
        configured: Some(Ranges::whole(&[(2_000, 2_127)])),
        outside: 0,
        reachable: Some(128),
        gaps: None,
        elsewhere: None,
        is_learning: false,
        local: Some([192, 0, 2, 1].into()),
        local_addresses: 1,
        load: Load { time_wait: 31.0, live: 1.0, rate: 1.0, ends: [0.5; 60] },
        accepted: 4.0,
        refused: 8.0,
        same_clock: 0.0,
        other_clock: 0.0,
        accepts_reuse: false,
        turn: Some(Turn {
            rate: 150.0,
            round_seconds: 27.3,
            returning: Some(vec![0.33, 0.22, 0.15, 0.1, 0.07, 0.04]),
            refusal_seconds: 13.5,
            is_withdrawn: false,
            refused_share: 0.55,
            is_at_limit: false,
            next_met: None,
        }),
        chance: None,
        outgrown: None,
        circling: None,
        exhaustion_seconds: Some(f64::INFINITY),
        forecast_confidence: 1.0,
    }
}

fn watched_name() -> NameFigures {
    let none = Histogram { buckets: [0; BOUNDS + 1], sum_ns: 0 };
    let address = |host, standing, connections| AddressFigures {
        address: [192, 0, 2, host].into(),
        standing,
        came: Between { earliest_ns: None, latest_ns: 1 },
        left: None,
        connections,
        called_ns: 0,
        processes: Vec::new(),
        stale_use: None,
    };
    let mut resolve = none;
    (resolve.buckets[1], resolve.sum_ns) = (60, 90_000_000);
    let mut outage = none;
    (outage.buckets[7], outage.sum_ns) = (1, 4_250_000_000);
    NameFigures {
        id: WatchId { name: Arc::from("db-writer.example"), port: 3306 },
        every: Duration::from_secs(1),
        listed: 1,
        addresses: vec![address(1, Standing::Stale, 3), address(2, Standing::Listed, 5)],
        changes: Vec::new(),
        outcomes: [58, 0, 1, 1],
        resolve,
        parts: [none, none, none, outage],
        last: Some((1, Outcome::Answered, None)),
    }
}

pub fn snapshot() -> Snapshot {
    let mut nat = account(Some((Peer::Group(Arc::from("seoul \"nat\"")), 443)), Direction::Inbound);
    nat.counters.connections = 42;
    nat.counters.closes[ClosedBy::Local as usize] = 41;
    nat.counters.syn_retries = 3;
    nat.counters.lifetime.buckets[2] = 40;
    nat.counters.lifetime.buckets[12] = 1;
    nat.counters.lifetime.sum_ns = 7_200_000_000_000;
    nat.counters.reuse.buckets[7] = 5;
    nat.sockets[state::TIME_WAIT as usize] = 41;
    nat.counters.time_wait_accepted = 4;
    nat.counters.reuse_clocks = [5, 2];
    nat.counters.time_wait_refused = [5, 1, 2];
    nat.counters.refused_connected = [2, 1, 0];
    nat.gave_up = 3;
    nat.counters.challenged_syns[1] = 9;
    nat.counters.challenged_duplicates = 1;
    nat.counters.challenged_connected = [1, 0, 0];
    nat.challenged_gave_up = 2;
    nat.pool = Some(pool());
    let mut backend = account(Some((Peer::Address([192, 0, 2, 1].into()), 5432)), Direction::Outbound);
    backend.counters.connect_lost_ns = 14_500_000_000;
    backend.calls = Calls { last_success_ns: 90_000_000_000, ..Calls::default() };
    backend.callers = vec![Arc::from("httpd"), Arc::from("a\"b")];
    backend.stalled = 3;
    nat.counters.aborted_early = 6;
    let mut sockets = [0; STATES];
    sockets[state::TIME_WAIT as usize] = 41;
    sockets[state::LISTEN as usize] = 1;
    let probe = |probe, mode, runs| ProbeFigures { probe, hook: format!("tcp:{probe}"), mode, runs };
    let runs = RunFigures { runs: 10, seconds: Some(0.000_001), missed: Some(0) };
    Snapshot {
        accounts: vec![nat, backend, account(None, Direction::Inbound), account(None, Direction::Outbound)],
        groups: Arc::default(),
        tells: Tells {
            retransmits: true,
            synack_retries: true,
            resets_peer: true,
            resets_local: true,
            time_wait: true,
            challenged: true,
            syn_watch: false,
            stalled: true,
            aborted_early: true,
            timestamps: true,
        },
        taken: Clocks { monotonic_ns: 100_000_000_000, unix_seconds: 1_795_000_100.5 },
        refused_reuses: Arc::default(),
        refused_reuses_before: 0,
        names: [watched_name()].into(),
        failovers: Arc::default(),
        host: HostFigures {
            sockets,
            time_wait_buckets: 41,
            time_wait_buckets_limit: Some(131_072),
            listen_queues: vec![QueueFigures { port: 443, waiting: 2, limit: 4096, sockets: Vec::new() }],
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
                without_account: 3,
                drift: -1,
                lasting_drift: -1,
                interval: Duration::from_secs(1),
            },
            challenged_drift: Some(-2),
            peers: 2,
            peers_evicted: 1,
            recorded_peers: 1,
            notifications: vec![NotificationFigures {
                receiver: Arc::from("ops"),
                delivered: 5,
                failed: 2,
                rejected: 0,
                superseded: 1,
                dropped: 0,
            }],
            state_last_save_successful: true,
            history: Some(HistoryFigures { trouble: None, bytes: 65_536, limit_bytes: 268_435_456 }),
            config_last_reload_successful: true,
            cpu_seconds: 0.5,
            resident_bytes: 8_000_000,
            open_fds: 30,
            start_time_seconds: 1_795_000_000.25,
        },
    }
}

pub fn alerts() -> AlertView {
    let nat = |direction| {
        let peer = Peer::Group(Arc::from("seoul \"nat\""));
        Subject::Account(AccountId { peer, port: 443, direction })
    };
    let raised = Alert {
        name: AlertName::PortReuseRefused,
        subject: nat(Direction::Inbound),
        severity: Severity::Critical,
        since: 1_795_000_000,
        text: String::new(),
        figure: Figure { measure: "refused_per_minute", value: 8.0, limit: 1.0 },
        exhausted_at: None,
        reach: Reach::default(),
        announced: true,
    };
    AlertView { raised: vec![raised], quiet: vec![(AlertName::SynRetriesHigh, nat(Direction::Outbound))] }
}
