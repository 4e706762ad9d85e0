//! Incident I1, small: three clients share the 64 source ports of a NAT, the server closes first, and a box on the way loses
//! what the server answers to SYNs it refuses.

use std::{net::IpAddr, time::Duration};

use lab::{
    agent::{Agent, Metrics, Series},
    capture::{Capture, Reuses},
    eventually,
    nat::{Nat, Pool, nat},
    topology::Family,
    traffic::Traffic,
};

const PORT: u16 = 443;

/// The figures of the NAT's first address.
fn told(metrics: &Metrics, family: Family) -> Reuses {
    let peer = Nat::address(family, 0).to_string();
    let series = Series { peer: &peer, port: "443", direction: "inbound" };
    let value = |family, label: &[(&str, &str)]| metrics.peer(family, series, label);
    let answer = |answer| value("peer_time_wait_answers_total", &[("answer", answer)]);
    let end = |end| value("peer_refused_attempts_total", &[("end", end)]);
    let told = Reuses {
        accepted: value("peer_time_wait_syns_total", &[("outcome", "accepted")]),
        refused_by_ack: answer("ack"),
        refused_by_reset: answer("reset"),
        unanswered: answer("none"),
        syn_retries: value("peer_syn_retries_total", &[]),
        connected_after_reset: end("reset"),
        connected_by_retry: end("retry"),
        gave_up: end("gave_up"),
    };
    let refused = value("peer_time_wait_syns_total", &[("outcome", "refused")]);
    assert_eq!(refused, told.refused_by_ack + told.refused_by_reset + told.unanswered);
    told
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
    let capture = Capture::start(&net.server);
    let server = Traffic::hang_up(&net.server, any, PORT, 60);
    let mut clients: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| {
            // Few of their own, where the NAT leaves them: then the clients use the same.
            client.sysctl("net.ipv4.ip_local_port_range", "40000 40127");
            Traffic::pace(client, server_address, PORT, seconds, 10.0)
        })
        .collect();
    for client in &mut clients {
        client.paced();
    }
    let wire = capture.stop().reuses(server_address, PORT);
    drop(server);
    eventually(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let told = told(&metrics, pool.family);
        let missed = metrics
            .body
            .lines()
            .filter(|l| {
                l.contains("missed")
                    || l.contains("lost")
                    || l.contains("probe_runs_t")
                    || l.contains("evicted")
            })
            .collect::<Vec<_>>()
            .join("\n");
        if told == wire {
            Ok(())
        } else {
            Err(format!("the agent tells {told:#?}, the wire {wire:#?}\n{missed}"))
        }
    });
    wire
}

fn pool(family: Family, loses_bare_ack: bool) -> Pool {
    Pool { family, addresses: 1, ports: Some(2048..=2111), loses_bare_ack }
}

#[test]
fn a_lost_bare_ack_makes_the_client_repeat_its_syn_until_it_gives_up() {
    for family in [Family::V4, Family::V6] {
        let wire = play(&pool(family, true), 8);
        assert!(wire.accepted > 0 && wire.refused_by_ack > 0, "{wire:?}");
        assert!(wire.syn_retries > wire.gave_up && wire.gave_up > 0, "SYN, bare ACK, SYN x 3: {wire:?}");
    }
}

#[test]
fn a_bare_ack_that_arrives_makes_the_client_reset_and_connect() {
    for family in [Family::V4, Family::V6] {
        let wire = play(&Pool { ports: None, ..pool(family, false) }, 12);
        assert!(wire.accepted > 0 && wire.refused_by_ack > 0, "{wire:?}");
        assert!(wire.connected_after_reset > 0, "{wire:?}");
    }
}
