//! What is served: valid for Prometheus, bounded, grouped, and reloaded.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use lab::{
    agent::{Agent, Config, Metrics, Series},
    attaching::exact,
    eventually,
    topology::{Family, Pair, address, pair},
    traffic::Traffic,
    truth,
};
use rustix::process::Signal;

lab::scenarios! {
    Others 10 s:
        a_peer_of_which_only_a_syn_was_seen_is_forgotten;
    Others 5 s:
        promtool_and_the_endpoints,
        every_series_exists_from_the_start,
        groups_top_k_and_reload,
        a_peer_that_went_away_loses_its_series_and_is_counted;
}

const PORT: u16 = 8001;

/// `count` connections from one address of the client host.
fn traffic(pair: &Pair, from: u8, count: usize) {
    let _exact = exact();
    let server_address = Pair::server_address(Family::V4);
    let server = Traffic::drain(&pair.server, server_address, PORT, count);
    let client = Traffic::flood(&pair.client, address(Family::V4, from), server_address, PORT, count);
    client.finish();
    server.finish();
}

fn add_addresses(pair: &Pair, hosts: impl IntoIterator<Item = u8>) {
    for host in hosts {
        pair.client.sh(&format!("ip addr add {}/24 dev eth0", address(Family::V4, host)));
    }
}

fn promtool_and_the_endpoints() {
    let pair = pair();
    let agent = Agent::start(&pair.server, &["--web.telemetry-path", "/metrics"]);
    traffic(&pair, 1, 10);
    let inbound = Series { peer: "10.77.0.1", port: "8001", direction: "inbound" };
    eventually(Duration::from_secs(10), || {
        match agent.scrape().peer("peer_connections_total", inbound, &[]) {
            10 => Ok(()),
            count => Err(format!("{count} connections")),
        }
    });
    let metrics = agent.scrape();

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs (`cargo xtask setup` fetches it)");
    promtool
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(metrics.body.as_bytes())
        .expect("promtool reads");
    let verdict = promtool.wait_with_output().expect("promtool ends");
    let words = [verdict.stdout, verdict.stderr].concat();
    assert!(verdict.status.success() && words.is_empty(), "promtool: {}", String::from_utf8_lossy(&words));

    let lines: Vec<&str> = metrics.body.lines().filter(|line| !line.starts_with('#')).collect();
    let mut names: Vec<&str> =
        lines.iter().map(|line| line.rsplit_once(' ').expect("name and value").0).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "no series twice");

    for (path, status, content) in [
        ("/", 200, "<a href=\"/metrics\">"),
        ("/healthz", 200, "ok"),
        ("/readyz", 200, "ready"),
        ("/nothing", 404, ""),
    ] {
        let (got, body) = agent.get(path).expect("the agent serves");
        assert!(got == status && body.contains(content), "{path}: {got} {body}");
    }
}

fn every_series_exists_from_the_start() {
    let pair = pair();
    let metrics = Agent::start(&pair.server, &[]).scrape();
    for direction in ["inbound", "outbound"] {
        let other = Series { peer: "other", port: "other", direction };
        for name in [
            "peer_connections_total",
            "peer_retransmits_total",
            "peer_port_reuses_total",
            "peer_syn_retries_total",
        ] {
            let labels = [("peer", other.peer), ("port", other.port), ("direction", direction)];
            assert_eq!(metrics.value(name, &labels), Some(0.0), "{name}");
        }
        for by in ["local", "peer", "reset", "timeout"] {
            assert_eq!(metrics.peer("peer_closes_total", other, &[("by", by)]), 0);
        }
    }
    for map in ["peers", "half_open_peers", "connections", "closed_tuples"] {
        assert_eq!(metrics.value("lost_total", &[("map", map)]), Some(0.0));
    }
    for name in ["net.ipv4.tcp_max_tw_buckets", "net.ipv4.ip_local_port_range.low", "net.ipv4.tcp_timestamps"]
    {
        let value = metrics.value("sysctl", &[("name", name)]).expect("the setting is exported");
        assert!(value > 0.0, "{name}");
    }
}

fn groups_top_k_and_reload() {
    let pair = pair();
    let grouped =
        "[limits]\nexported_peers = 2\n[[peer]]\nname = \"gateways\"\ncidrs = [\"10.77.0.16/29\"]\n";
    let config = Config::new(grouped);
    let agent = Agent::start(&pair.server, &config.args());

    // Three of the group, five others; 8 · 20 + 1 + 2 + 3 + 4 + 5 connections.
    add_addresses(&pair, (16..19).chain(31..36));
    for host in (16_u8..19).chain(31..36) {
        let extra = usize::from(host.saturating_sub(30));
        traffic(&pair, host, 20 + extra);
    }
    let total = 8 * 20 + 15;
    let gateways = Series { peer: "gateways", port: "8001", direction: "inbound" };
    let left = truth::time_waits(&pair.server, &[16, 17, 18].map(|host| address(Family::V4, host)), PORT);
    assert!(left > 30, "{left} TIME_WAITs of 60 connections");
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let group = metrics.peer("peer_connections_total", gateways, &[]);
        let time_wait = metrics.peer("peer_sockets", gateways, &[("state", "time_wait")]);
        // Our scrapes are inbound connections, too, from the loopback; they are counted a little later.
        let sum = metrics.sum("peer_connections_total", "inbound", None);
        let ours: u64 = metrics
            .body
            .lines()
            .filter(|line| line.starts_with("tcpwarden_peer_connections_total{peer=\"127.0.0.1\""))
            .count() as u64;
        if (group, time_wait) == (60, left) && sum >= total && metrics.peers("inbound").len() <= 4 {
            return Ok(());
        }
        Err(format!(
            "the group has {group} connections and {time_wait} TIME_WAIT, all have {sum} (loopback {ours}); series for {:?}",
            metrics.peers("inbound")
        ))
    });
    let metrics = agent.scrape();
    assert!(metrics.peers("inbound").contains("other") && metrics.peers("inbound").contains("gateways"));
    assert!(!metrics.peers("inbound").contains("10.77.0.16"), "a member of a group has no series of its own");

    // A broken file leaves the old configuration in force and says so.
    config.write("[limits]\nexported_pears = 2\n");
    agent.signal(Signal::HUP);
    let reloaded = |agent: &Agent<'_>| agent.scrape().value("config_last_reload_successful", &[]);
    eventually(Duration::from_secs(10), || {
        if reloaded(&agent) == Some(0.0) { Ok(()) } else { Err("still content".to_owned()) }
    });
    assert!(agent.log().contains("exported_pears"), "{}", agent.log());
    assert_eq!(agent.scrape().peer("peer_connections_total", gateways, &[]), 60);

    // A right one takes effect: other names, everyone shown.
    config.write(&grouped.replace("gateways", "zones").replace("exported_peers = 2", "exported_peers = 50"));
    agent.signal(Signal::HUP);
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let zones = Series { peer: "zones", ..gateways };
        let time_wait = metrics.peer("peer_sockets", zones, &[("state", "time_wait")]);
        let peers = metrics.peers("inbound");
        if reloaded(&agent) == Some(1.0)
            && time_wait == left
            && peers.contains("10.77.0.35")
            && !peers.contains("gateways")
        {
            return Ok(());
        }
        Err(format!("zones have {time_wait} TIME_WAIT; series for {peers:?}"))
    });
}

fn a_peer_that_went_away_loses_its_series_and_is_counted() {
    let pair = pair();
    let config = Config::new("[limits]\nforget_after = \"2s\"\n");
    let agent = Agent::start(&pair.server, &config.args());
    // The client closes, so no TIME_WAIT keeps the account alive here.
    let server = Traffic::serve(&pair.server, Pair::server_address(Family::V4), PORT, 1, "read,close");
    let client = Traffic::connect(&pair.client, Pair::server_address(Family::V4), PORT, 1, "close");
    client.finish();
    server.finish();
    eventually(Duration::from_secs(10), || {
        let peers = agent.scrape().peers("inbound");
        if peers.contains("10.77.0.1") { Ok(()) } else { Err(format!("series for {peers:?} only")) }
    });
    eventually(Duration::from_secs(20), || {
        let metrics = agent.scrape();
        let evicted = metrics.value("peers_evicted_total", &[]);
        match (metrics.peers("inbound").contains("10.77.0.1"), evicted) {
            (false, Some(1.0..)) => Ok(()),
            other => Err(format!("still there, evicted: {other:?}")),
        }
    });
}

fn a_peer_of_which_only_a_syn_was_seen_is_forgotten() {
    let pair = pair();
    // What the server answers goes to the client's host, where nobody wants it; it gives up soon.
    pair.server.sh(&format!("ip route add 10.128.0.0/9 via {}", address(Family::V4, 1)));
    pair.server.sysctl("net.ipv4.tcp_synack_retries", "1");
    let config = Config::new("[limits]\nforget_after = \"2s\"\n");
    let agent = Agent::start(&pair.server, &config.args());
    let _service = Traffic::deaf(&pair.server, Pair::server_address(Family::V4), PORT, 8);
    let forged = ([10, 128, 0, 1], 1024).into();
    Traffic::syns(&pair.client, forged, Pair::server_address(Family::V4), PORT, 1, 1);
    let series = Series { peer: "10.128.0.1", port: "8001", direction: "inbound" };
    let half_open = |metrics: &Metrics| metrics.peer("peer_sockets", series, &[("state", "syn_recv")]);
    eventually(Duration::from_secs(10), || match half_open(&agent.scrape()) {
        1 => Ok(()),
        count => Err(format!("{count} half-open sockets")),
    });
    eventually(Duration::from_secs(30), || {
        let metrics = agent.scrape();
        match (metrics.peers("inbound").contains(series.peer), metrics.value("peers_evicted_total", &[])) {
            (false, Some(1.0..)) => Ok(()),
            other => Err(format!("still there, evicted: {other:?}")),
        }
    });
}
