//! A client or server that plays a script on each of its connections, one process for all of them.
//!
//!     traffic serve   ADDRESS COUNT STEP,STEP,…
//!     traffic connect ADDRESS COUNT STEP,STEP,… [SOURCE-PORT]
//!     traffic drain   ADDRESS COUNT             (accept and close, one after the other)
//!     traffic try     ADDRESS COUNT             (connect without blocking, and close)
//!     traffic flood   ADDRESS COUNT FROM        (connect from that address and wait for the close, as often)
//!     traffic passive ADDRESS COUNT             (as a passive FTP server: a control connection, and so many transfers)
//!     traffic fetch   ADDRESS COUNT PAUSE       (its client; ms between two transfers)
//!     traffic deaf    ADDRESS BACKLOG           (listen and never accept, until stdin ends)
//!     traffic spoof   ADDRESS COUNT             (a SYN from each of so many addresses in 10.128.0.0/9, none of which exists)
//!     traffic syns    ADDRESS SEQUENCE FROM TIMES    (SYNs from any address and port with any sequence number)
//!     traffic resets  ADDRESS SEQUENCE FROM TIMES    (the same of RSTs)
//!     traffic welcome ADDRESS SECONDS FIRST     (accept many at a time until the time is over)
//!     traffic pace    ADDRESS SECONDS RATE FIRST [LOW HIGH]  (connect so often a second, from these ports in turn; print what came about and
//!                                               what failed)
//!     traffic load    ADDRESS COUNT FIRST FROM  (connections from COUNT addresses upwards from FROM, at rates that come on stdin)
//!     traffic answer  ADDRESS SECONDS [DRIP]    (ten bytes for whatever is said, until the time is over, and again every DRIP ms)
//!     traffic work    ADDRESS SECONDS TAKES     (ten bytes so long after a client has closed its half, until the time is over; ms)
//!     traffic request ADDRESS SECONDS RATE PATIENCE  (its clients, as pace; ms)
//!     traffic reply   ADDRESS SECONDS ASKED ANSWERED FIRST       (so many bytes for so many, once on each connection)
//!     traffic query   ADDRESS SECONDS ASKED ANSWERED FIRST RATE  (its clients, as pace)
//!     traffic slow    ADDRESS SECONDS TAKES     (answer a login at once, and a request so long after; ms)
//!     traffic poll    ADDRESS COUNT LOGIN       (so many clients ask one request after the other, until stdin ends; LOGIN: true or false)
//!     traffic tell    ADDRESS COUNT PAUSE       (so many clients say something again and again, until stdin ends; ms)
//!     traffic ask     ADDRESS COUNT PAUSE PATIENCE  (so many customers ask by HTTP, until stdin ends; ms)
//!     traffic front   ADDRESS BACKLOG THREADS BEHIND  (each request takes a thread, which asks the server behind)
//!     traffic call    NAME:PORT PATIENCE        (resolve and connect again and again, until stdin ends; ms)
//!
//! Before the role, `--mptcp` makes its listeners and clients MPTCP's, `--sockmap` puts its listeners into a sockmap.
//!
//! FIRST is who closes first, `server` or `client`. All connections of a process take a step before any takes the next. Steps: `read` to the end of the stream, `peek`
//! until data is there, `write` ten bytes, `shut` our side, `linger0`, `timeout1` (TCP_USER_TIMEOUT of one second),
//! `sockmap`, `ktls` (what the connection becomes part of),
//! `gate` (wait for a line on stdin), `hold` (until stdin ends), `close`, `part` (close one after the other, so that no two timers fire at once). A server prints `listening`, a client prints
//! one line per failed connection attempt; errors of a step are part of the play.

#![expect(clippy::print_stdout, reason = "it talks to the test")]

#[path = "traffic/answering.rs"]
mod answering;
#[path = "traffic/asking.rs"]
mod asking;
#[path = "traffic/dialogue.rs"]
mod dialogue;
#[path = "traffic/kind.rs"]
mod kind;
#[path = "traffic/load.rs"]
mod load;
#[path = "traffic/paced.rs"]
mod paced;
#[path = "traffic/passive.rs"]
mod passive;
#[path = "traffic/slow.rs"]
mod slow;

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, SocketAddrV4},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use dialogue::Dialogue;
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, Socket, Type};

/// Nothing waits longer for its peer: a play that goes wrong ends by itself.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Many run in one play: what goes wrong should say in which.
    play_role(&args).with_context(|| args.join(" "))
}

fn play_role(args: &[String]) -> anyhow::Result<()> {
    if let Some((kind, rest)) =
        args.split_first().and_then(|(first, rest)| Some((first.strip_prefix("--")?, rest)))
    {
        kind::choose(kind.parse()?);
        return play_role(rest);
    }
    let [role, address, count, rest @ ..] = args else {
        bail!(
            "usage: traffic serve|connect|drain|flood|passive|fetch|deaf|spoof|syn|welcome|pace|load|answer|work|request|reply|query|slow|poll|tell|ask|front|call ADDRESS COUNT …"
        );
    };
    let ms = |text: &str| anyhow::Ok(Duration::from_millis(text.parse().context("milliseconds")?));
    if role == "call" {
        return asking::call(address, ms(count)?);
    }
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let count: usize = count.parse().context("COUNT")?;
    match (role.as_str(), rest) {
        ("drain", _) => return drain(address, count),
        ("flood", [from]) => return flood(address, count, from.parse().context("FROM")?),
        ("syns" | "resets", [from, times]) => {
            let sequence = u32::try_from(count)?;
            let mut forger = Forger::new(address)?;
            forger.resets = role == "resets";
            let from = from.parse().context("FROM")?;
            return (0..times.parse().context("TIMES")?).try_for_each(|_: u32| forger.send(from, sequence));
        }
        ("spoof", _) => return spoof(address, u32::try_from(count)?),
        ("try", _) => return attempt(address, count),
        ("passive", _) => return passive::serve(address, count),
        ("fetch", [pause]) => return passive::fetch(address, count, ms(pause)?),
        ("deaf", _) => {
            let _listener = listen_with(address, i32::try_from(count)?)?;
            io::stdin().read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        ("welcome", [first]) => {
            return paced::welcome(address, Duration::from_secs(count as u64), first.parse()?);
        }
        ("pace", [rate, first]) => {
            let rate = rate.parse().context("RATE")?;
            return paced::pace(address, Duration::from_secs(count as u64), rate, first.parse()?);
        }
        ("pace", [rate, first, low, high]) => {
            let (rate, ports) = (rate.parse().context("RATE")?, low.parse()?..=high.parse()?);
            let time = Duration::from_secs(count as u64);
            return paced::pace_in_turn(address, time, rate, first.parse()?, ports);
        }
        ("load", [first, from]) => {
            return load::load(address, u32::try_from(count)?, first.parse()?, from.parse().context("FROM")?);
        }
        ("answer", rest) => {
            let drip = rest.first().map(|drip| ms(drip)).transpose()?;
            return answering::answer(address, Duration::from_secs(count as u64), drip);
        }
        ("work", [takes]) => {
            return answering::work(address, Duration::from_secs(count as u64), ms(takes)?);
        }
        ("request", [rate, patience]) => {
            let rate = rate.parse().context("RATE")?;
            return paced::request(address, Duration::from_secs(count as u64), rate, ms(patience)?);
        }
        ("reply" | "query", [asked, answered, first, rate @ ..]) => {
            let (asked, answered) = (asked.parse().context("ASKED")?, answered.parse().context("ANSWERED")?);
            let dialogue = Dialogue { asked, answered, first: first.parse()? };
            let time = Duration::from_secs(count as u64);
            return match rate {
                [rate] => dialogue::ask(address, time, rate.parse().context("RATE")?, dialogue),
                _ => dialogue::serve(address, time, dialogue),
            };
        }
        ("slow", [takes]) => return slow::serve(address, Duration::from_secs(count as u64), ms(takes)?),
        ("poll", [login]) => return slow::poll(address, count, login.parse().context("LOGIN")?),
        ("tell", [pause]) => return slow::tell(address, count, ms(pause)?),
        ("ask", [pause, patience]) => {
            asking::ask(address, count, ms(pause)?, ms(patience)?);
            return Ok(());
        }
        ("front", [threads, behind]) => {
            let behind = behind.parse().context("BEHIND")?;
            return asking::front(address, count, threads.parse().context("THREADS")?, behind);
        }
        _ => {}
    }
    let [steps, rest @ ..] = rest else { bail!("STEPS are missing") };
    let source_port: Option<u16> =
        rest.first().map(|port| port.parse()).transpose().context("SOURCE-PORT")?;
    let mut sockets = match role.as_str() {
        "serve" => serve(address, count)?,
        // By a thread with a name of its own: whose a connection is, the process says.
        "connect" => thread::Builder::new()
            .name("caller".to_owned())
            .spawn(move || connect(address, count, source_port))?
            .join()
            .map_err(|_| anyhow!("the caller panicked"))??,
        _ => bail!("no role {role}"),
    };
    for step in steps.split(',') {
        play(step, &mut sockets)?;
    }
    Ok(())
}

fn serve(address: SocketAddr, count: usize) -> anyhow::Result<Vec<Socket>> {
    let listener = listen(address)?;
    (0..count).map(|_| Ok(listener.accept().context("nobody connects")?.0)).collect()
}

fn drain(address: SocketAddr, count: usize) -> anyhow::Result<()> {
    let listener = listen(address)?;
    for _ in 0..count {
        drop(listener.accept()?);
    }
    Ok(())
}

/// Each connection comes from a source port of its own, upwards from the first unprivileged one, so that none replaces
/// another's TIME_WAIT at the server.
fn flood(address: SocketAddr, count: usize, from: IpAddr) -> anyhow::Result<()> {
    for port in (1024..=u16::MAX).take(count) {
        let mut socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?; // Floods towards several ports share the source ports.
        socket.bind(&SocketAddr::new(from, port).into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&address.into())?;
        socket.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn spoof(address: SocketAddr, count: u32) -> anyhow::Result<()> {
    let mut forger = Forger::new(address)?;
    for number in 0..count {
        let [_, a, b, c] = number.to_be_bytes();
        forger.send(SocketAddrV4::new([10, 128 | a, b, c].into(), 1_024 + u16::from(c)), number)?;
    }
    Ok(())
}

/// Sends SYNs that no socket of this host stands behind.
struct Forger {
    socket: Socket,
    to: SocketAddrV4,
    packet: Vec<u8>,
    /// Its segments are RSTs, not SYNs.
    resets: bool,
}

impl Forger {
    fn new(to: SocketAddr) -> anyhow::Result<Self> {
        let SocketAddr::V4(to) = to else { bail!("SYNs are forged for IPv4 only") };
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.set_header_included_v4(true)?;
        Ok(Self { socket, to, packet: Vec::new(), resets: false })
    }

    fn send(&mut self, from: SocketAddrV4, sequence: u32) -> anyhow::Result<()> {
        self.packet.clear();
        let segment = PacketBuilder::ipv4(from.ip().octets(), self.to.ip().octets(), 64).tcp(
            from.port(),
            self.to.port(),
            sequence,
            64_240,
        );
        let segment = if self.resets { segment.rst() } else { segment.syn() };
        segment.write(&mut self.packet, &[])?;
        self.socket.send_to(&self.packet, &SocketAddr::V4(self.to).into())?;
        Ok(())
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<Socket> {
    listen_with(address, 4096)
}

fn listen_with(address: SocketAddr, backlog: i32) -> anyhow::Result<Socket> {
    let listener = kind::socket(Domain::for_address(address))?;
    listener.set_reuse_address(true)?;
    listener.set_reuse_port(true)?; // A successor may start while its predecessor accepts its last connection.
    if address.is_ipv6() {
        listener.set_only_v6(false)?;
    }
    listener.bind(&address.into()).with_context(|| format!("bind {address}"))?;
    listener.listen(backlog)?;
    kind::listening(&listener)?;
    listener.set_read_timeout(Some(PATIENCE))?; // Holds for accept(), and for the accepted sockets.
    println!("listening");
    Ok(listener)
}

fn connect(address: SocketAddr, count: usize, source_port: Option<u16>) -> anyhow::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = kind::socket(Domain::for_address(address))?;
        if let Some(port) = source_port {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(any, port).into())?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        match socket.connect(&address.into()) {
            Ok(()) => sockets.push(socket),
            Err(error) => println!("failed: {error}"),
        }
    }
    println!("connected");
    Ok(sockets)
}

/// As most programs connect: without blocking, and asking for SO_ERROR once the socket is ready.
fn attempt(address: SocketAddr, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let socket = kind::socket(Domain::for_address(address))?;
        if let Err(error) = socket.connect_timeout(&address.into(), PATIENCE) {
            println!("failed: {error}");
        }
    }
    println!("connected");
    Ok(())
}

/// Between two sockets that part.
const APART: Duration = Duration::from_millis(30);

fn play(step: &str, sockets: &mut Vec<Socket>) -> anyhow::Result<()> {
    match step {
        "gate" => {
            io::stdin().read_line(&mut String::new())?;
        }
        "hold" => {
            io::stdin().read_to_end(&mut Vec::new())?;
        }
        "close" => sockets.clear(),
        "part" => {
            while let Some(socket) = sockets.pop() {
                drop(socket);
                thread::sleep(APART);
            }
        }
        _ => {
            for socket in sockets {
                // A reset connection answers a step with an error; that it is reset is what the play is about.
                let _ = step_of(step, socket)?;
            }
        }
    }
    Ok(())
}

fn step_of(step: &str, socket: &mut Socket) -> anyhow::Result<io::Result<()>> {
    Ok(match step {
        "read" => socket.read_to_end(&mut Vec::new()).map(drop),
        "peek" => socket.peek(&mut [std::mem::MaybeUninit::uninit()]).map(drop),
        "write" => socket.write_all(b"ten bytes!"),
        "shut" => socket.shutdown(std::net::Shutdown::Write),
        // No play is about a connection that did not become what it should.
        "sockmap" => Ok(kind::into_sockmap(socket).context("into a sockmap")?),
        "ktls" => Ok(kind::into_ktls(socket).context("TLS")?),
        "linger0" => socket.set_linger(Some(Duration::ZERO)),
        "timeout1" => socket.set_tcp_user_timeout(Some(Duration::from_secs(1))),
        _ => bail!("no step {step}"),
    })
}
