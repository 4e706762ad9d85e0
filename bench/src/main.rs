//! What tcpwarden costs: side by side, in one run, with nothing attached and with what else one would use.
//!
//!     bench [PART…] [--rounds N] [--directory DIRECTORY]
//!
//! Everything runs in network namespaces of its own on this machine, and what is compared takes turns, so that whatever else the machine
//! does meets all alike. Timings are told as medians and ratios; nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "it prints its tables")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be taken ends the run, and says where"
)]

mod census;
mod connections;
mod cost;
mod events;
mod growth;
mod load;
mod machine;
mod packets;
mod plot;
mod table;
mod watcher;
mod yardsticks;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use self::{machine::Machine, table::Table};

/// Measures what tcpwarden costs.
#[derive(Debug, Parser)]
struct Options {
    /// Only these parts [default: all]
    parts: Vec<Part>,
    /// Turns that each of what is compared takes
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Where the tables go as JSON, and the plots
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How many connections a second a saturated machine makes under each watcher
    Connections,
    /// Nanoseconds of each program, beside programs that do nothing or one thing
    Events,
    /// A count of all TIME_WAIT sockets, beside other ways to count them
    Census,
    /// Events, scrapes, pages and memory with more and more peers
    Growth,
    /// Throughput with and without the SYN watch
    Packets,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    tables: Vec<Table>,
}

fn main() -> anyhow::Result<()> {
    let Options { parts, rounds, directory } = Options::parse();
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let parts = if parts.is_empty() { Part::value_variants() } else { &parts };
    let machine = Machine::here();
    println!("{machine}\n");
    let mut results = Results { machine, tables: Vec::new() };
    for part in parts {
        let tables = match part {
            Part::Connections => vec![connections::measure(rounds)],
            Part::Events => events::measure()?,
            Part::Census => census::measure(rounds),
            Part::Growth => vec![growth::measure()],
            Part::Packets => vec![packets::measure(rounds)],
        };
        for table in tables {
            println!("{table}");
            if let Some(picture) = plot::of(&table) {
                let path = directory.join(format!("{}.svg", table.name));
                fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
            }
            results.tables.push(table);
        }
    }
    let path = directory.join("results.json");
    let text = serde_json::to_vec_pretty(&results)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}
