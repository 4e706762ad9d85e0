//! More than there is room for: bounded, conserved, counted, and said.

use std::{fs, time::Duration};

use lab::{
    agent::Agent,
    eventually,
    topology::{Family, Pair, address, pair},
    traffic::Traffic,
};
use tempfile::TempDir;

const PORT: u16 = 9001;
const PEERS: u8 = 90;
const EACH: usize = 3;

#[test]
fn more_peers_connections_and_tuples_than_there_is_room_for() {
    let pair = pair();
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("tcpwarden.toml");
    let small = "[limits]\npeers = 64\nconnections = 64\nclosed_tuples = 64\n";
    fs::write(&file, small).expect("a config file");
    let agent = Agent::start(&pair.server, &["--config.file", file.to_str().expect("a path")]);

    let server_address = Pair::server_address(Family::V4);
    let peers = 101..101 + PEERS;
    for peer in peers.clone() {
        pair.client.sh(&format!("ip addr add {}/24 dev eth0", address(Family::V4, peer)));
    }
    // 80 connections at the same time, to fill the map of connections.
    let held = Traffic::serve(&pair.server, server_address, PORT + 1, 80, "hold");
    let mut holding = Traffic::connect(&pair.client, server_address, PORT + 1, 80, "hold");
    holding.connected();
    let server = Traffic::drain(&pair.server, server_address, PORT, usize::from(PEERS) * EACH);
    for peer in peers {
        Traffic::flood(&pair.client, address(Family::V4, peer), server_address, PORT, EACH).finish();
    }
    server.finish();

    let total = u64::from(PEERS) * EACH as u64;
    eventually(Duration::from_secs(15), || {
        let metrics = agent.scrape();
        let lost = |map| metrics.value("lost_total", &[("map", map)]).unwrap_or_default();
        // Whoever finds no room is in `other`; scraping adds a few from the loopback.
        let loopback = metrics.sum("peer_connections_total", "inbound", Some("127.0.0.1"));
        let all = metrics.sum("peer_connections_total", "inbound", None) - loopback;
        let other = metrics.sum("peer_connections_total", "inbound", Some("other"));
        let time_wait: u64 = metrics
            .body
            .lines()
            .filter(|line| line.starts_with("tcpwarden_peer_sockets{") && line.contains("\"time_wait\""))
            .filter(|line| !line.contains("127.0.0.1") && line.contains("\"inbound\""))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum();
        let losses = ["peers", "connections", "closed_tuples"].map(lost);
        if all >= total + 80 && other > 0 && time_wait >= total && losses.iter().all(|&lost| lost > 0.0) {
            // What came from the loopback before its account had to share `other` is all that may come on top.
            assert!(all <= total + 80 + 200, "{all} connections, of which {total} and 80 were made");
            return Ok(());
        }
        Err(format!("{all} of {total} connections, {other} in other, {time_wait} TIME_WAIT, lost {losses:?}"))
    });
    let log = agent.log();
    for map in ["peers", "connections"] {
        assert!(log.contains(&format!("the map of {map} is full")), "the kernel side says so: {log}");
    }
    drop((held, holding));
}
