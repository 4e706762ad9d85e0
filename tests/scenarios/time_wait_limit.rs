//! A host that keeps fewer TIME_WAITs (net.ipv4.tcp_max_tw_buckets) than a round of a NAT's pool needs: only the ports whose TIME_WAIT it kept are
//! refused, and only they are forecast.

use std::time::{Duration, SystemTime};

use lab::{
    agent::{Agent, Config},
    alarms,
    attaching::exact,
    capture::Capture,
    eventually, inconclusive,
    nat::{Nat, Pool, nat},
    topology::Family,
    traffic::{First, Traffic},
    within,
};
use serde_json::Value;

lab::scenarios! {
    Staged 65 s:
        at_the_limit_only_ports_whose_time_wait_was_kept_are_forecast;
}

const PORT: u16 = 443;

/// Name of the NAT's address in the configuration.
const PEER: &str = "nat";

/// A round takes 13 s, and the limit is reached in 4 s.
const LOW: u16 = 2_048;
const PORTS: u16 = 1_000;
const RATE: f64 = 75.0;
const LIMIT: u64 = 300;

/// Four rounds and a half.
const SECONDS: usize = 58;

/// A forecast comes true within this time.
const SURE: f64 = 3.0;

/// As many ports as are handed out in so long: the agent knows of each second whether TIME_WAITs were kept.
const UNSURE_PORTS: f64 = 2.0 * RATE;

/// What the agent said.
#[derive(Debug)]
struct Forecast {
    /// When, in seconds since the epoch.
    at: f64,
    /// In so many seconds the first SYN meets a TIME_WAIT.
    left: f64,
    /// It and those after it come from these ports.
    ports: Option<(f64, f64)>,
}

/// What the agent says now of the NAT.
fn forecast(agent: &Agent<'_>) -> Option<Forecast> {
    let at = since_epoch(SystemTime::now());
    let (_, text) = agent.get(&format!("/api/v1/peers/{PEER}"))?;
    let accounts: Value = serde_json::from_str(&text).ok()?;
    let pool = &accounts[0]["pool"];
    let left = pool["seconds_left"].as_f64()?;
    let said = pool["turn"]["text"].as_str().unwrap_or_default();
    let ports = said.split_once("next ports ").and_then(|(_, ports)| {
        let (first, last) = ports.split_once(" to ")?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some(Forecast { at, left, ports })
}

fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn at_the_limit_only_ports_whose_time_wait_was_kept_are_forecast() {
    let pool =
        Pool { family: Family::V4, addresses: 1, ports: Some(LOW..=LOW + PORTS - 1), loses_bare_ack: true };
    let net = nat(&pool);
    net.server.sysctl("net.ipv4.tcp_max_tw_buckets", &LIMIT.to_string());
    let (peer, server) = (Nat::address(Family::V4, 0), Nat::server_address(Family::V4));
    // A pool that is not known must be seen for a round more.
    let config = Config::new(&format!(
        "[[peer]]\nname = \"{PEER}\"\ncidrs = [\"{peer}\"]\nport_pool = \"{LOW}-{}\"\n",
        LOW + PORTS - 1
    ));
    let agent = Agent::start(&net.server, &config.args());
    let _exact = exact();
    let capture = Capture::start(&net.server);
    let service = Traffic::welcome(&net.server, server, PORT, SECONDS + 30, First::Server);
    let rate = RATE / net.clients.len() as f64;
    let mut clients: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, server, PORT, SECONDS, rate, First::Server))
        .collect();
    let mut forecasts = Vec::new();
    let mut clients = clients.iter_mut();
    let first = clients.next().expect("three clients");
    first.watch_pace(|_, _| forecasts.extend(forecast(&agent)));
    let end = since_epoch(SystemTime::now());
    for client in clients {
        client.paced();
    }
    eventually(Duration::from_secs(5), || {
        let raised = alarms::raised(&agent);
        let near = raised.keys().any(|alarm| alarm.alert == "TimeWaitNearBucketLimit");
        if near { Ok(()) } else { Err(format!("{raised:?}")) }
    });
    let wire = capture.stop();
    drop(service);

    let right = wire.reuses(peer, server, PORT);
    let told = within(Duration::from_secs(15), || {
        let told = agent.scrape().reuses(PEER, PORT);
        if told == right { Ok(told) } else { Err(told) }
    });
    let told = told.unwrap_or_else(|told| told);
    inconclusive::compare(right.counts(&told), &agent.scrape())
        .unwrap_or_else(|complaint| panic!("{complaint}"));
    assert!(right.refused() > 50, "{right:?}");

    let met: Vec<(f64, f64)> = wire
        .met(peer, server, PORT)
        .into_iter()
        .map(|(at, port)| (at.as_secs_f64(), f64::from(port)))
        .collect();
    let judged: Vec<&Forecast> =
        forecasts.iter().filter(|forecast| forecast.at + forecast.left + SURE < end).collect();
    for forecast in &judged {
        let due = forecast.at + forecast.left;
        assert!(
            met.iter().any(|(at, _)| (at - due).abs() <= SURE),
            "no SYN met a TIME_WAIT about {:.1} s before the end: {forecast:?}",
            end - due
        );
    }
    // Those of a run of ports to come.
    let ahead: Vec<&&Forecast> = judged.iter().filter(|forecast| forecast.left > SURE).collect();
    assert!(ahead.len() >= 6, "so few were ahead of it: {forecasts:?}");
    for forecast in ahead {
        let (first, last) = forecast.ports.unwrap_or_else(|| panic!("no ports are told: {forecast:?}"));
        let due = forecast.at + forecast.left;
        let run =
            met.iter().filter(|(at, _)| (due - SURE..due + f64::from(PORTS) / RATE - SURE).contains(at));
        // Round the pool, from the first port that was told.
        let half = f64::from(PORTS) / 2.0;
        let ahead = |port: f64| (port - first + half).rem_euclid(f64::from(PORTS)) - half;
        let ports: Vec<f64> = run.map(|&(_, port)| ahead(port)).collect();
        let bounds = [f64::INFINITY, f64::NEG_INFINITY];
        let [low, high] = ports.iter().fold(bounds, |[low, high], &port| [low.min(port), high.max(port)]);
        assert!(
            low.abs() <= UNSURE_PORTS && (ahead(last) - high).abs() <= UNSURE_PORTS,
            "those on the wire were {low} to {high} from the first one told: {forecast:?}"
        );
    }
}
