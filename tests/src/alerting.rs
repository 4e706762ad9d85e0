//! Incident I1 with everyone who should hear of it: the agent, Prometheus with the rules of `deploy/`, an Alertmanager with the inhibitions
//! of `deploy/`, and two webhooks, one of the agent and one of Alertmanager. Tells when each of them knew, of the incident and of its end.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agent::{Agent, Config},
    alarms, alert_table,
    attaching::exact,
    dashboard, eventually,
    monitoring::{
        Labels,
        alertmanager::Alertmanager,
        prometheus::Prometheus,
        sink::{Received, Sink},
    },
    nat::{Nat, Pool, nat},
    topology::Family,
    traffic::{First, Traffic},
    truth,
};

const PORT: u16 = 443;
const SINK: u16 = 9099;

/// The NAT's ports, few, so that a small load fills them.
const PORTS: std::ops::RangeInclusive<u16> = 2_048..=2_111;

/// From so much of the pool on a warning is due.
const WARN: f64 = 0.8;

/// Seconds of load, and connections a second of each client.
const LOAD: (usize, f64) = (25, 10.0);

/// The alerts that this incident raises.
const EXPECTED: [&str; 2] = ["TimeWaitNearPoolLimit", "PortReuseRefused"];

/// How fast alerts end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// As they are shipped.
    AsShipped,
    /// A few seconds after the last sign, to save time.
    Soon,
}

/// What happened when, since the begin of the load.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Each moment by its name.
    pub moments: BTreeMap<&'static str, Duration>,
    /// Dashboard queries that Prometheus had no data for while the incident lasted.
    pub empty_panels: Vec<String>,
    /// Alerts raised by anyone that do not belong to this incident.
    pub strangers: Vec<String>,
}

/// The moments, in the order in which they should come.
pub const MOMENTS: [&str; 14] = [
    "the pool is 80 % taken, by ss",
    "the agent raises the alert",
    "Alertmanager has it from the agent",
    "the agent's webhook has it",
    "the first SYN is refused",
    "Alertmanager has that, too, from the agent",
    "Prometheus fires",
    "Alertmanager has it from Prometheus",
    "Alertmanager tells its webhook",
    "the load ends",
    "all is over for the agent",
    "all is over for the agent's webhook",
    "all is over for Prometheus",
    "Alertmanager holds nothing, and has told its webhook",
];

/// The one that everything is measured from, and the one that the agent answers for.
pub const CONDITION: &str = MOMENTS[0];
/// As [`CONDITION`].
pub const NOTICE: &str = MOMENTS[2];

/// The kernel's statistics of eBPF programs, of which two panels of the dashboard live; as they were before, on drop.
struct RunStatistics(String);

impl RunStatistics {
    const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Self {
        let before = fs::read_to_string(Self::SETTING).expect("kernels from 5.1 on have it");
        fs::write(Self::SETTING, "1").expect("root may switch them on");
        Self(before)
    }
}

impl Drop for RunStatistics {
    fn drop(&mut self) {
        let _ = fs::write(Self::SETTING, &self.0);
    }
}

/// Plays it. `say` hears of each moment as it comes.
pub fn play(ends: Ends, mut say: impl FnMut(&str, Duration)) -> Story {
    let net = nat(&Pool { family: Family::V4, addresses: 1, ports: Some(PORTS), loses_bare_ack: true });
    let host = &net.server;
    let files = TempDir::new().expect("a temporary directory");
    let sink = Sink::start(host, SINK);
    let alertmanager = Alertmanager::start(host, Alertmanager::PORT, &alertmanager_config());
    let _statistics = RunStatistics::on();
    let config = Config::new(&agent_config(ends));
    let agent = Agent::start(host, &config.args());
    let _exact = exact();
    let prometheus = Prometheus::start(host, &prometheus_config(files.path(), ends));
    eventually(Duration::from_secs(30), || prometheus.targets_up());
    eventually(Duration::from_secs(30), || match prometheus.alertmanagers().len() {
        1 => Ok(()),
        _ => Err("Prometheus does not know Alertmanager yet".to_owned()),
    });

    let address = Nat::server_address(Family::V4);
    let (seconds, rate) = LOAD;
    let _server = Traffic::welcome(host, address, PORT, seconds + 60, First::Server);
    let begun = Instant::now();
    let mut clients: Vec<Traffic> = net
        .clients
        .iter()
        .map(|client| Traffic::pace(client, address, PORT, seconds, rate, First::Server))
        .collect();
    let witness =
        Witness { host, agent: &agent, alertmanager: &alertmanager, prometheus: &prometheus, sink: &sink };
    let mut story = Story::default();
    let mut note = |story: &mut Story, moment: &'static str, holds: bool| {
        if holds && !story.moments.contains_key(moment) {
            let at = begun.elapsed();
            story.moments.insert(moment, at);
            say(moment, at);
        }
    };

    let load = Duration::from_secs(seconds as u64);
    while begun.elapsed() < load + Duration::from_secs(20) {
        for (moment, holds) in MOMENTS.into_iter().zip(witness.signs()) {
            note(&mut story, moment, holds);
        }
        if MOMENTS[..9].iter().all(|moment| story.moments.contains_key(moment)) {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    story.empty_panels = witness.empty_panels();
    alert_table::note_due(EXPECTED.into_iter().map(str::to_owned));
    story.strangers = witness.strangers();
    for client in &mut clients {
        client.paced();
    }
    note(&mut story, MOMENTS[9], true);
    // The last SYN leaves the window of a minute, then it is kept for a while.
    let patience = if ends == Ends::Soon { 120 } else { 240 };
    let ended = Instant::now();
    while ended.elapsed() < Duration::from_secs(patience) {
        for (moment, holds) in MOMENTS[10..].iter().zip(witness.ends()) {
            note(&mut story, moment, holds);
        }
        if story.moments.len() == MOMENTS.len() {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    story
}

/// Everyone who can be asked.
struct Witness<'a> {
    host: &'a crate::host::Host,
    agent: &'a Agent<'a>,
    alertmanager: &'a Alertmanager<'a>,
    prometheus: &'a Prometheus<'a>,
    sink: &'a Sink<'a>,
}

impl Witness<'_> {
    /// Which of the first nine moments have come.
    fn signs(&self) -> [bool; 9] {
        let near = EXPECTED[0];
        let peer = Nat::address(Family::V4, 0);
        let sockets = truth::sockets_by_local_port(self.host);
        let taken = sockets.iter().filter(|((address, port, _), _)| (*address, *port) == (peer, PORT));
        let taken: u64 = taken.map(|(_, count)| count).sum();
        let at_alertmanager = self.alertmanager.alerts();
        let holds = |name: &str, from_prometheus: bool| {
            at_alertmanager
                .iter()
                .any(|alert| is(&alert.labels, name) && alert.labels.contains_key("job") == from_prometheus)
        };
        let posts = self.sink.received();
        let metrics = self.agent.scrape();
        let refused = metrics.value("peer_time_wait_syns_total", &[("peer", "nat"), ("outcome", "refused")]);
        [
            taken as f64 >= WARN * PORTS.len() as f64,
            self.raised().iter().any(|name| name == near),
            holds(near, false),
            by_agent(&posts).get(near).is_some_and(|firing| *firing),
            refused.is_some_and(|refused| refused > 0.0),
            holds(EXPECTED[1], false),
            self.prometheus.alerts().iter().any(|alert| is(&alert.labels, near) && alert.state == "firing"),
            holds(near, true),
            by_alertmanager(&posts).get(near).is_some_and(|firing| *firing),
        ]
    }

    /// Which of the last four have.
    fn ends(&self) -> [bool; 4] {
        let posts = self.sink.received();
        let is_over = |status: BTreeMap<String, bool>| status.values().all(|firing| !firing);
        [
            self.raised().is_empty(),
            is_over(by_agent(&posts)),
            self.prometheus.alerts().iter().all(|alert| alert.state != "firing"),
            self.alertmanager.alerts().is_empty() && is_over(by_alertmanager(&posts)),
        ]
    }

    fn raised(&self) -> Vec<String> {
        alarms::raised(self.agent).into_keys().map(|alarm| alarm.alert).collect()
    }

    /// The dashboard's queries without an answer; those about what this incident has not got are not asked.
    fn empty_panels(&self) -> Vec<String> {
        let mut empty = Vec::new();
        for query in dashboard::queries("20s") {
            let asked =
                crate::within(Duration::from_secs(10), || match self.prometheus.query(&query.expr).len() {
                    0 => Err(()),
                    _ => Ok(()),
                });
            if asked.is_err() {
                empty.push(format!("{}: {}", query.panel, query.expr));
            }
        }
        empty
    }

    /// Alerts that do not belong here.
    fn strangers(&self) -> Vec<String> {
        let labels = self.alertmanager.alerts().into_iter().map(|alert| alert.labels);
        let strange = labels.filter(|labels| !EXPECTED.iter().any(|name| is(labels, name)));
        strange.map(|labels| format!("{labels:?}")).collect()
    }
}

fn is(labels: &Labels, name: &str) -> bool {
    labels.get("alertname").is_some_and(|own| own == name)
}

/// Whether each alert fires, by what an agent posted last of each set of labels.
fn by_agent(posts: &[Received]) -> BTreeMap<String, bool> {
    let mut status: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for body in bodies(posts, "/agent") {
        for alert in body["alerts"].as_array().expect("it holds alerts") {
            let name = alert["labels"]["alertname"].as_str().expect("a name").to_owned();
            let one = status.entry(name).or_default();
            one.insert(alert["labels"].to_string(), alert["status"] == "firing");
        }
    }
    status.into_iter().map(|(name, all)| (name, all.values().any(|firing| *firing))).collect()
}

/// Whether each alert fires, by what Alertmanager posted last of each group. Of a single alert that an inhibition mutes it no
/// longer speaks.
fn by_alertmanager(posts: &[Received]) -> BTreeMap<String, bool> {
    let status = bodies(posts, "/alertmanager").map(|body| {
        let name = body["groupLabels"]["alertname"].as_str().expect("alerts are grouped by name").to_owned();
        (name, body["status"] == "firing")
    });
    status.collect()
}

fn bodies(posts: &[Received], path: &str) -> impl Iterator<Item = Value> {
    let posts = posts.iter().filter(move |post| post.path == path);
    posts.map(|post| serde_json::from_str(&post.body).expect("a post is JSON"))
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn agent_config(ends: Ends) -> String {
    let pool = format!("{}-{}", PORTS.start(), PORTS.end());
    let peer = Nat::address(Family::V4, 0);
    let mut text = format!(
        "[[peer]]\nname = \"nat\"\ncidrs = [\"{peer}\"]\nport_pool = \"{pool}\"\n\
         [[receiver]]\nname = \"ops\"\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n\
         [[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{SINK}/agent\"\n",
        Alertmanager::PORT
    );
    if ends == Ends::Soon {
        for name in EXPECTED {
            let _ = writeln!(text, "[alerts.{name}]\nkeep_firing_for = \"5s\"");
        }
    }
    text
}

/// The shipped example, with a receiver that is there and less patience.
fn alertmanager_config() -> String {
    let text = fs::read_to_string(deploy("alertmanager/alertmanager.yml")).expect("the example is there");
    let changes = [
        ("https://chat.example.net/hooks/tcpwarden", "http://127.0.0.1:9099/alertmanager"),
        ("https://pager.example.net/hooks/tcpwarden", "http://127.0.0.1:9099/alertmanager"),
        ("group_wait: 5s", "group_wait: 1s"),
        ("group_interval: 1m", "group_interval: 2s"),
    ];
    changes.into_iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "the example has no {from}");
        text.replace(from, to)
    })
}

fn prometheus_config(directory: &Path, ends: Ends) -> String {
    let mut files = Vec::new();
    for name in ["tcpwarden-rules.yml", "tcpwarden-fleet-rules.yml"] {
        let mut text = fs::read_to_string(deploy("prometheus").join(name)).expect("the rules are there");
        if ends == Ends::Soon {
            text = text.replace("keep_firing_for: 1m", "keep_firing_for: 5s");
        }
        let file = directory.join(name);
        fs::write(&file, text).expect("written");
        files.push(format!("'{}'", file.display()));
    }
    format!(
        "
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [{}]
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{}'] }}] }}] }}
scrape_configs:
- {{ job_name: tcpwarden, static_configs: [{{ targets: ['127.0.0.1:9796'], labels: {{ vip: shop }} }}] }}
",
        files.join(", "),
        Alertmanager::PORT
    )
}
