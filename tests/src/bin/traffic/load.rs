//! Load from many addresses at a rate that changes, counted for each of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
    time::{interval, timeout},
};

use super::paced::{BUNCHES, First, PATIENCE, listen_to, runtime};

/// The lowest source port of each address, above those of all services: a TIME_WAIT does not tell who called. Each further connection takes the next, so that a port comes again as late as can be.
const LOWEST: u16 = 10_000;

/// As many connections at a time; what would be more is not begun.
const MOST: usize = 10_000;

/// One source address.
struct Source {
    address: IpAddr,
    port: u16,
    connected: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

/// Makes connections until stdin ends. Each line of stdin is the rate from now on; after a 0, and when all connections have ended,
/// a line `ADDRESS CONNECTED FAILED` is printed for each source, and `quiet`.
pub(super) fn load(to: SocketAddr, count: u32, first: First, from: Ipv4Addr) -> anyhow::Result<()> {
    let addresses = (0..count).map(|number| Ipv4Addr::from_bits(from.to_bits() + number));
    let mut sources: Vec<Source> = addresses
        .map(|address| Source {
            address: address.into(),
            port: LOWEST,
            connected: Arc::default(),
            failed: Arc::default(),
        })
        .collect();
    runtime()?.block_on(async {
        let mut rates = rates();
        let mut ticks = interval(Duration::from_secs(1) / BUNCHES);
        let mut tasks = JoinSet::new();
        let (mut rate, mut due, mut turn) = (0.0, 0.0, 0);
        loop {
            tokio::select! {
                line = rates.recv() => {
                    let Some(line) = line else { return Ok(()) };
                    rate = line.parse().with_context(|| format!("{line:?} is no rate"))?;
                    due = 0.0;
                    if rate <= 0.0 {
                        while tasks.join_next().await.is_some() {}
                        report(&sources);
                    }
                }
                _ = ticks.tick() => due += rate / f64::from(BUNCHES),
            }
            while tasks.try_join_next().is_some() {}
            while due >= 1.0 {
                due -= 1.0;
                if tasks.len() < MOST {
                    turn = (turn + 1) % sources.len();
                    tasks.spawn(sources[turn].visit(to, first));
                }
            }
        }
    })
}

fn rates() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

fn report(sources: &[Source]) {
    for Source { address, connected, failed, .. } in sources {
        println!("{address} {} {}", connected.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    }
    println!("quiet");
}

impl Source {
    /// One connection from the next port.
    fn visit(&mut self, to: SocketAddr, first: First) -> impl Future<Output = ()> + use<> {
        let from = SocketAddr::new(self.address, self.port);
        self.port = self.port.checked_add(1).unwrap_or(LOWEST);
        let (connected, failed) = (Arc::clone(&self.connected), Arc::clone(&self.failed));
        async move {
            let heard = match timeout(PATIENCE, connect(from, to)).await {
                Ok(Ok(stream)) => listen_to(stream, first).await,
                _ => false,
            };
            let counter = if heard { connected } else { failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket.connect(to).await
}
