//! What the kernel side counts about itself, one `u64` per CPU and kind.

/// The kinds; the value is the index into the per-CPU map `TALLIES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Runs of the programs on `inet_sock_set_state`.
    RunsState = 0,
    /// Runs on `tcp_retransmit_skb`.
    RunsRetransmit = 1,
    /// Runs on `tcp_retransmit_synack`.
    RunsSynack = 2,
    /// Runs on `tcp_receive_reset`.
    RunsReceiveReset = 3,
    /// Runs on `tcp_send_reset`.
    RunsSendReset = 4,
    /// Runs on `kfree_skb`, or on the function it stands for.
    RunsTimeWait = 5,
    /// Runs of the SYN watch.
    RunsSynWatch = 6,
    /// Events booked to the overflow account because the map of peers was full.
    LostPeers = 7,
    /// Events booked to the overflow account because the map of half-open peers was full.
    LostHalfOpen = 8,
    /// Connections whose start is not remembered because the map of connections was full.
    LostConnections = 9,
    /// Closed 4-tuples forgotten while a reuse still mattered, because their set was full.
    LostClosed = 10,
    /// SYNs forgotten while they could still be repeated, because their set was full.
    LostSyns = 11,
    /// Refused SYNs whose story is not told because the map of stories was full.
    LostRefusals = 12,
    /// Stories that ended while the ring buffer was full.
    LostEvidence = 13,
    /// SYNs on open connections, as booked in some account.
    ChallengedSyns = 14,
    /// Sockets that a census could not book to the local address they use because the map of local addresses was full.
    LostLocalAddresses = 15,
}

/// Number of kinds.
pub const TALLIES: u32 = 16;
