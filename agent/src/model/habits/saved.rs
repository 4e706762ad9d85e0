//! What is usual, as it is written down.

use std::{net::IpAddr, sync::Arc};

use anyhow::ensure;
use probe_ebpf::account::WAITS;
use serde::{Deserialize, Serialize};

use super::{
    answers::Known,
    endings::{ENOUGH, Hour, Hours, SPANS},
};
use crate::model::peer::{AccountId, Direction, Peer};

/// What is usual for one account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHabit {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    port: u16,
    hours: Hours,
}

impl SavedHabit {
    pub(super) fn new(account: &AccountId, hours: Hours) -> Self {
        let group = match &account.peer {
            Peer::Group(name) => Some(name.to_string()),
            Peer::Address(_) => None,
        };
        Self { group, address: account.peer.address(), port: account.port, hours }
    }

    /// # Errors
    /// When it is none that could have been written.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.account().is_some(), "what is usual on port {} is of no peer", self.port);
        for Hour { spans, lowest, answered } in self.hours.before.into_iter().chain([self.hours.last]) {
            ensure!((0.0..=1.0).contains(&lowest), "{lowest} is no share of connections");
            ensure!(spans <= SPANS && answered <= ENOUGH, "{spans} spans or {answered} answers are too many");
        }
        Ok(())
    }

    /// Whose it is.
    pub(super) fn account(&self) -> Option<AccountId> {
        let group = self.group.as_deref().map(|name| Peer::Group(Arc::from(name)));
        let peer = group.or(self.address.map(Peer::Address))?;
        Some(AccountId { peer, port: self.port, direction: Direction::Inbound })
    }

    pub(super) fn hours(&self) -> Hours {
        self.hours
    }
}

/// What is usual for a destination of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDestination {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    port: u16,
    known: Known,
}

impl SavedDestination {
    pub(super) fn new(account: &AccountId, known: Known) -> Self {
        let group = match &account.peer {
            Peer::Group(name) => Some(name.to_string()),
            Peer::Address(_) => None,
        };
        Self { group, address: account.peer.address(), port: account.port, known }
    }

    /// # Errors
    /// When it is none that could have been written.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.account().is_some(), "what is usual towards port {} is of no destination", self.port);
        let Known { usual, usual_before, .. } = self.known;
        ensure!(usual.max(usual_before) <= WAITS, "waits have no {} buckets", usual.max(usual_before));
        Ok(())
    }

    /// Whose it is.
    pub(super) fn account(&self) -> Option<AccountId> {
        let group = self.group.as_deref().map(|name| Peer::Group(Arc::from(name)));
        let peer = group.or(self.address.map(Peer::Address))?;
        Some(AccountId { peer, port: self.port, direction: Direction::Outbound })
    }

    pub(super) fn known(&self) -> Known {
        self.known
    }
}
