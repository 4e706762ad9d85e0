//! The file of `--web.config.file`: who may connect and how, in the format that users of the Prometheus exporters know.
//! `docs/web-config.md` is its reference.

mod place;
mod protection;
mod raw;
mod sources;
mod tls;
mod users;

use std::{path::Path, sync::Arc};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::ServerConfig;
use serde_saphyr::UserMessageFormatter;

pub use self::protection::Protection;
use self::{place::Place, sources::Sources, users::Users};
use crate::config::ConfigError;

/// What a web configuration means.
pub(super) struct WebConfig {
    /// How to speak TLS; plain HTTP without.
    pub tls: Option<Arc<ServerConfig>>,
    /// Added to every answer.
    pub headers: HeaderMap,
    users: Option<Users>,
}

impl WebConfig {
    /// No file: plain HTTP for everybody.
    fn open() -> Self {
        Self { tls: None, headers: HeaderMap::new(), users: None }
    }

    /// Reads a file and those that it names.
    fn read(path: &Path, sources: &mut Sources) -> Result<Self, ConfigError> {
        let unreadable = |reason| ConfigError::Unreadable {
            path: path.to_owned(),
            reason,
            remedy: "give a readable file to --web.config.file, or leave the flag out to serve plain HTTP to everybody",
        };
        let text = sources.read(path).map_err(unreadable)?;
        let text = String::from_utf8(text).map_err(|error| unreadable(std::io::Error::other(error)))?;
        let file = parse(&text, path)?;
        let place = Place(path);
        place.unsupported(
            "rate_limit",
            file.rate_limit.as_ref(),
            "delete it: connections, scrapes and their time are limited already (--web.max-requests)",
        )?;
        let http = file.http_server_config.unwrap_or_default();
        if http.http2 == Some(true) {
            return Err(place.invalid(
                "http_server_config.http2",
                "true",
                "is not supported; delete it or set it to false: every client falls back to HTTP/1.1",
            ));
        }
        let tls = file.tls_server_config.map(|tls| tls::server_config(&tls, place, sources)).transpose()?;
        let users = file.basic_auth_users.filter(|users| !users.is_empty());
        Ok(Self {
            tls,
            headers: headers(&http.headers.unwrap_or_default(), place)?,
            users: users.map(|users| Users::new(users, place)).transpose()?,
        })
    }

    /// Whether a request with this value of `Authorization` may be answered.
    pub async fn admits(&self, authorization: Option<&HeaderValue>) -> bool {
        match (&self.users, authorization) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(users), Some(authorization)) => users.admit(authorization.as_bytes()).await,
        }
    }
}

impl std::fmt::Display for WebConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.tls.is_some() { "TLS" } else { "plain HTTP" })?;
        match &self.users {
            None => f.write_str(", no users"),
            Some(users) => write!(f, ", users: {}", users.count()),
        }
    }
}

fn parse(text: &str, path: &Path) -> Result<raw::File, ConfigError> {
    let file: Option<raw::File> = serde_saphyr::from_str(text).map_err(|error| {
        // The message ends with the line.
        let message = error.without_snippet().render_with_formatter(&UserMessageFormatter);
        ConfigError::one(path, message.replace('\n', " "))
    })?;
    Ok(file.unwrap_or_default())
}

/// The headers that are given and not blank.
fn headers(raw: &raw::Headers, place: Place<'_>) -> Result<HeaderMap, ConfigError> {
    let one_of: [(HeaderName, &Option<String>, &[&str]); 5] = [
        (header::CONTENT_SECURITY_POLICY, &raw.content_security_policy, &[]),
        (header::X_FRAME_OPTIONS, &raw.x_frame_options, &["deny", "sameorigin"]),
        (header::X_CONTENT_TYPE_OPTIONS, &raw.x_content_type_options, &["nosniff"]),
        (header::X_XSS_PROTECTION, &raw.x_xss_protection, &[]),
        (header::STRICT_TRANSPORT_SECURITY, &raw.strict_transport_security, &[]),
    ];
    let mut headers = HeaderMap::new();
    for (name, value, allowed) in one_of {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        let key = format!("http_server_config.headers.{name}");
        if !allowed.is_empty() && !allowed.contains(&value) {
            return Err(place.invalid(&key, value, format!("must be {}", allowed.join(" or "))));
        }
        let value = HeaderValue::from_str(value).map_err(|_| {
            let shown = value.escape_debug().to_string();
            place.invalid(&key, &shown, "must be one line of visible ASCII characters")
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}
