//! Connections as fast as the machine makes them, closed by the server first, so that each leaves a TIME_WAIT there.

use std::{
    io::{self, ErrorKind, Read as _},
    mem::size_of_val,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::host::Host;
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Socket, Type};

/// On which port the service of the first processor is; that of the next one is on the next.
const PORT: u16 = 8_080;

/// Clients on each processor: enough to leave it no time for anything else.
const CLIENTS: u32 = 2;

/// The service has so many addresses, so that a 4-tuple is not needed twice within a minute.
const ADDRESSES: u32 = 16;

/// A peer connects from 127.1.0.1, another from 127.1.0.2, and so on.
const FIRST_PEER: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// From how many addresses, in turn.
    pub peers: u32,
    /// Not longer than this,
    pub time: Duration,
    /// and not more connections than this.
    pub most: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Connections that were made and closed.
    pub connections: u64,
    /// As long it took.
    pub seconds: f64,
}

impl Made {
    /// Connections a second.
    pub fn rate(self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// Lets a host take as many connections as there will be.
pub fn prepare(host: &Host) {
    host.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    host.sysctl("net.ipv4.tcp_max_tw_buckets", "4000000");
    host.sysctl("net.ipv4.tcp_tw_reuse", "0");
}

/// Makes connections within a host. Each processor has a service of its own and clients that call only that: who wakes whom across
/// processors is not left to chance, which would make more of a difference than any watcher.
pub fn saturate(host: &Host, plan: Plan) -> Made {
    host.enter(|| {
        let over = &AtomicBool::new(false);
        let processors = 0..u16::try_from(processors()).expect("a few processors");
        let share = plan.most.div_ceil(u64::from(processors.end) * u64::from(CLIENTS));
        let plan = Plan { most: share, ..plan };
        let listeners = listeners();
        thread::scope(|scope| {
            let servers: Vec<_> = listeners
                .iter()
                .enumerate()
                .map(|(processor, listener)| scope.spawn(move || serve(processor, listener, over)))
                .collect();
            let begun = Instant::now();
            let clients: Vec<_> = processors
                .flat_map(|processor| (0..CLIENTS).map(move |client| (processor, client)))
                .map(|(processor, client)| scope.spawn(move || connect(processor, client, plan)))
                .collect();
            let connections = clients.into_iter().map(|client| client.join().expect("clients connect")).sum();
            let seconds = begun.elapsed().as_secs_f64();
            over.store(true, Ordering::Relaxed);
            for server in servers {
                server.join().expect("servers accept");
            }
            Made { connections, seconds }
        })
    })
}

/// Services that nobody calls, on the ports of [`saturate`]: its TIME_WAITs are known for those of services while these listen.
pub fn services(host: &Host) -> Vec<Socket> {
    host.enter(listeners)
}

fn listeners() -> Vec<Socket> {
    let processors = 0..u16::try_from(processors()).expect("a few processors");
    processors.map(|processor| listen(PORT + processor).expect("the port is free")).collect()
}

/// How many processors there are.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// From now on the calling thread runs on one processor.
pub fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("a thread may choose its processor");
}

fn listen(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
    socket.listen(4_096)?;
    // Holds for accept().
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn serve(processor: usize, listener: &Socket, over: &AtomicBool) {
    pin(processor);
    while !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok(accepted) => drop(accepted),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "accept: {error}"),
        }
    }
}

/// One client's part of a plan: its connections come from all peers in turn.
fn connect(processor: u16, client: u32, plan: Plan) -> u64 {
    pin(processor.into());
    let deadline = Instant::now() + plan.time;
    let mut made = 0;
    for number in (client..).step_by(CLIENTS as usize) {
        if made == plan.most || Instant::now() >= deadline {
            break;
        }
        let peer = Ipv4Addr::from_bits(FIRST_PEER.to_bits() + number % plan.peers);
        let service = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number / plan.peers % ADDRESSES);
        let service = SocketAddrV4::new(service, PORT + processor);
        connect_once(peer, service).unwrap_or_else(|error| panic!("{peer} to {service}: {error}"));
        made += 1;
    }
    made
}

fn connect_once(peer: Ipv4Addr, service: SocketAddrV4) -> io::Result<()> {
    let mut socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    choose_port_later(&socket)?;
    socket.bind(&SocketAddrV4::new(peer, 0).into())?;
    socket.connect(&service.into())?;
    socket.read(&mut [0]).map(drop)
}

/// Lets connect(2) choose the port, which may then be that of another connection to elsewhere (ip(7), IP_BIND_ADDRESS_NO_PORT).
fn choose_port_later(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the option is an int, and one is at this address for as long as the call lasts.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
