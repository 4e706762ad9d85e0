//! Names that are wrong, and name servers that are: it is said, it is bounded, and nothing else suffers.

use std::time::{Duration, Instant};

use lab::{
    agent::{Agent, Config, Series},
    alarms::{Alarm, exactly},
    attaching::exact,
    dns::{
        Dns, Resolver,
        odd::{MANY, OddDns},
    },
    host::Host,
    lan::{DNS, Lan, OURS},
    stale_address::{self, Tier},
    story::Story,
    traffic::{First, Traffic},
    truth,
};

lab::scenarios! {
    Others 5 s:
        a_port_of_zero_and_a_name_that_is_given_twice;
    Staged 50 s:
        a_monitor_that_checks_both_servers_is_no_matter_and_a_program_that_kept_the_old_one_is;
    Staged 60 s:
        names_that_are_answered_as_none_should;
}

const CLIENT: u8 = 20;
const PORT: u16 = 8001;

/// Which outcome of asking for a name is due, whether the name has trouble, and how many addresses it has.
const NAMES: [(&str, &[&str], bool, f64); 7] = [
    ("garbage.example", &["failed", "timeout"], true, 0.0),
    ("never.example", &["timeout"], true, 0.0),
    ("missing.example", &["empty"], true, 0.0),
    ("many.example", &["answered"], false, MANY as f64),
    ("six.example", &["answered"], false, 1.0),
    ("flaps.example", &["answered"], false, 1.0),
    ("own.example", &["answered"], false, 1.0),
];

/// Watches all of them at a port.
fn watch() -> String {
    NAMES.map(|(name, ..)| format!("[[watch]]\nname = \"{name}\"\nport = {PORT}\n")).concat()
}

fn names_that_are_answered_as_none_should() {
    let mut story = Story::quiet();
    odd(&mut story);
    story.end();
}

fn odd(story: &mut Story) {
    let lan = Lan::new();
    let (host, server, client) = (lan.host("app", OURS), lan.host("dns", DNS), lan.host("client", CLIENT));
    let dns = OddDns::start(&server, Lan::address(OURS));
    let config = Config::new(&watch());
    let agent = Agent::start_seeing(&host, &Resolver::at(Lan::address(DNS)), &config);
    let _exact = exact();
    let memory = agent.own_memory_kib();
    let _service = Traffic::welcome(&host, [0; 4].into(), PORT, 120, First::Server);
    let calls = figures_are_right(story, &agent, [&host, &client], 0);
    let due: Vec<Alarm> = NAMES
        .iter()
        .filter(|(_, _, has_trouble, _)| *has_trouble)
        .map(|(name, ..)| Alarm::name("NameNotResolving", name))
        .collect();
    exactly(story, &agent, &due, Duration::from_mins(1));
    let metrics = agent.scrape();
    for (name, outcomes, _, addresses) in NAMES {
        let of = |outcome| [("name", name), ("outcome", outcome)];
        for outcome in ["answered", "empty", "failed", "timeout"] {
            let count = metrics.value("watched_name_resolutions_total", &of(outcome)).unwrap_or_default();
            let is_due = outcomes.contains(&outcome);
            // One that is lost on the way is no matter.
            let any: f64 = outcomes
                .iter()
                .filter_map(|outcome| metrics.value("watched_name_resolutions_total", &of(outcome)))
                .sum();
            story.holds(is_due || count * 10.0 <= any, format!("{name} was {outcome} {count} times"));
            story.holds(any > 0.0, format!("{name} was never one of {outcomes:?}"));
        }
        let listed = metrics.value("watched_name_addresses", &[("name", name)]).unwrap_or_default();
        let right = addresses.to_bits() == listed.to_bits();
        story.holds(right, format!("{name} has {addresses} addresses, and the agent tells {listed}"));
        let lines = agent.log().lines().filter(|line| line.contains(name)).count();
        story.holds(lines <= 20, format!("{lines} lines of its log are about {name}"));
    }
    // It goes on measuring while names are asked for in vain, and when nobody is there to ask.
    let calls = figures_are_right(story, &agent, [&host, &client], calls);
    drop(dns);
    let gone = Instant::now();
    let failing = |name| {
        let outcomes = ["failed", "timeout"].map(|outcome| [("name", name), ("outcome", outcome)]);
        let metrics = agent.scrape();
        outcomes.iter().filter_map(|of| metrics.value("watched_name_resolutions_total", of)).sum::<f64>()
    };
    let before = failing("own.example");
    while failing("own.example") <= before && gone.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(200));
    }
    story.holds(failing("own.example") > before, "it did not notice that the name server is gone");
    figures_are_right(story, &agent, [&host, &client], calls);
    let grown = agent.own_memory_kib().saturating_sub(memory);
    story.holds(grown < 8 * 1024, format!("its memory grew by {grown} KiB"));
}

/// Makes some connections to the host, and holds the agent's count of all so far against it; `before` is how many there were.
fn figures_are_right(story: &mut Story, agent: &Agent<'_>, [host, client]: [&Host; 2], before: u64) -> u64 {
    let (ours, theirs) = (Lan::address(OURS), Lan::address(CLIENT).to_string());
    let mut calls = Traffic::pace(client, ours, PORT, 3, 10.0, First::Server);
    let (connected, failed) = calls.paced();
    let all = before + connected;
    let port = PORT.to_string();
    let of = Series { peer: &theirs, port: &port, direction: "inbound" };
    story.holds(failed == 0, format!("{failed} calls failed"));
    let closes = || agent.scrape().peer("peer_closes_total", of, &[("by", "local")]);
    story.same_count("closes", all, agent, closes);
    let left = truth::time_waits(host, &[Lan::address(CLIENT)], PORT);
    story.holds(left > all / 2, format!("{left} TIME_WAITs of {all} connections"));
    story.same("TIME_WAITs", &left, || agent.scrape().peer("peer_sockets", of, &[("state", "time_wait")]));
    all
}

/// StaleAddress is a warning after 20 s here, and critical after 25.
const SOONER: &str = "[alerts.StaleAddress]\nstale_seconds = { warn = 20, crit = 25, clear = 0 }\n";

fn a_monitor_that_checks_both_servers_is_no_matter_and_a_program_that_kept_the_old_one_is() {
    let mut story = Story::quiet();
    fail_over(&mut story);
    story.end();
}

fn fail_over(story: &mut Story) {
    let lan = Lan::new();
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let host = lan.host("web", OURS);
    let tier = Tier::start(&lan, &host, &dns, &resolver);
    let config = Config::new(&[stale_address::watch().as_str(), SOONER].concat());
    let agent = Agent::start_seeing(&host, &resolver, &config);
    let _exact = exact();
    // It checks each server by its address, before the move and after it.
    let checks = [stale_address::old(), stale_address::new()]
        .map(|server| Traffic::pace(&host, server, stale_address::PORT, 120, 1.0, First::Client));
    story.holds(customers(&tier), "all requests are served before the move");
    Tier::fail_over(&dns);
    let moved = Instant::now();
    let mut said = String::new();
    while moved.elapsed() < Duration::from_secs(40) {
        std::thread::sleep(Duration::from_millis(500));
        let (_, alerts) = agent.get("/api/v1/alerts").expect("the agent answers");
        if alerts != "[]" {
            said = alerts;
        }
    }
    story.holds(said.is_empty(), format!("the monitor is no matter, and the agent said {said}"));
    let of_name = [("name", stale_address::NAME), ("port", "8080")];
    let (_, names) = agent.get("/api/v1/names").expect("the agent answers");
    story.holds(names.contains("\"stale\""), format!("the old address is stale: {names}"));
    let stale = agent.scrape().value("watched_name_stale_seconds", &of_name);
    story.holds(stale == Some(0.0), format!("{stale:?} s"));

    // nginx keeps what it resolved when it started, and is answered.
    let are_served = customers(&tier);
    let due = Alarm::outbound("StaleAddress", stale_address::old(), stale_address::PORT);
    let raised = exactly(story, &agent, std::slice::from_ref(&due), Duration::from_secs(10));
    let text = raised.get(&due).cloned().unwrap_or_default();
    story.holds(text.contains("is called by nginx, last"), format!("who has missed the move: {text}"));
    story.holds(are_served, "all requests are served");
    drop((checks, tier));
}

/// Customers come for three seconds; whether all of them are served.
fn customers(tier: &Tier) -> bool {
    let customers = tier.customers();
    std::thread::sleep(Duration::from_secs(3));
    customers.told().iter().all(|page| page.outcome == "200")
}

fn a_port_of_zero_and_a_name_that_is_given_twice() {
    let host = Host::new("host");
    for (text, words) in [
        ("[[watch]]\nname = \"db.example\"\nport = 0\n", ["port", "0"]),
        (
            "[[watch]]\nname = \"db.example\"\nport = 1\n[[watch]]\nname = \"DB.example.\"\nport = 1\n",
            ["db.example", "already"],
        ),
        ("[[watch]]\nname = \"no name\"\nport = 1\n", ["no name", "name"]),
    ] {
        let config = Config::new(text);
        let [flag, path] = config.args();
        let ended = Agent::once(&host, &[], &["check", flag, path]);
        assert_ne!(ended.code, Some(0), "{text}");
        let said = [ended.stdout, ended.stderr].concat().to_lowercase();
        assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
}
