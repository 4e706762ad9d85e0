//! A server that has an answer to everything, on as many connections as there are.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::paced::accept;

/// Accepts until `time` is over. Whatever is said on a connection, ten bytes answer it, and again every `drip`, if there is one, as long
/// as the connection lasts.
pub(super) fn answer(address: SocketAddr, time: Duration, drip: Option<Duration>) -> anyhow::Result<()> {
    accept(address, time, move |stream| converse(stream, drip))
}

/// Accepts until `time` is over. A request ends with its client's half of the connection; ten bytes answer it after so long.
pub(super) fn work(address: SocketAddr, time: Duration, takes: Duration) -> anyhow::Result<()> {
    accept(address, time, move |mut stream| async move {
        if stream.read_to_end(&mut Vec::new()).await.is_ok() {
            tokio::time::sleep(takes).await;
            let _ = stream.write_all(b"ten bytes!").await;
        }
    })
}

async fn converse(mut stream: TcpStream, drip: Option<Duration>) {
    let mut words = [0; 1_024];
    while matches!(stream.read(&mut words).await, Ok(1..)) {
        while stream.write_all(b"ten bytes!").await.is_ok() {
            let Some(drip) = drip else { break };
            tokio::time::sleep(drip).await;
        }
    }
}
