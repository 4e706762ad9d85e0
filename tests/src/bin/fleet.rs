//! The outage that tcpwarden was born from, as it was: several servers behind one virtual address, each of which sees a part of the
//! connections of a NAT. An agent on each server and one Prometheus over all say when they know that SYNs will be refused.
//!
//! The last line is the verdict; the exit code is 1 when a figure of an agent differs from the wire, an agent warned too late, forecast a
//! wrong moment, or raised an alert without need.

#![expect(clippy::print_stdout, reason = "it tells its story on the terminal")]

#[path = "fleet/play.rs"]
mod play;
#[path = "fleet/verdict.rs"]
mod verdict;

use std::{ops::RangeInclusive, process::ExitCode};

use clap::{Parser, ValueEnum};
use lab::{fleet::Balance, inconclusive, nat::Nat, topology::Family};

/// What the scenario consists of.
#[derive(Clone, Copy, Debug, Parser)]
struct Options {
    /// How the balancer chooses a server
    balance: Balance,
    /// How many servers there are
    #[arg(value_parser = clap::value_parser!(u8).range(2..=6))]
    servers: u8,
    /// How many ports there are
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Size {
    /// One NAT address with 4,096 ports
    Small,
    /// Three with 14,336 each, as it was
    Real,
}

/// A part of the load.
#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    seconds: usize,
    /// Connections a second of each NAT address.
    rate: f64,
}

impl Size {
    fn addresses(self) -> u8 {
        match self {
            Self::Small => 1,
            Self::Real => 3,
        }
    }

    fn ports(self) -> RangeInclusive<u16> {
        match self {
            Self::Small => 2_048..=6_143,
            Self::Real => 2_048..=16_383,
        }
    }

    /// The peer goes round its ports twice, and some more, so that it is known which of them come back; the load falls, and steps up.
    fn phases(self) -> [Phase; 3] {
        // The pool is three quarters taken at most, which is no reason for an alert.
        // Behind a hash, the last rate takes every port within 20 s, and within 35 s: 150 connections a second in all, and 1,434, which two
        // cores bear.
        let [warm, calm, stepped] = match self {
            Self::Small => [(150, 51.0), (64, 37.0), (50, 150.0)],
            Self::Real => [(170, 180.0), (64, 50.0), (50, 478.0)],
        };
        [("warming up", warm), ("calm", calm), ("load steps up", stepped)]
            .map(|(name, (seconds, rate))| Phase { name, seconds, rate })
    }

    /// How many seconds before its first refused SYN each agent must warn. The first port comes back 16 s after the step, and 26 s.
    fn ahead(self) -> f64 {
        match self {
            Self::Small => 12.0,
            Self::Real => 19.0,
        }
    }
}

impl Options {
    fn addresses(self) -> impl Iterator<Item = std::net::IpAddr> {
        (0..self.size.addresses()).map(|number| Nat::address(Family::V4, number))
    }

    /// Whether ports come back to the server that had them within the life of a TIME_WAIT.
    fn is_refused(self) -> bool {
        let ports = self.size.ports().len() * usize::from(self.size.addresses());
        self.balance.brings_back(ports, usize::from(self.servers))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    inconclusive::begin("fleet");
    verdict::verdict(options, &play::play(options))
}
