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
    attaching::exact,
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

/// The agent rounds to milliseconds, and takes the difference of the kernel's clock and the wall clock once a second.
const ROUNDED: Duration = Duration::from_millis(2);

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
    format!("[[watch]]\nname = \"{NAME}\"\nport = {PORT}\nfailing_every = \"25ms\"\n")
}

/// Plays it.
pub fn play(story: &mut Story, death: Death) {
    let lan = Lan::new();
    let dns = Dns::start(lan.host("dns", DNS));
    let resolver = Resolver::at(Lan::address(DNS));
    let host = lan.host("app", OURS);
    let mut cluster = Cluster::start(&lan, &host, &dns, &resolver);
    let agent = Agent::start_seeing(&host, &resolver, &Config::new(&watch()));
    let _exact = exact();
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

/// When something happened: not before the one, not after the other, by the clock of whoever took part.
#[derive(Clone, Copy, Debug)]
struct Moment {
    earliest: SystemTime,
    latest: SystemTime,
}

impl Moment {
    /// The connection came about, or failed, while the application was busy with it.
    fn within(attempt: &Attempt) -> Self {
        Self { earliest: attempt.begun, latest: attempt.begun + attempt.took }
    }

    /// The least and the most that lay between this and a later one.
    fn until(self, later: Self) -> (Duration, Duration) {
        let between = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
        (between(self.latest, later.earliest), between(self.earliest, later.latest))
    }
}

/// When what happened.
#[derive(Clone, Copy, Debug)]
struct Truth {
    last_success: Moment,
    first_failure: Moment,
    changed: Moment,
    first_success: Moment,
}

impl Truth {
    fn new(attempts: &[Attempt], changed: Changed) -> Option<Self> {
        let connected = |address: u8| {
            let address: IpAddr = Lan::address(address);
            let mine = attempts.iter().filter(move |attempt| attempt.address == Some(address));
            mine.filter(|attempt| attempt.outcome == "connected")
        };
        let failed = attempts.iter().filter(|attempt| attempt.outcome == "failed");
        let begun = |attempt: &&Attempt| attempt.begun;
        Some(Self {
            last_success: Moment::within(connected(PRIMARY).max_by_key(begun)?),
            first_failure: Moment::within(failed.min_by_key(begun)?),
            changed: Moment { earliest: changed.begun, latest: changed.done },
            first_success: Moment::within(connected(STANDBY).min_by_key(begun)?),
        })
    }

    /// The least and the most that a part can have lasted.
    fn part(&self, name: &str) -> (Duration, Duration) {
        let Self { last_success, first_failure, changed, first_success } = *self;
        match name {
            "unnoticed" => last_success.until(first_failure),
            "dns" => first_failure.until(changed),
            "reconnect" => changed.until(first_success),
            _ => last_success.until(first_success),
        }
    }
}

const PARTS: [&str; 4] = ["unnoticed", "dns", "reconnect", "outage"];

/// Holds what the agent tells of the failover against what happened.
pub fn compare(story: &mut Story, agent: &Agent<'_>, attempts: &[Attempt], changed: Changed) {
    let truth = Truth::new(attempts, changed);
    story.holds(truth.is_some(), format_args!("the failover did not come about: {attempts:?}"));
    let Some(mut truth) = truth else { return };
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
        let right = since(at.earliest - ROUNDED)..=since(at.latest + ROUNDED);
        let is_right = told[moment].as_f64().is_some_and(|told| right.contains(&told));
        story.holds(is_right, format_args!("{moment} is {} and not in {right:.3?}", told[moment]));
    }
    let [earliest, latest] = ["earliest", "latest"].map(|end| told["dns_changed"][end].as_f64());
    // The lookup that hears of the change may have been asked before it was done.
    let (begun, done) = (since(truth.changed.earliest - ROUNDED), since(truth.changed.latest + ROUNDED));
    let is_right = earliest.is_some_and(|at| at <= done) && latest.is_some_and(|at| at >= begun);
    let changed = &told["dns_changed"];
    story.holds(is_right, format_args!("the name changed from {begun} to {done}, and not as in {changed}"));
    // The agent knows two answers between which the name changed, 25 ms apart where the machine has the time; more than half a second
    // would be of no use. The parts are as exact as that.
    let known = earliest.zip(latest).map(|(earliest, latest)| latest - earliest);
    story.holds(known.is_some_and(|known| known <= 0.5), format_args!("the change is known to {known:?} s"));
    let at =
        |seconds: Option<f64>| Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds?).ok()?);
    if let (Some(earliest), Some(latest)) = (at(earliest), at(latest)) {
        truth.changed = Moment {
            earliest: truth.changed.earliest.min(earliest),
            latest: truth.changed.latest.max(latest),
        };
    }
    let metrics = agent.scrape();
    for part in PARTS {
        let (least, most) = truth.part(part);
        let milliseconds = told[format!("{part}_seconds")].as_f64().map(|seconds| seconds * 1_000.0);
        story.note(format_args!(
            "{part}: {:.0} to {:.0} ms, and the agent tells {milliseconds:?}",
            ms(least),
            ms(most)
        ));
        let right = ms(least.saturating_sub(ROUNDED))..=ms(most + ROUNDED);
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
