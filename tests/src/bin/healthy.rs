//! Programs as Debian ships them, at work: redis, memcached, PostgreSQL, nginx, haproxy, sshd and others, and no incident.
//!
//! The last line is the verdict; the exit code is 1 when an agent raised an alert, or a workload did not run.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use lab::{healthy::play, story::Story};

#[derive(Debug, Parser)]
struct Options {
    /// How long
    #[arg(value_parser = clap::value_parser!(u64).range(3..))]
    minutes: u64,
}

fn main() -> ExitCode {
    let Options { minutes } = Options::parse();
    let mut story = Story::aloud();
    play(&mut story, Duration::from_mins(minutes));
    story.verdict()
}
