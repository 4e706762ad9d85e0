//! Reading a socket: directly, where the kernel hands us a typed pointer, or from a classic tracepoint's record.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_comm, bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_jiffies64, bpf_skc_to_tcp_sock},
    },
    programs::TracePointContext,
};
use probe_ebpf::{
    account::Address, caller::ProcessName, connection::FourTuple, fields::ABSENT, record::Record,
};

use crate::{
    constants::{
        BYTES_RECEIVED, BYTES_SENT, EE_ERRNO, HAS_CURRENT_TASK, INET_SPORT, LAST_ACKED, LAST_RECEIVED,
        LAST_SENT, NET_INUM, NETNS, RCV_NXT, SEGS_OUT, SK_ERR, SK_ERR_SOFT, SK_ERROR_QUEUE_LAST,
        SK_ERROR_QUEUE_LENGTH, SK_MAX_ACK_BACKLOG, SKB_CB, SKC_DADDR, SKC_DPORT, SKC_FAMILY, SKC_NET,
        SKC_NUM, SKC_RCV_SADDR, SKC_STATE, SKC_V6_DADDR, SKC_V6_RCV_SADDR, SND_NXT, SND_UNA, SND_WL1,
        TASK_COMM, TASK_GROUP_LEADER, TICK_NS, TS_RECENT, TS_RECENT_STAMP, TW_RCV_NXT,
    },
    maps::WATCHED_NAMESPACE,
};

const AF_INET: u16 = 2;

/// What the bodies of the programs ask of a socket.
pub trait Socket {
    /// The kernel address of the socket.
    fn id(&self) -> u64;
    /// The connection, IPv4 as v4-mapped.
    fn tuple(&self) -> FourTuple;
    /// `sk_err`: the errno that is ending the connection, 0 if none. At ->CLOSE it is already set.
    fn error(&self) -> i32;
    /// The errno of the last ICMP error that came while a program held the socket, 0 if there is none. The kernel does not end the
    /// connection then (net/ipv4/tcp_ipv4.c tcp_v4_err(), 5.10 to 6.18): it notes the errno in `sk_err_soft`, which the program clears by
    /// asking for SO_ERROR, and queues the packet, which stays.
    fn icmp_error(&self) -> i32;
    /// Whether anything was sent: a connect() that fails for want of a port passes SYN_SENT without a SYN.
    fn has_sent(&self) -> bool;
    /// The next sequence number expected from the peer; when ESTABLISHED begins, the one after its SYN's.
    fn next_expected(&self) -> Option<u32>;
    /// The sequence number after our last.
    fn next_sent(&self) -> Option<u32>;
    /// Our first sequence number that the peer has not acknowledged; when ESTABLISHED begins, the one after our SYN's.
    fn unacknowledged(&self) -> Option<u32>;
    /// Name of the process that runs now, whose the socket is during a connect().
    fn current_process(&self) -> ProcessName;
    /// Bytes we sent, repeated ones included.
    fn bytes_sent(&self) -> Option<u64>;
    /// Bytes received in order, the peer's FIN included.
    fn bytes_received(&self) -> Option<u64>;
    /// The last timestamp of the peer that TCP took, which a TIME_WAIT compares with that of a SYN; 0 where it sends none, or it is not known.
    fn peer_timestamp(&self) -> u32;
    /// When data last came, in ticks; before that, when the handshake ended.
    fn last_received(&self) -> Option<u32>;
}

/// Reads a field through a pointer whose type the verifier knows.
///
/// # Safety
/// `base` must be a BTF-typed kernel pointer and `offset` a frozen constant that lies inside its type; the verifier
/// proves both, and a wild pointer reads as 0 (the load has a fault handler).
#[inline(always)]
pub unsafe fn field<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
    unsafe { base.add(offset.load() as usize).cast::<T>().read_volatile() }
}

/// An IPv6 address field, read as two words.
///
/// # Safety
/// As [`field`].
#[inline(always)]
unsafe fn ipv6(base: *const u8, offset: &Global<u32>) -> Address {
    let start = unsafe { base.add(offset.load() as usize) }.cast::<u64>();
    let words = unsafe { [start.read_volatile(), start.add(1).read_volatile()] };
    Address(bytemuck::cast(words))
}

/// IPv4 in network order as v4-mapped IPv6.
#[inline(always)]
pub fn v4_mapped(addr: u32) -> Address {
    Address(bytemuck::cast([0, 0, 0xffff_u32.to_be(), addr]))
}

/// So long it may take from the kernel's stamp to our look at it, in nanoseconds: on a virtual machine, its host may run others meanwhile.
const JUST_NOW_NS: u64 = 32_000_000;

/// Whether the kernel's limiter of ACKs to out-of-window segments let one through for the segment at hand: it stamps the
/// mini-socket or request with the current jiffy then. Two such ACKs are 500 ms apart at least (net/ipv4/tcp_input.c
/// tcp_oow_rate_limited(), tcp_invalid_ratelimit).
#[inline(always)]
pub fn is_stamped_just_now(stamp: u32) -> bool {
    nanoseconds(ticks().wrapping_sub(stamp)) <= JUST_NOW_NS
}

/// Name of the process that a task belongs to.
///
/// # Safety
/// `task` must be a BTF-typed pointer; the task's leader outlives the program's run.
#[inline(always)]
pub unsafe fn process_name(task: *const u8) -> ProcessName {
    unsafe {
        let leader: *const u8 = field(task, &TASK_GROUP_LEADER);
        let name = leader.add(TASK_COMM.load() as usize).cast::<u64>();
        [name.read_volatile(), name.add(1).read_volatile()]
    }
}

/// Name of the thread that runs now.
#[inline(always)]
fn current_thread() -> ProcessName {
    bytemuck::cast(bpf_get_current_comm().unwrap_or_default())
}

/// The kernel's clock, in ticks, as it stamps sockets with it.
#[inline(always)]
pub fn ticks() -> u32 {
    // SAFETY: the helper only reads a counter.
    unsafe { bpf_jiffies64() as u32 }
}

/// Ticks as a time.
#[inline(always)]
pub fn nanoseconds(ticks: u32) -> u64 {
    u64::from(ticks) * TICK_NS.load()
}

/// Whether a socket comes from a listener: it is copied from that, and keeps the length of its accept queue (net/core/sock.c
/// sk_clone_lock(), 5.10 to 6.18), which a socket that was made to connect() does not have. After listen(fd, 0) this cannot be told, nor
/// of a timewait socket.
#[inline(always)]
pub fn was_accepted(sk: *const c_void) -> bool {
    // SAFETY: `sk` is a typed pointer, and the helper checks what it is; the field lies inside `sock`, with which `tcp_sock` begins.
    unsafe {
        let tcp = bpf_skc_to_tcp_sock(sk.cast_mut());
        !tcp.is_null() && field::<u32>(tcp.cast_const().cast(), &SK_MAX_ACK_BACKLOG) != 0
    }
}

/// A connection of ours, as far as it tells whether an answer is awaited. All times are in ticks.
pub struct Progress {
    /// When we last sent data; before that, when the handshake ended.
    pub last_sent: u32,
    /// When data last came; before that, as above.
    pub last_received: u32,
    last_acked: u32,
    /// Bytes sent and received.
    pub sent: u64,
    pub received: u64,
    all_acked: bool,
    /// The last segment that moved the window of what we may send brought no data.
    acked_without_data: bool,
}

impl Progress {
    /// `None` for what is no full TCP socket.
    #[inline(always)]
    pub fn of(sk: *const c_void) -> Option<Self> {
        // SAFETY: `sk` is a typed pointer, and the helper checks what it is; all fields lie inside `tcp_sock`.
        unsafe {
            let tcp = bpf_skc_to_tcp_sock(sk.cast_mut());
            if tcp.is_null() {
                return None;
            }
            let tcp = tcp.cast_const().cast();
            Some(Self {
                last_sent: field(tcp, &LAST_SENT),
                last_received: field(tcp, &LAST_RECEIVED),
                last_acked: field(tcp, &LAST_ACKED),
                sent: field(tcp, &BYTES_SENT),
                received: field(tcp, &BYTES_RECEIVED),
                all_acked: field::<u32>(tcp, &SND_UNA) == field::<u32>(tcp, &SND_NXT),
                acked_without_data: field::<u32>(tcp, &SND_WL1) == field::<u32>(tcp, &RCV_NXT),
            })
        }
    }

    /// For how many ticks we have waited for an answer to what we sent; 0 is that we do not. A connection that was answered and idles awaits
    /// nothing, nor does one on which we have not said anything, and one that uploads goes on sending. Both stamps begin at the handshake
    /// (net/ipv4/tcp_input.c tcp_finish_connect(), tcp_init_transfer()). An acknowledgement within `prompt` ticks is one at once.
    #[inline(always)]
    pub fn unanswered(&self, now: u32, prompt: u32) -> u32 {
        let Self { last_sent, last_received, last_acked, sent, received, acked_without_data, .. } = *self;
        let sent_later = last_sent.wrapping_sub(last_received).cast_signed();
        // Within one tick, an answer at once and a question right after an answer look alike, but for the segment that acknowledged
        // our last: with the answer it brought data, else none (net/ipv4/tcp_input.c tcp_ack_update_window()). One that came much later was
        // for a keepalive probe.
        let acked_at_once = last_acked.wrapping_sub(last_sent) <= prompt;
        let asked = sent > 0
            && (received == 0 || sent_later > 0 || (sent_later == 0 && acked_without_data && acked_at_once));
        if asked { now.wrapping_sub(last_sent).min(now.wrapping_sub(last_received)) } else { 0 }
    }

    /// Whether neither data nor an ACK of what we sent has come for longer than `patience` ticks.
    #[inline(always)]
    pub fn is_unacknowledged(&self, now: u32, patience: u32) -> bool {
        !self.all_acked
            && now.wrapping_sub(self.last_acked) > patience
            && now.wrapping_sub(self.last_received) > patience
    }
}

/// Whether a namespace is the watched one. Its number is looked at only as long as its address is not known: that lies beside counters
/// that every socket of the namespace changes on its CPU, and is in another CPU's cache nearly always.
#[inline(always)]
fn is_watched(namespace: u64, has_its_number: impl Fn() -> bool) -> bool {
    let Some(watched) = WATCHED_NAMESPACE.get_ptr_mut(0) else { return has_its_number() };
    // SAFETY: a pointer into a live array map, to one aligned word, to which only one value is ever written.
    unsafe {
        if *watched == namespace && namespace != 0 {
            return true;
        }
        let is_ours = has_its_number();
        if is_ours {
            *watched = namespace;
        }
        is_ours
    }
}

/// The part of a socket that mini-sockets and requests have too (`struct sock_common`).
#[derive(Clone, Copy)]
pub struct Common(*const u8);

impl Common {
    /// Wraps a BTF-typed pointer, which must not be null.
    #[inline(always)]
    pub fn new(sk: *const c_void) -> Self {
        Self(sk.cast())
    }

    /// Whether the socket lives in the namespace that is watched.
    #[inline(always)]
    pub fn is_ours(self) -> bool {
        // SAFETY: `skc_net` is a typed pointer to the namespace, which outlives its sockets.
        unsafe {
            let net: *const u8 = field(self.0, &SKC_NET);
            is_watched(net as u64, || field::<u32>(net, &NET_INUM) == NETNS.load())
        }
    }

    #[inline(always)]
    pub fn state(self) -> u32 {
        // SAFETY: `skc_state` lies in `sock_common`.
        u32::from(unsafe { field::<u8>(self.0, &SKC_STATE) })
    }

    /// The next sequence number a mini-socket expects.
    #[inline(always)]
    pub fn next_expected_in_time_wait(self) -> u32 {
        // SAFETY: the field lies in `sock_common`.
        unsafe { field(self.0, &TW_RCV_NXT) }
    }

    /// The connection; `skc_num` is the local port until the socket reaches CLOSE.
    #[inline(always)]
    pub fn tuple(self) -> FourTuple {
        // SAFETY: all fields lie in `sock_common`.
        unsafe { self.tuple_with_local_port(field(self.0, &SKC_NUM)) }
    }

    #[inline(always)]
    fn tuple_with_local_port(self, local_port: u16) -> FourTuple {
        // SAFETY: all fields lie in `sock_common`.
        unsafe {
            let remote_port = u16::from_be(field(self.0, &SKC_DPORT));
            let (local, remote) = if field::<u16>(self.0, &SKC_FAMILY) == AF_INET {
                (v4_mapped(field(self.0, &SKC_RCV_SADDR)), v4_mapped(field(self.0, &SKC_DADDR)))
            } else {
                (ipv6(self.0, &SKC_V6_RCV_SADDR), ipv6(self.0, &SKC_V6_DADDR))
            };
            FourTuple::new(local, remote, local_port, remote_port)
        }
    }
}

/// A full TCP socket behind a typed pointer.
pub struct TypedSocket {
    common: Common,
    tcp: *const u8,
}

impl TypedSocket {
    /// `None` for anything but a full TCP socket of our namespace: the cast refuses SCTP, MPTCP and mini-sockets.
    #[inline(always)]
    pub fn new(sk: *const c_void) -> Option<Self> {
        let common = Common::new(sk);
        if !common.is_ours() {
            return None;
        }
        // SAFETY: `sk` is the socket the kernel passed to the tracepoint.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        if tcp.is_null() { None } else { Some(Self { common, tcp: tcp.cast_const().cast() }) }
    }
}

impl Socket for TypedSocket {
    #[inline(always)]
    fn id(&self) -> u64 {
        self.common.0 as u64
    }

    /// The local port comes from `inet_sport`: at ->CLOSE `skc_num` is 0 already (inet_put_port ran).
    #[inline(always)]
    fn tuple(&self) -> FourTuple {
        // SAFETY: `inet_sport` lies inside `tcp_sock`, which begins with `inet_sock`.
        let local_port = u16::from_be(unsafe { field(self.tcp, &INET_SPORT) });
        self.common.tuple_with_local_port(local_port)
    }

    #[inline(always)]
    fn error(&self) -> i32 {
        // SAFETY: `sk_err` lies inside `sock`, with which `tcp_sock` begins.
        unsafe { field(self.tcp, &SK_ERR) }
    }

    #[inline(always)]
    fn icmp_error(&self) -> i32 {
        // SAFETY: the queue and `sk_err_soft` lie inside `sock`; a queued packet begins its `cb` with a `sock_exterr_skb`.
        unsafe {
            let soft = field(self.tcp, &SK_ERR_SOFT);
            if soft != 0 || field::<u32>(self.tcp, &SK_ERROR_QUEUE_LENGTH) == 0 {
                return soft;
            }
            let last: *const u8 = field(self.tcp, &SK_ERROR_QUEUE_LAST);
            field(last.add(SKB_CB.load() as usize), &EE_ERRNO)
        }
    }

    #[inline(always)]
    fn has_sent(&self) -> bool {
        // SAFETY: `segs_out` lies inside `tcp_sock`.
        unsafe { field::<u32>(self.tcp, &SEGS_OUT) != 0 }
    }

    #[inline(always)]
    fn next_expected(&self) -> Option<u32> {
        // SAFETY: `rcv_nxt` lies inside `tcp_sock`.
        Some(unsafe { field(self.tcp, &RCV_NXT) })
    }

    #[inline(always)]
    fn next_sent(&self) -> Option<u32> {
        // SAFETY: `snd_nxt` lies inside `tcp_sock`.
        Some(unsafe { field(self.tcp, &SND_NXT) })
    }

    #[inline(always)]
    fn unacknowledged(&self) -> Option<u32> {
        // SAFETY: `snd_una` lies inside `tcp_sock`.
        Some(unsafe { field(self.tcp, &SND_UNA) })
    }

    #[inline(always)]
    fn current_process(&self) -> ProcessName {
        if HAS_CURRENT_TASK.load() == 0 {
            return current_thread();
        }
        // SAFETY: the helper returns the current task with its type.
        unsafe { process_name(bpf_get_current_task_btf() as *const u8) }
    }

    #[inline(always)]
    fn bytes_sent(&self) -> Option<u64> {
        // SAFETY: `bytes_sent` lies inside `tcp_sock`.
        Some(unsafe { field(self.tcp, &BYTES_SENT) })
    }

    #[inline(always)]
    fn bytes_received(&self) -> Option<u64> {
        // SAFETY: `bytes_received` lies inside `tcp_sock`.
        Some(unsafe { field(self.tcp, &BYTES_RECEIVED) })
    }

    /// Without timestamps there is no stamp of the last one (net/ipv4/tcp_minisocks.c, tcp_create_openreq_child(), 5.10 to 6.18).
    #[inline(always)]
    fn peer_timestamp(&self) -> u32 {
        // SAFETY: both fields lie inside `tcp_sock`.
        unsafe {
            if field::<u32>(self.tcp, &TS_RECENT_STAMP) == 0 {
                return 0;
            }
            field(self.tcp, &TS_RECENT)
        }
    }

    #[inline(always)]
    fn last_received(&self) -> Option<u32> {
        // SAFETY: `icsk_ack.lrcvtime` lies inside `tcp_sock`, which begins with `inet_connection_sock`.
        Some(unsafe { field(self.tcp, &LAST_RECEIVED) })
    }
}

/// A socket named by the record of a classic tracepoint. What the record lacks is read from the socket, where the
/// kernel's BTF says where; without BTF it stays unknown.
pub struct RecordedSocket {
    address: u64,
    tuple: FourTuple,
}

/// Reads from the record at an offset the agent found in tracefs.
///
/// # Safety
/// `offset` must lie inside the record.
#[inline(always)]
pub unsafe fn recorded<T>(ctx: &TracePointContext, offset: u32) -> Result<T, i32> {
    unsafe { ctx.read_at(offset as usize) }
}

/// Reads a field of the kernel object at `address`; `None` where the kernel's layout is not known.
#[inline(always)]
pub fn probed<T>(address: u64, offset: &Global<u32>) -> Option<T> {
    let offset = offset.load();
    if offset == ABSENT {
        return None;
    }
    // SAFETY: a faulting read is refused by the helper, not executed.
    unsafe { bpf_probe_read_kernel((address + u64::from(offset)) as *const T) }.ok()
}

impl RecordedSocket {
    /// `None` when the record names no socket, or one of another namespace.
    #[inline(always)]
    pub fn new(ctx: &TracePointContext, record: &Record) -> Option<Self> {
        // SAFETY: the agent took the offsets from the `format` of this very tracepoint.
        unsafe {
            let address = recorded(ctx, record.socket).ok()?;
            if !address_is_ours(address) {
                return None;
            }
            let tuple = FourTuple::new(
                Address(recorded(ctx, record.local).ok()?),
                Address(recorded(ctx, record.remote).ok()?),
                recorded(ctx, record.local_port).ok()?,
                recorded(ctx, record.remote_port).ok()?,
            );
            Some(Self { address, tuple })
        }
    }

    /// As [`Self::new`], for a record that holds two `struct sockaddr` instead of addresses and ports.
    #[inline(always)]
    pub fn with_sockaddr(ctx: &TracePointContext, record: &Record) -> Option<Self> {
        // SAFETY: as above.
        unsafe {
            let address = recorded(ctx, record.socket).ok()?;
            if !address_is_ours(address) {
                return None;
            }
            let (local, local_port) = sockaddr(ctx, record.local)?;
            let (remote, remote_port) = sockaddr(ctx, record.remote)?;
            Some(Self { address, tuple: FourTuple::new(local, remote, local_port, remote_port) })
        }
    }
}

/// Whether the record's socket exists and, where the kernel's layout is known, is of the watched namespace.
#[inline(always)]
fn address_is_ours(address: u64) -> bool {
    if address == 0 {
        return false;
    }
    match probed::<u64>(address, &SKC_NET) {
        Some(net) => is_watched(net, || probed::<u32>(net, &NET_INUM) == Some(NETNS.load())),
        None => SKC_NET.load() == ABSENT,
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6` out of the record.
///
/// # Safety
/// `offset` must be that of a 28-byte `sockaddr` field.
#[inline(always)]
unsafe fn sockaddr(ctx: &TracePointContext, offset: u32) -> Option<(Address, u16)> {
    unsafe {
        let family: u16 = recorded(ctx, offset).ok()?;
        let port = u16::from_be(recorded(ctx, offset + 2).ok()?);
        let addr = if family == AF_INET {
            v4_mapped(recorded(ctx, offset + 4).ok()?)
        } else {
            Address(recorded(ctx, offset + 8).ok()?)
        };
        Some((addr, port))
    }
}

impl Socket for RecordedSocket {
    #[inline(always)]
    fn id(&self) -> u64 {
        self.address
    }

    #[inline(always)]
    fn tuple(&self) -> FourTuple {
        self.tuple
    }

    #[inline(always)]
    fn error(&self) -> i32 {
        probed(self.address, &SK_ERR).unwrap_or(0)
    }

    #[inline(always)]
    fn icmp_error(&self) -> i32 {
        let soft: i32 = probed(self.address, &SK_ERR_SOFT).unwrap_or(0);
        let queued: u32 = probed(self.address, &SK_ERROR_QUEUE_LENGTH).unwrap_or(0);
        if soft != 0 || queued == 0 {
            return soft;
        }
        let last: u64 = probed(self.address, &SK_ERROR_QUEUE_LAST).unwrap_or(0);
        probed(last + u64::from(SKB_CB.load()), &EE_ERRNO).unwrap_or(0)
    }

    #[inline(always)]
    fn has_sent(&self) -> bool {
        probed::<u32>(self.address, &SEGS_OUT).map_or(self.tuple.local_port != 0, |sent| sent != 0)
    }

    #[inline(always)]
    fn next_expected(&self) -> Option<u32> {
        probed(self.address, &RCV_NXT)
    }

    #[inline(always)]
    fn next_sent(&self) -> Option<u32> {
        probed(self.address, &SND_NXT)
    }

    #[inline(always)]
    fn unacknowledged(&self) -> Option<u32> {
        probed(self.address, &SND_UNA)
    }

    #[inline(always)]
    fn current_process(&self) -> ProcessName {
        current_thread()
    }

    #[inline(always)]
    fn bytes_sent(&self) -> Option<u64> {
        probed(self.address, &BYTES_SENT)
    }

    #[inline(always)]
    fn bytes_received(&self) -> Option<u64> {
        probed(self.address, &BYTES_RECEIVED)
    }

    #[inline(always)]
    fn peer_timestamp(&self) -> u32 {
        if probed::<u32>(self.address, &TS_RECENT_STAMP).unwrap_or(0) == 0 {
            return 0;
        }
        probed(self.address, &TS_RECENT).unwrap_or(0)
    }

    #[inline(always)]
    fn last_received(&self) -> Option<u32> {
        probed(self.address, &LAST_RECEIVED)
    }
}
