//! What a workload consists of, and how it is known to have run.

use std::ops::RangeInclusive;

use crate::{host::Host, process::Process};

/// A shell script that runs for as long as it is let. It begins with what `sandbox.rs` says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    /// Programs of Debian.
    Debian(&'static str),
    /// `$TRAFFIC`, the lab's own program.
    Lab(&'static str),
}

/// A program that listens.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) ports: &'static [u16],
    pub(super) script: Script,
}

/// Clients of one kind, and what shows that they were served.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// The port that the clients connect to, and those that the server connects to for them. No other workload has them.
    pub(super) ports: &'static [u16],
    /// A line with `FAILED` in its output means that a client was not served.
    pub(super) client: Script,
    pub(super) proofs: &'static [Proof],
}

/// What is true at the end of the shortest run.
#[derive(Debug)]
pub(super) enum Proof {
    /// The clients printed the text on so many lines at least.
    Client(&'static str, usize),
    /// The server did.
    Server(&'static str, usize),
    /// `ss` on the server lists so many sockets in this state at the first port.
    Sockets(&'static str, RangeInclusive<usize>),
    /// So many connections wait to be accepted there.
    Waiting(u64),
}

/// A workload that runs.
pub(super) struct Running<'a> {
    pub(super) workload: &'static Workload,
    pub(super) server: &'a Process,
    pub(super) host: &'a Host,
    pub(super) client: Process,
}

impl Running<'_> {
    /// What of it did not happen as it should.
    pub(super) fn gaps(&self) -> Vec<String> {
        let log = self.client.log();
        let failed = log.lines().find(|line| line.contains("FAILED")).map(str::to_owned);
        failed.into_iter().chain(self.workload.proofs.iter().filter_map(|proof| self.lacks(proof))).collect()
    }

    fn lacks(&self, proof: &Proof) -> Option<String> {
        let port = self.workload.ports[0];
        let lines =
            |process: &Process, text: &str| process.log().lines().filter(|line| line.contains(text)).count();
        let (found, holds) = match proof {
            Proof::Client(text, least) => {
                let found = lines(&self.client, text);
                (found, found >= *least)
            }
            Proof::Server(text, least) => {
                let found = lines(self.server, text);
                (found, found >= *least)
            }
            Proof::Sockets(state, range) => {
                let found = self.host.sh(&format!("ss -Htan state {state} sport = :{port}")).lines().count();
                (found, range.contains(&found))
            }
            Proof::Waiting(count) => {
                let found = crate::truth::accept_queue(self.host, port);
                (usize::try_from(found).unwrap_or(usize::MAX), found == *count)
            }
        };
        (!holds)
            .then(|| format!("{proof:?}, but there are {found}; its log ends with {:?}", self.last_lines()))
    }

    fn last_lines(&self) -> String {
        let log = self.client.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("\n")
    }
}

/// The port that an alert's subject names (`alarms::Alarm`), unless it is about the host or a name.
pub(super) fn port_of(subject: &str) -> Option<u16> {
    let words: Vec<&str> = subject.split([' ', ':']).collect();
    words.iter().find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_subject() {
        assert_eq!(port_of("10.80.0.20:6379 inbound"), Some(6379));
        assert_eq!(port_of("port 80"), Some(80));
        assert_eq!(port_of("the host"), None);
    }
}
