//! What the configuration means: validated, with every default filled in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use http::Uri;
use serde::Deserialize;

use super::{
    ConfigError,
    alerts::Alerts,
    check::Check,
    document::Document,
    mistakes::Mistakes,
    peers::{self, Overlap, PeerGroup},
    raw,
    receivers::{self, Receiver},
    silences::{self, Silence},
    watches::{self, Watch},
};

/// A configuration file may be so large, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;

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

/// Which connections of others are aborted early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// They end within this time.
    pub within: Duration,
    /// We sent fewer bytes.
    pub bytes: u64,
}

impl Aborted {
    fn new(raw: &raw::Probe) -> Self {
        Self { within: raw.aborted_within, bytes: u64::from(raw.aborted_bytes) }
    }
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// So much may it take on disk.
    pub bytes: u64,
    /// How long the figures of every second are kept.
    pub detail: Duration,
    /// How long the figures of every minute are kept, and what happened.
    pub keep: Duration,
}

impl HistorySettings {
    /// `None` where nothing is to be kept.
    fn new(raw: raw::History) -> Option<Self> {
        let raw::History { size_mib, detail, keep } = raw;
        (size_mib > 0).then_some(Self { bytes: u64::from(size_mib) * 1024 * 1024, detail, keep })
    }
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
    /// Under which URL people reach the agent, without a slash at its end; `None` is told from the listen address.
    pub external_url: Option<String>,
    /// How the events are hooked.
    pub hooks: HookMode,
    /// Whether every SYN that reaches a listener is counted.
    pub syn_watch: bool,
    /// Which connections are aborted early.
    pub aborted: Aborted,
    /// How the sockets are counted.
    pub census: CensusMode,
    /// Shortest and longest time between two counts.
    pub census_interval: (Duration, Duration),
    /// Share of one core that counting may take, above 0 and at most 1.
    pub cpu_budget: f64,
    /// A connection of ours that has waited for an answer for so long is stalled.
    pub stalled_after: Duration,
    /// Sizes.
    pub limits: raw::Limits,
    /// Named groups of peers.
    pub groups: Vec<PeerGroup>,
    /// Names that are watched.
    pub watches: Vec<Watch>,
    /// Where state is kept over a restart.
    pub state_directory: PathBuf,
    /// How much of the past is kept there; `None` is nothing.
    pub history: Option<HistorySettings>,
    /// When what is raised.
    pub alerts: Alerts,
    /// When it is not announced.
    pub silences: Vec<Silence>,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// Labels that each alert carries beside its own.
    pub labels: BTreeMap<String, String>,
}

/// What [`is_telemetry_path`] asks for.
pub const TELEMETRY_PATH_RULE: &str = "must begin with / and be none of /, /healthz, /readyz, /style.css, /api/..., /peers/... and /runbooks/..., which are taken; for example /metrics";

/// Whether the metrics can be served at a path.
#[must_use]
pub fn is_telemetry_path(path: &str) -> bool {
    let is_taken = matches!(path, "/healthz" | "/readyz" | "/style.css")
        || ["/api/", "/peers/", "/runbooks/"].iter().any(|taken| path.starts_with(taken));
    path.len() > 1 && path.starts_with('/') && !is_taken
}

impl Default for Settings {
    fn default() -> Self {
        let raw::Web { listen_address, telemetry_path, max_requests, external_url } = raw::Web::default();
        let census = raw::Census::default();
        Self {
            listen_address,
            telemetry_path,
            max_requests: (max_requests > 0).then_some(max_requests),
            external_url,
            hooks: HookMode::default(),
            syn_watch: false,
            aborted: Aborted::new(&raw::Probe::default()),
            census: census.source,
            census_interval: (census.min_interval, census.max_interval),
            cpu_budget: census.cpu_budget,
            stalled_after: census.stalled_after,
            limits: raw::Limits::default(),
            groups: Vec::new(),
            watches: Vec::new(),
            state_directory: raw::State::default().directory,
            history: HistorySettings::new(raw::History::default()),
            alerts: Alerts::default(),
            silences: Vec::new(),
            receivers: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads and validates a file; without one, the defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let unreadable = |reason| ConfigError::Unreadable {
            path: path.to_owned(),
            reason,
            remedy: "give a readable file to --config.file, or leave the flag out to use the defaults",
        };
        let mut text = String::new();
        let mut file = File::open(path).map_err(unreadable)?.take(FILE_LIMIT + 1);
        file.read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(ConfigError::TooLarge { path: path.to_owned(), limit: FILE_LIMIT });
        }
        Self::parse(&text, path)
    }

    /// Validates the text of a file; `path` is for the messages, and where relative paths in it begin.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut document = Document::parse(text, path).map_err(ConfigError::Wrong)?;
        let mut mistakes = Mistakes::new(path);
        let raw::File {
            web,
            probe,
            census,
            limits,
            peer,
            watch,
            state,
            history,
            alerts,
            silence,
            receiver,
            labels,
        } = document.read(&mut mistakes);
        let mut check = Check::new(&document, mistakes);
        check_web(&mut check, &web);
        check_probe(&mut check, &probe);
        check_census(&mut check, &census);
        check_limits(&mut check, &limits);
        check_history(&mut check, history);
        let groups = peers::groups(&mut check, &peer);
        let settings = Self {
            listen_address: web.listen_address,
            telemetry_path: web.telemetry_path,
            max_requests: (web.max_requests > 0).then_some(web.max_requests),
            external_url: web.external_url.map(|url| url.trim_end_matches('/').to_owned()),
            hooks: probe.hooks,
            syn_watch: probe.syn_watch,
            aborted: Aborted::new(&probe),
            census: census.source,
            census_interval: (census.min_interval, census.max_interval),
            cpu_budget: census.cpu_budget,
            stalled_after: census.stalled_after,
            limits,
            watches: watches::watches(&mut check, &watch),
            state_directory: state.directory,
            history: HistorySettings::new(history),
            alerts: Alerts::new(&mut check, &alerts, &peer),
            silences: silences::silences(&mut check, &silence, &groups),
            receivers: receivers::receivers(&mut check, &receiver, path.parent().unwrap_or(Path::new("."))),
            labels: receivers::labels(&mut check, &labels),
            groups,
        };
        check.finish(settings)
    }

    /// Networks of one group inside another's.
    #[must_use]
    pub fn overlaps(&self) -> Vec<Overlap> {
        peers::overlaps(&self.groups)
    }
}

fn check_web(check: &mut Check<'_>, web: &raw::Web) {
    let path = &web.telemetry_path;
    check.that(is_telemetry_path(path), "web.telemetry_path", path, TELEMETRY_PATH_RULE);
    if let Some(url) = &web.external_url {
        let is_url = Uri::from_str(url).is_ok_and(|url| url.scheme().is_some() && url.host().is_some());
        check.that(is_url, "web.external_url", url, "is no URL; write it as http://server1.example:9796");
    }
}

fn check_census(check: &mut Check<'_>, census: &raw::Census) {
    check.that(
        census.cpu_budget > 0.0 && census.cpu_budget <= 1.0,
        "census.cpu_budget",
        census.cpu_budget,
        "must be above 0 and at most 1 (a share of one core)",
    );
    check.that(
        !census.min_interval.is_zero() && census.min_interval <= census.max_interval,
        "census.min_interval",
        format_args!("{:?}", census.min_interval),
        "must be above 0s and at most census.max_interval",
    );
    check.that(
        census.stalled_after >= Duration::from_secs(1),
        "census.stalled_after",
        format_args!("{:?}", census.stalled_after),
        "must be at least 1s, the time between two counts",
    );
}

fn check_probe(check: &mut Check<'_>, probe: &raw::Probe) {
    let within = Duration::from_millis(1)..=Duration::from_mins(1);
    check.that(
        within.contains(&probe.aborted_within),
        "probe.aborted_within",
        format_args!("{:?}", probe.aborted_within),
        "must be between 1ms and 1m",
    );
    check.that(probe.aborted_bytes > 0, "probe.aborted_bytes", 0, "must be at least 1");
}

fn check_history(check: &mut Check<'_>, history: raw::History) {
    let raw::History { size_mib, detail, keep } = history;
    check.that(
        size_mib == 0 || (16..=65_536).contains(&size_mib),
        "history.size_mib",
        size_mib,
        "must be between 16 and 65536, or 0 to keep nothing",
    );
    let (shortest, longest) = (Duration::from_hours(1), Duration::from_hours(400 * 24));
    check.that(
        (shortest..=longest).contains(&detail) && detail <= keep,
        "history.detail",
        format_args!("{detail:?}"),
        "must be between 1h and 400d, and at most history.keep",
    );
    check.that(
        (shortest..=longest).contains(&keep),
        "history.keep",
        format_args!("{keep:?}"),
        "must be between 1h and 400d",
    );
}

fn check_limits(check: &mut Check<'_>, limits: &raw::Limits) {
    for (key, value) in [
        ("limits.peers", limits.peers),
        ("limits.half_open_peers", limits.half_open_peers),
        ("limits.connections", limits.connections),
        ("limits.callers", limits.callers),
        ("limits.closed_tuples", limits.closed_tuples),
        ("limits.tracked_peers", limits.tracked_peers),
        ("limits.refusals", limits.refusals),
        ("limits.syns", limits.syns),
    ] {
        check.that((64..=16_777_216).contains(&value), key, value, "must be between 64 and 16777216");
    }
}
