//! Who holds which sockets: against `ss` per peer, and against the kernel's own count at 200,000 TIME_WAIT sockets.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Config, Metrics, Series},
    attaching::exact,
    eventually,
    inconclusive::{self, Count},
    topology::{Family, Pair, address, pair},
    traffic::{First, Traffic},
    truth,
};

lab::scenarios! {
    Others 5 s:
        every_source_agrees_with_ss_on_every_state;
    Staged 30 s:
        pools_fill_between_two_censuses;
    Staged 20 s:
        two_hundred_thousand_time_waits_of_three_peers;
}

/// The three addresses of the client host.
const PEERS: [u8; 3] = [11, 12, 13];
const PORTS: [u16; 2] = [443, 8443];
/// Per peer and port; six times this is a bit over 200,000.
const EACH: usize = 33_340;

fn time_wait_by_peer(metrics: &Metrics) -> BTreeMap<(IpAddr, u16), u64> {
    time_wait(metrics.sockets("inbound"))
}

fn time_wait(sockets: truth::Sockets) -> BTreeMap<(IpAddr, u16), u64> {
    let in_time_wait =
        sockets.into_iter().filter(|((peer, _, state), _)| state == "time_wait" && !peer.is_loopback());
    in_time_wait.map(|((peer, port, _), count)| ((peer, port), count)).collect()
}

fn two_hundred_thousand_time_waits_of_three_peers() {
    let pair = pair();
    pair.server.sysctl("net.ipv4.tcp_max_tw_buckets", "400000");
    for peer in PEERS {
        pair.client.sh(&format!("ip addr add {}/24 dev eth0", address(Family::V4, peer)));
    }
    let agent = Agent::start(&pair.server, &[]);
    let _exact = exact();
    // Of its own; pages of the program itself are read in as its parts are first used.
    let memory = || agent.own_memory_kib();
    let before = memory();

    let server_address = Pair::server_address(Family::V4);
    let servers = PORTS.map(|port| Traffic::drain(&pair.server, server_address, port, EACH * PEERS.len()));
    let clients: Vec<Traffic> = PORTS
        .into_iter()
        .flat_map(|port| PEERS.map(|peer| (port, peer)))
        .map(|(port, peer)| {
            Traffic::flood(&pair.client, address(Family::V4, peer), server_address, port, EACH)
        })
        .collect();
    clients.into_iter().for_each(Traffic::finish);
    servers.into_iter().for_each(Traffic::finish);

    let expected: BTreeMap<_, _> = PEERS
        .into_iter()
        .flat_map(|peer| PORTS.map(|port| ((address(Family::V4, peer), port), EACH as u64)))
        .collect();
    // Per peer, against ss. (Not against the number of connections: on two CPUs a segment now and then reaches the
    // client after its socket is gone, and the client's RST ends the TIME_WAIT here.) A census of so many sockets takes
    // its time, so the agent takes one seldom; the next must show them all.
    eventually(Duration::from_secs(40), || {
        let ours = time_wait_by_peer(&agent.scrape());
        let theirs = time_wait(truth::sockets_by_local_port(&pair.server));
        if ours == theirs { Ok(()) } else { Err(format!("TIME_WAIT per peer: {ours:?}; ss: {theirs:?}")) }
    });
    assert_eq!(agent.scrape().value("census_lasting_drift_sockets", &[]), Some(0.0), "while they came, too");
    // In total, against the kernel's own count. Scraping would leave a TIME_WAIT of its own between the two.
    eventually(Duration::from_secs(20), || {
        let before = truth::time_wait_buckets(&pair.server);
        let census = Agent::once(&pair.server, &[], &["census", "--json", "--census", "iter"]);
        let after = truth::time_wait_buckets(&pair.server);
        let report: serde_json::Value = serde_json::from_str(&census.stdout).expect("JSON");
        let sum: u64 = ["inbound", "outbound"]
            .into_iter()
            .flat_map(|direction| sockets(&report, direction))
            .filter(|((_, _, state), _)| state == "time_wait" || state == "fin_wait2")
            .map(|(_, count)| count)
            .sum();
        assert!(sum > 190_000, "the flood left {sum} TIME_WAITs only");
        if (sum, sum) == (before, after) {
            Ok(())
        } else {
            Err(format!("{sum} mini-sockets; sockstat: {before}, {after}"))
        }
    });
    let metrics = agent.scrape();
    // The agent counts less often as counting costs more, to stay within its hundredth of a core.
    let cost = metrics.value("census_seconds", &[]).expect("it has counted");
    let interval = metrics.value("census_interval_seconds", &[]).expect("it will count again");
    assert!(
        cost > 0.0 && (interval >= 60.0 || cost <= interval * 0.010_001),
        "{cost} s of CPU every {interval} s"
    );

    // A connection whose last segment was lost waits for its retransmission before it has a lifetime.
    // Of all peers together: what the kernel leaves out, it leaves out of any of them.
    let counts = |metrics: &Metrics| -> Vec<Count> {
        let families: [(&str, &[(&str, &str)]); 3] = [
            ("peer_connections_total", &[]),
            ("peer_closes_total", &[("by", "local")]),
            ("peer_connection_seconds", &[]),
        ];
        let of_all = |(family, labels)| {
            let (mut told, mut truth) = (0, 0);
            for ((peer, port), &right) in &expected {
                let (peer, port) = (peer.to_string(), port.to_string());
                let series = Series { peer: &peer, port: &port, direction: "inbound" };
                let got = metrics.peer(family, series, labels);
                assert!(got <= right, "{family} of {series:?}: {got}, but only {right} were made");
                (told, truth) = (told + got, truth + right);
            }
            Count { what: format!("{family} of all peers"), told, truth }
        };
        families.into_iter().map(of_all).collect()
    };
    inconclusive::hold(&agent, Duration::from_secs(40), counts);

    let grown = memory().saturating_sub(before);
    // 200,000 sockets remembered one by one, in 16 bytes each, would take 3,125 KiB. What is kept of the ports of a peer is bounded: which came
    // here lately, and the last SYNs (docs/operating.md, `tracked_peers`).
    let of_ports = (PEERS.len() * PORTS.len()) as u64 * 112;
    assert!(grown < 2 * 1024 + of_ports, "its memory grew by {grown} KiB");
}

/// Source ports of a client, and how many of them are taken when it is looked.
const POOL: u64 = 4_000;
const TAKEN: [u64; 3] = [500, 1_000, 1_500];

/// A census of very many sockets is taken once a minute. Meanwhile pools are followed by the counters, which are read each second.
fn pools_fill_between_two_censuses() {
    let pair = pair();
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    pair.client.sysctl("net.ipv4.ip_local_port_range", &format!("20000 {}", 19_999 + POOL));
    let config = Config::new(&format!(
        "[census]\nmin_interval = \"1m\"\n[[peer]]\nname = \"gateway\"\ncidrs = [\"{client}\"]\nport_pool = \"20000-{}\"\n",
        19_999 + POOL
    ));
    let agent = Agent::start(&pair.server, &config.args());
    let _exact = exact();
    let port = PORTS[0];
    let _service = Traffic::welcome(&pair.server, server, port, 60, First::Server);
    let _load = Traffic::pace(&pair.client, server, port, 30, 100.0, First::Server);
    let taken = || -> u64 {
        let sockets = truth::sockets_by_local_port(&pair.server);
        sockets
            .iter()
            .filter(|((peer, to, _), _)| (*peer, *to) == (client, port))
            .map(|(_, count)| count)
            .sum()
    };
    for enough in TAKEN {
        eventually(Duration::from_secs(25), || {
            let before = taken();
            let metrics = agent.scrape();
            let ratio = metrics.value("peer_pool_used_ratio", &[("peer", "gateway")]).unwrap_or_default();
            let (told, after) = (ratio * POOL as f64, taken());
            let counted = metrics.value("census_sockets", &[]).expect("it has counted");
            // The one census there was came before the load; what is told is of the last second and a half.
            assert!(counted < 100.0, "another census has been taken");
            let right = before as f64 - 200.0..=after as f64 + 0.5;
            if before >= enough && right.contains(&told) {
                return Ok(());
            }
            Err(format!("{told:.1} ports are taken, it tells; {before} to {after}, ss"))
        });
    }
}

/// One of each state that can be held still, in both directions, IPv4, IPv6 and v4-mapped.
fn every_source_agrees_with_ss_on_every_state() {
    let pair = pair();
    let mut held = Vec::new();
    for family in [Family::V4, Family::V6] {
        let (client, server) = (Pair::client_address(family), Pair::server_address(family));
        let any = IpAddr::from([0_u16; 8]);
        // Established; half-closed by the client; closed by us only (FIN_WAIT2 here); TIME_WAIT here. The listener of
        // each goes away after its last connection, so one more keeps listening on the same port.
        let plays = [
            (6001, "hold", "hold"),
            (6002, "hold", "shut,hold"),
            (6003, "close", "read,hold"),
            (6004, "close", "read,close"),
        ];
        for (port, from_server, from_client) in plays {
            let port = port + if family == Family::V6 { 100 } else { 0 };
            let accepted = Traffic::serve(&pair.server, any, port, 3, from_server);
            let mut connected = Traffic::connect(&pair.client, server, port, 3, from_client);
            connected.connected();
            held.push(accepted);
            held.push(connected);
            held.push(Traffic::serve(&pair.server, any, port, 1, "hold"));
        }
        // The same the other way round, so that the server host has outbound ones.
        let accepted = Traffic::serve(&pair.client, client, 6201, 2, "hold");
        let mut connected = Traffic::connect(&pair.server, client, 6201, 2, "hold");
        connected.connected();
        held.push(accepted);
        held.push(connected);
        // SYN_SENT towards nobody.
        let nobody = address(family, 99);
        pair.server.sh(&format!("ip neigh add {nobody} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"));
        held.push(Traffic::connect(&pair.server, nobody, 6301, 1, "hold"));
    }
    for source in ["iter", "netlink"] {
        eventually(Duration::from_secs(10), || {
            let theirs_in = truth::sockets_by_local_port(&pair.server);
            let theirs_out = truth::sockets_by_remote_port(&pair.server);
            let census = Agent::once(&pair.server, &[], &["census", "--json", "--census", source]);
            assert_eq!(census.code, Some(0), "{census:?}");
            let report: serde_json::Value = serde_json::from_str(&census.stdout).expect("JSON");
            assert_eq!(report["source"], source);
            let (inbound, outbound) = (sockets(&report, "inbound"), sockets(&report, "outbound"));
            let states: Vec<_> =
                inbound.keys().chain(outbound.keys()).map(|(_, _, state)| state.as_str()).collect();
            for state in ["established", "close_wait", "fin_wait2", "syn_sent", "time_wait"] {
                if !states.contains(&state) {
                    return Err(format!("{source} knows no {state}: {report}"));
                }
            }
            // A connection is under our port when we accepted it, else under the peer's: each list of ss holds the
            // others under their far ports, which no list of ours may have.
            let wrong_in = inbound.iter().find(|(key, count)| theirs_in.get(*key) != Some(*count));
            let wrong_out = outbound.iter().find(|(key, count)| theirs_out.get(*key) != Some(*count));
            let all: u64 = inbound.values().chain(outbound.values()).sum();
            let theirs: u64 = theirs_in.values().sum();
            if wrong_in.is_none() && wrong_out.is_none() && all == theirs {
                return Ok(());
            }
            Err(format!(
                "{source}: {wrong_in:?} {wrong_out:?}, {all} sockets; ss: {theirs} sockets, {theirs_in:?}"
            ))
        });
    }
    drop(held);
}

fn sockets(report: &serde_json::Value, direction: &str) -> truth::Sockets {
    let peers = report["peers"].as_array().expect("a list of peers");
    let mut sockets = truth::Sockets::new();
    for line in peers.iter().filter(|line| line["direction"] == direction) {
        let peer: IpAddr = line["peer"].as_str().expect("a peer").parse().expect("an address");
        let port = u16::try_from(line["port"].as_u64().expect("a port")).expect("a port");
        for (state, count) in line["sockets"].as_object().expect("counts by state") {
            let count = count.as_u64().expect("a count");
            if count > 0 {
                sockets.insert((peer, port, state.clone()), count);
            }
        }
    }
    sockets
}
