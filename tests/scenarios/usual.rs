//! What looks like an incident and is none raises nothing.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use lab::{
    aborted_early::{self, Entrance, Tls},
    agent::{Agent, Series},
    alarms::{Alarm, exactly, raised},
    attaching::exact,
    dns::Resolver,
    lan::{Lan, OURS},
    nginx::Nginx,
    story::Story,
    traffic::{Dialogue, First, Traffic},
    truth, within,
};

lab::scenarios! {
    Staged 110 s:
        half_closes_that_are_answered_late_and_a_queue_of_two,
        short_answers_beside_a_service_that_is_updated,
        long_waits_by_design_pools_in_advance_and_words_that_nobody_answers;
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

const LATE: u16 = 9_004;
const NARROW: u16 = 9_005;

/// So long an answer takes.
const WORK: Duration = Duration::from_secs(40);

fn half_closes_that_are_answered_late_and_a_queue_of_two() {
    let mut story = Story::quiet();
    late_answers(&mut story);
    story.end();
}

fn late_answers(story: &mut Story) {
    let lan = Lan::new();
    let (host, others) = (lan.host("usual", OURS), lan.host("others", OTHERS));
    let (ours, theirs) = (Lan::address(OURS), Lan::address(OTHERS));
    let service = Traffic::work(&host, ours, LATE, 180, WORK);
    // listen(fd, 1): two may wait, and one does.
    let narrow = Traffic::deaf(&host, ours, NARROW, 1);
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    let mut waits = Traffic::connect(&others, ours, NARROW, 1, "hold");
    assert!(waits.connected().is_empty(), "it is in the queue");
    // 2 a second: 80 are in CLOSE_WAIT from 40 s on.
    let mut requests = Traffic::request(&others, ours, LATE, 75, 2.0, WORK * 2);
    thread::sleep(WORK);
    exactly(story, &agent, &[], Duration::ZERO);

    let left = truth::sockets_by_local_port(&host);
    let left = left.get(&(theirs, LATE, "close_wait".to_owned())).copied().unwrap_or_default();
    story.holds((60..=100).contains(&left), format!("{left} sockets are in CLOSE_WAIT"));
    let queues = truth::accept_queues(&host, NARROW);
    story.holds(queues == [(1, 1)], format!("one waits, of a backlog of one: {queues:?}"));
    let port = NARROW.to_string();
    let value = |name| agent.scrape().value(name, &[("port", &port)]);
    let told = || (value("listen_queue"), value("listen_queue_limit"));
    story.same("the queue", &(Some(1.0), Some(1.0)), told);

    exactly(story, &agent, &[], Duration::ZERO);
    let (answered, failed) = requests.paced();
    story.holds(failed == 0 && answered >= 140, format!("{answered} were answered, {failed} were not"));
    let (peer, port) = (theirs.to_string(), LATE.to_string());
    let of = Series { peer: &peer, port: &port, direction: "inbound" };
    let by_peer = || agent.scrape().peer("peer_closes_total", of, &[("by", "peer")]);
    story.same_count("closes by the peer", answered, &agent, by_peer);
    story.same("in CLOSE_WAIT", &0, || agent.scrape().peer("peer_sockets", of, &[("state", "close_wait")]));
    drop((narrow, waits, service));
}

/// Small services, as they answer the clients that they are checked with: bytes asked, bytes answered, and who closes first.
const SMALL: [(u16, Dialogue); 8] = [
    // redis-cli ping
    (6_379, Dialogue { asked: 14, answered: 7, first: First::Client }),
    // memcached: version, then a set of 100 bytes, each with quit
    (11_211, Dialogue { asked: 15, answered: 15, first: First::Server }),
    (11_212, Dialogue { asked: 130, answered: 8, first: First::Server }),
    // A set by a client that just closes.
    (11_213, Dialogue { asked: 130, answered: 8, first: First::Client }),
    // zookeeper's ruok
    (2_181, Dialogue { asked: 5, answered: 4, first: First::Server }),
    // An SMTP greeting, EHLO and QUIT
    (25, Dialogue { asked: 20, answered: 60, first: First::Server }),
    // mosquitto_pub
    (1_883, Dialogue { asked: 80, answered: 4, first: First::Client }),
    // dig +tcp
    (53, Dialogue { asked: 54, answered: 60, first: First::Client }),
];

/// A peer is known after a minute.
const KNOWN: Duration = Duration::from_secs(70);

/// So soon it is told that it is cut off.
const SOON: Duration = Duration::from_secs(15);

fn short_answers_beside_a_service_that_is_updated() {
    let mut story = Story::quiet();
    short_answers(&mut story);
    story.end();
}

fn short_answers(story: &mut Story) {
    let lan = Lan::new();
    let (host, others) = (lan.host("usual", OURS), lan.host("others", OTHERS));
    let ours = Lan::address(OURS);
    let mut entrance = Entrance::start(&lan, &host, Tls::V12);
    let services = SMALL.map(|(port, dialogue)| Traffic::reply(&host, ours, port, 180, dialogue));
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    let begun = Instant::now();
    let desktops = entrance.desktops();
    let seconds = usize::try_from(KNOWN.as_secs()).expect("few");
    let clients = SMALL.map(|(port, dialogue)| {
        (port, dialogue, Traffic::query(&others, ours, port, seconds, dialogue, 2.0))
    });
    while begun.elapsed() < KNOWN {
        let known = raised(&agent);
        story.holds(known.is_empty(), format!("{known:?} after {:?}", begun.elapsed()));
        thread::sleep(Duration::from_secs(1));
    }
    let peer = Lan::address(OTHERS).to_string();
    for (port, dialogue, mut client) in clients {
        let (answered, failed) = client.paced();
        story.holds(failed == 0 && answered > 100, format!("{port}: {answered} answered, {failed} not"));
        let port = port.to_string();
        let of = Series { peer: &peer, port: &port, direction: "inbound" };
        // The bytes alone do not tell a memcached whose client quits from one that refuses it; that it has always been so does.
        let Dialogue { asked, first, .. } = dialogue;
        let aborted = if asked >= 64 && first == First::Server { answered } else { 0 };
        story.same_count(&format!("aborted on port {port}"), aborted, &agent, || {
            agent.scrape().peer("peer_aborted_early_total", of, &[])
        });
    }

    entrance.update(&host);
    let due = Alarm::inbound("AbortedEarly", aborted_early::desktops(), aborted_early::PORT);
    let is_told = within(SOON, || {
        let known = raised(&agent);
        if known.contains_key(&due) { Ok(known) } else { Err(format!("{known:?}")) }
    });
    match is_told {
        Ok(known) => {
            story.holds(known.len() == 1, format!("{known:?}"));
            let text = &known[&due];
            story.holds(text.contains("usual for this peer: 0 %"), text);
            let (_, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
            story.holds(alerts.contains("critical"), alerts);
        }
        Err(known) => story.holds(false, format!("{due} was not raised within {SOON:?}: {known}")),
    }
    drop((desktops, services));
}

/// Workers that wait for a job after a login, and long polls on connections of their own.
const JOBS: u16 = 9_006;
const POLLS: u16 = 9_007;
/// Connections that nobody uses, and metrics that nobody answers.
const ADVANCE: u16 = 9_008;
const METRICS: u16 = 9_009;

/// Three polls of 25 s, of which the first is over before any is known to be usual.
const THREE_POLLS: Duration = Duration::from_secs(76);

fn long_waits_by_design_pools_in_advance_and_words_that_nobody_answers() {
    let mut story = Story::quiet();
    long_waits(&mut story);
    story.end();
}

fn long_waits(story: &mut Story) {
    let lan = Lan::new();
    let (host, others) = (lan.host("usual", OURS), lan.host("others", OTHERS));
    let theirs = Lan::address(OTHERS);
    let takes = Duration::from_secs(25);
    let services = [
        Traffic::slow(&others, theirs, JOBS, 180, takes),
        Traffic::slow(&others, theirs, POLLS, 180, takes),
        Traffic::answer(&others, theirs, ADVANCE, 180),
        Traffic::serve(&others, theirs, METRICS, 11, "hold"),
    ];
    let agent = Agent::start(&host, &[]);
    let _exact = exact();
    let clients = [
        Traffic::poll(&host, theirs, JOBS, 11, true),
        Traffic::poll(&host, theirs, POLLS, 15, false),
        Traffic::connect(&host, theirs, ADVANCE, 20, "hold"),
        Traffic::tell(&host, theirs, METRICS, 11, Duration::from_secs(15)),
    ];
    let (begun, peer) = (Instant::now(), theirs.to_string());
    let sockets = [(JOBS, 11), (POLLS, 15), (ADVANCE, 20), (METRICS, 11)];
    while begun.elapsed() < THREE_POLLS {
        let known = raised(&agent);
        story.holds(known.is_empty(), format!("{known:?} after {:?}", begun.elapsed()));
        let scrape = agent.scrape();
        for (port, _) in sockets {
            let port = port.to_string();
            let of = Series { peer: &peer, port: &port, direction: "outbound" };
            let stalled = scrape.peer("peer_stalled_sockets", of, &[]);
            story.holds(stalled == 0, format!("{stalled} wait on port {port} after {:?}", begun.elapsed()));
        }
        thread::sleep(Duration::from_secs(1));
    }
    let open = truth::sockets_by_remote_port(&host);
    for (port, count) in sockets {
        let now = open.get(&(theirs, port, "established".to_owned())).copied().unwrap_or_default();
        story.holds(now == count, format!("{now} connections to port {port}, not {count}"));
    }
    drop((clients, services));
}
