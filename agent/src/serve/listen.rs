//! Accepting connections, as many as there may be.

use std::{
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

use super::Server;

/// How much of the agent its clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Bytes of a request, from its first line to the end of its headers.
    pub head_bytes: usize,
    /// How long a request may take to arrive; the first one with the TLS handshake before it.
    pub head: Duration,
    /// How long an answer may take, from the request to its last byte sent.
    pub answer: Duration,
    /// How long a connection is kept between two requests.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            head_bytes: 16 * 1024,
            head: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            // Longer than the usual time between two scrapes.
            idle: Duration::from_secs(150),
        }
    }
}

/// Connections that were closed by us before they were done.
#[derive(Debug, Default)]
pub struct RefusedConnections {
    /// There were as many as there may be.
    pub limit: AtomicU64,
    /// A request took too long to arrive, an answer to be taken, or nothing came any more.
    pub timeout: AtomicU64,
    /// The TLS handshake failed.
    pub tls: AtomicU64,
}

impl RefusedConnections {
    /// All of them.
    pub(super) fn counts(&self) -> [u64; 3] {
        [&self.limit, &self.timeout, &self.tls].map(|count| count.load(Ordering::Relaxed))
    }
}

/// After a failure to accept, which may last (no file descriptors left).
const PAUSE: Duration = Duration::from_secs(1);

/// Accepts until `stop` resolves, then lets the requests that run come to their end.
pub(super) async fn listen(listener: TcpListener, server: Server, stop: impl Future<Output = ()>) {
    let (running, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut failing = false;
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_the_connection(&error) => continue,
            Err(error) => {
                if !failing {
                    log::error!("cannot accept connections: {error}; trying again every second");
                }
                failing = true;
                if timeout(PAUSE, &mut stop).await.is_ok() {
                    break;
                }
                continue;
            }
        };
        failing = false;
        while connections.try_join_next().is_some() {}
        if connections.len() >= server.limits.connections {
            server.refused.limit.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        connections.spawn(server.connection(stopped.clone()).serve(stream));
    }
    drop((listener, running));
    while connections.join_next().await.is_some() {}
}

/// The client is gone before it was accepted; the next one is not concerned.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
