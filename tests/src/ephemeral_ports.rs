//! A host with few ports of its own that connects anew for every call, and closes first.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    agent::Agent,
    alarms::{Alarm, exactly},
    attaching::exact,
    host::Host,
    lan::{Lan, OURS},
    reports,
    story::Story,
    traffic::{First, Traffic},
    truth,
};

/// The service's port.
pub const PORT: u16 = 9000;

/// The service's addresses, from here on.
const SERVICE: u8 = 61;

/// What `net.ipv4.ip_local_port_range` leaves, without those that are reserved.
const RANGE: &str = "40000 40063";
const RESERVED: &str = "40010-40013";
const PORTS: u64 = 60;

/// Connections a second, and for how long: nearly all ports are taken then.
const RATE: f64 = 3.0;
const SECONDS: usize = 18;

/// So far from the truth the last forecast may be.
const NEAR: f64 = 5.0;

/// Plays it, with the calls spread over so many addresses; only one address is too few.
pub fn play(story: &mut Story, addresses: u8) {
    let lan = Lan::new();
    let host = lan.host("caller", OURS);
    host.sysctl("net.ipv4.ip_local_port_range", RANGE);
    host.sysctl("net.ipv4.ip_local_reserved_ports", RESERVED);
    let service = lan.host("service", SERVICE);
    let services: Vec<IpAddr> = (SERVICE..SERVICE + addresses).map(Lan::address).collect();
    for number in SERVICE + 1..SERVICE + addresses {
        Lan::add_address(&service, "eth0", number);
    }
    let _service = Traffic::welcome(&service, [0; 4].into(), PORT, 120, First::Client);
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    story.note(format_args!("{RATE} connections a second to {addresses} addresses, from {PORTS} ports"));
    let begun = Instant::now();
    let rate = RATE / f64::from(addresses);
    let mut calls: Vec<Traffic> = services
        .iter()
        .map(|address| Traffic::pace(&host, *address, PORT, SECONDS, rate, First::Client))
        .collect();
    let mut forecasts = Vec::new();
    let of = |address: &IpAddr, name: &str, label: &[(&str, &str)]| {
        let (peer, port) = (address.to_string(), PORT.to_string());
        let labels = [("peer", peer.as_str()), ("port", &port), ("direction", "outbound")];
        agent.scrape().value(name, &[&labels, label].concat())
    };
    let (connected, failed) = calls[0].watch_pace(|_, _| {
        if let Some(left) = of(&services[0], "peer_pool_exhaustion_seconds", &[]) {
            forecasts.push(begun.elapsed().as_secs_f64() + left);
        }
    });
    story.holds(connected > 0 && failed == 0, format_args!("{connected} calls came about, {failed} failed"));
    calls[1..].iter_mut().for_each(|call| {
        call.paced();
    });
    if addresses == 1 {
        let full = PORTS as f64 / RATE;
        let last = forecasts.last().copied().unwrap_or(f64::NAN);
        story.note(format_args!("all ports would be taken after {full:.0} s; foretold: {forecasts:.0?}"));
        story.holds((last - full).abs() < NEAR, format_args!("foretold for {last} s, and {full} s is right"));
    }
    let due = Alarm::outbound("EphemeralPortsNearLimit", services[0], PORT);
    let due = if addresses == 1 { vec![due] } else { Vec::new() };
    exactly(story, &agent, &due, Duration::from_secs(20));
    for address in &services {
        let taken = taken(&host, *address);
        story.holds(taken > 0, format_args!("no port is taken by {address}"));
        story.same(&format!("ports taken by {address}"), &Some((taken as f64, PORTS as f64)), || {
            let ratio = of(address, "peer_pool_used_ratio", &[])?;
            let size = of(address, "peer_pool_size", &[("source", "sysctl")])?;
            Some(((ratio * size).round(), size))
        });
    }
    let causes: &[&str] = if addresses == 1 { &["own_ports_too_few"] } else { &[] };
    reports::names(story, &agent, causes);
}

/// How many of our ports sockets towards one address keep, by ss.
fn taken(host: &Host, address: IpAddr) -> u64 {
    let sockets = truth::sockets_by_remote_port(host);
    sockets
        .iter()
        .filter(|((peer, port, _), _)| (*peer, *port) == (address, PORT))
        .map(|(_, count)| count)
        .sum()
}
