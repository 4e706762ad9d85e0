//! Requests whose answers take their time by design, and words that nobody answers.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::paced::{accept, runtime};

/// Ten bytes that a slow server answers at once.
const LOGIN: &[u8; 10] = b"login.....";
/// Ten bytes that take it long.
const REQUEST: &[u8; 10] = b"request...";

/// Accepts until `time` is over, and answers a request after `takes`, a login at once.
pub(super) fn serve(address: SocketAddr, time: Duration, takes: Duration) -> anyhow::Result<()> {
    accept(address, time, move |mut stream| async move {
        let mut words = [0; 10];
        while stream.read_exact(&mut words).await.is_ok() {
            if words != *LOGIN {
                sleep(takes).await;
            }
            if stream.write_all(b"ten bytes!").await.is_err() {
                return;
            }
        }
    })
}

/// So many clients ask one request after the other, until stdin ends; `login` first, if they are to.
pub(super) fn poll(address: SocketAddr, count: usize, login: bool) -> anyhow::Result<()> {
    all(count, move || async move {
        let mut stream = TcpStream::connect(address).await?;
        let mut answer = [0; 10];
        if login {
            stream.write_all(LOGIN).await?;
            stream.read_exact(&mut answer).await?;
        }
        loop {
            stream.write_all(REQUEST).await?;
            stream.read_exact(&mut answer).await?;
        }
    })
}

/// So many clients say something each time `pause` is over, until stdin ends.
pub(super) fn tell(address: SocketAddr, count: usize, pause: Duration) -> anyhow::Result<()> {
    all(count, move || async move {
        let mut stream = TcpStream::connect(address).await?;
        loop {
            stream.write_all(b"metric 1.\n").await?;
            sleep(pause).await;
        }
    })
}

/// Goes on until stdin ends. A client that fails has no connection any more, which its play sees.
fn all<T>(count: usize, client: impl Fn() -> T) -> anyhow::Result<()>
where
    T: Future<Output = io::Result<()>> + Send + 'static,
{
    runtime()?.block_on(async {
        let clients: JoinSet<_> = (0..count).map(|_| client()).collect();
        spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
        drop(clients);
        Ok(())
    })
}
