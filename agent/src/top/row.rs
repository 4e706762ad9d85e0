//! A line of the table: one account, and what stands in which column.

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr};

use super::{
    figures::{Figures, Who},
    view::words::roughly,
};
use crate::{
    api::{Account, Alert, PeerSockets},
    config::Severity,
    model::CONNECTED_STATES,
    visible::visible,
};

/// One account. What is not known is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Whose.
    pub who: Who,
    /// Its sockets by state.
    pub sockets: BTreeMap<String, u32>,
    /// The worst alert that is raised for it.
    pub severity: Option<Severity>,
    /// The share of its pool that is taken.
    pub used: Option<f64>,
    /// Seconds until no port of its pool is free.
    pub left: Option<f64>,
    /// Connections per second.
    pub rate: Option<f64>,
    /// SYNs repeated.
    pub retries: Option<u64>,
    /// SYNs that a TIME_WAIT refused.
    pub refused: Option<u64>,
    /// Attempts of ours that failed.
    pub failed: Option<u64>,
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Alert,
    Peer,
    Port,
    Direction,
    Used,
    Left,
    /// Sockets in this state.
    State(&'static str),
    Rate,
    Retries,
    Refused,
    Failed,
    /// Sockets in any state.
    Sockets,
}

/// How bad an alert is.
pub(super) fn severity(alert: &Alert) -> Option<Severity> {
    Severity::ALL.into_iter().find(|severity| severity.name() == alert.severity)
}

impl Row {
    /// All lines that there are.
    pub fn all(figures: &Figures) -> Vec<Self> {
        match figures {
            Figures::Daemon { accounts, alerts, .. } => {
                let shown = accounts.iter().filter(|account| !is_nobody(account));
                shown.map(|account| Self::of_account(account, alerts)).collect()
            }
            Figures::Census(census) => census.peers.iter().map(Self::of_sockets).collect(),
        }
    }

    fn of_account(account: &Account, alerts: &[Alert]) -> Self {
        let who = Who::of(account);
        let pool = account.pool.as_ref();
        Self {
            severity: alerts.iter().filter(|alert| who.is_meant(alert)).filter_map(severity).max(),
            who,
            sockets: account.sockets.clone(),
            used: pool.and_then(|pool| pool.used_ratio),
            left: pool.and_then(|pool| pool.seconds_left),
            rate: Some(account.connections_per_second),
            retries: Some(account.syn_retries),
            refused: account.time_wait_syns.map(|syns| syns.refused),
            failed: Some(account.connect_failures.values().sum()),
        }
    }

    fn of_sockets(peer: &PeerSockets) -> Self {
        let PeerSockets { peer, port, direction, sockets, .. } = peer.clone();
        Self {
            who: Who { peer, port: Some(port).filter(|port| *port > 0), direction },
            sockets,
            severity: None,
            used: None,
            left: None,
            rate: None,
            retries: None,
            refused: None,
            failed: None,
        }
    }

    fn in_state(&self, state: &str) -> u32 {
        self.sockets.get(state).copied().unwrap_or_default()
    }

    /// What is worse is greater: alerts, then full pools, then many sockets.
    fn badness(&self, other: &Self) -> Ordering {
        let of = |row: &Self| (row.used.unwrap_or_default(), f64::from(row.sockets.values().sum::<u32>()));
        let ((used, sockets), (other_used, other_sockets)) = (of(self), of(other));
        let by_severity = self.severity.cmp(&other.severity);
        by_severity.then(used.total_cmp(&other_used)).then(sockets.total_cmp(&other_sockets))
    }

    /// Whether each word of a filter stands somewhere in its name, port and direction.
    pub fn matches(&self, filter: &str) -> bool {
        let Who { peer, direction, .. } = &self.who;
        let text = format!("{} {} {direction}", visible(peer), Column::Port.cell(self)).to_lowercase();
        filter.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }
}

impl Column {
    /// Those of a table of these figures, as they stand side by side.
    pub fn all(figures: &Figures, rows: &[Row]) -> Vec<Self> {
        let in_use = |state: &&str| rows.iter().any(|row| row.in_state(state) > 0);
        let mut states: Vec<&str> = CONNECTED_STATES.iter().map(|(name, _)| *name).filter(in_use).collect();
        match figures {
            Figures::Daemon { .. } => {
                let usual = ["time_wait", "established"];
                states.retain(|state| !usual.contains(state));
                let known = [Self::Alert, Self::Peer, Self::Port, Self::Direction, Self::Used, Self::Left];
                let counters = [Self::Rate, Self::Retries, Self::Refused, Self::Failed];
                let usual = usual.map(Self::State).into_iter().chain(counters);
                known.into_iter().chain(usual).chain(states.into_iter().map(Self::State)).collect()
            }
            Figures::Census(_) => {
                let known = [Self::Peer, Self::Port, Self::Direction, Self::Sockets];
                known.into_iter().chain(states.into_iter().map(Self::State)).collect()
            }
        }
    }

    /// What rows are sorted by until someone wants something else.
    pub fn usual(figures: &Figures) -> Self {
        match figures {
            Figures::Daemon { .. } => Self::Alert,
            Figures::Census(_) => Self::Sockets,
        }
    }

    /// As it stands above it.
    pub fn title(self) -> String {
        match self {
            Self::Alert => "ALERT".to_owned(),
            Self::Peer => "PEER".to_owned(),
            Self::Port => "PORT".to_owned(),
            Self::Direction => "DIR".to_owned(),
            Self::Used => "USED".to_owned(),
            Self::Left => "LEFT".to_owned(),
            // As ss abbreviates it.
            Self::State("established") => "ESTAB".to_owned(),
            Self::State(name) => name.to_uppercase(),
            Self::Rate => "CONN/S".to_owned(),
            Self::Retries => "RETRIES".to_owned(),
            Self::Refused => "REFUSED".to_owned(),
            Self::Failed => "FAILED".to_owned(),
            Self::Sockets => "SOCKETS".to_owned(),
        }
    }

    /// Whether it holds words; numbers stand on the right.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Alert | Self::Peer | Self::Direction)
    }

    /// In a narrow terminal, those with the lowest remain.
    pub fn rank(self) -> u8 {
        match self {
            Self::Peer => 0,
            Self::Alert => 1,
            Self::Sockets => 2,
            Self::Used => 3,
            Self::State("time_wait") => 4,
            Self::Port => 5,
            Self::Left => 6,
            Self::State("established") => 7,
            Self::Direction => 8,
            Self::Rate => 9,
            Self::Refused => 10,
            Self::Retries => 11,
            Self::Failed => 12,
            Self::State(_) => 13,
        }
    }

    /// What stands in it.
    pub fn cell(self, row: &Row) -> String {
        let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        match self {
            Self::Alert => match row.severity {
                Some(Severity::Critical) => "CRIT".to_owned(),
                Some(Severity::Warning) => "WARN".to_owned(),
                None => String::new(),
            },
            Self::Peer => visible(&row.who.peer),
            Self::Port => row.who.port_name().map_or_else(String::new, |port| port.to_string()),
            Self::Direction => if row.who.direction == "inbound" { "in" } else { "out" }.to_owned(),
            Self::Used => row.used.map_or_else(String::new, |used| format!("{:.0}%", used * 100.0)),
            Self::Left => row.left.map_or_else(String::new, roughly),
            Self::State(name) => row.in_state(name).to_string(),
            Self::Rate => row.rate.map_or_else(|| "?".to_owned(), |rate| format!("{rate:.1}")),
            Self::Retries => number(row.retries),
            Self::Refused => number(row.refused),
            Self::Failed => number(row.failed),
            Self::Sockets => row.sockets.values().sum::<u32>().to_string(),
        }
    }

    /// Which of two rows comes first: names ascend, what is bad or large comes before what is not.
    pub fn order(self, one: &Row, other: &Row) -> Ordering {
        let larger = |value: fn(&Row) -> Option<f64>| {
            let of = |row| value(row).unwrap_or(f64::NEG_INFINITY);
            of(other).total_cmp(&of(one))
        };
        let own = match self {
            Self::Alert => other.severity.cmp(&one.severity),
            Self::Peer => address_first(&one.who.peer).cmp(&address_first(&other.who.peer)),
            Self::Port => one.who.port.cmp(&other.who.port),
            Self::Direction => one.who.direction.cmp(&other.who.direction),
            Self::Used => larger(|row| row.used),
            // What runs out sooner is worse.
            Self::Left => larger(|row| row.left.map(|left| -left)),
            Self::State(name) => other.in_state(name).cmp(&one.in_state(name)),
            Self::Rate => larger(|row| row.rate),
            Self::Retries => other.retries.cmp(&one.retries),
            Self::Refused => other.refused.cmp(&one.refused),
            Self::Failed => other.failed.cmp(&one.failed),
            Self::Sockets => other.sockets.values().sum::<u32>().cmp(&one.sockets.values().sum()),
        };
        own.then_with(|| other.badness(one)).then_with(|| one.who.cmp(&other.who))
    }
}

/// Whether nobody has been without an account of their own so far.
fn is_nobody(account: &Account) -> bool {
    account.port.is_none() && account.connections == 0 && account.sockets.values().all(|&count| count == 0)
}

/// Addresses by their number, then names by the alphabet.
fn address_first(peer: &str) -> (bool, Option<IpAddr>, &str) {
    let address = peer.parse().ok();
    (address.is_none(), address, peer)
}
