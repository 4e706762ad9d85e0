//! `cargo xtask`: what a person or CI does with this project, each command with its own set-up.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its user")]

mod bench;
mod beside;
mod fuzz;
mod helm;
mod instructions;
mod lab;
mod licences;
mod package;
mod rules;
mod run;
mod setup;
mod shell;
mod test;
mod times;
mod vm;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    /// Install what is missing to build and test; says what it does, and does nothing twice
    Setup,
    /// Build the daemon in release
    Build,
    /// Build the daemon and run it on this host; arguments go to `tcpwarden run`
    Run {
        /// For example --config.file FILE
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Play an incident at its real size in network namespaces, and tell what the agent knew when
    Lab {
        #[command(subcommand)]
        incident: lab::Incident,
    },
    /// Play the scenarios on other kernels, in virtual machines, and put the table of what each supports into the README
    Vm(vm::Options),
    /// Put the agent under load for long, with faults thrown in; fails when a figure is wrong, or it grows, or does not answer
    Soak {
        /// How long
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Measure what the daemon costs, side by side with other tools (a quarter of an hour, alone on the machine); prints tables, writes them and
    /// plots to target/bench
    Bench {
        /// Which parts, and how many rounds; `-- --help` tells
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz the readers of what others wrote: kernel, configuration, clients, saved state
    Fuzz(fuzz::Options),
    /// Make the static binary, the Debian package, the bill of materials and their checksums, in target/package
    Package(package::Options),
    /// What `test` runs beside the lab
    #[command(hide = true)]
    BesideTheLab(beside::BesideTheLab),
    /// Run every test: formatting, lints, Prometheus rules, unit tests, and the lab on this kernel
    Test(test::Options),
}

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn execute(self) -> anyhow::Result<()> {
        // Wherever it was called, it works on the workspace.
        env::set_current_dir(root()).context("cannot enter the workspace")?;
        match self {
            Self::Setup => {
                setup::build_tools()?;
                setup::test_tools()?;
                setup::everyday_programs()?;
                setup::tracefs()
            }
            Self::Build => {
                setup::build_tools()?;
                run::build()
            }
            Self::Run { args } => {
                setup::build_tools()?;
                run::build()?;
                setup::tracefs_without_btf()?;
                run::run(&args)
            }
            Self::Lab { incident } => lab::play(incident),
            Self::Vm(options) => vm::play(&options),
            Self::Soak { minutes } => lab::soak(minutes),
            Self::Bench { args } => bench::bench(&args),
            Self::Fuzz(options) => fuzz::fuzz(&options),
            Self::Package(options) => package::package(&options).map(drop),
            Self::BesideTheLab(options) => beside::everything(options),
            Self::Test(options) => test::test(&options),
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
