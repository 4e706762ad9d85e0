//! Runs the scenario, and prints a line each second.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::IpAddr,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lab::{
    agent::Agent,
    capture::{Capture, Reuses},
    eventually,
    fleet::{Fleet, fleet, said::Said},
    inconclusive,
    monitoring::prometheus::Prometheus,
    nat::Pool,
    topology::Family,
    traffic::{First, Traffic},
};
use serde_json::Value;

use crate::{Options, Phase};

const PORT: u16 = 443;

/// The alert that forecasts.
pub(crate) const FORECAST: &str = "TimeWaitNearPoolLimit";

/// What happened, in seconds since the first connection.
pub(crate) struct Played {
    /// When the load stepped up.
    pub(crate) step: f64,
    pub(crate) servers: Vec<Server>,
    /// When Prometheus first fired each alert, by name and severity.
    pub(crate) prometheus: BTreeMap<(String, String), f64>,
    /// Connections that the clients attempted, and how many there should have been.
    pub(crate) attempts: u64,
    pub(crate) planned: f64,
    pub(crate) failed: u64,
    /// Figures that differ from the wire.
    pub(crate) wrong: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Server {
    /// What its agent said of each NAT address.
    pub(crate) said: BTreeMap<IpAddr, Vec<Said>>,
    /// When it first raised each alert, by name and severity.
    pub(crate) raised: BTreeMap<(String, String), f64>,
    /// When the first SYN of each NAT address was refused, on the wire.
    pub(crate) first_refused: BTreeMap<IpAddr, f64>,
    /// SYNs that were refused, on the wire.
    pub(crate) refused: u64,
    /// Attempts to connect, on the wire.
    pub(crate) syns: u64,
}

/// Everyone who is asked while it goes on.
struct Watch<'a> {
    options: Options,
    agents: &'a [Agent<'a>],
    prometheus: &'a Prometheus<'a>,
    begun: Instant,
    servers: Vec<Server>,
    fired: BTreeMap<(String, String), f64>,
}

pub(crate) fn play(options: Options) -> Played {
    let Options { balance, size, .. } = options;
    let pool = Pool {
        family: Family::V4,
        addresses: size.addresses(),
        ports: Some(size.ports()),
        loses_bare_ack: true,
    };
    let fleet = fleet(&pool, balance, usize::from(options.servers));
    let agents = fleet.agents(&[]);
    let prometheus = fleet.prometheus();
    eventually(Duration::from_mins(1), || prometheus.targets_up());
    let captures: Vec<Capture> =
        fleet.servers.iter().map(|server| Capture::of(server, &format!("tcp port {PORT}"))).collect();
    let time = size.phases().map(|phase| phase.seconds + 15).iter().sum();
    let serve = |server| Traffic::welcome(server, Fleet::address(), PORT, time, First::Server);
    let serving: Vec<Traffic> = fleet.servers.iter().map(serve).collect();
    let begun_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut watch = Watch {
        options,
        agents: &agents,
        prometheus: &prometheus,
        begun: Instant::now(),
        servers: agents.iter().map(|_| Server::default()).collect(),
        fired: BTreeMap::new(),
    };
    println!(
        "    s | of each server: connections/s, ports taken here, pool used, s to the first refusal, SYNs refused"
    );
    let (mut step, mut attempts, mut planned, mut failed) = (0.0, 0, 0.0, 0);
    for phase in size.phases() {
        step = watch.now();
        let Phase { name, seconds, rate } = phase;
        println!("{step:>5.0}  {name}: {rate:.0} connections/s of each NAT address");
        let rate = rate * f64::from(size.addresses());
        planned += rate * seconds as f64;
        let clients = &fleet.net.clients;
        let each = rate / clients.len() as f64;
        let clients = clients
            .iter()
            .map(|client| Traffic::pace(client, Fleet::address(), PORT, seconds, each, First::Server));
        let mut clients: Vec<Traffic> = clients.collect();
        watch.for_seconds(seconds);
        for client in &mut clients {
            let (came_about, came_to_nothing) = client.paced();
            attempts += came_about + came_to_nothing;
            failed += came_to_nothing;
        }
    }
    let Watch { mut servers, fired, .. } = watch;
    drop(serving);
    let wires: Vec<Vec<Reuses>> = captures
        .into_iter()
        .zip(&mut servers)
        .map(|(capture, server)| {
            let wire = capture.stop();
            server.syns = wire.service(Fleet::address(), PORT).syns;
            let refused = options.addresses().filter_map(|address| {
                let at = wire.first_refused(address, Fleet::address(), PORT)?;
                Some((address, (at.saturating_sub(begun_at)).as_secs_f64()))
            });
            server.first_refused = refused.collect();
            options.addresses().map(|address| wire.reuses(address, Fleet::address(), PORT)).collect()
        })
        .collect();
    // Those that gave up are known once no SYN of theirs has come for a while.
    thread::sleep(Duration::from_secs(12));
    let mut wrong = Vec::new();
    for ((agent, server), wires) in agents.iter().zip(&mut servers).zip(&wires) {
        server.refused = wires.iter().map(Reuses::refused).sum();
        let metrics = agent.scrape();
        let told = options.addresses().map(|address| metrics.reuses(&address.to_string(), PORT));
        let counts = wires.iter().zip(told).flat_map(|(wire, told)| wire.counts(&told));
        wrong.extend(inconclusive::compare(counts, &metrics).err());
    }
    Played { step, servers, prometheus: fired, attempts, planned, failed, wrong }
}

impl Watch<'_> {
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Asks everyone twice a second, and prints a line for each.
    fn for_seconds(&mut self, seconds: usize) {
        let until = Instant::now() + Duration::from_secs(seconds as u64);
        let mut line_due = Instant::now();
        while Instant::now() < until {
            let next = Instant::now() + Duration::from_millis(500);
            self.ask();
            if Instant::now() >= line_due {
                line_due += Duration::from_secs(1);
                println!("{}", self.line());
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn ask(&mut self) {
        let begun = self.begun;
        let now = move || begun.elapsed().as_secs_f64();
        for (number, (agent, server)) in (1..).zip(self.agents.iter().zip(&mut self.servers)) {
            let (at, metrics) = (now(), agent.scrape());
            for address in self.options.addresses() {
                let said = server.said.entry(address).or_default();
                let before = said.last().map_or(0, |said: &Said| said.refused);
                said.push(Said::of(&metrics, &address.to_string(), PORT, at));
                if before == 0 && said.last().is_some_and(|said| said.refused > 0) {
                    println!("{at:>5.1}  server {number}: the first SYN of {address} is refused");
                }
            }
            for (key, text) in raised(agent) {
                server.raised.entry(key).or_insert_with_key(|(name, severity)| {
                    println!("{at:>5.1}  server {number}: {name} ({severity}): {text}");
                    at
                });
            }
        }
        for alert in self.prometheus.alerts().into_iter().filter(|alert| alert.state == "firing") {
            let label = |name| alert.labels.get(name).cloned().unwrap_or_default();
            let key = (label("alertname"), label("severity"));
            let at = now();
            self.fired.entry(key).or_insert_with_key(|(name, severity)| {
                println!("{at:>5.1}  Prometheus: {name} ({severity})");
                at
            });
        }
    }

    /// The figures of each server, over all NAT addresses.
    fn line(&self) -> String {
        let mut line = format!("{:>5.0}", self.now());
        for Server { said, .. } in &self.servers {
            let last =
                |figure: fn(&Said) -> Option<f64>| said.values().filter_map(move |said| figure(said.last()?));
            let rate: f64 = said.values().map(|said| rate(said)).sum();
            let ports: u64 = said.values().filter_map(|said| Some(said.last()?.sockets)).sum();
            let refused: u64 = said.values().filter_map(|said| Some(said.last()?.refused)).sum();
            let used = last(|said| said.used).reduce(f64::max);
            let used = used.map_or_else(|| "-".to_owned(), |used| format!("{used:.2}"));
            let left = last(|said| said.left).reduce(f64::min).map_or_else(
                || "-".to_owned(),
                |left| if left.is_finite() { format!("{left:.0}") } else { "never".to_owned() },
            );
            let _ = write!(line, " | {rate:>4.0}/s {ports:>5} {used:>4} {left:>5} {refused:>5}");
        }
        line
    }
}

/// Connections a second over the last two seconds.
fn rate(said: &[Said]) -> f64 {
    let Some(last) = said.last() else { return 0.0 };
    let first = &said[said.len().saturating_sub(5)];
    let seconds = last.at - first.at;
    if seconds > 0.0 { (last.connections - first.connections) as f64 / seconds } else { 0.0 }
}

/// What an agent raises, by name and severity.
fn raised(agent: &Agent<'_>) -> Vec<((String, String), String)> {
    let (_, body) = agent.get("/api/v1/alerts").unwrap_or_default();
    let alerts: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap_or_default().to_owned();
    let alerts = alerts.iter();
    alerts.map(|alert| ((text(alert, "alert"), text(alert, "severity")), text(alert, "text"))).collect()
}
