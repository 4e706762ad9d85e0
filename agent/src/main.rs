//! The `tcpwarden` command: the one place that prints an error and chooses an exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use tcpwarden::{config::ConfigError, logging};

/// It failed.
const FAILED: u8 = 1;
/// Wrong usage or configuration; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let code = cli::Cli::parse().execute().unwrap_or_else(|error| {
        logging::last_word(&format!("{error:#}"));
        let is_usage = error.is::<ConfigError>() || error.is::<cli::WrongUsage>();
        ExitCode::from(if is_usage { USAGE } else { FAILED })
    });
    logging::finish();
    code
}
