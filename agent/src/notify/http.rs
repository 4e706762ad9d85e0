//! Posting JSON to an endpoint.

use std::{
    io::ErrorKind,
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::{Agent, Error, Timeout};

use super::outbox::Outcome;
use crate::{
    config::Endpoint,
    http_client::{self, CONNECT_TIMEOUT},
};

/// A delivery may take so long, whatever it waits for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts to one endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    url: String,
}

impl Client {
    /// `path` comes behind the configured URL.
    pub fn new(endpoint: &Endpoint, path: &str) -> Self {
        let config = http_client::config(endpoint).timeout_global(Some(TIMEOUT));
        let mut url = endpoint.url.to_string();
        if !path.is_empty() {
            url = format!("{}{path}", url.trim_end_matches('/'));
        }
        Self { agent: config.build().new_agent(), endpoint: endpoint.clone(), url }
    }

    /// Posts JSON with more headers.
    ///
    /// # Errors
    /// How it failed, and why, without any secret.
    pub fn post(&self, body: &[u8], headers: &[(&str, String)]) -> Result<(), (Outcome, String)> {
        let mut request = self.agent.post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header(AUTHORIZATION, authorization.expose());
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send(body).map_err(|error| (outcome(&error), error.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let outcome = match status.as_u16() {
            // Too slow, too early, too many: it may want it later.
            408 | 425 | 429 => Outcome::Failed,
            // A gateway may say so of a receiver that took it.
            500.. => Outcome::Unanswered,
            400.. => Outcome::Rejected,
            _ => Outcome::Failed,
        };
        Err((outcome, format!("it answered {status}")))
    }
}

/// Whether the request may have arrived although it failed.
fn outcome(error: &Error) -> Outcome {
    match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::Tls(_)
        | Error::Rustls(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => Outcome::Failed,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Failed,
        _ => Outcome::Unanswered,
    }
}

/// Makes a connection and closes it.
pub(super) fn connect(endpoint: &Endpoint) -> Result<(), String> {
    let host = endpoint.url.host().unwrap_or_default().trim_matches(['[', ']']);
    let default = if endpoint.url.scheme_str() == Some("https") { 443 } else { 80 };
    let port = endpoint.url.port_u16().unwrap_or(default);
    let addresses = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut failure = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => failure = format!("{address}: {error}"),
        }
    }
    Err(failure)
}
