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
