//! Where the fields lie in the records of the classic tracepoints, as read from tracefs `format`.

use bytemuck::{Pod, Zeroable};

/// Byte offsets of the fields that the five records have in common.
///
/// Addresses are the 16-byte ones (`saddr_v6`): the kernel fills them for IPv4 too, as v4-mapped
/// (`TP_STORE_V4MAPPED`, include/trace/events/net_probe_common.h, 4.18 to 6.18).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Record {
    /// Address of the socket (`skaddr`).
    pub socket: u32,
    /// Local address.
    pub local: u32,
    /// Remote address.
    pub remote: u32,
    /// Local port, host order; big-endian when the record holds a `sockaddr`.
    pub local_port: u32,
    /// Remote port, as above.
    pub remote_port: u32,
}

/// What only one record has. Offsets; [`ABSENT`](crate::fields::ABSENT) where the kernel has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Extras {
    /// `inet_sock_set_state`: `oldstate`.
    pub state_old: u32,
    /// `inet_sock_set_state`: `newstate`.
    pub state_new: u32,
    /// `inet_sock_set_state`: `protocol`, one byte wide before 5.6 and two since.
    pub state_protocol: u32,
    /// Width of `protocol` in bytes.
    pub state_protocol_width: u32,
    /// `tcp_retransmit_skb`: `state` (4.20 on).
    pub retransmit_state: u32,
    /// `tcp_retransmit_skb`: `err` (6.17 on); not 0 when nothing was sent.
    pub retransmit_error: u32,
    /// `tcp_retransmit_synack`: address of the request (`req`).
    pub synack_request: u32,
    /// `tcp_send_reset`: `state`.
    pub send_reset_state: u32,
    /// `tcp_send_reset`: 1 when the record holds two `sockaddr` (6.10 on) instead of addresses and ports.
    pub send_reset_sockaddr: u32,
}

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Record {}
// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Extras {}
