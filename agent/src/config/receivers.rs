//! Who is told of alerts, and how.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
};

use http::Uri;
use serde::Deserialize;

use super::{check::Check, file::read_file, raw};

/// A secret may be so long, in bytes.
const SECRET_LIMIT: u64 = 16 * 1024;

/// The authorities of a receiver may be so many, in bytes; all that a system trusts are a quarter of it.
const PEM_LIMIT: u64 = 1024 * 1024;

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

/// Something that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first line of a file.
    fn read(path: &Path) -> Result<Self, String> {
        let text = read_file(path, SECRET_LIMIT).map_err(|error| error.to_string())?;
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        match text.lines().next().map(str::trim) {
            None | Some("") => Err("has an empty first line".to_owned()),
            Some(line) => Ok(Self(line.to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// As configured, without a slash at its end; http or https.
    pub url: Uri,
    /// Value of the Authorization header.
    pub authorization: Option<Secret>,
    /// The only authorities that may vouch for it; `None` is those the system trusts.
    pub ca: Option<Vec<u8>>,
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
    let ca = file(check, &format!("{at}.ca_file"), raw.ca_file.as_ref(), directory, |path| {
        let pem = read_file(path, PEM_LIMIT).map_err(|error| error.to_string())?;
        let holds_one = String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----");
        holds_one.then_some(pem).ok_or_else(|| "holds no certificate in PEM".to_owned())
    });
    let at = format!("{at}.url");
    let Some(text) = &raw.url else {
        check.that(false, &at, "", format!("is missing; give it as url = \"{example}\""));
        return None;
    };
    let url = Uri::from_str(text.trim_end_matches('/')).ok().filter(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    });
    let Some(url) = url else {
        check.that(false, &at, text, format!("is no URL; write it as {example}"));
        return None;
    };
    let has_password = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let remedy = "must not hold a user or password, which would be logged; put \"Basic …\" into a file and name it as authorization_file";
    check.that(!has_password, &at, "…", remedy).then_some(Endpoint { url, authorization, ca })
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
