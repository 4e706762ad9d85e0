//! What of an alert is kept over a restart.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Alert, Figure, Reach, Subject};
use crate::{
    config::{AlertName, Severity},
    model::{AccountId, Direction, Peer},
};

/// An alert that was raised when the agent ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedAlert {
    alert: String,
    group: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    outbound: bool,
    critical: bool,
    since: u64,
    announced: bool,
    text: String,
}

/// The numbers in a text change all the time; that is no reason to save an alert again.
impl PartialEq for SavedAlert {
    fn eq(&self, other: &Self) -> bool {
        let facts = |saved: &Self| {
            let Self { alert, group, address, port, outbound, critical, since, announced, text: _ } =
                saved.clone();
            (alert, group, address, port, outbound, critical, since, announced)
        };
        facts(self) == facts(other)
    }
}

impl SavedAlert {
    /// What is kept of an alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        let (peer, port, outbound) = match &alert.subject {
            Subject::Host => (None, None, false),
            Subject::Port(port) => (None, Some(*port), false),
            Subject::Account(id) => (Some(&id.peer), Some(id.port), id.direction == Direction::Outbound),
        };
        let group = match peer {
            Some(Peer::Group(name)) => Some(name.to_string()),
            _ => None,
        };
        let address = match peer {
            Some(Peer::Address(address)) => Some(*address),
            _ => None,
        };
        Self {
            alert: alert.name.name().to_owned(),
            group,
            address,
            port,
            outbound,
            critical: alert.severity == Severity::Critical,
            since: alert.since,
            announced: alert.announced,
            text: alert.text.clone(),
        }
    }

    /// The alert, without its numbers; `None` where there is no such alert any more.
    #[must_use]
    pub fn alert(&self) -> Option<Alert> {
        let group = self.group.as_deref().map(|name| Peer::Group(Arc::from(name)));
        let peer = group.or(self.address.map(Peer::Address));
        let direction = if self.outbound { Direction::Outbound } else { Direction::Inbound };
        let subject = match (peer, self.port) {
            (Some(peer), Some(port)) => Subject::Account(AccountId { peer, port, direction }),
            (None, Some(port)) => Subject::Port(port),
            _ => Subject::Host,
        };
        Some(Alert {
            name: AlertName::named(&self.alert)?,
            subject,
            severity: if self.critical { Severity::Critical } else { Severity::Warning },
            since: self.since,
            text: self.text.clone(),
            figure: Figure::NONE,
            exhausted_at: None,
            reach: Reach::default(),
            announced: self.announced,
        })
    }
}
