//! Incident I3: a database whose standby takes over at once, behind a name that says so three seconds later.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    agent::{Agent, Config},
    alarms::exactly,
    dns::{Changed, Dns, Resolver},
    host::Host,
    lan::{DNS, Lan, OURS},
    reports,
    story::Story,
    traffic::{Attempt, First, Traffic},
    within,
};

/// The database, by name.
pub const NAME: &str = "db-writer.example";
/// Its port.
pub const PORT: u16 = 5432;

const PRIMARY: u8 = 31;
const STANDBY: u8 = 32;

/// How much later the name lists the standby.
const LATE: Duration = Duration::from_secs(3);

/// How far a part that the agent measured may be from the clock of those who took part.
const EXACT: Duration = Duration::from_millis(50);

/// How long the application tries to connect; a SYN is not repeated as soon.
const CONNECTING: Duration = Duration::from_millis(800);

/// What becomes of connection attempts to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its process ends, and its host says so.
    Refuses,
    /// Nobody answers.
    Silent,
}

/// Two databases, and an application that connects to the writer for each of its queries.
#[derive(Debug)]
pub struct Cluster {
    application: Traffic,
    primary: Option<Traffic>,
    _standby: Traffic,
    hosts: [Host; 2],
}

impl Cluster {
    /// Sets it up, the application on `host`; the primary is the writer.
    #[must_use]
    pub fn start(lan: &Lan, host: &Host, dns: &Dns, resolver: &Resolver) -> Self {
        let hosts = [lan.host("primary", PRIMARY), lan.host("standby", STANDBY)];
        let [primary, standby] = [(&hosts[0], PRIMARY), (&hosts[1], STANDBY)]
            .map(|(host, number)| Traffic::welcome(host, Lan::address(number), PORT, 300, First::Client));
        dns.point(NAME, Lan::address(PRIMARY));
        let application = Traffic::call(host, resolver, &format!("{NAME}:{PORT}"), CONNECTING);
        Self { application, primary: Some(primary), _standby: standby, hosts }
    }

    /// The primary dies, and later its name lists the standby; returns when that was.
    pub fn fail_over(&mut self, story: &Story, dns: &Dns, death: Death) -> Changed {
        match death {
            Death::Refuses => self.primary = None,
            Death::Silent => self.hosts[0].swallow(PORT),
        }
        story.note("the primary is dead");
        thread::sleep(LATE);
        let changed = dns.point(NAME, Lan::address(STANDBY));
        story.note("the name lists the standby");
        changed
    }

    /// Ends the application; returns its account.
    #[must_use]
    pub fn account(self) -> Vec<Attempt> {
        self.application.told()
    }
}

/// The part of a configuration that watches the name.
#[must_use]
pub fn watch() -> String {
    format!("[[watch]]\nname = \"{NAME}\"\nport = {PORT}\n")
}

/// Plays it.
pub fn play(story: &mut Story, death: Death) {
    let lan = Lan::new();
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let host = lan.host("app", OURS);
    let mut cluster = Cluster::start(&lan, &host, &dns, &resolver);
    let agent = Agent::start_seeing(&host, &resolver, &Config::new(&watch()));
    story.note(format_args!("an application calls {NAME}"));
    thread::sleep(Duration::from_secs(4));
    let changed = cluster.fail_over(story, &dns, death);
    thread::sleep(Duration::from_secs(3));
    let attempts = cluster.account();
    // A failover is no alert: it is over.
    exactly(story, &agent, &[], Duration::ZERO);
    compare(story, &agent, &attempts, changed);
    reports::names(story, &agent, &["failover"]);
}

/// When what happened, by the clock of the application and of the name server.
#[derive(Clone, Copy, Debug)]
struct Truth {
    last_success: SystemTime,
    first_failure: SystemTime,
    changed: Changed,
    first_success: SystemTime,
}

impl Truth {
    fn new(attempts: &[Attempt], changed: Changed) -> Option<Self> {
        let connected = |address: u8| {
            let address: IpAddr = Lan::address(address);
            let mine = attempts.iter().filter(move |attempt| attempt.address == Some(address));
            mine.filter(|attempt| attempt.outcome == "connected").map(|attempt| attempt.begun + attempt.took)
        };
        let failed = attempts.iter().filter(|attempt| attempt.outcome == "failed");
        Some(Self {
            last_success: connected(PRIMARY).max()?,
            first_failure: failed.map(|attempt| attempt.begun).min()?,
            changed,
            first_success: connected(STANDBY).min()?,
        })
    }

    /// The least and the most that a part can have lasted.
    fn part(&self, name: &str) -> (Duration, Duration) {
        let Self { last_success, first_failure, changed, first_success } = *self;
        let between = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
        match name {
            "unnoticed" => (between(last_success, first_failure), between(last_success, first_failure)),
            "dns" => (between(first_failure, changed.begun), between(first_failure, changed.done)),
            "reconnect" => (between(changed.done, first_success), between(changed.begun, first_success)),
            _ => (between(last_success, first_success), between(last_success, first_success)),
        }
    }
}

const PARTS: [&str; 4] = ["unnoticed", "dns", "reconnect", "outage"];

/// Holds what the agent tells of the failover against what happened.
pub fn compare(story: &mut Story, agent: &Agent<'_>, attempts: &[Attempt], changed: Changed) {
    let truth = Truth::new(attempts, changed);
    story.holds(truth.is_some(), format_args!("the failover did not come about: {attempts:?}"));
    let Some(truth) = truth else { return };
    let told = within(Duration::from_secs(10), || {
        let (_, body) = agent.get("/api/v1/failovers").ok_or_else(|| "no answer".to_owned())?;
        let all: Vec<Value> = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        match all.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(format!("not one failover: {body}")),
        }
    });
    let told = match told {
        Ok(told) => told,
        Err(complaint) => return story.holds(false, complaint),
    };
    story.same("the name", &Some(NAME), || told["name"].as_str());
    story.same("the port", &Some(u64::from(PORT)), || told["port"].as_u64());
    let addresses = [PRIMARY, STANDBY].map(|number| Some(Lan::address(number).to_string()));
    story.same("from and to", &addresses, || ["old", "new"].map(|key| told[key].as_str().map(str::to_owned)));
    let moments = [
        ("last_success_old", truth.last_success),
        ("first_failure", truth.first_failure),
        ("first_success_new", truth.first_success),
    ];
    for (moment, at) in moments {
        let is_right =
            told[moment].as_f64().is_some_and(|told| (told - since(at)).abs() <= EXACT.as_secs_f64());
        story.holds(is_right, format_args!("{moment} is {} and not {:.3}", told[moment], since(at)));
    }
    let [earliest, latest] = ["earliest", "latest"].map(|end| told["dns_changed"][end].as_f64());
    let (begun, done) = (since(truth.changed.begun), since(truth.changed.done) + EXACT.as_secs_f64());
    let is_right = earliest.is_some_and(|at| at <= done) && latest.is_some_and(|at| at >= begun);
    let changed = &told["dns_changed"];
    story.holds(is_right, format_args!("the name changed from {begun} to {done}, and not as in {changed}"));
    let metrics = agent.scrape();
    for part in PARTS {
        let (least, most) = truth.part(part);
        let milliseconds = told[format!("{part}_seconds")].as_f64().map(|seconds| seconds * 1_000.0);
        story.note(format_args!(
            "{part}: {:.0} to {:.0} ms, and the agent tells {milliseconds:?}",
            ms(least),
            ms(most)
        ));
        let right = ms(least.saturating_sub(EXACT))..=ms(most + EXACT);
        let is_right = milliseconds.is_some_and(|told| right.contains(&told));
        story.holds(is_right, format_args!("{part} took {right:?} ms, and the agent tells {milliseconds:?}"));
        let labels = [("name", NAME), ("part", part)];
        let count = metrics.value("failover_seconds", &labels);
        story.holds(count == Some(1.0), format_args!("failover_seconds has {count:?} failovers of {part}"));
        let sum = metrics.value("failover_seconds_sum", &labels).map(|seconds| seconds * 1_000.0);
        let agrees = sum.zip(milliseconds).is_some_and(|(sum, told)| (sum - told).abs() < 2.0);
        story.holds(agrees, format_args!("failover_seconds of {part} is {sum:?} ms, not {milliseconds:?}"));
    }
}

/// Seconds since the epoch.
fn since(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
