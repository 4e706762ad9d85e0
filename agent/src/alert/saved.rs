//! What of an alert is kept over a restart.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Alert, Figure, Reach, Subject};
use crate::{
    config::{AlertName, Severity},
    model::{AccountId, Direction, Peer},
};

/// The last second that RFC 3339 can write: no alert began later.
const LAST: u64 = 253_402_300_799;

/// An alert that was raised when the agent ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedAlert {
    alert: String,
    group: Option<String>,
    address: Option<IpAddr>,
    port: Option<u16>,
    #[serde(default)]
    name: Option<String>,
    outbound: bool,
    critical: bool,
    since: u64,
    announced: bool,
    text: String,
}

/// The numbers in a text change all the time; that is no reason to save an alert again.
impl PartialEq for SavedAlert {
    fn eq(&self, other: &Self) -> bool {
        let Self { alert, group, address, port, name, outbound, critical, since, announced, text: _ } = self;
        *alert == other.alert
            && *group == other.group
            && *address == other.address
            && *port == other.port
            && *name == other.name
            && *outbound == other.outbound
            && *critical == other.critical
            && *since == other.since
            && *announced == other.announced
    }
}

impl SavedAlert {
    /// What is kept of an alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        let (peer, port, outbound) = match &alert.subject {
            Subject::Host | Subject::Name(_) => (None, None, false),
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
        let name = match &alert.subject {
            Subject::Name(name) => Some(name.to_string()),
            _ => None,
        };
        Self {
            alert: alert.name.name().to_owned(),
            group,
            address,
            port,
            name,
            outbound,
            critical: alert.severity == Severity::Critical,
            since: alert.since,
            announced: alert.announced,
            text: alert.text.clone(),
        }
    }

    /// The alert, without its numbers; `None` where there is no such alert any more, or it never was.
    #[must_use]
    pub fn alert(&self) -> Option<Alert> {
        if self.since > LAST {
            return None;
        }
        let group = self.group.as_deref().map(|name| Peer::Group(Arc::from(name)));
        let peer = group.or(self.address.map(Peer::Address));
        let direction = if self.outbound { Direction::Outbound } else { Direction::Inbound };
        let subject = match (&self.name, peer, self.port) {
            (Some(name), ..) => Subject::Name(Arc::from(name.as_str())),
            (None, Some(peer), Some(port)) => Subject::Account(AccountId { peer, port, direction }),
            (None, None, Some(port)) => Subject::Port(port),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_date_can_tell_never_was() {
        let saved = |since: u64| -> SavedAlert {
            let text = format!(
                r#"{{"alert":"AgentDegraded","outbound":false,"critical":false,"since":{since},"announced":true,"text":""}}"#
            );
            serde_json::from_str(&text).expect("a saved alert")
        };
        // `date -ud 9999-12-31T23:59:59Z +%s`
        assert!(saved(253_402_300_799).alert().is_some());
        assert_eq!(saved(253_402_300_800).alert(), None);
    }

    #[test]
    fn only_the_text_may_differ() {
        let alert = Alert {
            name: AlertName::PortReuseRefused,
            subject: Subject::Account(AccountId {
                peer: Peer::Address([192, 0, 2, 1].into()),
                port: 443,
                direction: Direction::Outbound,
            }),
            severity: Severity::Critical,
            since: 7,
            text: "5 SYNs".to_owned(),
            figure: Figure::NONE,
            exhausted_at: None,
            reach: Reach::default(),
            announced: true,
        };
        let saved = SavedAlert::of(&alert);
        assert_eq!(saved.alert(), Some(alert.clone()), "nothing of it is lost");
        assert_eq!(saved, SavedAlert::of(&Alert { text: "6 SYNs".to_owned(), ..alert.clone() }));
        let group =
            AccountId { peer: Peer::Group(Arc::from("nat")), port: 443, direction: Direction::Outbound };
        for other in [
            Alert { name: AlertName::PoolDiffers, ..alert.clone() },
            Alert { subject: Subject::Account(group), ..alert.clone() },
            Alert { subject: Subject::Port(443), ..alert.clone() },
            Alert { subject: Subject::Name(Arc::from("db.example")), ..alert.clone() },
            Alert { severity: Severity::Warning, ..alert.clone() },
            Alert { since: 8, ..alert.clone() },
            Alert { announced: false, ..alert.clone() },
        ] {
            assert_ne!(saved, SavedAlert::of(&other), "{other:?}");
        }
    }
}
