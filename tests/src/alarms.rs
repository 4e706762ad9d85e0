//! What an agent raises.

use std::{
    collections::BTreeMap,
    fmt, thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{agent::Agent, alert_table, story::Story};

/// An alert with its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// Its name.
    pub alert: String,
    /// What it is about, in words.
    pub subject: String,
}

impl Alarm {
    /// About connections of `peer` to our `port`.
    #[must_use]
    pub fn inbound(alert: &str, peer: impl fmt::Display, port: u16) -> Self {
        Self::new(alert, format!("{peer}:{port} inbound"))
    }

    /// About our connections to `port` of `peer`.
    #[must_use]
    pub fn outbound(alert: &str, peer: impl fmt::Display, port: u16) -> Self {
        Self::new(alert, format!("{peer}:{port} outbound"))
    }

    /// About a port of ours.
    #[must_use]
    pub fn port(alert: &str, port: u16) -> Self {
        Self::new(alert, format!("port {port}"))
    }

    /// About a name that is watched.
    #[must_use]
    pub fn name(alert: &str, name: &str) -> Self {
        Self::new(alert, format!("name {name}"))
    }

    /// About the host.
    #[must_use]
    pub fn host(alert: &str) -> Self {
        Self::new(alert, "the host".to_owned())
    }

    fn new(alert: &str, subject: String) -> Self {
        Self { alert: alert.to_owned(), subject }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.alert, self.subject)
    }
}

/// What is raised now, with its sentence. Who raised something keeps it for a minute at least, so none of a short play is missed.
#[must_use]
pub fn raised(agent: &Agent<'_>) -> BTreeMap<Alarm, String> {
    let (status, body) = agent.get("/api/v1/alerts").expect("the agent answers");
    assert_eq!(status, 200, "{body}");
    let alerts: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    let alarm = |alert: &Value| {
        let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
        let (peer, port, direction) = (text("peer"), alert["port"].as_u64(), text("direction"));
        let subject = match (text("name"), port) {
            (name, _) if !name.is_empty() => format!("name {name}"),
            (_, Some(port)) if !peer.is_empty() => format!("{peer}:{port} {direction}"),
            (_, Some(port)) => format!("port {port}"),
            (_, None) => "the host".to_owned(),
        };
        (Alarm::new(&text("alert"), subject), text("text"))
    };
    let raised: BTreeMap<Alarm, String> = alerts.iter().map(alarm).collect();
    alert_table::note_raised(raised.keys().map(|alarm| alarm.alert.clone()));
    raised
}

/// After the last alarm that is due, time for those that are not: longer than the slowest takes from its cause to its first notice, which is
/// CloseWaitGrowing with 26 s (sockets that stay for 25 s, for 1 s).
const STRANGERS_COME: Duration = Duration::from_secs(30);

/// Waits until all of `due` are raised, and a while longer, while the incident goes on; whatever else is raised is wrong. Returns the
/// sentences.
pub fn exactly(
    story: &mut Story,
    agent: &Agent<'_>,
    due: &[Alarm],
    patience: Duration,
) -> BTreeMap<Alarm, String> {
    alert_table::note_due(due.iter().map(|alarm| alarm.alert.clone()));
    let deadline = Instant::now() + patience;
    let mut known = BTreeMap::new();
    let mut end = None;
    loop {
        for (alarm, text) in raised(agent) {
            if !known.contains_key(&alarm) {
                story.note(format_args!("{alarm}: {text}"));
            }
            known.insert(alarm, text);
        }
        let now = Instant::now();
        if end.is_none() && due.iter().all(|alarm| known.contains_key(alarm)) {
            end = Some(now + STRANGERS_COME);
        }
        if now >= end.unwrap_or(deadline) {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    for alarm in due {
        story.holds(known.contains_key(alarm), format_args!("{alarm} was not raised within {patience:?}"));
    }
    for (alarm, text) in known.iter().filter(|(alarm, _)| !due.contains(alarm)) {
        story.holds(false, format_args!("{alarm} has no place here: {text}"));
    }
    story.holds(!agent.log().contains("panicked"), "the agent panicked");
    known
}
