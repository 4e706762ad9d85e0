//! Connections that a balancer has forgotten: the server still has them, and the balancer uses their ports again.
//!
//! On the wire it is the picture of incident I1 (SYN, bare ACK with an old number, SYN again, give up) with another cause.

use std::{net::IpAddr, thread, time::Duration};

use crate::{
    agent::{Agent, Metrics, Series},
    alarms::{Alarm, exactly},
    attaching::exact,
    capture::Capture,
    host::RESETS,
    reports,
    story::Story,
    topology::{Family, Pair, pair},
    traffic::Traffic,
    truth, within,
};

/// The server's port.
pub const PORT: u16 = 8_080;

/// Connections that are forgotten.
const FORGOTTEN: usize = 60;
/// Ports of them that are used again while the client's RSTs are lost.
const LOST: usize = 12;
/// And while they arrive.
const LET_THROUGH: usize = 8;

/// What is due.
#[must_use]
pub fn due() -> Alarm {
    Alarm::inbound("HalfOpenConnections", client(), PORT)
}

fn client() -> IpAddr {
    Pair::client_address(Family::V4)
}

/// Source ports of the client's connections that the server has, by `ss`.
fn open_ports(pair: &Pair) -> Vec<u16> {
    let text = pair.server.sh(&format!("ss -Htan state connected sport = :{PORT}"));
    let remote = |line: &str| line.split_whitespace().last()?.rsplit_once(':')?.1.parse().ok();
    text.lines().filter_map(remote).collect()
}

/// Connects from each of these ports, at the same time; returns how many connections came about.
fn connect_from(pair: &Pair, ports: &[u16]) -> usize {
    let server = Pair::server_address(Family::V4);
    let mut attempts: Vec<Traffic> =
        ports.iter().map(|&from| Traffic::connect_from(&pair.client, from, server, PORT, "close")).collect();
    attempts.iter_mut().map(Traffic::connected).filter(Vec::is_empty).count()
}

/// Plays it.
pub fn play(story: &mut Story) {
    let pair = pair();
    let server = Pair::server_address(Family::V4);
    let agent = Agent::start(&pair.server, &[]);
    let _exact = exact();
    pair.client.sysctl("net.ipv4.tcp_syn_retries", "3");
    let capture = Capture::start(&pair.server);
    let holding = Traffic::serve(&pair.server, server, PORT, FORGOTTEN, "hold");
    let mut clients = Traffic::connect(&pair.client, server, PORT, FORGOTTEN, "gate,linger0,close");
    story.holds(clients.connected().is_empty(), "not all connections came about");
    let all_open = within(Duration::from_secs(5), || match open_ports(&pair).len() {
        FORGOTTEN => Ok(()),
        other => Err(other),
    });
    story.holds(all_open.is_ok(), format_args!("{all_open:?} connections are open, not {FORGOTTEN}"));
    // The balancer forgets them, and what it sends to say so is lost.
    pair.client.lose(RESETS);
    clients.open_gate();
    clients.finish();
    let ports = open_ports(&pair);
    story.holds(ports.len() == FORGOTTEN, format_args!("the server has {} connections left", ports.len()));
    story.note(format_args!(
        "the balancer has forgotten {FORGOTTEN} connections; for the server they are open"
    ));

    let (lost, rest) = ports.split_at(LOST);
    let through = &rest[..LET_THROUGH];
    let connected = connect_from(&pair, lost);
    story.holds(connected == 0, format_args!("{connected} of {LOST} connected"));
    story.note(format_args!("it used {LOST} of their ports again, and none of these attempts connected"));
    exactly(story, &agent, &[due()], Duration::from_mins(1));

    pair.client.lose_nothing();
    let serving = Traffic::serve(&pair.server, server, PORT, LET_THROUGH, "read,close");
    let connected = connect_from(&pair, through);
    story.holds(connected == LET_THROUGH, format_args!("{connected} of {LET_THROUGH} connected"));
    story.note(format_args!("now the client's RSTs arrive: of {LET_THROUGH} attempts {connected} connected"));
    serving.finish();
    // Who gave up is known a while after.
    thread::sleep(Duration::from_secs(2));
    let wire = capture.stop().service(server, PORT);
    let kernel = truth::nstat(&pair.server, "TcpExtTCPSYNChallenge");
    figures(story, &agent, kernel, wire.syn_retries);
    reports::names(story, &agent, &["half_open_connections", "something_between"]);
    let report = agent.report(&[]);
    for (name, verdict) in [("pool_too_small", "rejected"), ("client_does_not_close", "follows")] {
        let hypotheses = report["hypotheses"].as_array().expect("hypotheses");
        let told = hypotheses.iter().find(|told| told["name"] == name);
        story.holds(
            told.is_some_and(|told| told["verdict"] == verdict),
            format_args!("{name}: {told:?}, not {verdict}"),
        );
    }
    holding.finish();
}

/// What the agent tells against the kernel's own count, the wire, and what was played.
fn figures(story: &mut Story, agent: &Agent<'_>, kernel: u64, syn_retries: u64) {
    let peer = client().to_string();
    let port = PORT.to_string();
    let of = Series { peer: &peer, port: &port, direction: "inbound" };
    let figure = |family, labels: &[(&str, &str)]| agent.scrape().peer(family, of, labels);
    story.holds(kernel > 0, "the kernel counted no SYN on an open connection");
    story.same_count("SYNs on connections in ESTABLISHED, by the kernel", kernel, agent, || {
        figure("peer_challenged_syns_total", &[("state", "established")])
    });
    story.same_count("SYNs sent again, on the wire", syn_retries, agent, || {
        figure("peer_syn_retries_total", &[])
    });
    for (end, truth) in [("gave_up", LOST), ("reset", LET_THROUGH), ("retry", 0)] {
        story.same_count(&format!("attempts that ended by {end}"), truth as u64, agent, || {
            figure("peer_challenged_attempts_total", &[("end", end)])
        });
    }
    story.same("the drift against the kernel", &Some(0.0), || {
        Metrics::value(&agent.scrape(), "challenged_drift_syns", &[])
    });
    let (status, body) = agent.get("/api/v1/events").expect("the agent answers");
    story.holds(status == 200, &body);
    let events: Vec<serde_json::Value> = serde_json::from_str(&body).expect("JSON");
    let told = |end: &str| {
        let records = events.iter().filter(|event| {
            event["event"] == "refused_reuse" && event["state"] == "established" && event["end"] == end
        });
        records.count()
    };
    story.holds(
        (told("gave_up"), told("reset")) == (LOST, LET_THROUGH),
        format_args!("/api/v1/events has {} that gave up, {} after a RST", told("gave_up"), told("reset")),
    );
}
