//! `tcp_receive_reset` and `tcp_send_reset`: RSTs on sockets. A RST that answers a segment for which there is no
//! socket has no account; the host's `OutRsts` counts it.

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use core::ffi::c_void;
use probe_ebpf::{
    account::Account,
    connection::FourTuple,
    fields::ABSENT,
    sweep::state::{CLOSE, LISTEN, NEW_SYN_RECV, TIME_WAIT},
    tally::Tally,
};

use crate::{
    accounts::{account, direction, key},
    constants::{RECORD_EXTRAS, RECORD_RECEIVE_RESET, RECORD_SEND_RESET, SKC_STATE},
    maps::{LAST_RESET, add, tally},
    socket::{Common, RecordedSocket, Socket, TypedSocket, probed, recorded},
    tuples::CLOSED_TUPLES,
};

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsReceiveReset);
    if let Some(socket) = TypedSocket::new(ctx.arg(0)) {
        let _ = try_receive_reset(&socket);
    }
    0
}

#[tracepoint]
pub fn tcp_receive_reset_tp(ctx: TracePointContext) -> u32 {
    tally(Tally::RunsReceiveReset);
    if let Some(socket) = RecordedSocket::new(&ctx, &RECORD_RECEIVE_RESET.load()) {
        let _ = try_receive_reset(&socket);
    }
    0
}

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsSendReset);
    let sk: *const c_void = ctx.arg(0);
    // From 6.10 on the event fires without a socket, and with mini-sockets (net/ipv4/tcp_ipv4.c tcp_v4_send_reset()).
    if sk.is_null() {
        return 0;
    }
    let common = Common::new(sk);
    if common.state() == TIME_WAIT {
        if common.is_ours() {
            if let Some(last) = LAST_RESET.get_ptr_mut(0) {
                // SAFETY: the pointer is into this CPU's slot of a per-CPU array.
                unsafe { *last = sk as u64 };
            }
            let _ = try_send_reset(sk as u64, &common.tuple());
        }
    } else if has_connection(common.state())
        && let Some(socket) = TypedSocket::new(sk)
    {
        let _ = try_send_reset(socket.id(), &socket.tuple());
        forget_mini_socket(common.state(), &socket.tuple());
    }
    0
}

/// A RST right after ->CLOSE takes back the mini-socket that seemed to begin: TCP_LINGER2 below 0, SO_LINGER 0 in FIN_WAIT2, data
/// after close() (net/ipv4/tcp.c tcp_close(), net/ipv4/tcp_input.c tcp_rcv_state_process()).
#[inline(always)]
fn forget_mini_socket(state: u32, tuple: &FourTuple) {
    if state == CLOSE {
        CLOSED_TUPLES.mini_socket_gone(tuple);
    }
}

#[tracepoint]
pub fn tcp_send_reset_tp(ctx: TracePointContext) -> u32 {
    tally(Tally::RunsSendReset);
    let extras = RECORD_EXTRAS.load();
    let record = RECORD_SEND_RESET.load();
    let socket = if extras.send_reset_sockaddr == 1 {
        RecordedSocket::with_sockaddr(&ctx, &record)
    } else {
        RecordedSocket::new(&ctx, &record)
    };
    if let Some(socket) = socket {
        let state = if extras.send_reset_state == ABSENT {
            probed::<u8>(socket.id(), &SKC_STATE).map_or(CLOSE, u32::from)
        } else {
            // SAFETY: the agent took the offset from this tracepoint's `format`.
            unsafe { recorded(&ctx, extras.send_reset_state) }.unwrap_or(CLOSE)
        };
        if has_connection(state) {
            let _ = try_send_reset(socket.id(), &socket.tuple());
            forget_mini_socket(state, &socket.tuple());
        }
    }
    0
}

/// A listener or a pending request names no peer that has an account.
#[inline(always)]
fn has_connection(state: u32) -> bool {
    !matches!(state, LISTEN | NEW_SYN_RECV)
}

#[inline(always)]
fn try_receive_reset(socket: &impl Socket) -> Option<()> {
    let account = account_of(socket.id(), &socket.tuple())?;
    // SAFETY: `account` points into a live map value; the change is an atomic add.
    unsafe { add(&raw mut (*account).counters.resets_peer, 1) };
    Some(())
}

#[inline(always)]
fn try_send_reset(socket: u64, tuple: &FourTuple) -> Option<()> {
    let account = account_of(socket, tuple)?;
    // SAFETY: as above.
    unsafe { add(&raw mut (*account).counters.resets_local, 1) };
    Some(())
}

#[inline(always)]
fn account_of(socket: u64, tuple: &FourTuple) -> Option<*mut Account> {
    let direction = direction(socket, tuple.local_port);
    account(&key(tuple, direction))
}
