//! Asking a server on a host, as a client there would.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::host::Host;

/// Status and body of what `path` answers; `None` when nothing does.
///
/// It speaks HTTP/1.0, in which a body ends with its connection and never comes in chunks.
#[must_use]
pub fn get(host: &Host, address: SocketAddr, path: &str) -> Option<(u16, String)> {
    host.enter(|| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    })
}

/// What `path` answers in JSON; panics unless it answers, and with 200.
pub(crate) fn json<T: DeserializeOwned>(host: &Host, address: SocketAddr, path: &str) -> T {
    let url = format!("http://{address}{path} on {}", host.name());
    let (status, body) = get(host, address, path).unwrap_or_else(|| panic!("{url} does not answer"));
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error} in {body}"))
}

/// How a server is asked.
#[derive(Debug)]
pub(crate) enum Door {
    /// By plain HTTP.
    Open,
    /// By TLS and basic auth, with this `USER:PASSWORD`.
    Locked(String),
}

impl Door {
    /// As [`get`].
    pub(crate) fn get(&self, host: &Host, address: SocketAddr, path: &str) -> Option<(u16, String)> {
        let user = match self {
            Self::Open => return get(host, address, path),
            Self::Locked(user) => user,
        };
        // What the certificate is worth is for others to judge.
        let mut curl = host.command("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--max-time",
            "10",
            "--write-out",
            "\n%{http_code}",
            "--user",
            user,
        ]);
        let output = curl.arg(format!("https://{address}{path}")).output().expect("curl is there");
        let text = String::from_utf8(output.stdout).expect("its answer is text");
        let (body, status) = text.rsplit_once('\n')?;
        output.status.success().then_some((status.parse().ok()?, body.to_owned()))
    }
}
