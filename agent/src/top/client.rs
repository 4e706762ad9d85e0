//! Asking the daemon.

use std::{io::ErrorKind, time::Duration};

use http::header::AUTHORIZATION;
use serde::de::DeserializeOwned;
use ureq::{Agent, Error};

use super::figures::{Figures, Who};
use crate::{
    api::{Ports, Second, segment},
    config::Endpoint,
    http_client,
    visible::visible,
};

/// An answer may take so long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer may be so large, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody serves there.
    Nobody,
    /// In words.
    Because(String),
}

/// Asks one daemon.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
}

impl Client {
    pub fn new(endpoint: &Endpoint) -> Self {
        // A daemon is asked by its own address; a proxy for the web is not meant.
        let config = http_client::config(endpoint).timeout_global(Some(TIMEOUT)).proxy(None);
        Self { agent: config.build().new_agent(), endpoint: endpoint.clone() }
    }

    /// How everything is.
    pub fn figures(&self) -> Result<Figures, Refusal> {
        Ok(Figures::Daemon {
            overview: self.get("overview")?,
            accounts: self.get("peers")?,
            alerts: self.get("alerts")?,
        })
    }

    /// The last so many seconds of an account.
    pub fn seconds(&self, who: &Who, seconds: u16) -> Result<Vec<Second>, String> {
        self.of(who, &format!("seconds?seconds={seconds}"))
    }

    /// All ports of an account.
    pub fn ports(&self, who: &Who) -> Result<Ports, String> {
        self.of(who, "ports")
    }

    fn of<T: DeserializeOwned>(&self, who: &Who, what: &str) -> Result<T, String> {
        let Some(port) = who.port else { return Err("not known of everyone else together".to_owned()) };
        let path = format!("peers/{}/{}/{port}/{what}", segment(&who.peer), segment(&who.direction));
        self.get(&path).map_err(|refusal| match refusal {
            Refusal::Nobody => "nobody answers".to_owned(),
            Refusal::Because(why) => why,
        })
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let url = format!("{}/api/v1/{path}", self.endpoint.url.to_string().trim_end_matches('/'));
        let mut request = self.agent.get(url);
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header(AUTHORIZATION, authorization.expose());
        }
        let mut response = request.call().map_err(|error| refusal(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let body = body.map_err(|error| refusal(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| Refusal::Because(format!("its answer is not understood: {error}")));
        }
        Err(Refusal::Because(match status.as_u16() {
            401 => "it asks who we are; name a file with the Authorization header by --authorization.file"
                .to_owned(),
            // It says what is missing.
            404 | 503 => visible(String::from_utf8_lossy(&body).trim()),
            _ => format!("it answered {status}"),
        }))
    }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::ConnectionFailed => Refusal::Nobody,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => Refusal::Nobody,
        error => Refusal::Because(error.to_string()),
    }
}
