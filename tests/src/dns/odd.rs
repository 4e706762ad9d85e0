//! A name server that answers as none should.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::message::{NXDOMAIN, Question, TRUNCATED, parse};
use crate::host::Host;

/// How many addresses `many.…` has.
pub const MANY: usize = 1_000;
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 6);
const FLAPS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 80, 0, 101), Ipv4Addr::new(10, 80, 0, 102)];

/// How often it looks whether it shall end.
const PAUSE: Duration = Duration::from_millis(100);

/// It listens on every address of a host until it is dropped, and answers by the first label of a name: `garbage` by random bytes,
/// `never` not at all, `missing` that there is no such name, `many` by a thousand addresses, which takes TCP, `six` by an IPv6 address
/// only, `flaps` by another address every second, `own` by an address that it is given.
#[derive(Debug)]
pub struct OddDns {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct Desk {
    own: IpAddr,
    by_tcp: bool,
    second: usize,
}

impl OddDns {
    /// Starts it; `own` is what the name `own.…` has.
    #[must_use]
    pub fn start(host: &Host, own: IpAddr) -> Self {
        let any = SocketAddr::from(([0; 4], 53));
        let (udp, tcp) = host.enter(|| {
            (UdpSocket::bind(any).expect("nobody else answers"), TcpListener::bind(any).expect("nor by TCP"))
        });
        udp.set_read_timeout(Some(PAUSE)).expect("a timeout");
        tcp.set_nonblocking(true).expect("it need not block");
        let ends = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let desk = move |by_tcp| Desk {
            own,
            by_tcp,
            second: usize::try_from(begun.elapsed().as_secs()).unwrap_or_default(),
        };
        let stops = [Arc::clone(&ends), Arc::clone(&ends)];
        let [udp_ends, tcp_ends] = stops;
        let by_udp = move || {
            let mut message = [0; 1_500];
            while !udp_ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = udp.recv_from(&mut message) else { continue };
                if let Some(answer) = reply(&message[..length], desk(false)) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        };
        let by_tcp = move || {
            while !tcp_ends.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((stream, _)) => {
                        let _ = serve(stream, desk(true));
                    }
                    Err(_) => thread::sleep(PAUSE / 10),
                }
            }
        };
        Self { ends, threads: vec![thread::spawn(by_udp), thread::spawn(by_tcp)] }
    }
}

impl Drop for OddDns {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Over TCP, the length goes before a message.
fn serve(mut stream: std::net::TcpStream, desk: Desk) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    let Some(answer) = reply(&message, desk) else { return Ok(()) };
    let length = u16::try_from(answer.len()).expect("an answer is short enough");
    stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())
}

fn reply(message: &[u8], desk: Desk) -> Option<Vec<u8>> {
    let question = parse(message)?;
    match question.name.split('.').next()? {
        "garbage" => Some(garbage(&question)),
        "missing" => Some(question.answer(NXDOMAIN, &[])),
        "many" => Some(many(&question, desk)),
        "six" => Some(question.answer(0, &[SIX.into()])),
        "flaps" => Some(question.answer(0, &[FLAPS[desk.second % FLAPS.len()].into()])),
        "own" => Some(question.answer(0, &[desk.own])),
        _ => None,
    }
}

/// The identifier is right, so that it is taken for the answer; the rest is noise, with lengths and pointers that lead anywhere.
fn garbage(question: &Question) -> Vec<u8> {
    let mut noise = 0x9e37_79b9_u32;
    let mut answer = question.answer(0, &[]);
    answer.resize(200, 0);
    for byte in &mut answer[4..] {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        [*byte, ..] = noise.to_le_bytes();
    }
    answer
}

fn many(question: &Question, desk: Desk) -> Vec<u8> {
    if !desk.by_tcp {
        return question.answer(TRUNCATED, &[]);
    }
    let first = u32::from(Ipv4Addr::new(10, 81, 0, 1));
    let all: Vec<IpAddr> = (first..).take(MANY).map(|number| Ipv4Addr::from_bits(number).into()).collect();
    question.answer(0, &all)
}
