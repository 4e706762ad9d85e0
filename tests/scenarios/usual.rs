//! What looks like an incident and is none raises nothing.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use lab::{
    agent::{Agent, Series},
    alarms::exactly,
    attaching::exact,
    dns::Resolver,
    lan::{Lan, OURS},
    nginx::Nginx,
    story::Story,
    traffic::{First, Traffic},
};

lab::scenarios! {
    Staged 60 s:
        closes_health_checks_short_answers_idle_pools_and_slow_downloads;
}

const OTHERS: u8 = 20;
const WEB: u16 = 80;
const CLOSED: u16 = 9_001;
const POOL: u16 = 9_002;
const SLOW: u16 = 9_003;

/// Longer than a connection has to wait to be stalled, and than it has to be so.
const TIME: Duration = Duration::from_secs(22);

fn closes_health_checks_short_answers_idle_pools_and_slow_downloads() {
    let mut story = Story::quiet();
    usual(&mut story);
    story.end();
}

fn usual(story: &mut Story) {
    let lan = Lan::new();
    let (host, others) = (lan.host("usual", OURS), lan.host("others", OTHERS));
    let (ours, theirs) = (Lan::address(OURS), Lan::address(OTHERS));
    let any = IpAddr::from([0; 4]);
    let _web = Nginx::page(&host, &Resolver::at(theirs), WEB);
    let services = [
        Traffic::welcome(&others, any, CLOSED, 120, First::Client),
        Traffic::answer(&others, any, POOL, 120),
        Traffic::drip(&others, any, SLOW, 120, Duration::from_millis(500)),
    ];
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    let begun = Instant::now();
    // We close first, each time.
    let mut closing = Traffic::pace(&host, theirs, CLOSED, 20, 20.0, First::Client);
    // A pool that was in use, more of it than may wait; as many downloads that come along bit by bit.
    let mut pool = Traffic::connect(&host, theirs, POOL, 20, "write,peek,hold");
    let mut downloads = Traffic::connect(&host, theirs, SLOW, 20, "write,read");
    // Short answers, complete ones.
    let tier = SocketAddr::new(ours, WEB);
    let customers = Traffic::ask(&others, tier, 4, Duration::from_millis(50), Duration::from_secs(5));
    assert!(pool.connected().is_empty() && downloads.connected().is_empty(), "they are taken");
    // A balancer that looks whether the port is open.
    while begun.elapsed() < TIME {
        let mut checks = Traffic::connect(&others, ours, WEB, 5, "close");
        assert!(checks.connected().is_empty(), "the port is open");
        checks.finish();
        thread::sleep(Duration::from_millis(500));
    }
    let (connected, failed) = closing.paced();
    let pages = customers.told();
    exactly(story, &agent, &[], Duration::ZERO);

    story.holds(failed == 0 && connected > 0, format!("{failed} calls failed, and {connected} did not"));
    let served = pages.iter().filter(|page| page.outcome == "200").count();
    story.holds(served > 100 && served == pages.len(), format!("{served} of {} pages", pages.len()));
    let (peer, port) = (theirs.to_string(), CLOSED.to_string());
    let of = Series { peer: &peer, port: &port, direction: "outbound" };
    story.same_count("connections", connected, &agent, || {
        agent.scrape().peer("peer_connections_total", of, &[])
    });
    let by_us = || agent.scrape().peer("peer_closes_total", of, &[("by", "local")]);
    story.same_count("closes by us", connected, &agent, by_us);
    let failures = || agent.scrape().sum("peer_connect_failures_total", "outbound", None);
    story.same("failures", &0, failures);
    for port in [POOL, SLOW] {
        let port = port.to_string();
        let of = Series { peer: &peer, port: &port, direction: "outbound" };
        let open = || agent.scrape().peer("peer_sockets", of, &[("state", "established")]);
        story.same("open connections", &20, open);
        story.same("stalled connections", &0, || agent.scrape().peer("peer_stalled_sockets", of, &[]));
    }
    let web = Series { peer: &peer, port: "80", direction: "inbound" };
    story.same("aborted connections", &0, || agent.scrape().peer("peer_aborted_early_total", web, &[]));
    drop((pool, downloads, services));
}
