//! Load at a given rate: a server that takes all comers, and a client that neither hurries nor waits.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::listen;

/// A client gives up a connection attempt after its SYN and three repeated ones (one a second), and a connection likewise.
pub(super) const PATIENCE: Duration = Duration::from_millis(3_500);

/// Connections are begun in bunches, so often a second.
pub(super) const BUNCHES: u32 = 20;

/// Who closes a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Client,
    Server,
}

impl FromStr for First {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "client" => Ok(Self::Client),
            "server" => Ok(Self::Server),
            _ => bail!("FIRST is {text}, neither client nor server"),
        }
    }
}

pub(super) fn runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build()
}

/// Accepts until `time` is over.
pub(super) fn welcome(address: SocketAddr, time: Duration, first: First) -> anyhow::Result<()> {
    accept(address, time, |stream| greet(stream, first))
}

/// Accepts until `time` is over, and hands each connection to a task of its own.
pub(super) fn accept<T>(
    address: SocketAddr,
    time: Duration,
    serve: impl Fn(TcpStream) -> T,
) -> anyhow::Result<()>
where
    T: Future<Output = ()> + Send + 'static,
{
    let listener: std::net::TcpListener = listen(address)?.into();
    listener.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let accept = async {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream));
                }
            }
        };
        let _ = timeout(time, accept).await;
        Ok(())
    })
}

/// Says ten bytes, closes, if it is the first to, and takes what the client says until that closes.
async fn greet(mut stream: TcpStream, first: First) {
    let _ = stream.write_all(b"ten bytes!").await;
    if first == First::Server {
        let _ = stream.shutdown().await;
    }
    let _ = timeout(PATIENCE, stream.read(&mut [0; 16])).await;
}

/// Begins `rate` connections a second for `time`, and prints a line when all have ended:
/// how many connected and how many failed. A line per second says the same of the time so far.
pub(super) fn pace(address: SocketAddr, time: Duration, rate: f64, first: First) -> anyhow::Result<()> {
    begin(time, rate, move || visit(address, first))
}

/// As [`pace`], from these ports of an IPv4 address, one after the other and round again.
pub(super) fn pace_in_turn(
    address: SocketAddr,
    time: Duration,
    rate: f64,
    first: First,
    ports: RangeInclusive<u16>,
) -> anyhow::Result<()> {
    let next = Cell::new(*ports.start());
    begin(time, rate, move || {
        let port = next.get();
        next.set(if port == *ports.end() { *ports.start() } else { port + 1 });
        visit_from(port, address, first)
    })
}

/// As [`pace`], requests whose client closes its half once it has sent one, and waits for the whole answer.
pub(super) fn request(
    address: SocketAddr,
    time: Duration,
    rate: f64,
    patience: Duration,
) -> anyhow::Result<()> {
    begin(time, rate, move || ask(address, patience))
}

pub(super) fn begin<T>(time: Duration, rate: f64, visit: impl Fn() -> T) -> anyhow::Result<()>
where
    T: Future<Output = bool> + Send + 'static,
{
    let connected = Arc::new(AtomicU64::new(0));
    let failed = Arc::new(AtomicU64::new(0));
    runtime()?.block_on(async {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / BUNCHES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut made = 0_u32;
        let mut tasks = tokio::task::JoinSet::new();
        for tick in 1_u32.. {
            ticks.tick().await;
            if begun.elapsed() >= time {
                break;
            }
            let due = f64::from(tick) * rate / f64::from(BUNCHES);
            while f64::from(made) + 1.0 <= due {
                made += 1;
                let (connected, failed) = (Arc::clone(&connected), Arc::clone(&failed));
                let visit = visit();
                tasks.spawn(async move {
                    let counter = if visit.await { connected } else { failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                });
            }
            if tick % BUNCHES == 0 {
                report(&connected, &failed);
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
        println!("done");
        report(&connected, &failed);
        Ok(())
    })
}

fn report(connected: &AtomicU64, failed: &AtomicU64) {
    println!("{} {}", connected.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
}

/// One connection; whether it came about and the server's words arrived.
async fn visit(address: SocketAddr, first: First) -> bool {
    let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else { return false };
    listen_to(stream, first).await
}

/// As [`visit`], from a port.
async fn visit_from(port: u16, address: SocketAddr, first: First) -> bool {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        // The connection before left a TIME_WAIT here, if it was we who closed it.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([0; 4], port)))?;
        socket.connect(address).await
    };
    let Ok(Ok(stream)) = timeout(PATIENCE, connect).await else { return false };
    listen_to(stream, first).await
}

/// One request; whether its answer arrived.
async fn ask(address: SocketAddr, patience: Duration) -> bool {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else { return false };
    if stream.write_all(b"ten bytes!").await.is_err() || stream.shutdown().await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    matches!(timeout(patience, stream.read_to_end(&mut answer)).await, Ok(Ok(10)))
}

/// Hears the server out; whether its words arrived.
pub(super) async fn listen_to(mut stream: TcpStream, first: First) -> bool {
    let mut words = [0; 10];
    if !matches!(timeout(PATIENCE, stream.read_exact(&mut words)).await, Ok(Ok(10))) {
        return false;
    }
    // The end of the server's stream, or our own close.
    first == First::Client || matches!(timeout(PATIENCE, stream.read(&mut words)).await, Ok(Ok(0)))
}
