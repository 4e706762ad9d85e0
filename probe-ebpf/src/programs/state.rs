//! `inet_sock_set_state`: births, deaths and lifetimes of connections.
//!
//! TIME_WAIT never appears here: its mini-socket is not a `struct sock`, and the full socket goes to CLOSE when it is
//! made (net/ipv4/tcp_minisocks.c tcp_time_wait(), 4.18 to 6.18). Who holds TIME_WAIT is the census's to say.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use probe_ebpf::{
    account::{
        CONNECT_BOUNDS_NS, ClosedBy, ConnectFailure, INBOUND, LIFETIME_BOUNDS_NS, OUTBOUND, PATIENCE_NS,
        REUSE_BOUNDS_NS,
    },
    connection::{Connection, ESTABLISHED_FLAG, OUTBOUND_FLAG, SYN_COUNTED_FLAG},
    fields::ABSENT,
    port::{LISTENING, SHORT_LIVED_NS},
    sweep::state::{
        CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
    tally::Tally,
    tuple_memory::{
        CLOSE_UNSEEN, ISN_STEP, MINI_SOCKET, RESET, STAMP_FLAGS, TIME_WAIT_NS, TupleSlot, is_same_clock,
    },
};

use crate::{
    accounts::{
        account, called, came_to_nothing, direction, key, mark_source_port, observe, observe_wait, succeeded,
        touch_port,
    },
    constants::{ABORTED_BYTES, ABORTED_WITHIN_NS, RECORD_EXTRAS, RECORD_STATE, SK_ERR, TIME_WAIT_ARGUMENTS},
    maps::{CONNECTIONS, PORTS, SWEEP, add, tally},
    refusals,
    socket::{RecordedSocket, Socket, TypedSocket, recorded},
    tuples::CLOSED_TUPLES,
    waits,
};

const IPPROTO_TCP: u16 = 6;

/// Stands for a connection that is not in the map; an entry always has a flag. (An `Option` of the whole struct makes the
/// compiler read a register that no path has set, which the verifier refuses.)
const UNKNOWN: Connection = Connection::new(0, 0);

const EPIPE: i32 = 32;
const ENETUNREACH: i32 = 101;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsState);
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let (old, new) = (old.cast_unsigned(), new.cast_unsigned());
    if matters(old, new)
        && let Some(socket) = TypedSocket::new(ctx.arg(0))
    {
        let _ = try_set_state(&socket, old, new);
    }
    0
}

#[tracepoint]
pub fn inet_sock_set_state_tp(ctx: TracePointContext) -> u32 {
    tally(Tally::RunsState);
    let extras = RECORD_EXTRAS.load();
    // SAFETY: the agent took the offsets from this tracepoint's `format`.
    let (old, new, protocol) = unsafe {
        let protocol = if extras.state_protocol_width == 1 {
            recorded::<u8>(&ctx, extras.state_protocol).map(u16::from)
        } else {
            recorded::<u16>(&ctx, extras.state_protocol)
        };
        (recorded(&ctx, extras.state_old), recorded(&ctx, extras.state_new), protocol)
    };
    if let (Ok(old), Ok(new), Ok(IPPROTO_TCP)) = (old, new, protocol)
        && matters(old, new)
        && let Some(socket) = RecordedSocket::new(&ctx, &RECORD_STATE.load())
    {
        let _ = try_set_state(&socket, old, new);
    }
    0
}

/// Whether a transition moves any account; the others (FIN_WAIT1 to FIN_WAIT2 and such) should cost next to nothing.
#[inline(always)]
fn matters(old: u32, new: u32) -> bool {
    old != new && (matches!(new, CLOSE | ESTABLISHED | LISTEN | SYN_SENT) || old == ESTABLISHED)
}

#[inline(always)]
fn try_set_state(socket: &impl Socket, old: u32, new: u32) -> Option<()> {
    match (old, new) {
        (_, LISTEN) => begin_listening(socket),
        (LISTEN, CLOSE) => end_listening(socket),
        (_, SYN_SENT) => begin_connect(socket),
        (SYN_SENT | SYN_RECV, ESTABLISHED) => establish(socket, old),
        _ => {
            if old == ESTABLISHED {
                end(socket, new);
            }
            if new == CLOSE { close(socket, old) } else { Some(()) }
        }
    }
}

/// LISTEN began. The range that the kernel chooses ports from is that of the last census; before the first, it is empty.
#[inline(always)]
fn begin_listening(socket: &impl Socket) -> Option<()> {
    let number = socket.tuple().local_port;
    let port = PORTS.get_ptr_mut(u32::from(number))?;
    let sweep = SWEEP.get(0)?;
    let is_ephemeral = number >= sweep.ephemeral_low && number <= sweep.ephemeral_high;
    // SAFETY: a pointer into a live array map, to aligned words; of two events at once, either's are as good. The helper only reads the clock.
    unsafe {
        if (*port).mark != LISTENING {
            (*port).opened_ns = if is_ephemeral { bpf_ktime_get_ns() } else { 0 };
        }
        (*port).mark = LISTENING;
    }
    Some(())
}

/// LISTEN ended. When one of several listeners of a port ends, the next census marks it LISTENING again.
#[inline(always)]
fn end_listening(socket: &impl Socket) -> Option<()> {
    let port = PORTS.get_ptr_mut(u32::from(socket.tuple().local_port))?;
    // SAFETY: as above.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now.saturating_sub((*port).opened_ns) >= SHORT_LIVED_NS {
            (*port).opened_ns = 0;
        }
        (*port).mark = now;
    }
    Some(())
}

/// connect(): the remote end is known (net/ipv4/tcp_ipv4.c tcp_v4_connect(), 5.10 to 6.18), the local port may not be chosen yet, and the SYN
/// is not sent yet.
#[inline(always)]
fn begin_connect(socket: &impl Socket) -> Option<()> {
    // SAFETY: the helper only reads the clock.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    remember(socket.id(), Connection::new(since_ns, OUTBOUND_FLAG));
    called(key(&socket.tuple(), OUTBOUND), socket.current_process(), since_ns);
    Some(())
}

#[inline(always)]
fn remember(socket: u64, connection: Connection) {
    if CONNECTIONS.insert(socket, connection, u64::from(BPF_ANY)).is_err() {
        tally(Tally::LostConnections);
    }
}

/// A handshake completed. SYN_RECV without a connect() of ours before it (simultaneous open) is an accepted one.
#[inline(always)]
fn establish(socket: &impl Socket, old: u32) -> Option<()> {
    // SAFETY: the helper only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let tuple = socket.tuple();
    let known = CONNECTIONS.get_ptr_mut(socket.id());
    let begun = match known {
        // SAFETY: a pointer into a live map value; the entry of a live socket is not replaced under its own event.
        Some(connection) if unsafe { (*connection).flags } & ESTABLISHED_FLAG == 0 => unsafe { *connection },
        _ => UNKNOWN,
    };
    let direction = if old == SYN_SENT || begun.flags & OUTBOUND_FLAG != 0 { OUTBOUND } else { INBOUND };

    let key = key(&tuple, direction);
    let account = account(&key)?;
    // SAFETY: `account` points into a live map value; all changes are atomic adds.
    unsafe {
        let counters = &raw mut (*account).counters;
        add(&raw mut (*counters).connections, 1);
        if direction == OUTBOUND {
            succeeded(account, now);
            if begun.flags & SYN_COUNTED_FLAG == 0 {
                add(&raw mut (*counters).syns, 1);
            }
            if begun.since_ns != 0 {
                observe(&raw mut (*counters).connect, &CONNECT_BOUNDS_NS, now.saturating_sub(begun.since_ns));
            }
        } else {
            touch_port(tuple.local_port, now);
            mark_source_port(&key, tuple.remote_port);
        }
        let (closed, closed_timestamp) = CLOSED_TUPLES.take(&tuple);
        if closed.stamp != 0 && closed.stamp & CLOSE_UNSEEN == 0 {
            let since = now.saturating_sub(closed.stamp & !STAMP_FLAGS);
            observe(&raw mut (*counters).reuse, &REUSE_BOUNDS_NS, since);
            if direction == INBOUND
                && closed.stamp & MINI_SOCKET != 0
                && took_its_place(socket, &closed, since)
            {
                add(&raw mut (*counters).time_wait_accepted, 1);
            }
            let timestamp = socket.peer_timestamp();
            if direction == INBOUND && closed_timestamp != 0 && timestamp != 0 {
                let is_other = !is_same_clock(closed_timestamp, timestamp, since);
                add(&raw mut (*counters).reuse_clocks[usize::from(is_other)], 1);
            }
        }
        if direction == INBOUND && refusals::are_recent(now) {
            refusals::connected(&tuple, socket.next_expected(), closed.stamp & RESET != 0, account, now);
        }
    }
    let flags = if direction == OUTBOUND { OUTBOUND_FLAG | ESTABLISHED_FLAG } else { ESTABLISHED_FLAG };
    let connection = Connection::new(now, flags);
    match known {
        // An insertion takes a lock and another entry.
        // SAFETY: as above.
        Some(known) => unsafe { *known = connection },
        None => remember(socket.id(), connection),
    }
    Some(())
}

/// Whether a new connection was accepted by the mini-socket of the one before it on its 4-tuple, rather than after that was gone.
///
/// Since tcp_timewait_state_process() hands the first sequence number out in an argument of its own (6.10 on), the connection has the
/// number that the mini-socket gave it. Before, it is lost on the way, and the age decides; the kernel's timer may be a second or two late.
#[inline(always)]
fn took_its_place(socket: &impl Socket, closed: &TupleSlot, since: u64) -> bool {
    if TIME_WAIT_ARGUMENTS.load() < 4 {
        return since < TIME_WAIT_NS;
    }
    let first = closed.next_sent.wrapping_add(ISN_STEP);
    socket.unacknowledged() == Some(first.wrapping_add(1))
}

/// A connection leaves ESTABLISHED, as each does exactly once: whoever makes it leave ended it.
#[inline(always)]
fn end(socket: &impl Socket, new: u32) -> Option<()> {
    let by = match new {
        FIN_WAIT1 => ClosedBy::Local,
        CLOSE_WAIT => ClosedBy::Peer,
        // No error yet is close() with unread data or SO_LINGER 0: the RST goes out right after this event.
        _ => match socket.error() {
            0 | EPIPE | ECONNRESET | ECONNABORTED => ClosedBy::Reset,
            _ => ClosedBy::Timeout,
        },
    };
    let tuple = socket.tuple();
    let direction = direction(socket.id(), tuple.local_port);
    let account = account(&key(&tuple, direction))?;
    // SAFETY: `account` points into a live map value; the change is an atomic add.
    unsafe { add(&raw mut (*account).counters.closes[by as usize], 1) };
    Some(())
}

/// The socket is done: book its lifetime or its failure to connect, and remember its 4-tuple.
#[inline(always)]
fn close(socket: &impl Socket, old: u32) -> Option<()> {
    // SAFETY: the helper only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let tuple = socket.tuple();
    // SAFETY: copied out at once; the entry of a live socket is not replaced under its own event.
    let connection = match unsafe { CONNECTIONS.get(socket.id()) } {
        Some(connection) => *connection,
        None => UNKNOWN,
    };
    if connection.flags != UNKNOWN.flags {
        let _ = CONNECTIONS.remove(socket.id());
    }
    if !matches!(old, SYN_SENT | SYN_RECV) {
        // The full socket ends here and leaves a mini-socket, in FIN_WAIT2 or TIME_WAIT, unless a RST or an error ended it.
        let mini = matches!(old, FIN_WAIT2 | CLOSING) && socket.error() == 0;
        let next_sent = socket.next_sent().unwrap_or(0);
        let mut flags = if mini { MINI_SOCKET } else { 0 };
        if matches!(socket.error(), ECONNRESET | EPIPE) {
            flags |= RESET;
        }
        CLOSED_TUPLES.remember(&tuple, now, flags, next_sent, socket.peer_timestamp());
        if connection.flags == UNKNOWN.flags {
            return None;
        }
        let direction = if connection.flags & OUTBOUND_FLAG != 0 { OUTBOUND } else { INBOUND };
        if direction == INBOUND {
            touch_port(tuple.local_port, now);
        }
        // An inbound one that is older than the agent has nothing to book.
        if direction == INBOUND && connection.since_ns == 0 {
            return Some(());
        }
        let account = account(&key(&tuple, direction))?;
        // SAFETY: `account` points into a live map value; all changes of counters are atomic adds.
        unsafe {
            if direction == OUTBOUND {
                waits::end(socket, &connection, account, now);
            }
            if connection.since_ns != 0 {
                let lifetime = now.saturating_sub(connection.since_ns);
                observe(&raw mut (*account).counters.lifetime, &LIFETIME_BOUNDS_NS, lifetime);
                if direction == INBOUND {
                    match answer(socket, old, lifetime) {
                        Answer::Cut => add(&raw mut (*account).counters.aborted_early, 1),
                        Answer::Whole => add(&raw mut (*account).counters.answered, 1),
                        Answer::Unknown => {}
                    }
                }
            }
        }
    } else if old == SYN_SENT || connection.flags & OUTBOUND_FLAG != 0 {
        let error = match socket.error() {
            0 => socket.icmp_error(),
            error => error,
        };
        let reason = match error {
            ETIMEDOUT => ConnectFailure::Timeout,
            ECONNREFUSED => ConnectFailure::Refused,
            EHOSTUNREACH | ENETUNREACH => ConnectFailure::Unreachable,
            ECONNRESET => ConnectFailure::Reset,
            // Nothing is wrong with the socket, no SYN was sent, and it has no port: the kernel found none that is free towards this
            // destination (net/ipv4/inet_hashtables.c __inet_hash_connect(), 5.10 to 6.18). With a port, which the program bound, it may
            // be taken or the SYN could not be made: that is not told apart.
            0 if !socket.has_sent() && tuple.local_port == 0 => ConnectFailure::NoPort,
            // Nothing is wrong with the socket: the program closed it (net/ipv4/tcp.c tcp_close(), tcp_disconnect(), 5.10 to 6.18).
            0 if socket.has_sent() && SK_ERR.load() != ABSENT => ConnectFailure::Abandoned,
            _ => ConnectFailure::Other,
        };
        let account = account(&key(&tuple, OUTBOUND))?;
        if !socket.has_sent() {
            // The destination and the network had no part in it.
            // SAFETY: `account` points into a live map value; the change is an atomic add.
            unsafe { add(&raw mut (*account).counters.connect_failures[reason as usize], 1) };
            return Some(());
        }
        // SAFETY: `account` points into a live map value; all changes are atomic adds.
        unsafe {
            let counters = &raw mut (*account).counters;
            let lost = if connection.since_ns == 0 { 0 } else { now.saturating_sub(connection.since_ns) };
            add(&raw mut (*counters).connect_failures[reason as usize], 1);
            add(&raw mut (*counters).connect_lost_ns, lost);
            // When one began that is older than the agent is not known.
            let is_abandoned = matches!(reason, ConnectFailure::Abandoned);
            if is_abandoned && connection.since_ns != 0 {
                observe_wait(&raw mut (*counters).abandoned, PATIENCE_NS, lost);
            }
            let says_little = is_abandoned || matches!(reason, ConnectFailure::Other);
            if !says_little || lost > PATIENCE_NS {
                came_to_nothing(account, connection.since_ns, now);
            }
            if connection.flags & SYN_COUNTED_FLAG == 0 {
                add(&raw mut (*counters).syns, 1);
            }
        }
    }
    Some(())
}

/// What a peer got for what it sent, as far as the bytes and the end tell.
enum Answer {
    /// Little, though it had sent more, and we ended the connection soon.
    Cut,
    /// More than a little.
    Whole,
    /// Neither: a short dialogue (`PING` and `+PONG`), or the peer ended it and may have had all it wanted.
    Unknown,
}

#[inline(always)]
fn answer(socket: &impl Socket, old: u32, lifetime: u64) -> Answer {
    let (Some(sent), Some(received)) = (socket.bytes_sent(), socket.bytes_received()) else {
        return Answer::Unknown;
    };
    let few = ABORTED_BYTES.load();
    if sent >= few {
        return Answer::Whole;
    }
    // LAST_ACK follows CLOSE_WAIT: the peer's FIN came before ours. A RST that ends ESTABLISHED is the peer's if the kernel says so
    // (net/ipv4/tcp_input.c tcp_reset(), 5.10 to 6.18).
    let ended_by_peer =
        matches!(old, LAST_ACK | CLOSE_WAIT) || (old == ESTABLISHED && socket.error() == ECONNRESET);
    // The peer's FIN is a byte, too (net/ipv4/tcp_input.c tcp_rcv_nxt_update(), 5.10 to 6.18).
    if !ended_by_peer && received > few && lifetime < ABORTED_WITHIN_NS.load() {
        Answer::Cut
    } else {
        Answer::Unknown
    }
}
