//! A server that has an answer to everything, on as many connections as there are.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{listen, paced::runtime};

/// Accepts until `time` is over. Whatever is said on a connection, ten bytes answer it, and again every `drip`, if there is one, as long
/// as the connection lasts.
pub(super) fn answer(address: SocketAddr, time: Duration, drip: Option<Duration>) -> anyhow::Result<()> {
    let listener: std::net::TcpListener = listen(address)?.into();
    listener.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let accept = async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(converse(stream, drip));
                }
            }
        };
        let _ = timeout(time, accept).await;
        Ok(())
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
