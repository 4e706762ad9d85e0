//! `tcp_retransmit_synack`: the peer repeats its SYN on a pending request, or our SYN-ACK timer runs out.
//!
//! One tracepoint serves both (net/ipv4/tcp_output.c tcp_rtx_synack()). They are told apart by the rate limiter of
//! out-of-window segments, which stamps the request with the current jiffy just before a repeated SYN is answered
//! (net/ipv4/tcp_minisocks.c tcp_check_req(), 4.18 to 6.18); the timer leaves the stamp alone.

use aya_ebpf::{
    helpers::generated::bpf_skc_to_tcp_request_sock,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use probe_ebpf::{account::INBOUND, connection::FourTuple, tally::Tally};

use crate::{
    accounts::{half_open_account, key},
    constants::{RECORD_EXTRAS, RECORD_SYNACK, REQ_LAST_OOW_ACK_TIME},
    maps::{add, tally},
    printed::field_of,
    socket::{Common, RecordedSocket, Socket, is_stamped_just_now, probed, recorded},
};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn tcp_retransmit_synack_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsSynack);
    // The 4-tuple is the request's: the socket is the listener, often bound to the wildcard address.
    let request: *const c_void = ctx.arg(1);
    let common = Common::new(request);
    if common.is_ours() {
        let _ = try_synack(&common.tuple(), typed_last_oow(request));
    }
    0
}

/// `last_oow_ack_time` lies behind `request_sock`, so the pointer must become a `tcp_request_sock` first.
#[inline(always)]
fn typed_last_oow(request: *const c_void) -> Option<u32> {
    // SAFETY: the request of a `tcp_retransmit_synack` is a `tcp_request_sock`.
    unsafe {
        let cast = bpf_skc_to_tcp_request_sock(request.cast_mut());
        field_of(request, cast.cast(), &REQ_LAST_OOW_ACK_TIME)
    }
}

#[tracepoint]
pub fn tcp_retransmit_synack_tp(ctx: TracePointContext) -> u32 {
    tally(Tally::RunsSynack);
    // SAFETY: the agent took the offset from this tracepoint's `format`.
    let request: Result<u64, i32> = unsafe { recorded(&ctx, RECORD_EXTRAS.load().synack_request) };
    if let (Some(socket), Ok(request)) = (RecordedSocket::new(&ctx, &RECORD_SYNACK.load()), request) {
        let _ = try_synack(&socket.tuple(), probed(request, &REQ_LAST_OOW_ACK_TIME));
    }
    0
}

#[inline(always)]
fn try_synack(tuple: &FourTuple, last_oow: Option<u32>) -> Option<()> {
    let account = half_open_account(&key(tuple, INBOUND))?;
    // SAFETY: `account` points into a live map value; all changes are atomic adds.
    unsafe {
        add(&raw mut (*account).counters.synack_retries, 1);
        if last_oow.is_some_and(is_stamped_just_now) {
            add(&raw mut (*account).counters.syn_retries, 1);
        }
    }
    Some(())
}
