//! What the configuration means: validated, with every default filled in.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use thiserror::Error;

use super::raw;

/// How the events are hooked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookMode {
    /// Typed tracepoints, and classic ones where those fail.
    #[default]
    Auto,
    /// Only typed tracepoints (`tp_btf`).
    Btf,
    /// Only classic tracepoints.
    Tracepoint,
}

/// How the sockets are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CensusMode {
    /// The kernel's iterator, and netlink where that fails.
    #[default]
    Auto,
    /// Only the iterator: summed inside the kernel.
    Iter,
    /// Only `sock_diag` netlink: every socket crosses to userspace.
    Netlink,
}

/// Peers that share one account under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerGroup {
    /// Value of the `peer` label.
    pub name: Arc<str>,
    /// Networks of the group; v4-mapped ones are written as IPv4.
    pub networks: Vec<IpNet>,
    /// First and last source port of each range its addresses draw from, ascending, apart from each other; `None` is not known.
    pub port_pool: Option<Vec<(u16, u16)>>,
}

/// Everything the agent needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Address and port to serve on.
    pub listen_address: SocketAddr,
    /// Path of the metrics, beginning with `/`.
    pub telemetry_path: String,
    /// Scrapes answered at the same time; `None` is no limit.
    pub max_requests: Option<usize>,
    /// How the events are hooked.
    pub hooks: HookMode,
    /// Whether every SYN that reaches a listener is counted.
    pub syn_watch: bool,
    /// How the sockets are counted.
    pub census: CensusMode,
    /// Shortest and longest time between two counts.
    pub census_interval: (Duration, Duration),
    /// Share of one core that counting may take, above 0 and at most 1.
    pub cpu_budget: f64,
    /// Sizes.
    pub limits: raw::Limits,
    /// Named groups of peers.
    pub groups: Vec<PeerGroup>,
}

/// What [`is_telemetry_path`] asks for.
pub const TELEMETRY_PATH_RULE: &str = "must begin with / and be none of /, /healthz, /readyz and /api/..., which are taken; for example /metrics";

/// Whether the metrics can be served at a path.
#[must_use]
pub fn is_telemetry_path(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !matches!(path, "/healthz" | "/readyz")
        && !path.starts_with("/api/")
}

/// A configuration that cannot be used. Each message names the place, the value and the remedy in one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {}: {reason}; {remedy}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is not the TOML that is expected.
    #[error("config {}{}: {message}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: Option<usize>,
        /// What is wrong there.
        message: String,
    },
    /// A value is out of its range.
    #[error("config {}: {key} = {value}: {remedy}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// The value.
        value: String,
        /// What would be right.
        remedy: String,
    },
}

impl Default for Settings {
    fn default() -> Self {
        let raw::Web { listen_address, telemetry_path, max_requests } = raw::Web::default();
        let census = raw::Census::default();
        Self {
            listen_address,
            telemetry_path,
            max_requests: (max_requests > 0).then_some(max_requests),
            hooks: HookMode::default(),
            syn_watch: false,
            census: census.source,
            census_interval: (census.min_interval, census.max_interval),
            cpu_budget: census.cpu_budget,
            limits: raw::Limits::default(),
            groups: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads and validates a file; without one, the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable {
            path: path.to_owned(),
            reason,
            remedy: "give a readable file to --config.file, or leave the flag out to use the defaults",
        })?;
        Self::parse(&text, path)
    }

    /// Validates the text of a file; `path` is only for the messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: raw::File = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1),
            message: error.message().replace('\n', " "),
        })?;
        let check = Check { path };
        let raw::File { web, probe, census, limits: raw_limits, peer } = file;

        check.that(
            is_telemetry_path(&web.telemetry_path),
            "web.telemetry_path",
            &web.telemetry_path,
            TELEMETRY_PATH_RULE,
        )?;
        check.that(
            census.cpu_budget > 0.0 && census.cpu_budget <= 1.0,
            "census.cpu_budget",
            &census.cpu_budget.to_string(),
            "must be above 0 and at most 1 (a share of one core)",
        )?;
        check.that(
            !census.min_interval.is_zero() && census.min_interval <= census.max_interval,
            "census.min_interval",
            &format!("{:?}", census.min_interval),
            "must be above 0s and at most census.max_interval",
        )?;
        for (key, value) in [
            ("limits.peers", raw_limits.peers),
            ("limits.half_open_peers", raw_limits.half_open_peers),
            ("limits.connections", raw_limits.connections),
            ("limits.closed_tuples", raw_limits.closed_tuples),
            ("limits.tracked_peers", raw_limits.tracked_peers),
            ("limits.refusals", raw_limits.refusals),
            ("limits.syns", raw_limits.syns),
        ] {
            check.that(
                (64..=16_777_216).contains(&value),
                key,
                &value.to_string(),
                "must be between 64 and 16777216",
            )?;
        }
        Ok(Self {
            listen_address: web.listen_address,
            telemetry_path: web.telemetry_path,
            max_requests: (web.max_requests > 0).then_some(web.max_requests),
            hooks: probe.hooks,
            syn_watch: probe.syn_watch,
            census: census.source,
            census_interval: (census.min_interval, census.max_interval),
            cpu_budget: census.cpu_budget,
            limits: raw_limits,
            groups: groups(&check, &peer)?,
        })
    }
}

fn groups(check: &Check<'_>, peers: &[raw::Peer]) -> Result<Vec<PeerGroup>, ConfigError> {
    let mut owner: HashMap<IpNet, &str> = HashMap::new();
    let mut groups: Vec<PeerGroup> = Vec::new();
    for peer in peers {
        let key = format!("peer \"{}\"", peer.name);
        check.that(
            !peer.name.is_empty() && peer.name != "other",
            "peer.name",
            &peer.name,
            "must be a name other than \"other\", which holds the peers without series of their own",
        )?;
        check.that(
            groups.iter().all(|group| *group.name != *peer.name),
            "peer.name",
            &peer.name,
            "is given twice; put all networks of a peer into one [[peer]]",
        )?;
        check.that(
            !peer.cidrs.is_empty(),
            &key,
            "cidrs = []",
            "needs at least one network, such as 192.0.2.0/24",
        )?;
        let mut networks = Vec::new();
        for cidr in &peer.cidrs {
            let network = parse_network(cidr);
            check.that(
                network.is_some(),
                &key,
                cidr,
                "is no network or address; write it as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7",
            )?;
            let Some(network) = network else { continue };
            if let Some(other) = owner.insert(network, &peer.name) {
                check.that(
                    false,
                    &key,
                    cidr,
                    &format!("belongs to peer \"{other}\" already; leave one of them"),
                )?;
            }
            networks.push(network);
        }
        let port_pool = match &peer.port_pool {
            None => None,
            Some(text) => {
                let ranges = parse_port_ranges(text);
                check.that(
                    ranges.is_some(),
                    &format!("{key}.port_pool"),
                    text,
                    "is no list of port ranges; write it as \"2048-16383\" or \"1024-9999, 20000-29999\"",
                )?;
                ranges
            }
        };
        groups.push(PeerGroup { name: Arc::from(peer.name.as_str()), networks, port_pool });
    }
    Ok(groups)
}

/// A network or a single address; v4-mapped IPv6 becomes the IPv4 it means, as the accounts spell it.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        return Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4);
    }
    Some(network)
}

/// `2048-16383, 20000`: at least one range, each from low to high, none reaching into another. Returned ascending.
fn parse_port_ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    let mut ranges = text
        .split(',')
        .map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (0 < low && low <= high).then_some((low, high))
        })
        .collect::<Option<Vec<(u16, u16)>>>()?;
    ranges.sort_unstable();
    let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
    apart.then_some(ranges)
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn that(&self, holds: bool, key: &str, value: &str, remedy: &str) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        Err(ConfigError::Invalid {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            remedy: remedy.to_owned(),
        })
    }
}
