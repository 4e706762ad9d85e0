//! Programs to compare with: one for each kind of hook that does nothing, and some that do one thing.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_prandom_u32},
    macros::{btf_tracepoint, cgroup_skb, map, tracepoint},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, SkBuffContext, TracePointContext},
};

/// As large as the map of accounts, its keys and its values; the first [`KEYS`] numbers are in it.
#[map]
static ACCOUNTS: HashMap<[u64; 3], [u64; 84]> = HashMap::with_max_entries(16_384, 0);
const KEYS: u32 = 128;

/// As large as the map of open connections.
#[map]
static CONNECTIONS: HashMap<u64, [u64; 2]> = HashMap::with_max_entries(131_072, 0);

/// As large as the memory of closed 4-tuples.
#[map]
static SETS: Array<[u64; 16]> = Array::with_max_entries(65_536, 0);

#[btf_tracepoint]
pub fn typed(_: BtfTracePointContext) -> i32 {
    0
}

#[tracepoint]
pub fn classic(_: TracePointContext) -> u32 {
    0
}

#[cgroup_skb(ingress)]
pub fn filter(_: SkBuffContext) -> i32 {
    1
}

#[btf_tracepoint]
pub fn clock(_: BtfTracePointContext) -> i32 {
    // SAFETY: the helper only reads the clock.
    let _ = unsafe { bpf_ktime_get_ns() };
    0
}

#[btf_tracepoint]
pub fn random(_: BtfTracePointContext) -> i32 {
    let _ = number();
    0
}

/// One of the accounts, and a word of it.
#[btf_tracepoint]
pub fn lookup(_: BtfTracePointContext) -> i32 {
    let key = [u64::from(number() % KEYS), 0, 0];
    if let Some(account) = ACCOUNTS.get_ptr(key) {
        // SAFETY: a pointer into a live map value.
        let _ = unsafe { account.cast::<u64>().read_volatile() };
    }
    0
}

/// Puts the socket into the map of connections and takes it out again.
#[btf_tracepoint]
pub fn insertion(ctx: BtfTracePointContext) -> i32 {
    let socket: *const core::ffi::c_void = ctx.arg(0);
    let socket = socket as u64;
    if CONNECTIONS.insert(socket, [0; 2], u64::from(BPF_ANY)).is_ok() {
        let _ = CONNECTIONS.remove(socket);
    }
    0
}

/// Any word of eight megabytes.
#[btf_tracepoint]
pub fn cold(_: BtfTracePointContext) -> i32 {
    if let Some(set) = SETS.get_ptr(number() & 0xffff) {
        // SAFETY: a pointer into a live map value.
        let _ = unsafe { set.cast::<u64>().read_volatile() };
    }
    0
}

/// Called for each socket, and once after the last.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn walk(_: *mut core::ffi::c_void) -> i32 {
    0
}

#[inline(always)]
fn number() -> u32 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_prandom_u32() }
}

/// Never reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
