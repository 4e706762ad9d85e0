//! The faults, one after the other.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use super::{CONFIG, PORTS, scraper::Scraper};
use crate::{
    agent::{Agent, Config},
    host::Host,
    monitoring::sink::{Answer, Sink},
    topology::{Family, Pair},
    traffic::{First, Traffic},
};

/// Peers that come now and then, more than there is room for.
const STRANGERS: (Ipv4Addr, usize) = (Ipv4Addr::new(10, 78, 0, 1), 200);

/// Where nobody accepts.
pub(super) const DEAF_PORT: u16 = 7_001;

/// Whose connections in another network namespace are none of the agent's business.
pub(super) const NOISE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));

const FORGED: usize = 20_000;

/// The faults in their order, and how each is done.
type Fault<'a> = fn(&mut Faults<'a>, &Scraper<'_>);

pub(super) struct Faults<'a> {
    pair: &'a Pair,
    agent: &'a Agent<'a>,
    config: &'a Config,
    sink: &'a Sink<'a>,
    noise: Host,
    strangers: Traffic,
    /// While the receiver is down there is something to tell.
    queue: Option<(Traffic, Traffic)>,
    turn: usize,
    /// How often each was done, in the order of [`Self::ALL`].
    done: Vec<u32>,
}

pub(super) fn strangers() -> impl Iterator<Item = Ipv4Addr> {
    super::hosts(STRANGERS)
}

impl<'a> Faults<'a> {
    const ALL: [(&'static str, Fault<'a>); 11] = [
        ("a right configuration is read again", |faults, _| faults.reload(CONFIG)),
        ("a wrong one, then the right one", |faults, _| {
            faults.reload("[limits]\npears = 1\n");
            faults.reload(CONFIG);
        }),
        ("200 scrapes at once", |faults, _| faults.storm()),
        ("the receiver is down", |faults, _| faults.receiver_down()),
        ("100 clients that do not read their answer", |faults, _| faults.slow_readers()),
        ("the agent is stopped for 1 s", |faults, scraper| faults.stop(scraper, Duration::from_secs(1))),
        ("the receiver is up again", |faults, _| faults.receiver_up()),
        ("a burst of forged SYNs", |faults, _| faults.forged()),
        ("more peers than there is room for", |faults, _| faults.strangers()),
        ("the agent is stopped for 2 s", |faults, scraper| faults.stop(scraper, Duration::from_secs(2))),
        ("traffic in another namespace", |faults, _| faults.noise()),
    ];

    pub fn new(pair: &'a Pair, agent: &'a Agent<'a>, config: &'a Config, sink: &'a Sink<'a>) -> Self {
        let noise = Host::new("noise");
        noise.sh(&format!("ip addr add {NOISE}/32 dev lo"));
        let server = Pair::server_address(Family::V4);
        let (from, count) = STRANGERS;
        // Where the client closes first, they leave nothing here that they could not be forgotten with.
        let strangers = Traffic::load(&pair.client, from, count, server, PORTS[1], First::Client);
        Self {
            pair,
            agent,
            config,
            sink,
            noise,
            strangers,
            queue: None,
            turn: 0,
            done: vec![0; Self::ALL.len()],
        }
    }

    /// Does the next one.
    pub fn next(&mut self, scraper: &Scraper<'_>) {
        let place = self.turn % Self::ALL.len();
        self.turn += 1;
        let (name, make) = Self::ALL[place];
        scraper.begins(name);
        make(self, scraper);
        self.done[place] += 1;
    }

    pub fn all_done_once(&self) -> bool {
        self.turn >= Self::ALL.len()
    }

    pub fn done(&self) -> Vec<(&'static str, u32)> {
        Self::ALL.iter().map(|(name, _)| *name).zip(self.done.iter().copied()).collect()
    }

    fn reload(&self, text: &str) {
        self.config.write(text);
        self.agent.signal(Signal::HUP);
        // Two signals at once are one.
        thread::sleep(Duration::from_millis(200));
    }

    /// Each is answered, or turned away because of `max_requests` or of too many connections.
    fn storm(&self) {
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| self.agent.get("/metrics"));
            }
        });
    }

    fn slow_readers(&self) {
        self.pair.server.enter(|| {
            let clients: Vec<TcpStream> = (0..100)
                .map(|_| {
                    let address = SocketAddr::from(([127, 0, 0, 1], 9796));
                    let mut stream = TcpStream::connect(address).expect("the agent listens");
                    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n");
                    stream
                })
                .collect();
            thread::sleep(Duration::from_secs(1));
            drop(clients);
        });
    }

    fn stop(&self, scraper: &Scraper<'_>, time: Duration) {
        scraper.excused(|| {
            self.agent.signal(Signal::STOP);
            thread::sleep(time);
            self.agent.signal(Signal::CONT);
        });
    }

    fn receiver_down(&mut self) {
        let host = &self.pair.server;
        let hangs = self.done[3] % 2 == 1;
        self.sink.answer(if hangs { Answer::Hang } else { Answer::Refuse });
        let address = IpAddr::from([127, 0, 0, 1]);
        let server = Traffic::deaf(host, address, DEAF_PORT, 3);
        let clients = Traffic::connect(host, address, DEAF_PORT, 4, "hold");
        self.queue = Some((clients, server));
    }

    fn receiver_up(&mut self) {
        self.sink.answer(Answer::Status(200));
        self.queue = None;
    }

    fn forged(&self) {
        let server = Pair::server_address(Family::V4);
        Traffic::spoof(&self.pair.client, server, PORTS[0], FORGED).finish();
    }

    fn strangers(&mut self) {
        self.strangers.rate(400.0);
        thread::sleep(Duration::from_secs(1));
        self.strangers.quiet();
    }

    fn noise(&self) {
        let server = Traffic::drain(&self.noise, NOISE, PORTS[0], 200);
        Traffic::flood(&self.noise, NOISE, NOISE, PORTS[0], 200).finish();
        server.finish();
    }
}
