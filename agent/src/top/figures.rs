//! What is heard from the thread that asks.

use crate::{
    api::{Account, Alert, Census, Overview, Ports, Second},
    model::PortName,
};

/// Which account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    /// An address, the name of a group, or `other`.
    pub peer: String,
    /// The service port; `other` has none.
    pub port: Option<u16>,
    /// `inbound` or `outbound`.
    pub direction: String,
}

/// How everything is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Figures {
    /// As the daemon tells.
    Daemon {
        /// The host and the agent.
        overview: Box<Overview>,
        /// Each account.
        accounts: Vec<Account>,
        /// The alerts that are raised.
        alerts: Vec<Alert>,
    },
    /// As counted here, where no daemon answers.
    Census(Census),
}

/// What takes an extra question: one account in detail. What cannot be answered says why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Detail {
    /// Whose.
    pub who: Who,
    /// All its ports.
    pub ports: Result<Ports, String>,
    /// Its last seconds, the oldest first.
    pub seconds: Result<Vec<Second>, String>,
}

/// One round of asking.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct News {
    /// How everything is, or why nobody tells.
    pub figures: Result<Figures, String>,
    /// The account that is looked at, if any is.
    pub detail: Option<Detail>,
}

impl Who {
    /// Whose figures these are.
    pub fn of(account: &Account) -> Self {
        Self { peer: account.peer.clone(), port: account.port, direction: account.direction.clone() }
    }

    /// Its port as it is written.
    pub fn port_name(&self) -> Option<PortName> {
        Some(PortName::new(self.port?, &self.direction))
    }

    /// Whether an alert is about it.
    pub fn is_meant(&self, alert: &Alert) -> bool {
        (&self.peer, self.port, &self.direction) == (&alert.peer, alert.port, &alert.direction)
    }
}

impl Figures {
    /// Whether these figures are newer than others. Each census is.
    pub fn moved_on(&self, from: Option<&Self>) -> bool {
        match (self, from) {
            (Self::Daemon { overview, .. }, Some(Self::Daemon { overview: before, .. })) => {
                overview.time > before.time
            }
            _ => true,
        }
    }
}
