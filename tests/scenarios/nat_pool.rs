//! Incident I1, small: three clients share the 64 source ports of a NAT, the server closes first, and a box on the way loses
//! what the server answers to SYNs it refuses.

use std::{net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Metrics, Series},
    attaching::exact,
    capture::{Capture, Reuses},
    eventually, inconclusive,
    nat::{Nat, Pool, nat},
    reports::supported,
    topology::Family,
    traffic::{First, Traffic},
    truth, within,
};

lab::scenarios! {
    Staged 40 s:
        a_lost_bare_ack_makes_the_client_repeat_its_syn_until_it_gives_up;
    Staged 30 s:
        a_bare_ack_that_arrives_makes_the_client_reset_and_connect;
    Staged 20 s:
        clients_whose_timestamps_let_every_reuse_be_accepted_are_no_matter,
        clients_that_close_first_are_no_matter;
    Staged 5 s:
        a_pool_of_connections_is_no_matter;
}

const PORT: u16 = 443;

/// The figures of the NAT's first address.
fn told(metrics: &Metrics, family: Family) -> Reuses {
    metrics.reuses(&Nat::address(family, 0).to_string(), PORT)
}

/// Plays `seconds` of load and holds what the agent told against the wire; returns what the wire told.
fn play(pool: &Pool, seconds: usize) -> Reuses {
    let net = nat(pool);
    let server_address = Nat::server_address(pool.family);
    let any = match pool.family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    let agent = Agent::start(&net.server, &[]);
    let _exact = exact();
    let capture = Capture::start(&net.server);
    let server = Traffic::welcome(&net.server, any, PORT, 60, First::Server);
    let mut clients: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| {
            // Few of their own, where the NAT leaves them: then the clients use the same.
            client.sysctl("net.ipv4.ip_local_port_range", "40000 40127");
            Traffic::pace(client, server_address, PORT, seconds, 10.0, First::Server)
        })
        .collect();
    for client in &mut clients {
        client.paced();
    }
    let wire = capture.stop().reuses(Nat::address(pool.family, 0), server_address, PORT);
    drop(server);
    compare(&agent, pool.family, wire);
    if pool.loses_bare_ack && wire.gave_up > 0 {
        assert_told(&agent);
    }
    wire
}

/// The report names the cause, and what makes it worse than a delay.
fn assert_told(agent: &Agent<'_>) {
    eventually(Duration::from_secs(20), || {
        let report = agent.report(&[]);
        let causes = supported(&report);
        if causes == ["pool_too_small", "something_between"] {
            Ok(())
        } else {
            Err(format!("{causes:?}: {report:#}"))
        }
    });
}

/// Holds what the agent tells against the wire.
fn compare(agent: &Agent<'_>, family: Family, wire: Reuses) {
    let compared = within(Duration::from_secs(15), || {
        let told = told(&agent.scrape(), family);
        if told == wire { Ok(()) } else { Err(told) }
    });
    let told = compared.err().unwrap_or(wire);
    let metrics = agent.scrape();
    if let Err(complaint) = inconclusive::compare(wire.counts(&told), &metrics) {
        panic!(
            "{complaint}\n{}",
            metrics.lines_with(&[
                "probe_missed_runs_total",
                "lost_total",
                "_total{peer=\"10.79",
                "seconds_count",
                "probe_runs_total"
            ])
        );
    }
}

fn pool(family: Family, loses_bare_ack: bool) -> Pool {
    Pool { family, addresses: 1, ports: Some(2048..=2111), loses_bare_ack }
}

fn a_lost_bare_ack_makes_the_client_repeat_its_syn_until_it_gives_up() {
    for family in [Family::V4, Family::V6] {
        let wire = play(&pool(family, true), 8);
        assert!(wire.accepted > 0 && wire.refused_by_ack > 0, "{wire:?}");
        assert!(wire.syn_retries > wire.gave_up && wire.gave_up > 0, "SYN, bare ACK, SYN x 3: {wire:?}");
    }
}

fn a_bare_ack_that_arrives_makes_the_client_reset_and_connect() {
    for family in [Family::V4, Family::V6] {
        let wire = play(&Pool { ports: None, ..pool(family, false) }, 12);
        assert!(wire.accepted > 0 && wire.refused_by_ack > 0, "{wire:?}");
        assert!(wire.connected_after_reset > 0, "{wire:?}");
    }
}

/// What the agent says though nothing is wrong.
fn words(agent: &Agent<'_>) -> Option<String> {
    let (status, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
    assert_eq!(status, 200, "{alerts}");
    let log = agent.log();
    (alerts != "[]" || log.contains("warn")).then(|| format!("{alerts}\n{log}"))
}

/// Plays a load through the pool of 64 ports that would fill it many times over, and hears nothing; returns the wire.
fn play_silently(first: First) -> Reuses {
    let net = nat(&pool(Family::V4, true));
    let server_address = Nat::server_address(Family::V4);
    for client in &net.clients {
        // The plain clock, the same for every connection: without it, a timestamp says nothing about another port's.
        client.sysctl("net.ipv4.tcp_timestamps", "2");
    }
    let agent = Agent::start(&net.server, &[]);
    let _exact = exact();
    let capture = Capture::start(&net.server);
    let server = Traffic::welcome(&net.server, server_address, PORT, 60, first);
    let mut paced: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, server_address, PORT, 12, 30.0, first))
        .collect();
    let mut said = None;
    for client in &mut paced {
        client.watch_pace(|_, _| said = said.take().or_else(|| words(&agent)));
    }
    let wire = capture.stop().reuses(Nat::address(Family::V4, 0), server_address, PORT);
    drop(server);
    said = said.or_else(|| words(&agent));
    assert_eq!(said, None, "on the wire was {wire:?}");
    // The pool is what the NAT's rule says, and what of it is taken, ss counts.
    let peer = Nat::address(Family::V4, 0);
    let text = peer.to_string();
    eventually(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let value = |name, labels: &[(&str, &str)]| {
            metrics.value(name, &[&[("peer", text.as_str())], labels].concat()).unwrap_or(f64::NAN)
        };
        let size = value("peer_pool_size", &[("source", "observed")]);
        let bounds = ["peer_source_port_min", "peer_source_port_max"].map(|name| value(name, &[]));
        let taken = value("peer_pool_used_ratio", &[]) * 64.0;
        let sockets = truth::sockets_by_local_port(&net.server);
        let mine = sockets.iter().filter(|((address, port, _), _)| (*address, *port) == (peer, PORT));
        let right: u64 = mine.map(|(_, count)| count).sum();
        let told = (size, bounds, taken.round());
        if told == (64.0, [2_048.0, 2_111.0], right as f64) {
            Ok(())
        } else {
            Err(format!("{told:?}, and {right} sockets by ss"))
        }
    });
    compare(&agent, Family::V4, wire);
    wire
}

fn clients_whose_timestamps_let_every_reuse_be_accepted_are_no_matter() {
    let wire = play_silently(First::Server);
    assert!(wire.accepted > 200 && wire.refused_by_ack == 0, "{wire:?}");
}

fn clients_that_close_first_are_no_matter() {
    let wire = play_silently(First::Client);
    assert_eq!((wire.accepted, wire.refused_by_ack), (0, 0), "no TIME_WAIT is left here");
}

fn a_pool_of_connections_is_no_matter() {
    let net = nat(&pool(Family::V4, true));
    let server_address = Nat::server_address(Family::V4);
    let agent = Agent::start(&net.server, &[]);
    let _exact = exact();
    let server = Traffic::serve(&net.server, server_address, PORT, 60, "hold");
    let mut clients: Vec<Traffic> =
        net.clients.iter().map(|client| Traffic::connect(client, server_address, PORT, 20, "hold")).collect();
    for client in &mut clients {
        assert_eq!(client.connected(), [""; 0]);
    }
    let peer = Nat::address(Family::V4, 0).to_string();
    let series = Series { peer: &peer, port: "443", direction: "inbound" };
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let ports = metrics.value("peer_source_ports", &[("peer", &peer)]);
        let sockets = metrics.peer("peer_sockets", series, &[("state", "established")]);
        if (ports, sockets) == (Some(60.0), 60) { Ok(()) } else { Err(format!("{ports:?} {sockets}")) }
    });
    assert_eq!(words(&agent), None);
    drop((clients, server));
}
