//! Incident I2: a web tier that resolved the name of its backend once, and a backend that moved.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    agent::{Agent, Config, Metrics, Series},
    alarms::{Alarm, exactly},
    attaching::exact,
    capture::{Capture, Wire},
    dns::{Dns, Resolver},
    host::Host,
    lan::{DNS, Lan, OURS},
    nginx::Nginx,
    reports,
    story::Story,
    traffic::{Attempt, Traffic},
};

/// The backend, by name.
pub const NAME: &str = "balancer.example";
/// Its port.
pub const PORT: u16 = 8080;
/// Where customers find the web tier.
const TIER_PORT: u16 = 80;

const OLD: u8 = 21;
const NEW: u8 = 22;
const STREET: u8 = 23;

/// How long the web tier tries to connect.
const CONNECTING: Duration = Duration::from_millis(2_500);
/// How long the customers wait: longer than that.
const CUSTOMERS: Duration = Duration::from_secs(10);

/// Where the backend was.
#[must_use]
pub fn old() -> IpAddr {
    Lan::address(OLD)
}

/// Where it moves to.
#[must_use]
pub fn new() -> IpAddr {
    Lan::address(NEW)
}

/// The web tier with its backend and its customers.
#[derive(Debug)]
pub struct Tier {
    _web: Nginx,
    _pages: [Nginx; 2],
    old: Host,
    _new: Host,
    street: Host,
    address: IpAddr,
}

impl Tier {
    /// Sets it up on `host`, which has number [`OURS`]; all is well.
    #[must_use]
    pub fn start(lan: &Lan, host: &Host, dns: &Dns, resolver: &Resolver) -> Self {
        let (old, new) = (lan.host("old", OLD), lan.host("new", NEW));
        let pages = [&old, &new].map(|backend| Nginx::page(backend, resolver, PORT));
        dns.point(NAME, Lan::address(OLD));
        let web = Nginx::proxy(host, resolver, TIER_PORT, &format!("{NAME}:{PORT}"), CONNECTING);
        let street = lan.host("street", STREET);
        Self { _web: web, _pages: pages, old, _new: new, street, address: Lan::address(OURS) }
    }

    /// Customers come.
    #[must_use]
    pub fn customers(&self) -> Traffic {
        let tier = SocketAddr::new(self.address, TIER_PORT);
        Traffic::ask(&self.street, tier, 4, Duration::from_millis(200), CUSTOMERS)
    }

    /// The backend moves: its name lists the new address, and nobody is at the old one.
    pub fn move_backend(&self, dns: &Dns) {
        self.old.swallow(PORT);
        Self::fail_over(dns);
    }

    /// The name lists the new address, and the old server goes on: as a database does that is no longer the writer.
    pub fn fail_over(dns: &Dns) {
        dns.point(NAME, new());
    }
}

/// The part of a configuration that watches the name.
#[must_use]
pub fn watch() -> String {
    format!("[[watch]]\nname = \"{NAME}\"\nport = {PORT}\n")
}

/// Whether the operator told the agent which name to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// And it was there before the backend moved.
    Yes,
    /// And it was started when the harm was done.
    No,
}

/// Plays it.
pub fn play(story: &mut Story, watched: Watched) {
    let lan = Lan::new();
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let host = lan.host("web", OURS);
    let tier = Tier::start(&lan, &host, &dns, &resolver);
    let config = Config::new(&if watched == Watched::Yes { watch() } else { String::new() });
    if watched == Watched::No {
        tier.move_backend(&dns);
    }
    let agent = Agent::start_seeing(&host, &resolver, &config);
    let _exact = exact();
    let capture = Capture::of_talk(&host, &format!("tcp and host {}", old()));
    if watched == Watched::Yes {
        let customers = tier.customers();
        thread::sleep(Duration::from_secs(3));
        let pages = customers.told();
        let served = pages.iter().filter(|page| page.outcome == "200").count();
        story.note(format_args!("{served} of {} requests are served", pages.len()));
        story.holds(served == pages.len(), format_args!("not all requests were served before: {pages:?}"));
        tier.move_backend(&dns);
    }
    let moved = SystemTime::now();
    story.note(format_args!("the backend has moved; nginx calls {} as before", old()));
    let customers = tier.customers();
    let name = if watched == Watched::Yes { "StaleAddress" } else { "BackendNotAnswering" };
    let due = Alarm::outbound(name, old(), PORT);
    let raised = exactly(story, &agent, std::slice::from_ref(&due), Duration::from_secs(90));
    let attempts = customers.told();
    let wire = capture.stop();
    compare(story, &agent, &attempts, &wire);
    let text = raised.get(&due).cloned().unwrap_or_default();
    story.holds(text.contains("nginx"), format_args!("who calls is not named: {text}"));
    if watched == Watched::Yes {
        story.holds(text.contains(NAME), format_args!("the name is not named: {text}"));
        let listed = agent.scrape().value("watched_name_addresses", &[("name", NAME), ("port", "8080")]);
        story.holds(listed == Some(1.0), format_args!("{listed:?} addresses are listed, not one"));
    }
    times(story, &agent.scrape(), moved, watched);
    let cause = if watched == Watched::Yes { "backend_moved" } else { "backend_gone" };
    reports::names(story, &agent, &[cause]);
}

/// Our connections to where the backend was.
fn series(metrics: &Metrics, name: &str, label: &[(&str, &str)]) -> Option<f64> {
    let (peer, port) = (old().to_string(), PORT.to_string());
    let mine = [("peer", peer.as_str()), ("port", &port), ("direction", "outbound")];
    metrics.value(name, &[&mine, label].concat())
}

/// Holds what the agent tells against the packets, and against what the customers saw.
fn compare(story: &mut Story, agent: &Agent<'_>, attempts: &[Attempt], wire: &Wire) {
    let (peer, port) = (old().to_string(), PORT.to_string());
    let of = Series { peer: &peer, port: &port, direction: "outbound" };
    let told = |name: &str, label: &[(&str, &str)]| agent.scrape().peer(name, of, label);
    let service = wire.service(old(), PORT);
    let unanswered = wire.unanswered(old(), PORT);
    story.holds(service.syn_retries > 0, format_args!("no SYN was repeated: {service:?}"));
    story.same_count("SYNs sent", service.syns, agent, || told("peer_syns_total", &[]));
    story.same_count("SYNs sent again", service.syn_retries, agent, || told("peer_syn_retries_total", &[]));
    story.same_count("connections", service.connections, agent, || told("peer_connections_total", &[]));
    let gave_up = unanswered.len() as u64;
    story.same_count("attempts given up", gave_up, agent, || {
        told("peer_connect_failures_total", &[("reason", "abandoned")])
    });
    let failures = || agent.scrape().sum("peer_connect_failures_total", "outbound", Some(&peer));
    story.same_count("attempts that failed for any reason", gave_up, agent, failures);

    let slow = attempts.iter().filter(|attempt| attempt.outcome == "504");
    let waited: Duration = slow.clone().map(|attempt| attempt.took).sum();
    story.holds(slow.count() as u64 == gave_up, format_args!("{gave_up} attempts, and {attempts:?}"));
    let at_least: Duration = unanswered.iter().sum();
    let lost = series(&agent.scrape(), "peer_connect_failure_seconds_total", &[]).unwrap_or_default();
    story.note(format_args!(
        "seconds lost: {lost:.1}, by the customers' clocks {:.1}, between first and last SYN {:.1}",
        waited.as_secs_f64(),
        at_least.as_secs_f64()
    ));
    // A customer waits for the attempt and for what is around it; an attempt goes on beyond its last SYN.
    let right = at_least.as_secs_f64()..=waited.as_secs_f64();
    story.holds(right.contains(&lost), format_args!("{lost} s are lost, and it should lie in {right:?}"));
    let caller = series(&agent.scrape(), "peer_caller_info", &[("process", "nginx")]);
    story.holds(caller == Some(1.0), "nginx is not among the callers");
}

/// The last success lies before the move, the last failure after it.
fn times(story: &mut Story, metrics: &Metrics, moved: SystemTime, watched: Watched) {
    let moved = moved.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let success = series(metrics, "peer_last_success_timestamp_seconds", &[]);
    let failure = series(metrics, "peer_last_failure_timestamp_seconds", &[]);
    let is_right = match watched {
        Watched::Yes => success.is_some_and(|at| at < moved && moved - at < 30.0),
        Watched::No => success.is_none(),
    };
    story.holds(is_right, format_args!("the last success was at {success:?}, the move at {moved}"));
    story.holds(
        failure > Some(moved),
        format_args!("the last failure was at {failure:?}, the move at {moved}"),
    );
}
