//! Requests and answers of a given size, as small services and their clients exchange them.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::paced::{First, PATIENCE, accept, begin};

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialogue {
    /// Bytes of the request.
    pub asked: usize,
    /// Bytes of the answer.
    pub answered: usize,
    /// Who closes first.
    pub first: First,
}

/// Accepts until `time` is over, and answers one request on each connection.
pub(super) fn serve(address: SocketAddr, time: Duration, dialogue: Dialogue) -> anyhow::Result<()> {
    accept(address, time, move |mut stream| async move {
        let mut request = vec![0; dialogue.asked];
        if timeout(PATIENCE, stream.read_exact(&mut request)).await.is_ok_and(|read| read.is_ok()) {
            let _ = stream.write_all(&vec![b'.'; dialogue.answered]).await;
            if dialogue.first == First::Client {
                let _ = timeout(PATIENCE, stream.read(&mut request)).await;
            }
        }
    })
}

/// Its clients, as [`super::paced::pace`].
pub(super) fn ask(address: SocketAddr, time: Duration, rate: f64, dialogue: Dialogue) -> anyhow::Result<()> {
    begin(time, rate, move || answered(address, dialogue))
}

/// One connection; whether the whole answer arrived.
async fn answered(address: SocketAddr, dialogue: Dialogue) -> bool {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else { return false };
    let mut answer = vec![0; dialogue.answered];
    let is_answered = stream.write_all(&vec![b'.'; dialogue.asked]).await.is_ok()
        && timeout(PATIENCE, stream.read_exact(&mut answer)).await.is_ok_and(|read| read.is_ok());
    // The end of the server's stream, or our own close.
    let is_last = dialogue.first == First::Server;
    is_answered && (!is_last || matches!(timeout(PATIENCE, stream.read(&mut answer)).await, Ok(Ok(0))))
}
