//! Segments that meet a mini-socket: SYNs that are refused, and what restarts or ends a TIME_WAIT. And SYNs on connections that are
//! still open, which are refused, too.
//!
//! No TCP tracepoint tells of them. From 6.11 on, `kfree_skb` names the socket a segment was for when it was dropped, and every
//! segment for a mini-socket is dropped once it has been answered (net/ipv4/tcp_ipv4.c tcp_v4_rcv(), do_time_wait); only an
//! accepted SYN goes on to the listener. What the kernel decided is read off the mini-socket it decided about.
//!
//! A SYN on an open connection is answered by a challenge ACK, counted as `TcpExtTCPSYNChallenge` and dropped for the reason
//! TCP_INVALID_SYN (net/ipv4/tcp_input.c tcp_validate_incoming(), 6.11 to 6.18). Before, the dropped segment does not name its socket,
//! and that function is inlined or runs for every packet: there, it is not known whose SYN it was.

use aya_ebpf::{
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock},
    },
    macros::{btf_tracepoint, fexit},
    programs::{BtfTracePointContext, FExitContext},
};
use core::ffi::c_void;
use probe_ebpf::{account::RefusalAnswer, sweep::state::TIME_WAIT, tally::Tally};

use crate::{
    constants::{
        BYTES_RECEIVED, DROP_INVALID_SYN, DROP_NOT_SPECIFIED, DROP_TW_PAWS, LAST_OOW_ACK_TIME, RCV_NXT,
        RFC1337, SKB_CB, TW_LAST_OOW_ACK_TIME,
    },
    maps::{LAST_RESET, tally},
    printed::field_of,
    refusals::{self, Challenged, RefusedSyn},
    socket::{Common, field, is_stamped_just_now},
    tuples::CLOSED_TUPLES,
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// `enum tcp_tw_status` (include/net/tcp.h, 4.18 to 6.18); later values are ACKs.
const TCP_TW_SUCCESS: u32 = 0;
const TCP_TW_RST: u32 = 1;
const TCP_TW_SYN: u32 = 3;

/// `struct tcp_skb_cb` (include/net/tcp.h, 5.10 to 6.18): where `tcp_flags` lies in `sk_buff.cb`. `seq` comes first.
const CB_FLAGS: usize = 12;

/// A segment, as TCP noted it in the packet's control block.
struct Segment {
    seq: u32,
    flags: u8,
}

impl Segment {
    /// # Safety
    /// `skb` must be a typed pointer to a packet that TCP has parsed.
    #[inline(always)]
    unsafe fn of(skb: *const u8) -> Self {
        unsafe {
            let block = skb.add(SKB_CB.load() as usize);
            Self { seq: block.cast::<u32>().read_volatile(), flags: block.add(CB_FLAGS).read_volatile() }
        }
    }

    #[inline(always)]
    fn is_first(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }
}

#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsTimeWait);
    let sk: *const c_void = ctx.arg(3);
    if sk.is_null() {
        return 0;
    }
    let common = Common::new(sk);
    let state = common.state();
    if state != TIME_WAIT {
        let reason: u32 = ctx.arg(2);
        if reason == DROP_INVALID_SYN.load() && common.is_ours() {
            // SAFETY: the tracepoint's first argument is the packet, which TCP has parsed: it found the socket by it.
            let segment = unsafe { Segment::of(ctx.arg(0)) };
            challenged(sk, common, state, &segment);
        }
        return 0;
    }
    if !common.is_ours() {
        return 0;
    }
    // Other reasons are a bad checksum, a firewall's or a policy's: those segments met no decision of TCP's.
    let reason: u32 = ctx.arg(2);
    let old_timestamp = reason == DROP_TW_PAWS.load();
    if old_timestamp || reason == DROP_NOT_SPECIFIED.load() {
        // SAFETY: the tracepoint's first argument is the packet, which TCP has parsed: it found the mini-socket by it.
        let segment = unsafe { Segment::of(ctx.arg(0)) };
        if let Some((answer, acked_at)) = answer(sk) {
            met(common, &segment, answer, acked_at, old_timestamp);
        }
    }
    0
}

/// Before 6.10: the function that decides, where the kernel lets us look at what it returns. It does not say whether a timestamp
/// was too old.
#[fexit(function = "tcp_timewait_state_process")]
pub fn tcp_timewait_state_process_fexit(ctx: FExitContext) -> i32 {
    tally(Tally::RunsTimeWait);
    let common = Common::new(ctx.arg(0));
    if !common.is_ours() {
        return 0;
    }
    // The returned value follows the arguments: three, or the agent does not attach this.
    let status: u32 = ctx.arg(3);
    let answer = match status {
        TCP_TW_SUCCESS => RefusalAnswer::None,
        TCP_TW_RST => RefusalAnswer::Reset,
        TCP_TW_SYN => return 0,
        _ => RefusalAnswer::Ack,
    };
    // SAFETY: the function's second argument is the packet, which TCP has parsed.
    let segment = unsafe { Segment::of(ctx.arg(1)) };
    met(common, &segment, answer, 0, false);
    0
}

/// A segment met a mini-socket, and was not an acceptable SYN.
#[inline(always)]
fn met(common: Common, segment: &Segment, answer: RefusalAnswer, acked_at: u32, old_timestamp: bool) {
    let tuple = common.tuple();
    // SAFETY: the helper only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if segment.is_first() {
        let syn = RefusedSyn { isn: segment.seq, answer, acked_at };
        let _ = refusals::refused(&tuple, &syn, now);
        if !old_timestamp {
            return;
        }
    } else if segment.flags & RST != 0 {
        if segment.seq == common.next_expected_in_time_wait() && RFC1337.load() == 0 {
            CLOSED_TUPLES.mini_socket_reset(&tuple, now);
        }
        return;
    }
    // A late FIN turns FIN_WAIT2 into TIME_WAIT; whatever else has an ACK, and a timestamp too old, restarts the 60 s
    // (net/ipv4/tcp_minisocks.c tcp_timewait_state_process()).
    CLOSED_TUPLES.mini_socket_restarts(&tuple, now);
}

/// A SYN met an open connection. A SYN-ACK is counted, as the kernel counts it, but is no attempt to connect.
#[inline(always)]
fn challenged(sk: *const c_void, common: Common, state: u32, segment: &Segment) {
    // SAFETY: the helper checks what the socket is; the fields lie inside the type returned. It is full, and locked by the kernel.
    let (acked_at, first) = unsafe {
        let tcp = bpf_skc_to_tcp_sock(sk.cast_mut());
        if tcp.is_null() {
            return;
        }
        let tcp = tcp.cast_const().cast();
        let received: u64 = field(tcp, &BYTES_RECEIVED);
        let next: u32 = field(tcp, &RCV_NXT);
        (field(tcp, &LAST_OOW_ACK_TIME), next.wrapping_sub(received as u32))
    };
    let syn = RefusedSyn {
        isn: segment.seq,
        answer: if is_stamped_just_now(acked_at) { RefusalAnswer::Ack } else { RefusalAnswer::None },
        acked_at,
    };
    let kind = match (segment.seq.wrapping_add(1) == first, segment.is_first()) {
        (true, true) => Challenged::OwnSyn,
        (true, false) => Challenged::OwnSynAck,
        (false, true) => Challenged::Attempt,
        (false, false) => Challenged::Other,
    };
    // SAFETY: the helper only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let _ = refusals::challenged(sk as u64, &common.tuple(), state, kind, &syn, now);
}

/// How the kernel has just answered a segment, if that was a SYN it refused, and when it last sent an ACK (0: it was no ACK).
#[inline(always)]
fn answer(sk: *const c_void) -> Option<(RefusalAnswer, u32)> {
    // The RST was sent on this CPU, in this softirq.
    if let Some(last) = LAST_RESET.get_ptr_mut(0) {
        // SAFETY: the pointer is into this CPU's slot of a per-CPU array.
        unsafe {
            if *last == sk as u64 {
                *last = 0;
                return Some((RefusalAnswer::Reset, 0));
            }
        }
    }
    // SAFETY: only TCP names the socket of a segment it drops in this state, which is a `tcp_timewait_sock` then.
    let acked_at = unsafe {
        let tw = bpf_skc_to_tcp_timewait_sock(sk.cast_mut());
        field_of(sk, tw.cast(), &TW_LAST_OOW_ACK_TIME)
    }?;
    let answer = if is_stamped_just_now(acked_at) { RefusalAnswer::Ack } else { RefusalAnswer::None };
    Some((answer, acked_at))
}
