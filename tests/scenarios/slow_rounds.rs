//! Hosts that go round a few ports in a little more than the life of a TIME_WAIT: whether that matters hangs on their timestamps.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lab::{
    agent::{Agent, Series},
    attaching::exact,
    capture::{Capture, Clocks},
    eventually,
    host::Host,
    inconclusive::{self, Count},
    nat::{Nat, Pool, nat},
    topology::Family,
    traffic::{First, Traffic},
    truth,
};

use super::nat_pool::{PORT, known, pool};

lab::scenarios! {
    Staged 90 s:
        a_host_that_goes_round_its_ports_in_62_seconds_is_no_matter,
        two_hosts_behind_a_nat_that_goes_round_its_ports_in_62_seconds_are;
}

/// So few ports that a client goes round them in a little more than the life of a TIME_WAIT: no SYN meets one, and nearly all ports are in
/// TIME_WAIT all the time. A TIME_WAIT may last for 62.05 s: where a second has 250 ticks, the timers of 16 to 131 s end at multiples of 512 ticks
/// (kernel/time/timer.c, the levels of the wheel, 5.10 to 6.18).
const FEW: RangeInclusive<u16> = 40_000..=40_039;
const ROUND_SECONDS: f64 = 62.5;

/// What came of such a round.
struct SlowRound {
    /// When TimeWaitNearPoolLimit was first seen with each severity, since the epoch, and its last text.
    said: BTreeMap<String, Duration>,
    text: String,
    clocks: Clocks,
    /// SYNs that met a TIME_WAIT, and when the first of them was refused, since the epoch.
    met: u64,
    first_refused: Option<Duration>,
}

/// Lets the agent learn the ports from connections that leave no TIME_WAIT, then has the server close first for a round and some seconds.
/// `load` starts the clients: for so many seconds, at so many connections a second.
fn play_slow_round(net: &Nat, load: impl Fn(usize, f64, First) -> Vec<Traffic>) -> SlowRound {
    let (peer, server_address) = (Nat::address(Family::V4, 0), Nat::server_address(Family::V4));
    let ports = FEW.len();
    let agent = Agent::start(&net.server, &[]);
    let _exact = exact();
    let capture = Capture::start(&net.server);
    let service = Traffic::welcome(&net.server, server_address, PORT, 120, First::Client);
    for client in &mut load(14, 20.0, First::Client) {
        client.paced();
    }
    eventually(Duration::from_secs(10), || match known(&agent) {
        Some((_, size)) if size == ports as u64 => Ok(()),
        other => Err(format!("{other:?}, and there are {ports} ports")),
    });
    drop(service);

    let service = Traffic::welcome(&net.server, server_address, PORT, 120, First::Server);
    let (mut said, mut text, mut most) = (BTreeMap::new(), String::new(), 0);
    for client in &mut load(70, ports as f64 / ROUND_SECONDS, First::Server) {
        client.watch_pace(|_, _| {
            most = most.max(truth::time_waits(&net.server, &[peer], PORT));
            if let Some((severity, words)) = near_limit(&agent) {
                said.entry(severity).or_insert_with(since_epoch);
                text = words;
            }
        });
    }
    let wire = capture.stop();
    drop(service);
    let reuses = wire.reuses(peer, server_address, PORT);
    let first_refused = wire.first_refused(peer, server_address, PORT);
    // What makes it critical.
    assert!(most as f64 >= 0.95 * ports as f64, "{most} of {ports} ports were in TIME_WAIT");
    let clocks = wire.clocks(peer, server_address, PORT);
    let metrics = agent.scrape();
    let (peer, port) = (peer.to_string(), PORT.to_string());
    let series = Series { peer: &peer, port: &port, direction: "inbound" };
    let count = |what: &str, truth| Count {
        what: format!("connections whose timestamps are of the {what} clock"),
        told: metrics.peer("peer_port_reuse_clocks_total", series, &[("clock", what)]),
        truth,
    };
    let counts = [count("same", clocks.same), count("other", clocks.other)];
    inconclusive::compare(counts, &metrics).unwrap_or_else(|complaint| panic!("{complaint}"));
    SlowRound { said, text, clocks, met: reuses.accepted + reuses.refused(), first_refused }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Severity and text of TimeWaitNearPoolLimit, if it is raised.
fn near_limit(agent: &Agent<'_>) -> Option<(String, String)> {
    let (_, alerts) = agent.get("/api/v1/alerts")?;
    let alerts: serde_json::Value = serde_json::from_str(&alerts).ok()?;
    let of = alerts.as_array()?.iter().find(|alert| alert["alert"] == "TimeWaitNearPoolLimit")?;
    Some((of["severity"].as_str()?.to_owned(), of["text"].as_str()?.to_owned()))
}

fn a_host_that_goes_round_its_ports_in_62_seconds_is_no_matter() {
    let net = nat(&pool(Family::V4, false));
    // The host that is the NAT otherwise: its own connections, with its own ports.
    net.nat.sh("nft flush ruleset");
    let to = (Nat::server_address(Family::V4), PORT);
    let round = play_slow_round(&net, |seconds, rate, first| {
        vec![Traffic::pace_in_turn(&net.nat, &FEW, to, seconds, rate, first)]
    });
    assert_eq!(round.said, BTreeMap::new(), "{}", round.text);
    assert_eq!(round.met, 0, "no SYN met a TIME_WAIT");
    assert!(round.clocks.same > 200 && round.clocks.other == 0, "{:?}", round.clocks);
}

fn two_hosts_behind_a_nat_that_goes_round_its_ports_in_62_seconds_are() {
    let net = nat(&Pool { ports: Some(FEW), ..pool(Family::V4, false) });
    let to = Nat::server_address(Family::V4);
    // One makes twice as many connections as the other, so that a port does not come back to the same one each time.
    let round = play_slow_round(&net, |seconds, rate, first| {
        let pace =
            |(client, part): (&Host, f64)| Traffic::pace(client, to, PORT, seconds, rate * part, first);
        net.clients.iter().zip([2.0 / 3.0, 1.0 / 3.0]).map(pace).collect()
    });
    // A port may come back a little early. It was told before that its SYN would be refused.
    let critical_at = round.said.get("critical").copied();
    let before = round.first_refused.unwrap_or(Duration::MAX);
    assert!(critical_at.is_some_and(|at| at < before), "{critical_at:?}, {before:?}: {}", round.text);
    assert!(round.text.contains("had timestamps of another clock"), "{}", round.text);
    assert!(round.clocks.other > 50, "{:?}", round.clocks);
}
