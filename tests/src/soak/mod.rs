//! A long load with faults thrown in: what the agent told against what was so, and what it grew by.
//!
//! The load runs between two hosts, in three kinds: inbound connections that the server closes first, inbound ones that the client
//! closes first, and outbound ones. Its rate changes all the time, and a fault follows another. At a checkpoint the load
//! stops, and every figure of every peer is held against the load's own counts, a firewall's, and `ss`.

mod faults;
mod figures;
mod growth;
mod scraper;

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use self::{faults::Faults, figures::Figures, growth::Samples, scraper::Scraper};
pub use self::{figures::Figure, growth::Growth, scraper::Gap};
use crate::{
    agent::{Agent, Config},
    attaching::exact,
    monitoring::sink::Sink,
    topology::{Family, Pair, pair},
    traffic::{First, Traffic},
};

/// How long, how much, how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long the load lasts.
    pub time: Duration,
    /// Connections a second of all loads together, on average.
    pub rate: f64,
    /// Time from one fault to the next.
    pub fault_every: Duration,
    /// Time from one checkpoint to the next.
    pub checkpoint_every: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Each figure, summed over all peers that have a load, at the last checkpoint.
    pub figures: Vec<Figure>,
    /// What differs from the truth, at any checkpoint.
    pub wrong: Vec<String>,
    /// What the agent grew by after it was warm.
    pub growth: Vec<Growth>,
    /// The longest time without an answered scrape while the agent was not stopped.
    pub longest_gap: Gap,
    /// Scrapes answered, and not answered.
    pub scrapes: (u64, u64),
    /// Faults done, by name.
    pub faults: Vec<(&'static str, u32)>,
    /// Checkpoints passed.
    pub checkpoints: u32,
    /// The highest number of TIME_WAITs at a checkpoint.
    pub most_time_waits: u64,
    /// Connections that came about and that failed, of all loads, and the seconds they were made in.
    pub load: (u64, u64, f64),
}

/// A load: whose connections, where to, and what the agent calls them.
struct Load {
    traffic: Traffic,
    /// Its share of the rate.
    share: f64,
    port: u16,
    direction: &'static str,
    /// Who closes, as `peer_closes_total` says.
    closed_by: &'static str,
}

/// Addresses of the inbound loads; the client's host has them all.
const SERVER_FIRST: (Ipv4Addr, usize) = (Ipv4Addr::new(10, 77, 0, 101), 24);
const CLIENT_FIRST: (Ipv4Addr, usize) = (Ipv4Addr::new(10, 77, 0, 141), 4);

/// The services: closed by the server first, by the client first, and of the client's host.
const PORTS: [u16; 3] = [9001, 9002, 9003];

/// Room for the peers of the load, and few more.
const CONFIG: &str = "
[probe]
syn_watch = true
[limits]
peers = 128
half_open_peers = 1024
forget_after = \"1m\"
[census]
cpu_budget = 0.1
[alerts.ListenQueueOverflow]
for = \"1s\"
keep_firing_for = \"2s\"
[[receiver]]
name = \"hook\"
type = \"webhook\"
url = \"http://127.0.0.1:9099/\"
";

/// The agent keeps what happened within a minute: until that is filled it grows.
const WARM: Duration = Duration::from_secs(66);

/// The rate of the load changes by these factors in turn; their mean is 1.
const RATES: [f64; 6] = [1.0, 1.25, 0.5, 1.5, 0.75, 1.0];

/// Plays it. `say` hears of each checkpoint, in a line.
pub fn play(plan: Plan, mut say: impl FnMut(&str)) -> Report {
    let pair = pair();
    prepare(&pair);
    let config = Config::new(CONFIG);
    let agent = Agent::start(&pair.server, &config.args());
    let _exact = exact();
    let sink = Sink::start(&pair.server, 9099);
    // The loads and checkpoints may last longer than planned.
    let server_time = usize::try_from(plan.time.as_secs()).expect("a time to wait for") * 2 + 600;
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let _services = [
        Traffic::welcome(&pair.server, server, PORTS[0], server_time, First::Server),
        Traffic::welcome(&pair.server, server, PORTS[1], server_time, First::Client),
        Traffic::welcome(&pair.client, client, PORTS[2], server_time, First::Client),
    ];
    let mut loads = loads(&pair);
    let mut figures = Figures::new(&pair, &agent);
    let mut faults = Faults::new(&pair, &agent, &config, &sink);
    let mut samples = Samples::new(&agent);
    let scraper = Scraper::new(&agent);

    let mut report = Report {
        figures: Vec::new(),
        wrong: Vec::new(),
        growth: Vec::new(),
        longest_gap: Gap::default(),
        scrapes: (0, 0),
        faults: Vec::new(),
        checkpoints: 0,
        most_time_waits: 0,
        load: (0, 0, 0.0),
    };
    let warm = Instant::now() + WARM;
    thread::scope(|scope| {
        let running = scraper.run(scope);
        let mut left = plan.time;
        while !left.is_zero() {
            let stretch = left.min(plan.checkpoint_every);
            left -= stretch;
            report.load.2 += stretch.as_secs_f64();
            let end = Instant::now() + stretch;
            for round in 0.. {
                let Some(rest) = end.checked_duration_since(Instant::now()) else { break };
                for load in &mut loads {
                    load.traffic.rate(plan.rate * load.share * RATES[round % RATES.len()]);
                }
                let begun = Instant::now();
                if rest >= plan.fault_every {
                    faults.next(&scraper);
                    if faults.all_done_once() && Instant::now() >= warm {
                        samples.take(&agent.scrape());
                    }
                }
                let pause = plan.fault_every.saturating_sub(begun.elapsed());
                thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
            }
            let counts = loads.iter_mut().map(|load| load.traffic.quiet()).collect::<Vec<_>>();
            report.load.0 = counts.iter().flat_map(|counts| counts.values()).map(|count| count.0).sum();
            report.load.1 = counts.iter().flat_map(|counts| counts.values()).map(|count| count.1).sum();
            report.figures = figures.check(&loads, &counts, &mut report.wrong);
            report.most_time_waits = report.most_time_waits.max(figures.time_waits());
            report.checkpoints += 1;
            say(&checkpoint(&report, left));
        }
        drop(running);
    });
    report.wrong.extend(samples.out_of_bounds());
    (report.longest_gap, report.scrapes) = scraper.result();
    report.faults = faults.done();
    report.growth = samples.growth(report.faults.len());
    report
}

fn prepare(pair: &Pair) {
    for host in [&pair.client, &pair.server] {
        host.sysctl("net.ipv4.tcp_max_tw_buckets", "2000000");
        // Source ports may be any, and none is a service's.
        host.sysctl("net.ipv4.ip_local_port_range", "10000 65535");
    }
    let (server_first, client_first) = (hosts(SERVER_FIRST), hosts(CLIENT_FIRST));
    let addresses: Vec<String> = server_first
        .chain(client_first)
        .chain(faults::strangers())
        .map(|address| format!("addr add {address}/32 dev eth0\n"))
        .collect();
    pair.client.feed("ip", &["-batch", "-"], &addresses.concat());
    // Strangers, and forged addresses that nobody has.
    for network in ["10.78.0.0/16", "10.128.0.0/9"] {
        pair.server.sh(&format!("ip route add {network} via {}", Pair::client_address(Family::V4)));
    }
    figures::count_syns(&pair.server);
}

fn hosts((first, count): (Ipv4Addr, usize)) -> impl Iterator<Item = Ipv4Addr> {
    (0..).take(count).map(move |number| Ipv4Addr::from_bits(first.to_bits() + number))
}

fn loads(pair: &Pair) -> [Load; 3] {
    let (client, server) = (Pair::client_address(Family::V4), Pair::server_address(Family::V4));
    let inbound = |(from, count), port, first| Traffic::load(&pair.client, from, count, server, port, first);
    let outbound =
        Traffic::load(&pair.server, Ipv4Addr::new(10, 77, 0, 2), 1, client, PORTS[2], First::Client);
    [
        Load {
            traffic: inbound(SERVER_FIRST, PORTS[0], First::Server),
            share: 0.8,
            port: PORTS[0],
            direction: "inbound",
            closed_by: "local",
        },
        Load {
            traffic: inbound(CLIENT_FIRST, PORTS[1], First::Client),
            share: 0.12,
            port: PORTS[1],
            direction: "inbound",
            closed_by: "peer",
        },
        Load { traffic: outbound, share: 0.08, port: PORTS[2], direction: "outbound", closed_by: "local" },
    ]
}

fn checkpoint(report: &Report, left: Duration) -> String {
    let lacking: u64 = report.figures.iter().map(Figure::lacking).sum();
    let (connected, failed, seconds) = report.load;
    format!(
        "checkpoint {}: {connected} connections in {seconds:.0} s, {failed} failed, up to {} TIME_WAITs, {lacking} events lacking; {} s to go",
        report.checkpoints,
        report.most_time_waits,
        left.as_secs()
    )
}
