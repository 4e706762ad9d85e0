//! Packets on the wire, by tcpdump, and what they say about each connection.

mod clocks;
mod lives;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use pcap_file::pcap::PcapReader;
use tempfile::TempDir;

pub use self::clocks::Clocks;
use crate::{host::Host, inconclusive::Count};

/// A running capture of TCP packets on `eth0` of a host.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    _directory: TempDir,
    file: PathBuf,
    last_words: Option<JoinHandle<String>>,
}

impl Capture {
    /// Starts it, and waits until it captures.
    #[must_use]
    pub fn start(host: &Host) -> Self {
        Self::of(host, "tcp")
    }

    /// As [`Self::start`], of the packets that `filter` lets through.
    #[must_use]
    pub fn of(host: &Host, filter: &str) -> Self {
        Self::with(host, filter, "128")
    }

    /// As [`Self::of`], where programs say more than a few words; it takes more room, so it is not for a large load.
    #[must_use]
    pub fn of_talk(host: &Host, filter: &str) -> Self {
        Self::with(host, filter, "2048")
    }

    /// No packet may be longer than `most`.
    fn with(host: &Host, filter: &str, most: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("capture.pcap");
        let mut command = host.command("tcpdump");
        command
            .args(["-i", "eth0", "-s", most, "-B", "65536", "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&file)
            .arg(filter);
        let mut tcpdump =
            command.stderr(Stdio::piped()).spawn().expect("tcpdump runs (`cargo xtask setup` installs it)");
        let mut stderr = BufReader::new(tcpdump.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            let read = stderr.read_line(&mut line).expect("tcpdump prints text");
            assert!(read > 0, "tcpdump ended before it listened");
        }
        let last_words =
            thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>().join("; "));
        Self { tcpdump, _directory: directory, file, last_words: Some(last_words) }
    }

    /// Stops it and returns what was on the wire.
    #[must_use]
    pub fn stop(mut self) -> Wire {
        thread::sleep(Duration::from_millis(300)); // Packets still on their way through the kernel's ring.
        interrupt(&self.tcpdump);
        let _ = self.tcpdump.wait();
        let last_words = self.last_words.take().map(JoinHandle::join);
        let last_words = last_words.and_then(Result::ok).unwrap_or_default();
        assert!(last_words.contains("; 0 packets dropped by kernel"), "tcpdump is no truth: {last_words}");
        let file = File::open(&self.file).expect("tcpdump wrote its file");
        let mut reader = PcapReader::new(file).expect("a pcap file");
        let mut wire = Wire::default();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.expect("a whole packet");
            wire.add(packet.timestamp, &packet.data);
        }
        wire
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)
        .expect("our own child can be interrupted");
}

/// Everything on the wire, by the client's and the server's endpoint; whoever sent the first SYN is the client.
#[derive(Debug, Default)]
pub struct Wire {
    flows: BTreeMap<Flow, Vec<Segment>>,
    /// Every segment in the order of the wire.
    segments: Vec<(Flow, Segment)>,
    /// Incarnations of flows that ended by a new SYN on the same ports.
    earlier: Vec<(Flow, Vec<Segment>)>,
}

/// The client's and the server's endpoint.
type Flow = (SocketAddr, SocketAddr);

/// One segment of a flow.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a TCP header")]
struct Segment {
    /// When it passed, since the epoch.
    at: Duration,
    by_client: bool,
    syn: bool,
    ack: bool,
    fin: bool,
    rst: bool,
    seq: u32,
    /// The next sequence number that it expects.
    expects: u32,
    payload: u32,
    timestamp: Option<u32>,
}

/// A connection that takes the place of a TIME_WAIT begins so far above where that left off (net/ipv4/tcp_minisocks.c
/// tcp_timewait_state_process()); one that meets none begins anywhere. Before 6.10 every one does.
const ISN_STEP: u32 = 65_537;

/// The life of a TIME_WAIT, by which one is known to be met where the sequence number does not tell.
const TIME_WAIT: Duration = Duration::from_mins(1);

/// What the packets of one service say, summed over its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Handshakes that were completed.
    pub connections: u64,
    /// SYNs with a sequence number of their own.
    pub syns: u64,
    /// SYNs sent again.
    pub syn_retries: u64,
    /// SYN-ACKs sent again.
    pub synack_retries: u64,
    /// Other segments that the client sent again.
    pub client_retransmits: u64,
    /// Other segments that the server sent again.
    pub server_retransmits: u64,
    /// RSTs the client sent.
    pub client_resets: u64,
    /// RSTs the server sent.
    pub server_resets: u64,
    /// Connections whose first FIN was the client's.
    pub client_closes: u64,
    /// Connections whose first FIN was the server's.
    pub server_closes: u64,
}

impl Wire {
    fn add(&mut self, at: Duration, packet: &[u8]) {
        let sliced = SlicedPacket::from_ethernet(packet).expect("an Ethernet frame");
        let (source, destination, ip_payload): (IpAddr, IpAddr, usize) = match &sliced.net {
            Some(NetSlice::Ipv4(v4)) => {
                let header = v4.header();
                let payload = usize::from(header.total_len()) - header.slice().len();
                (header.source_addr().into(), header.destination_addr().into(), payload)
            }
            Some(NetSlice::Ipv6(v6)) => {
                let header = v6.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    usize::from(header.payload_length()),
                )
            }
            _ => return,
        };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return };
        let source = SocketAddr::new(source, tcp.source_port());
        let destination = SocketAddr::new(destination, tcp.destination_port());
        let by_client = if self.flows.contains_key(&(source, destination)) {
            true
        } else if self.flows.contains_key(&(destination, source)) {
            false
        } else {
            tcp.syn() && !tcp.ack()
        };
        let key = if by_client { (source, destination) } else { (destination, source) };
        let segment = Segment {
            at,
            by_client,
            syn: tcp.syn(),
            ack: tcp.ack(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            seq: tcp.sequence_number(),
            expects: tcp.acknowledgment_number(),
            payload: u32::try_from(ip_payload - tcp.header_slice().len()).expect("a segment is small"),
            timestamp: tcp.options_iterator().find_map(|option| match option {
                Ok(TcpOptionElement::Timestamp(value, _)) => Some(value),
                _ => None,
            }),
        };
        let flow = self.flows.entry(key).or_default();
        let is_unanswered = !flow.is_empty() && flow.iter().all(|old| old.by_client);
        let opens_anew = by_client
            && segment.syn
            && (flow.iter().any(|old| old.by_client && old.fin) || is_unanswered)
            && flow.iter().all(|old| !(old.by_client && old.syn && old.seq == segment.seq));
        if opens_anew {
            self.earlier.push((key, std::mem::take(flow)));
        }
        flow.push(segment);
        self.segments.push((key, segment));
    }

    /// The sequence number that the server expects next on each 4-tuple of a service: the one after the client's last.
    #[must_use]
    pub fn expected(&self, server: IpAddr, port: u16) -> BTreeMap<SocketAddr, u32> {
        let to = SocketAddr::new(server, port);
        let sent = self.segments.iter().filter(|((_, service), segment)| *service == to && segment.by_client);
        sent.map(|((client, _), segment)| {
            let length = segment.payload + u32::from(segment.syn) + u32::from(segment.fin);
            (*client, segment.seq.wrapping_add(length))
        })
        .collect()
    }

    /// The first sequence number of each 4-tuple of a service.
    #[must_use]
    pub fn first_syns(&self, server: IpAddr, port: u16) -> BTreeMap<SocketAddr, u32> {
        let to = SocketAddr::new(server, port);
        let syns = self
            .segments
            .iter()
            .filter(|((_, service), segment)| *service == to && segment.by_client && segment.syn);
        // The last to be collected stays.
        syns.rev().map(|((client, _), segment)| (*client, segment.seq)).collect()
    }

    /// What happened between one client address and a service, on 4-tuples that the server still remembered.
    #[must_use]
    pub fn reuses(&self, client: IpAddr, server: IpAddr, port: u16) -> Reuses {
        let attempts = self.attempts(client, server, port);
        let late = attempts.refused.values().filter(|refused| refused.late).count() as u64;
        let gave_up = attempts.refused.values().filter(|refused| refused.connected.is_none()).count() as u64;
        Reuses { gave_up, late, ..attempts.sum }
    }

    /// How long each attempt between one client address and a service that was refused took since to connect, of those that did.
    #[must_use]
    pub fn refused_delays(&self, client: IpAddr, server: IpAddr, port: u16) -> Vec<Duration> {
        let attempts = self.attempts(client, server, port);
        let delay = |refused: &Refused| Some(refused.connected?.saturating_sub(refused.since));
        attempts.refused.values().filter_map(delay).collect()
    }

    fn attempts(&self, client: IpAddr, server: IpAddr, port: u16) -> Attempts {
        let mut attempts = Attempts::default();
        let mut tuples: BTreeMap<u16, Tuple> = BTreeMap::new();
        for (from, segment) in self.between(client, server, port) {
            tuples.entry(from).or_default().see(from, segment, &mut attempts);
        }
        for (from, tuple) in &mut tuples {
            tuple.unanswered(*from, &mut attempts);
        }
        attempts
    }

    /// When the first SYN of a client address was refused by what the server remembered, since the epoch. One that was not answered is known
    /// to be refused when the next SYN on its 4-tuple comes.
    #[must_use]
    pub fn first_refused(&self, client: IpAddr, server: IpAddr, port: u16) -> Option<Duration> {
        let mut attempts = Attempts::default();
        let mut tuples: BTreeMap<u16, Tuple> = BTreeMap::new();
        self.between(client, server, port).find_map(|(from, segment)| {
            tuples.entry(from).or_default().see(from, segment, &mut attempts);
            (attempts.sum.refused() > 0).then_some(segment.at)
        })
    }

    /// The SYNs of a client address that met what the server remembered, each with its port, and when it was answered, since the epoch; one that was
    /// not answered as [`Self::first_refused`] has it.
    #[must_use]
    pub fn met(&self, client: IpAddr, server: IpAddr, port: u16) -> Vec<(Duration, u16)> {
        let mut attempts = Attempts::default();
        let mut tuples: BTreeMap<u16, Tuple> = BTreeMap::new();
        let meets = |(from, segment): (u16, Segment)| {
            let before = attempts.sum.accepted + attempts.sum.refused();
            tuples.entry(from).or_default().see(from, segment, &mut attempts);
            (attempts.sum.accepted + attempts.sum.refused() > before).then_some((segment.at, from))
        };
        self.between(client, server, port).filter_map(meets).collect()
    }

    /// The segments between one client address and a service, with the client's port.
    fn between(&self, client: IpAddr, server: IpAddr, port: u16) -> impl Iterator<Item = (u16, Segment)> {
        let service = SocketAddr::new(server, port);
        let ours = self.segments.iter().filter(move |((from, to), _)| from.ip() == client && *to == service);
        ours.map(|((from, _), segment)| (from.port(), *segment))
    }

    /// Sums the connections to one port of one server.
    #[must_use]
    pub fn service(&self, server: IpAddr, port: u16) -> Service {
        let mut sum = Service::default();
        self.connections(server, port).for_each(|(_, segments)| add_flow(&mut sum, segments));
        sum
    }

    /// The segments of each connection to one port of one server, with the client's address.
    fn connections(&self, server: IpAddr, port: u16) -> impl Iterator<Item = (IpAddr, &[Segment])> {
        let current = self.flows.iter();
        let all = current.chain(self.earlier.iter().map(|(key, segments)| (key, segments)));
        let ours = all.filter(move |((_, to), _)| *to == SocketAddr::new(server, port));
        ours.map(|((from, _), segments)| (from.ip(), segments.as_slice()))
    }
}

/// What the packets say about SYNs on 4-tuples that the server remembers in TIME_WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuses {
    /// Answered by a SYN-ACK.
    pub accepted: u64,
    /// Answered by a bare ACK.
    pub refused_by_ack: u64,
    /// Answered by a RST.
    pub refused_by_reset: u64,
    /// Not answered.
    pub unanswered: u64,
    /// SYNs sent again, also those that met no TIME_WAIT.
    pub syn_retries: u64,
    /// Refused attempts that connected after the client's RST had ended the TIME_WAIT.
    pub connected_after_reset: u64,
    /// Refused attempts that connected otherwise.
    pub connected_by_retry: u64,
    /// Refused attempts that connected from another port.
    pub connected_from_other_port: u64,
    /// Refused attempts that never connected.
    pub gave_up: u64,
    /// Refused attempts that were refused again, or connected, more than [`LATE`] after their first SYN.
    pub late: u64,
}

/// A client whose answer is lost waits for a second before it repeats its SYN.
const LATE: Duration = Duration::from_millis(900);

impl Reuses {
    /// SYNs that were refused, however they were answered.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_by_ack + self.refused_by_reset + self.unanswered
    }

    /// What was counted event by event: all figures, but instead of those that gave up, all that ended. A client whose
    /// connection is not seen seems to have given up.
    fn figures(&self) -> [(&'static str, u64); 10] {
        let connected = self.connected_after_reset + self.connected_by_retry + self.connected_from_other_port;
        [
            ("SYNs that were accepted", self.accepted),
            ("SYNs that were answered by an ACK", self.refused_by_ack),
            ("SYNs that were answered by a RST", self.refused_by_reset),
            ("SYNs that were not answered", self.unanswered),
            ("SYNs sent again", self.syn_retries),
            ("attempts that connected after a RST", self.connected_after_reset),
            ("attempts that connected by a retry", self.connected_by_retry),
            ("attempts that connected from another port", self.connected_from_other_port),
            ("attempts that ended", connected + self.gave_up),
            ("attempts that were late", self.late),
        ]
    }

    /// Each figure as `told` beside what it is on this wire.
    #[must_use]
    pub fn counts(&self, told: &Self) -> Vec<Count> {
        let both = self.figures().into_iter().zip(told.figures());
        both.map(|((what, truth), (_, told))| Count { what: what.to_owned(), told, truth }).collect()
    }
}

/// The connection attempts of one client address, by the sequence number of their SYN.
#[derive(Debug, Default)]
struct Attempts {
    /// Those that have been seen.
    seen: BTreeSet<u32>,
    /// Those that were refused.
    refused: BTreeMap<u32, Refused>,
    sum: Reuses,
}

/// An attempt that was refused.
#[derive(Debug)]
struct Refused {
    /// Source port and time of the first SYN that was.
    port: u16,
    since: Duration,
    late: bool,
    /// When the handshake was completed.
    connected: Option<Duration>,
}

/// One 4-tuple over all its connections.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what is remembered of a 4-tuple")]
struct Tuple {
    /// The sequence number after the client's FIN.
    client_end: Option<u32>,
    server_closed: bool,
    /// The sequence number that a TIME_WAIT at the server expects.
    time_wait: Option<u32>,
    /// When it began.
    time_wait_since: Duration,
    /// The sequence number after the server's last.
    server_end: u32,
    /// A SYN that met it and has no answer yet.
    waiting: bool,
    /// The last SYN's sequence number, and when it came.
    syn: (u32, Duration),
    /// It was answered by a SYN-ACK, which the client has not acknowledged.
    answered: bool,
    /// Whether the client's RST ended the TIME_WAIT since.
    reset: bool,
}

impl Tuple {
    fn see(&mut self, port: u16, segment: Segment, attempts: &mut Attempts) {
        if segment.by_client {
            self.see_client(port, segment, attempts);
        } else {
            self.see_server(port, segment, attempts);
        }
    }

    fn see_client(&mut self, port: u16, segment: Segment, attempts: &mut Attempts) {
        if segment.ack && !segment.rst && std::mem::take(&mut self.answered) {
            self.connected(port, segment.at, attempts);
        }
        if segment.syn {
            self.unanswered(port, attempts);
            if !attempts.seen.insert(segment.seq) {
                attempts.sum.syn_retries += 1;
            }
            self.syn = (segment.seq, segment.at);
            self.client_end = None;
            // Where only the server has closed, a mini-socket in FIN_WAIT2 is what remains.
            self.waiting = self.time_wait.is_some() || std::mem::take(&mut self.server_closed);
        } else if segment.rst {
            if self.time_wait == Some(segment.seq) {
                self.time_wait = None;
                self.waiting = false;
                self.reset = true;
            }
        } else if segment.fin {
            let end = segment.seq.wrapping_add(segment.payload + 1);
            self.client_end = Some(end);
            if std::mem::take(&mut self.server_closed) {
                self.time_wait = Some(end);
                self.time_wait_since = segment.at;
            }
        }
    }

    fn see_server(&mut self, port: u16, segment: Segment, attempts: &mut Attempts) {
        if segment.syn {
            let took_its_place = if crate::kernel() >= (6, 10) {
                segment.seq == self.server_end.wrapping_add(ISN_STEP)
            } else {
                segment.at.saturating_sub(self.time_wait_since) < TIME_WAIT
            };
            if std::mem::take(&mut self.waiting) && took_its_place {
                attempts.sum.accepted += 1;
            }
            self.time_wait = None;
            self.answered = true;
        } else if segment.fin {
            // Whoever answers a FIN by one closes second, and keeps nothing.
            self.server_closed = self.client_end != Some(segment.expects);
            self.server_end = segment.seq.wrapping_add(segment.payload + 1);
        } else if std::mem::take(&mut self.waiting) {
            self.refused(port, attempts);
            if segment.rst {
                attempts.sum.refused_by_reset += 1;
                self.time_wait = None;
            } else {
                attempts.sum.refused_by_ack += 1;
            }
        }
    }

    fn unanswered(&mut self, port: u16, attempts: &mut Attempts) {
        if std::mem::take(&mut self.waiting) {
            self.refused(port, attempts);
            attempts.sum.unanswered += 1;
        }
    }

    /// The last SYN was refused.
    fn refused(&mut self, port: u16, attempts: &mut Attempts) {
        let (isn, at) = self.syn;
        let first = Refused { port, since: at, late: false, connected: None };
        let refused = attempts.refused.entry(isn).or_insert(first);
        refused.late |= at.saturating_sub(refused.since) > LATE;
    }

    /// The handshake of the last SYN was completed.
    fn connected(&mut self, port: u16, at: Duration, attempts: &mut Attempts) {
        let reset = std::mem::take(&mut self.reset);
        let Some(refused) = attempts.refused.get_mut(&self.syn.0) else { return };
        if refused.connected.is_some() {
            return;
        }
        refused.connected = Some(at);
        refused.late |= at.saturating_sub(refused.since) > LATE;
        let sum = &mut attempts.sum;
        let how = if refused.port != port {
            &mut sum.connected_from_other_port
        } else if reset {
            &mut sum.connected_after_reset
        } else {
            &mut sum.connected_by_retry
        };
        *how += 1;
    }
}

fn add_flow(sum: &mut Service, segments: &[Segment]) {
    let mut syns = BTreeSet::new();
    let mut synacks = BTreeSet::new();
    // What each side has sent up to: a segment that begins before it was sent before.
    let mut sent: [Option<u32>; 2] = [None; 2];
    let mut closed = false;
    let mut answered = false;
    let mut established = false;
    for segment in segments {
        let side = usize::from(segment.by_client);
        let length = segment.payload + u32::from(segment.syn) + u32::from(segment.fin);
        let retransmits =
            if segment.by_client { &mut sum.client_retransmits } else { &mut sum.server_retransmits };
        if segment.rst {
            *(if segment.by_client { &mut sum.client_resets } else { &mut sum.server_resets }) += 1;
            continue;
        }
        if segment.syn {
            let (seen, first, again) = if segment.ack {
                answered = true;
                (&mut synacks, None, &mut sum.synack_retries)
            } else {
                (&mut syns, Some(&mut sum.syns), &mut sum.syn_retries)
            };
            if seen.insert(segment.seq) {
                if let Some(first) = first {
                    *first += 1;
                }
            } else {
                *again += 1;
            }
        } else {
            if segment.by_client && segment.ack && answered && !established {
                established = true;
                sum.connections += 1;
            }
            if length > 0 && sent[side].is_some_and(|end| segment.seq.wrapping_sub(end).cast_signed() < 0) {
                *retransmits += 1;
            }
        }
        if segment.fin && !closed {
            closed = true;
            *(if segment.by_client { &mut sum.client_closes } else { &mut sum.server_closes }) += 1;
        }
        let end = segment.seq.wrapping_add(length);
        if length > 0 && sent[side].is_none_or(|old| end.wrapping_sub(old).cast_signed() > 0) {
            sent[side] = Some(end);
        }
    }
}
