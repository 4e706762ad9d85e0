//! `tcp_retransmit_skb`: what this host sends again.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use probe_ebpf::{
    account::OUTBOUND,
    connection::SYN_COUNTED_FLAG,
    fields::ABSENT,
    sweep::state::{CLOSE, SYN_SENT},
    tally::Tally,
};

use crate::{
    accounts::{account, came_to_nothing, direction, key},
    constants::{RECORD_EXTRAS, RECORD_RETRANSMIT, RETRANSMIT_HAS_ERROR, SKC_STATE},
    maps::{CONNECTIONS, add, tally},
    socket::{Common, RecordedSocket, Socket, TypedSocket, probed, recorded},
};

#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb_btf(ctx: BtfTracePointContext) -> i32 {
    tally(Tally::RunsRetransmit);
    // From 6.17 on the event fires for sends that failed, too (net/ipv4/tcp_output.c __tcp_retransmit_skb()).
    if RETRANSMIT_HAS_ERROR.load() != 0 && ctx.arg::<i32>(2) != 0 {
        return 0;
    }
    if let Some(socket) = TypedSocket::new(ctx.arg(0)) {
        let _ = try_retransmit(&socket, Common::new(ctx.arg(0)).state());
    }
    0
}

#[tracepoint]
pub fn tcp_retransmit_skb_tp(ctx: TracePointContext) -> u32 {
    tally(Tally::RunsRetransmit);
    let extras = RECORD_EXTRAS.load();
    // SAFETY: the agent took the offsets from this tracepoint's `format`.
    if extras.retransmit_error != ABSENT && unsafe { recorded(&ctx, extras.retransmit_error) } != Ok(0_i32) {
        return 0;
    }
    if let Some(socket) = RecordedSocket::new(&ctx, &RECORD_RETRANSMIT.load()) {
        let state = if extras.retransmit_state == ABSENT {
            probed::<u8>(socket.id(), &SKC_STATE).map_or(CLOSE, u32::from)
        } else {
            // SAFETY: as above.
            unsafe { recorded(&ctx, extras.retransmit_state) }.unwrap_or(CLOSE)
        };
        let _ = try_retransmit(&socket, state);
    }
    0
}

#[inline(always)]
fn try_retransmit(socket: &impl Socket, state: u32) -> Option<()> {
    let tuple = socket.tuple();
    if state != SYN_SENT {
        let direction = direction(socket.id(), tuple.local_port);
        let account = account(&key(&tuple, direction))?;
        // SAFETY: `account` points into a live map value; the change is an atomic add.
        unsafe { add(&raw mut (*account).counters.retransmits, 1) };
        return Some(());
    }
    let account = account(&key(&tuple, OUTBOUND))?;
    // SAFETY: as above; the connection's flags are changed only under its socket's own events. The helper only reads the clock.
    unsafe {
        add(&raw mut (*account).counters.syn_retries, 1);
        let mut begun = 0;
        // A repeated SYN proves the first: count it now rather than minutes later, when the attempt ends.
        if let Some(connection) = CONNECTIONS.get_ptr_mut(socket.id()) {
            begun = (*connection).since_ns;
            if (*connection).flags & SYN_COUNTED_FLAG == 0 {
                (*connection).flags |= SYN_COUNTED_FLAG;
                add(&raw mut (*account).counters.syns, 1);
            }
        }
        came_to_nothing(account, begun, bpf_ktime_get_ns());
    }
    Some(())
}
