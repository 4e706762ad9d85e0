//! Who is told of alerts, and how.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    check::Check,
    endpoint::{Endpoint, Secret, has_user, read_authorities, read_url},
    raw,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Someone should look at it today.
    #[default]
    Warning,
    /// Someone should look at it now.
    Critical,
}

impl Severity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// Value of the `severity` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiverKind {
    /// Alertmanager's API, version 2.
    Alertmanager,
    /// A POST with what Alertmanager would send to a webhook.
    Webhook,
    /// The systemd journal, with the alert's parts as fields.
    Journal,
}

/// How a receiver is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Channel {
    /// An Alertmanager.
    Alertmanager(Endpoint),
    /// Anything that takes a POST; with a secret, what is sent is signed.
    Webhook(Endpoint, Option<Secret>),
    /// The systemd journal.
    Journal,
}

/// Someone who is told of alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Value of the `receiver` label.
    pub name: Arc<str>,
    /// How it is told.
    pub channel: Channel,
    /// Nothing below it is told.
    pub min_severity: Severity,
}

/// `directory` is where relative paths begin.
pub(super) fn receivers(check: &mut Check<'_>, raw: &[raw::Receiver], directory: &Path) -> Vec<Receiver> {
    let mut receivers: Vec<Receiver> = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let at = format!("receiver[{place}]");
        check.that(
            !raw.name.is_empty() && receivers.iter().all(|other| *other.name != *raw.name),
            &format!("{at}.name"),
            &raw.name,
            "must be a name that no other receiver has",
        );
        let channel = match raw.kind {
            ReceiverKind::Journal => {
                let stray = [
                    ("url", raw.url.is_some()),
                    ("authorization_file", raw.authorization_file.is_some()),
                    ("ca_file", raw.ca_file.is_some()),
                ];
                for (key, given) in stray {
                    check.that(
                        !given,
                        &format!("{at}.{key}"),
                        "…",
                        "is of no use to the journal; leave it out",
                    );
                }
                Some(Channel::Journal)
            }
            ReceiverKind::Alertmanager => {
                endpoint(check, &at, raw, directory, "http://alertmanager:9093").map(Channel::Alertmanager)
            }
            ReceiverKind::Webhook => {
                let secret = file(
                    check,
                    &format!("{at}.hmac_secret_file"),
                    raw.hmac_secret_file.as_ref(),
                    directory,
                    Secret::read,
                );
                endpoint(check, &at, raw, directory, "https://example.org/tcpwarden")
                    .map(|endpoint| Channel::Webhook(endpoint, secret))
            }
        };
        check.that(
            raw.kind == ReceiverKind::Webhook || raw.hmac_secret_file.is_none(),
            &format!("{at}.hmac_secret_file"),
            "…",
            "is only for webhooks; leave it out",
        );
        // A receiver with a mistake is never used: the whole file is refused.
        receivers.push(Receiver {
            name: Arc::from(raw.name.as_str()),
            channel: channel.unwrap_or(Channel::Journal),
            min_severity: raw.min_severity,
        });
    }
    receivers
}

fn endpoint(
    check: &mut Check<'_>,
    at: &str,
    raw: &raw::Receiver,
    directory: &Path,
    example: &str,
) -> Option<Endpoint> {
    let authorization = file(
        check,
        &format!("{at}.authorization_file"),
        raw.authorization_file.as_ref(),
        directory,
        Secret::read,
    );
    let ca = file(check, &format!("{at}.ca_file"), raw.ca_file.as_ref(), directory, read_authorities);
    let at = format!("{at}.url");
    let Some(text) = &raw.url else {
        check.that(false, &at, "", format!("is missing; give it as url = \"{example}\""));
        return None;
    };
    let Some(url) = read_url(text) else {
        check.that(false, &at, text, format!("is no URL; write it as {example}"));
        return None;
    };
    let remedy = "must not hold a user or password, which would be logged; put \"Basic …\" into a file and name it as authorization_file";
    check.that(!has_user(&url), &at, "…", remedy).then_some(Endpoint { url, authorization, ca })
}

/// What a file holds, if one is named; what is wrong with it is a mistake.
fn file<T>(
    check: &mut Check<'_>,
    at: &str,
    path: Option<&PathBuf>,
    directory: &Path,
    read: impl Fn(&Path) -> Result<T, String>,
) -> Option<T> {
    let path = directory.join(path?);
    match read(&path) {
        Ok(content) => Some(content),
        Err(error) => {
            check.that(
                false,
                at,
                path.display(),
                format!("{error}; name a file that this user may read, with the value in it"),
            );
            None
        }
    }
}

/// The labels that each alert carries beside its own.
pub(super) fn labels(check: &mut Check<'_>, raw: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const OWN: [&str; 6] = ["alertname", "severity", "peer", "port", "direction", "name"];
    for (name, value) in raw {
        let mut characters = name.chars();
        let begins = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let goes_on = characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        let at = format!("labels.{name}");
        check.that(
            begins && goes_on,
            &at,
            value,
            "a label's name has letters, digits and _, and begins with no digit",
        );
        check.that(!OWN.contains(&name.as_str()), &at, value, "every alert has a label of that name already");
        check.that(!value.is_empty(), &at, "\"\"", "an empty label is none; leave it out");
    }
    raw.clone()
}
