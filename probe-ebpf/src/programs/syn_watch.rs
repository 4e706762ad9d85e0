//! The SYN watch: every SYN that reaches a listener, for hosts that drop SYNs without any event (accept queue full) or
//! answer each by a cookie. It runs for every packet that any socket of the host receives, so the operator asks for it.
//!
//! It is a cgroup's ingress filter that lets everything pass, held by a link: it goes with the agent, however that ends.
//! SYNs refused by a mini-socket do not come here; they are counted from `refusals`.

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, generated::bpf_skc_to_tcp_sock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use core::ffi::c_void;
use probe_ebpf::{
    account::{Account, Address, INBOUND},
    connection::FourTuple,
    sweep::state::LISTEN,
    tally::Tally,
    tuple_memory::WORTH_REMEMBERING_NS,
};

use crate::{
    accounts::{half_open_account, key},
    maps::{add, tally},
    refusals,
    socket::{Common, v4_mapped},
    tuples::SEEN_SYNS,
};

/// Lets the packet pass.
const PASS: i32 = 1;

const IPPROTO_TCP: u8 = 6;
const SYN: u8 = 2;
const FIN_SYN_RST_ACK: u8 = 23;

#[cgroup_skb(ingress)]
pub fn syn_watch(ctx: SkBuffContext) -> i32 {
    tally(Tally::RunsSynWatch);
    // SAFETY: the context is valid; the kernel hands out a socket that may be null, and is checked for it.
    let (sk, state) = unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return PASS;
        }
        (sk.cast::<c_void>(), (*sk).state)
    };
    if state == LISTEN && is_ours(sk) {
        let _ = try_syn_watch(&ctx);
    }
    PASS
}

/// Whether the listener is of the watched namespace: the filter sees the sockets of all.
#[inline(always)]
fn is_ours(sk: *mut c_void) -> bool {
    // SAFETY: the helper checks what the socket is.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) };
    !tcp.is_null() && Common::new(tcp.cast_const().cast()).is_ours()
}

#[inline(always)]
fn try_syn_watch(ctx: &SkBuffContext) -> Option<()> {
    let (local, remote, transport) = endpoints(ctx)?;
    let flags: u8 = ctx.load(transport + 13).ok()?;
    if flags & FIN_SYN_RST_ACK != SYN {
        return None;
    }
    let remote_port = u16::from_be(ctx.load(transport).ok()?);
    let local_port = u16::from_be(ctx.load(transport + 2).ok()?);
    let isn = u32::from_be(ctx.load(transport + 4).ok()?);
    // SAFETY: the helper only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let tuple = FourTuple::new(local, remote, local_port, remote_port);
    // One that was refused on another port may be repeated on this one.
    let is_repeated = || refusals::are_recent(now) && refusals::is_known(&tuple, isn);
    count(half_open_account(&key(&tuple, INBOUND))?, &tuple, isn, is_repeated, now);
    Some(())
}

/// Both addresses, and where the TCP header begins. IPv6 extension headers, which no one puts into a SYN, are not followed.
#[inline(always)]
fn endpoints(ctx: &SkBuffContext) -> Option<(Address, Address, usize)> {
    let first: u8 = ctx.load(0).ok()?;
    if first >> 4 == 4 {
        let protocol: u8 = ctx.load(9).ok()?;
        let (source, destination): (u32, u32) = (ctx.load(12).ok()?, ctx.load(16).ok()?);
        let transport = usize::from(first & 15) * 4;
        (protocol == IPPROTO_TCP).then(|| (v4_mapped(destination), v4_mapped(source), transport))
    } else {
        let next: u8 = ctx.load(6).ok()?;
        let (source, destination): ([u8; 16], [u8; 16]) = (ctx.load(8).ok()?, ctx.load(24).ok()?);
        (next == IPPROTO_TCP).then_some((Address(destination), Address(source), 40))
    }
}

/// Counts a SYN in its peer's account: as repeated when the same 4-tuple brought the same sequence number before, or `is_repeated`.
#[inline(always)]
pub fn count(
    account: *mut Account,
    tuple: &FourTuple,
    isn: u32,
    is_repeated: impl FnOnce() -> bool,
    now: u64,
) {
    let seen = SEEN_SYNS.remember(&FourTuple { isn, ..*tuple }, now, 0, isn, 0);
    let repeated = (seen != 0 && now.wrapping_sub(seen) < WORTH_REMEMBERING_NS) || is_repeated();
    // SAFETY: `account` points into a live map value; the change is an atomic add.
    unsafe {
        let counters = &raw mut (*account).counters;
        if repeated {
            add(&raw mut (*counters).watched_syn_retries, 1);
        } else {
            add(&raw mut (*counters).watched_syns, 1);
        }
    }
}
