//! connect() where no local port is free: counted, told, and no failure of the destination.

use std::time::Duration;

use lab::{
    agent::{Agent, Series},
    alarms::{self, Alarm},
    attaching::exact,
    capture::Capture,
    eventually,
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
    Staged 10 s:
        a_call_without_a_free_port_is_no_failure_of_the_destination,
        a_call_without_a_free_port_by_classic_hooks_and_ipv6;
}

const PORT: u16 = 5_300;

/// Ports of the caller, and how many calls it makes towards one destination.
const PORTS: usize = 200;
const CALLS: usize = 400;
const BOUND: u16 = 52_000;

fn a_call_without_a_free_port_is_no_failure_of_the_destination() {
    calls_without_a_port("auto", Family::V4);
}

fn a_call_without_a_free_port_by_classic_hooks_and_ipv6() {
    calls_without_a_port("tracepoint", Family::V6);
}

fn calls_without_a_port(hooks: &str, family: Family) {
    let Pair { client, server } = &pair();
    let to = Pair::server_address(family);
    client.sysctl("net.ipv4.ip_local_port_range", &format!("40000 {}", 39_999 + PORTS));
    let agent = Agent::start(client, &["--hooks", hooks]);
    let _exact = exact();
    let capture = Capture::start(client);
    let _service = Traffic::serve(server, to, PORT, PORTS + 1, "hold");
    let mut calls = Traffic::connect(client, to, PORT, CALLS, "hold");
    let failed = calls.connected();
    let without_port =
        failed.iter().filter(|failure| failure.contains("Cannot assign requested address")).count();
    assert_eq!((failed.len(), without_port), (CALLS - PORTS, CALLS - PORTS), "{:?}", failed.first());
    // A port of its own choice that is taken towards the destination, and one that is free.
    let mut bound = Traffic::connect_from(client, BOUND, to, PORT, "hold");
    assert_eq!(bound.connected().len(), 0);
    let mut taken = Traffic::connect_from(client, BOUND, to, PORT, "hold");
    assert_eq!(taken.connected().len(), 1);
    let wire = capture.stop().service(to, PORT);
    assert_eq!(wire.syns, PORTS as u64 + 1, "SYNs for those that have a port");

    let alarm = Alarm::outbound("EphemeralPortsNearLimit", to, PORT);
    let says = format!("{without_port} connect() calls failed in the last minute");
    let is_raised = || alarms::raised(&agent).get(&alarm).is_some_and(|text| text.contains(&says));
    eventually(Duration::from_secs(10), || {
        let metrics = agent.scrape();
        let (peer, port) = (to.to_string(), PORT.to_string());
        let series = Series { peer: &peer, port: &port, direction: "outbound" };
        let told = |name, extra: &[(&str, &str)]| metrics.peer(name, series, extra);
        let failures = ["no_port", "abandoned", "other", "timeout", "refused", "unreachable", "reset"]
            .map(|reason| told("peer_connect_failures_total", &[("reason", reason)]));
        let connections = told("peer_connections_total", &[]);
        // Nothing failed on the way: no success is followed by a failure, and no time was lost.
        let failed_at =
            metrics.value("peer_last_failure_timestamp_seconds", &[("peer", &peer), ("port", &port)]);
        let right = (failures, connections) == ([without_port as u64, 0, 1, 0, 0, 0, 0], wire.connections);
        if right && failed_at.is_none() && is_raised() {
            return Ok(());
        }
        Err(format!(
            "{failures:?}, {connections} of {} connections, last failure {failed_at:?}",
            wire.connections
        ))
    });
    eventually(Duration::from_secs(15), || {
        let report = agent.report(&[]).to_string();
        let names_it = format!(
            "{without_port} connect() calls to {to} port {PORT} failed because no local port was free"
        );
        if report.contains(&names_it) { Ok(()) } else { Err(report) }
    });
    drop((calls, bound, taken));
}
