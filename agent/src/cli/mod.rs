//! Arguments, and which command they mean.

mod census;
mod check;
#[cfg(test)]
mod documents;
mod report;
mod top;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use tcpwarden::{
    config::{CensusMode, HookMode, Secret, TELEMETRY_PATH_RULE, is_telemetry_path},
    daemon::{self, Overrides},
    logging,
    probe::keep_for_starting,
};
use thiserror::Error;

/// Watches the TCP sockets of this host, per peer.
#[derive(Debug, Parser)]
#[command(name = "tcpwarden", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon; with no file, built-in defaults
    Run(Run),
    /// Tell whether the config is right, what this kernel can do, and what will be degraded
    Check(Check),
    /// Count all TCP sockets once, per peer and state, over netlink unless --census says otherwise; needs no daemon and no rights
    Census(Census),
    /// Watch the peers live in a terminal, as the daemon knows them; without a daemon, their sockets
    Top(Top),
    /// Write up an incident from the history, whether the daemon runs or not
    Report(Report),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file (TOML)
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct WebConfigFile {
    /// File that protects what is served: TLS and users (YAML, as of the Prometheus exporters)
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Hooks {
    /// How to hook the kernel's events
    #[arg(long, value_name = "MODE")]
    hooks: Option<HookChoice>,
}

#[derive(Debug, Args)]
struct CensusSource {
    /// How to count the sockets
    #[arg(long, value_name = "MODE")]
    census: Option<CensusChoice>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Address and port to serve on [default: 127.0.0.1:9796]
    #[arg(long = "web.listen-address", value_name = "ADDR")]
    listen_address: Option<SocketAddr>,
    #[command(flatten)]
    web_config: WebConfigFile,
    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", value_parser = telemetry_path)]
    telemetry_path: Option<String>,
    /// Scrapes answered at the same time, 0 for no limit [default: 40]
    #[arg(long = "web.max-requests", value_name = "N")]
    max_requests: Option<usize>,
    /// Where state is kept over a restart [default: /var/lib/tcpwarden]
    #[arg(long = "state.directory", value_name = "DIRECTORY", env = "STATE_DIRECTORY")]
    state_directory: Option<PathBuf>,
    #[command(flatten)]
    hooks: Hooks,
    #[command(flatten)]
    census: CensusSource,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    web_config: WebConfigFile,
    #[command(flatten)]
    hooks: Hooks,
    #[command(flatten)]
    census: CensusSource,
}

#[derive(Debug, Args)]
struct Census {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: CensusSource,
}

/// Not a list of values, which clap takes a `Vec` for.
type Pem = Vec<u8>;

#[derive(Debug, Args)]
struct Top {
    /// Where the daemon serves [default: http://127.0.0.1:9796, and a census where nobody answers there]
    #[arg(long, value_name = "URL", value_parser = top::url)]
    url: Option<Uri>,
    /// File whose first line is the value of the Authorization header, such as "Basic …"
    #[arg(long = "authorization.file", value_name = "FILE", value_parser = top::authorization)]
    authorization: Option<Secret>,
    /// File with the only certificate authorities that may vouch for the daemon (PEM) [default: those the system trusts]
    #[arg(long = "ca.file", value_name = "FILE", value_parser = top::authorities)]
    ca: Option<Pem>,
    /// No colours, as with NO_COLOR in the environment
    #[arg(long)]
    no_color: bool,
}

#[derive(Debug, Args)]
struct Report {
    /// Begin: how long ago (2h), or a time in UTC [default: just before the latest incident]
    #[arg(long, value_name = "WHEN", value_parser = report::moment)]
    since: Option<SystemTime>,
    /// End [default: now, or just after the latest incident]
    #[arg(long, value_name = "WHEN", value_parser = report::moment)]
    until: Option<SystemTime>,
    /// Only about this peer: an address, or the name of a group
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// How it is written [default: as the output's name says, else markdown]
    #[arg(long, value_name = "FORMAT")]
    format: Option<report::Format>,
    /// File to write it to [default: the terminal]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The daemon's state directory
    #[arg(long = "state.directory", value_name = "DIRECTORY", default_value = "/var/lib/tcpwarden")]
    state_directory: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HookChoice {
    /// Typed tracepoints, and classic ones where those fail
    Auto,
    /// Only typed tracepoints
    Btf,
    /// Only classic tracepoints
    Tracepoint,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CensusChoice {
    /// The kernel's iterator, and netlink where that fails
    Auto,
    /// Only the iterator
    Iter,
    /// Only netlink
    Netlink,
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if is_telemetry_path(text) { Ok(text.to_owned()) } else { Err(TELEMETRY_PATH_RULE.to_owned()) }
}

impl Hooks {
    fn mode(&self) -> Option<HookMode> {
        self.hooks.map(|choice| match choice {
            HookChoice::Auto => HookMode::Auto,
            HookChoice::Btf => HookMode::Btf,
            HookChoice::Tracepoint => HookMode::Tracepoint,
        })
    }
}

impl CensusSource {
    fn mode(&self) -> Option<CensusMode> {
        self.census.map(|choice| match choice {
            CensusChoice::Auto => CensusMode::Auto,
            CensusChoice::Iter => CensusMode::Iter,
            CensusChoice::Netlink => CensusMode::Netlink,
        })
    }
}

/// What was asked for does not go together with where it was asked.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(String);

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, in one line when printed with `{:#}`.
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        if !matches!(self.command, Command::Report(_)) {
            keep_for_starting().context("cannot give up rights that are not needed")?;
        }
        // Lines of a log would tear the screen.
        if !matches!(self.command, Command::Top(_)) {
            logging::start();
        }
        match self.command {
            Command::Run(run) => {
                let overrides = Overrides {
                    config_file: run.config.config_file,
                    listen_address: run.listen_address,
                    web_config_file: run.web_config.web_config_file,
                    telemetry_path: run.telemetry_path,
                    max_requests: run.max_requests,
                    state_directory: run.state_directory,
                    hooks: run.hooks.mode(),
                    census: run.census.mode(),
                };
                daemon::run(&overrides)?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Check(check) => check::execute(&Overrides {
                config_file: check.config.config_file,
                web_config_file: check.web_config.web_config_file,
                hooks: check.hooks.mode(),
                census: check.census.mode(),
                ..Overrides::default()
            }),
            Command::Report(report) => report::execute(&report::Wishes {
                state_directory: report.state_directory,
                since: report.since,
                until: report.until,
                peer: report.peer,
                format: report.format,
                output: report.output,
            }),
            Command::Top(top) => top::execute(top),
            // To load the kernel side takes longer than to count ten thousand sockets without it.
            Command::Census(Census { source, json }) => {
                census::execute(source.mode().unwrap_or(CensusMode::Netlink), json)
            }
        }
    }
}
