//! Prometheus, and what it says.

use std::{fs, net::SocketAddr};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, de::Error as _};
use tempfile::TempDir;

use super::Labels;
use crate::{host::Host, http, process::Process};

/// Where it listens, on its own host's loopback.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);

/// A running Prometheus; killed on drop, and what it stored is gone.
#[derive(Debug)]
pub struct Prometheus<'a> {
    host: &'a Host,
    _process: Process,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub labels: Labels,
    /// What is said about it.
    pub annotations: Labels,
    /// `pending` or `firing`.
    pub state: String,
    /// Value of the rule's expression.
    #[serde(deserialize_with = "number")]
    pub value: f64,
}

impl<'a> Prometheus<'a> {
    /// Starts it with a configuration (YAML; paths in it should be absolute) and waits until it is ready.
    ///
    /// It takes up targets and Alertmanagers a few seconds later: see [`targets_up`](Self::targets_up) and
    /// [`alertmanagers`](Self::alertmanagers). What fires before it knows its Alertmanager is told a minute later.
    #[must_use]
    pub fn start(host: &'a Host, config: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let [file, data] = ["prometheus.yml", "data"].map(|name| directory.path().join(name));
        fs::write(&file, config).expect("a config file");
        let mut command = host.command("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={}", SocketAddr::from(ADDRESS)));
        let mut process = Process::start(format!("Prometheus on {}", host.name()), directory, command);
        process.ready(|| http::get(host, ADDRESS.into(), "/-/ready"));
        Self { host, _process: process }
    }

    /// What a PromQL expression yields now: labels and value of each series. Panics unless it yields a vector.
    #[must_use]
    pub fn query(&self, expression: &str) -> Vec<(Labels, f64)> {
        #[derive(Deserialize)]
        struct Vector {
            result: Vec<Sample>,
        }
        #[derive(Deserialize)]
        struct Sample {
            metric: Labels,
            value: (f64, Number),
        }
        #[derive(Deserialize)]
        struct Number(#[serde(deserialize_with = "number")] f64);

        let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let vector: Vector = self.api(&format!("query?query={expression}"));
        vector
            .result
            .into_iter()
            .map(|Sample { metric, value: (_, Number(value)) }| (metric, value))
            .collect()
    }

    /// The alerts that are pending or firing.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        #[derive(Deserialize)]
        struct Alerts {
            alerts: Vec<Alert>,
        }
        self.api::<Alerts>("alerts").alerts
    }

    /// Whether it knows targets and the last scrape of every one of them succeeded.
    ///
    /// # Errors
    /// Which did not, and why.
    pub fn targets_up(&self) -> Result<(), String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Targets {
            active_targets: Vec<Target>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Target {
            scrape_url: String,
            health: String,
            last_error: String,
        }
        let targets = self.api::<Targets>("targets?state=active").active_targets;
        if targets.is_empty() {
            return Err("Prometheus knows no target".to_owned());
        }
        match targets.into_iter().find(|target| target.health != "up") {
            None => Ok(()),
            Some(Target { scrape_url, health, last_error }) => {
                Err(format!("{scrape_url} is {health}: {last_error}"))
            }
        }
    }

    /// URLs of the Alertmanagers it sends to.
    #[must_use]
    pub fn alertmanagers(&self) -> Vec<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Alertmanagers {
            active_alertmanagers: Vec<Alertmanager>,
        }
        #[derive(Deserialize)]
        struct Alertmanager {
            url: String,
        }
        let known = self.api::<Alertmanagers>("alertmanagers").active_alertmanagers;
        known.into_iter().map(|alertmanager| alertmanager.url).collect()
    }

    /// The data in an answer of its API.
    fn api<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        #[derive(Deserialize)]
        struct Answer<T> {
            data: T,
        }
        http::json::<Answer<T>>(self.host, ADDRESS.into(), &format!("/api/v1/{path}")).data
    }
}

/// JSON knows neither infinity nor NaN, so numbers come as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
