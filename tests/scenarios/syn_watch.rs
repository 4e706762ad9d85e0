//! The SYN watch: SYNs that leave no other trace, counted one by one.

use std::time::Duration;

use lab::{
    agent::{Agent, Config, Series},
    attaching::exact,
    capture::Capture,
    eventually,
    topology::{Family, Pair, pair},
    traffic::{First, Traffic},
};

lab::scenarios! {
    Staged 20 s:
        syns_dropped_because_the_accept_queue_is_full,
        syns_answered_by_cookies_that_get_lost;
}

const WATCH: &str = "[probe]\nsyn_watch = true\n";
const PORT: u16 = 8443;

/// Plays 15 connection attempts against a server, whose every SYN the agent must tell as the wire does.
fn play(family: Family, backlog: usize, prepare: fn(&Pair)) {
    let pair = pair();
    let config = Config::new(WATCH);
    prepare(&pair);
    let agent = Agent::start(&pair.server, &config.args());
    let _exact = exact();
    let capture = Capture::start(&pair.server);
    let (client, server) = (Pair::client_address(family), Pair::server_address(family));
    let listener = Traffic::deaf(&pair.server, server, PORT, backlog);
    Traffic::pace(&pair.client, server, PORT, 3, 5.0, First::Server).paced();
    let wire = capture.stop().service(server, PORT);
    drop(listener);
    assert!(wire.syns >= 15 && wire.syn_retries > 0, "SYNs went unanswered: {wire:?}");

    let peer = client.to_string();
    let series = Series { peer: &peer, port: "8443", direction: "inbound" };
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let told = ["peer_syns_total", "peer_syn_retries_total"].map(|name| metrics.peer(name, series, &[]));
        if told == [wire.syns, wire.syn_retries] { Ok(()) } else { Err(format!("{told:?}, not {wire:?}")) }
    });
    // The clients' side of the same wire belongs to another namespace, and nobody listens there.
    let metrics = agent.scrape();
    let scrapes = metrics.sum("peer_syns_total", "inbound", Some("127.0.0.1"));
    assert_eq!(metrics.sum("peer_syns_total", "inbound", None), wire.syns + scrapes);
}

fn syns_dropped_because_the_accept_queue_is_full() {
    for family in [Family::V4, Family::V6] {
        play(family, 1, |_| {});
    }
}

fn syns_answered_by_cookies_that_get_lost() {
    for family in [Family::V4, Family::V6] {
        play(family, 100, |pair| {
            pair.server.sysctl("net.ipv4.tcp_syncookies", "2");
            let lossy = "table inet lab { chain lossy { type filter hook input priority filter; \
                         iifname \"eth0\" tcp flags & (syn | ack) == (syn | ack) drop; }\n}\n";
            pair.client.feed("nft", &["-f", "-"], lossy);
        });
    }
}
