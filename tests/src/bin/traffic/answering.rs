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

async fn converse(mut stream: TcpStream, drip: Option<Duration>) {
    let mut words = [0; 1_024];
    while matches!(stream.read(&mut words).await, Ok(1..)) {
        while stream.write_all(b"ten bytes!").await.is_ok() {
            let Some(drip) = drip else { break };
            tokio::time::sleep(drip).await;
        }
    }
}
