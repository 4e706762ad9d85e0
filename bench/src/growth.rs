//! Events, scrapes, pages and memory with more and more peers.

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    agent::{Agent, Config},
    host::Host,
};

use crate::{
    cost,
    events::{Timing, between, programs},
    load::{self, Plan},
    table::{Cell, Table, median},
};

/// So many peers are known.
const PEERS: [u32; 4] = [10, 1_000, 10_000, 100_000];

/// Room for all of them; and as many series as there are unless somebody asks for more.
const CONFIG: &str = "[probe]\nhooks = \"btf\"\n[limits]\npeers = 131072\n";

/// A figure is the median of so many.
const TIMES: usize = 9;

/// As long is looked at what the agent takes while nothing happens.
const REST: Duration = Duration::from_secs(10);

/// Measures at each number of peers.
pub fn measure() -> Table {
    Table {
        name: "growth",
        title: "With more and more peers (100 of them with series of their own; both ends of each connection are on this host)"
            .to_owned(),
        columns: vec![
            "PEERS",
            "ACCOUNTS",
            "NS/CONN",
            "SCRAPE ms",
            "SCRAPE KiB",
            "PAGE ms",
            "OWN MiB",
            "MAPS MiB",
            "CPU % AT REST",
        ],
        rows: PEERS.into_iter().map(at).collect(),
        drawn: vec![2, 3, 5, 6, 8],
    }
}

fn at(peers: u32) -> Vec<Cell> {
    let host = Host::new("bench");
    load::prepare(&host);
    let config = Config::new(CONFIG);
    let agent = Agent::start(&host, &config.args());
    let pid = u32::try_from(agent.pid().as_raw_nonzero().get()).expect("a pid is positive");
    // Twice around, so that events also meet accounts that are there.
    let plan = Plan { peers, time: Duration::from_secs(50), most: u64::from(peers).max(50_000) * 2 };
    let timing = Timing::start().expect("the kernel times programs");
    let before = programs(pid).expect("the agent runs");
    let made = load::saturate(&host, plan);
    let ran = between(&before, &programs(pid).expect("the agent runs"));
    drop(timing);
    let ns = ran.iter().map(|runs| runs.ns).sum::<u64>() as f64 / made.connections as f64;
    // A census or two.
    thread::sleep(Duration::from_secs(5));
    let before = cost::processor_seconds(agent.pid());
    thread::sleep(REST);
    let at_rest = (cost::processor_seconds(agent.pid()) - before) / REST.as_secs_f64() * 100.0;
    let (scrape, bytes) = asked(&agent, "/metrics");
    let (page, _) = asked(&agent, "/");
    vec![
        f64::from(peers).into(),
        agent.scrape().value("peers", &[]).into(),
        ns.into(),
        scrape.into(),
        (bytes as f64 / 1_024.0).into(),
        page.into(),
        cost::own_memory_mib(agent.pid()).into(),
        cost::maps_mib(agent.pid()).into(),
        at_rest.into(),
    ]
}

/// Milliseconds until it has answered, and the bytes of the answer.
fn asked(agent: &Agent<'_>, path: &str) -> (f64, usize) {
    let mut bytes = 0;
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            let (status, body) = agent.get(path).expect("it answers");
            assert_eq!(status, 200, "{path}");
            bytes = body.len();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    (median(&mut times), bytes)
}
