//! The kernel structure fields the programs read, named once for both sides.
//!
//! The agent looks each offset up in the kernel's own BTF and hands it over as a frozen `.rodata` constant of the
//! same name, which the verifier treats as a literal.

/// Value of an offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls `$each!` with the list of `NAME: "structure" "member";` entries.
#[macro_export]
macro_rules! kernel_fields {
    ($each:ident) => {
        $each! {
            SKC_DADDR: "sock_common" "skc_daddr";
            SKC_RCV_SADDR: "sock_common" "skc_rcv_saddr";
            SKC_DPORT: "sock_common" "skc_dport";
            SKC_NUM: "sock_common" "skc_num";
            SKC_FAMILY: "sock_common" "skc_family";
            SKC_STATE: "sock_common" "skc_state";
            SKC_NET: "sock_common" "skc_net";
            SKC_V6_DADDR: "sock_common" "skc_v6_daddr";
            SKC_V6_RCV_SADDR: "sock_common" "skc_v6_rcv_saddr";
            SK_ERR: "sock" "sk_err";
            SK_ERR_SOFT: "sock" "sk_err_soft";
            SK_ERROR_QUEUE_LENGTH: "sock" "sk_error_queue.qlen";
            SK_ERROR_QUEUE_LAST: "sock" "sk_error_queue.prev";
            EE_ERRNO: "sock_exterr_skb" "ee.ee_errno";
            SK_PROTOCOL: "sock" "sk_protocol";
            SK_MAX_ACK_BACKLOG: "sock" "sk_max_ack_backlog";
            INET_SPORT: "inet_sock" "inet_sport";
            SEGS_OUT: "tcp_sock" "segs_out";
            RCV_NXT: "tcp_sock" "rcv_nxt";
            SND_NXT: "tcp_sock" "snd_nxt";
            SND_UNA: "tcp_sock" "snd_una";
            SND_WL1: "tcp_sock" "snd_wl1";
            BYTES_SENT: "tcp_sock" "bytes_sent";
            BYTES_RECEIVED: "tcp_sock" "bytes_received";
            TS_RECENT: "tcp_sock" "rx_opt.ts_recent";
            TS_RECENT_STAMP: "tcp_sock" "rx_opt.ts_recent_stamp";
            LAST_SENT: "tcp_sock" "lsndtime";
            LAST_RECEIVED: "inet_connection_sock" "icsk_ack.lrcvtime";
            LAST_ACKED: "tcp_sock" "rcv_tstamp";
            LAST_OOW_ACK_TIME: "tcp_sock" "last_oow_ack_time";
            TW_SUBSTATE: "inet_timewait_sock" "tw_substate";
            TW_RCV_NXT: "sock_common" "skc_tw_rcv_nxt";
            TW_LAST_OOW_ACK_TIME: "tcp_timewait_sock" "tw_last_oow_ack_time";
            SKB_CB: "sk_buff" "cb";
            REQ_LAST_OOW_ACK_TIME: "tcp_request_sock" "last_oow_ack_time";
            NET_INUM: "net" "ns.inum";
            SOCKET_SK: "socket" "sk";
            TASK_GROUP_LEADER: "task_struct" "group_leader";
            TASK_COMM: "task_struct" "comm";
        }
    };
}

/// One field: the name of the constant, the structure, and the member (a dotted path).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name of the constant on the kernel side.
    pub name: &'static str,
    /// The kernel structure.
    pub structure: &'static str,
    /// Path of the member inside it; anonymous structures and unions are looked through.
    pub member: &'static str,
}

macro_rules! table {
    ($($name:ident: $structure:literal $member:literal;)*) => {
        /// Every field, in the order of the list.
        pub const FIELDS: &[Field] =
            &[$(Field { name: stringify!($name), structure: $structure, member: $member }),*];
    };
}
kernel_fields!(table);
