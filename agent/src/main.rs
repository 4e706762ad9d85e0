//! The `tcpwarden` command: the one place that prints an error and chooses an exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use tcpwarden::config::ConfigError;

/// It failed.
const FAILED: u8 = 1;
/// Wrong usage or configuration; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match cli::Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            cli::log::last_words(&error);
            ExitCode::from(if error.downcast_ref::<ConfigError>().is_some() { USAGE } else { FAILED })
        }
    }
}
