//! What the agent tells the programs before it loads them: frozen `.rodata`, so literals to the verifier.

use aya_ebpf::Global;
use probe_ebpf::{
    fields::ABSENT,
    record::{Extras, Record},
};

macro_rules! offsets {
    ($($name:ident: $structure:literal $member:literal;)*) => {
        $(
            #[doc = concat!("Offset of `", $structure, ".", $member, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )*
    };
}
probe_ebpf::kernel_fields!(offsets);

/// Inode number of the network namespace that is watched.
#[unsafe(no_mangle)]
pub static NETNS: Global<u32> = Global::new(0);

/// Makes the hash of 4-tuples unpredictable.
#[unsafe(no_mangle)]
pub static HASH_SEED: Global<u64> = Global::new(0);

/// Number of sets in the memory of closed 4-tuples.
#[unsafe(no_mangle)]
pub static CLOSED_SETS: Global<u32> = Global::new(1);

/// Number of sets in the memory of SYNs.
#[unsafe(no_mangle)]
pub static SYN_SETS: Global<u32> = Global::new(1);

/// 1 where the kernel hands out its own task with its type (`bpf_get_current_task_btf()`, 5.11 on).
#[unsafe(no_mangle)]
pub static HAS_CURRENT_TASK: Global<u32> = Global::new(0);

/// Number of `unsigned char` in the kernel's BTF, where programs may have the kernel print what they cannot read (5.10 on).
#[unsafe(no_mangle)]
pub static UNSIGNED_CHAR_TYPE: Global<u32> = Global::new(ABSENT);

/// Number of `unsigned int`, as above.
#[unsafe(no_mangle)]
pub static UNSIGNED_INT_TYPE: Global<u32> = Global::new(ABSENT);

/// How long a tick of the kernel takes (CONFIG_HZ), with which it stamps sockets, in nanoseconds.
#[unsafe(no_mangle)]
pub static TICK_NS: Global<u64> = Global::new(1_000_000);

/// A connection that we end within this time may have been aborted early, in nanoseconds.
#[unsafe(no_mangle)]
pub static ABORTED_WITHIN_NS: Global<u64> = Global::new(0);

/// It was, if we sent fewer bytes than these and the peer did not. One of which we sent as many was answered.
#[unsafe(no_mangle)]
pub static ABORTED_BYTES: Global<u64> = Global::new(0);

/// 1 when the SYN watch is to count the SYNs of each peer.
#[unsafe(no_mangle)]
pub static SYN_WATCH: Global<u32> = Global::new(0);

/// `enum skb_drop_reason`: NOT_SPECIFIED, which the kernel gives for a SYN that a mini-socket refused.
#[unsafe(no_mangle)]
pub static DROP_NOT_SPECIFIED: Global<u32> = Global::new(ABSENT);

/// `enum skb_drop_reason`: TCP_RFC7323_TW_PAWS, where the kernel has one for a refusal by the timestamp.
#[unsafe(no_mangle)]
pub static DROP_TW_PAWS: Global<u32> = Global::new(ABSENT);

/// `enum skb_drop_reason`: TCP_INVALID_SYN, which the kernel gives for a SYN on an open connection, and for nothing else.
#[unsafe(no_mangle)]
pub static DROP_INVALID_SYN: Global<u32> = Global::new(ABSENT);

/// Number of arguments of `tcp_timewait_state_process()`.
#[unsafe(no_mangle)]
pub static TIME_WAIT_ARGUMENTS: Global<u32> = Global::new(3);

/// `net.ipv4.tcp_rfc1337` when the agent started: 1 is that a RST leaves TIME_WAIT alone.
#[unsafe(no_mangle)]
pub static RFC1337: Global<u32> = Global::new(0);

/// 1 when `tcp_retransmit_skb` has a third argument, `err` (6.17 on): reading one that is not there fails the load.
#[unsafe(no_mangle)]
pub static RETRANSMIT_HAS_ERROR: Global<u32> = Global::new(0);

/// Layouts of the classic tracepoints' records.
#[unsafe(no_mangle)]
pub static RECORD_STATE: Global<Record> = Global::new(NO_RECORD);
#[unsafe(no_mangle)]
pub static RECORD_RETRANSMIT: Global<Record> = Global::new(NO_RECORD);
#[unsafe(no_mangle)]
pub static RECORD_SYNACK: Global<Record> = Global::new(NO_RECORD);
#[unsafe(no_mangle)]
pub static RECORD_RECEIVE_RESET: Global<Record> = Global::new(NO_RECORD);
#[unsafe(no_mangle)]
pub static RECORD_SEND_RESET: Global<Record> = Global::new(NO_RECORD);
#[unsafe(no_mangle)]
pub static RECORD_EXTRAS: Global<Extras> = Global::new(Extras {
    state_old: 0,
    state_new: 0,
    state_protocol: 0,
    state_protocol_width: 0,
    retransmit_state: ABSENT,
    retransmit_error: ABSENT,
    synack_request: 0,
    send_reset_state: ABSENT,
    send_reset_sockaddr: 0,
});

const NO_RECORD: Record = Record { socket: 0, local: 0, remote: 0, local_port: 0, remote_port: 0 };
