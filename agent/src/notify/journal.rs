//! The systemd journal: one entry per notice, with the alert's parts as fields, so that `journalctl TCPWARDEN_ALERT=…` finds it.

use std::path::Path;

use libsystemd::logging::{Priority, journal_send};

use super::{
    notice::{Site, annotations, labels},
    outbox::Notice,
};
use crate::config::Severity;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether there is one.
pub(super) fn find() -> Result<(), String> {
    if Path::new(SOCKET).exists() { Ok(()) } else { Err(format!("there is no {SOCKET}")) }
}

/// Writes one entry.
pub(super) fn write(site: &Site, notice: &Notice) -> Result<(), String> {
    let alert = &notice.alert;
    let (state, priority) = match (notice.ended, alert.severity) {
        (Some(_), _) => ("resolved", Priority::Notice),
        (None, Severity::Warning) => ("firing", Priority::Warning),
        (None, Severity::Critical) => ("firing", Priority::Critical),
    };
    let message = match notice.ended {
        None => format!("{} ({}): {}", alert.name, alert.severity.name(), alert.text),
        Some(_) => format!("{}: over for {}", alert.name, alert.subject),
    };
    let labels = labels(site, alert, alert.severity).into_iter();
    let annotations = annotations(site, notice).into_iter().map(|(name, value)| (name.to_owned(), value));
    let fields = labels.chain(annotations).map(|(name, value)| {
        let name = if name == "alertname" { "alert".to_owned() } else { name };
        (format!("TCPWARDEN_{}", name.to_uppercase()), value)
    });
    let fields = fields.chain([
        ("TCPWARDEN_STATE".to_owned(), state.to_owned()),
        ("SYSLOG_IDENTIFIER".to_owned(), "tcpwarden".to_owned()),
    ]);
    journal_send(priority, &message, fields).map_err(|error| error.to_string())
}
