//! The kernel's own counters: `/proc/net/netstat` and `/proc/net/sockstat` of our network namespace.

use std::fs;

use anyhow::Context as _;

/// Counters of `TcpExt` that tell of connections the host refused or lost. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `TW` and `TWKilled`: TIME_WAIT and FIN_WAIT2 sockets that were made, those that last for more than 4 s and the others
    /// (net/ipv4/inet_timewait_sock.c, __inet_twsk_schedule(), 6.18).
    pub time_waits: u64,
    /// `TCPTimeWaitOverflow`: connections that got no TIME_WAIT because of `tcp_max_tw_buckets`.
    pub time_wait_overflows: u64,
    /// `ListenOverflows`: the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: SYNs or final ACKs dropped by a listener, for whatever reason.
    pub listen_drops: u64,
    /// `SyncookiesSent`.
    pub syncookies_sent: u64,
    /// `TCPSYNChallenge`: segments with SYN on connections that are still open.
    pub syn_challenges: u64,
}

impl Counters {
    /// Reads them.
    pub fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/self/net/netstat").context("cannot read /proc/net/netstat")?;
        Self::parse(&text).context("/proc/net/netstat has no TcpExt counters")
    }

    fn parse(text: &str) -> Option<Self> {
        // Two lines per group: names, then values in the same order.
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let value = |wanted: &str| -> Option<u64> {
            let mut pairs = names.split_whitespace().zip(values.split_whitespace());
            pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self {
            time_waits: value("TW")? + value("TWKilled")?,
            time_wait_overflows: value("TCPTimeWaitOverflow")?,
            listen_overflows: value("ListenOverflows")?,
            listen_drops: value("ListenDrops")?,
            syncookies_sent: value("SyncookiesSent")?,
            syn_challenges: value("TCPSYNChallenge")?,
        })
    }
}

/// What the kernel counts of its TCP sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Mini-sockets, TIME_WAIT and FIN_WAIT2 together: what `tcp_max_tw_buckets` limits.
    pub time_wait_buckets: u64,
}

impl SocketStats {
    /// Reads them.
    pub fn read() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/self/net/sockstat").context("cannot read /proc/net/sockstat")?;
        Self::parse(&text).context("/proc/net/sockstat has no TCP line with tw")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let mut words = line.split_whitespace();
        words.find(|&word| word == "tw")?;
        Some(Self { time_wait_buckets: words.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, SocketStats};

    #[test]
    fn netstat_pairs_names_with_values_by_position() {
        let text = "TcpExt: SyncookiesSent TW TWRecycled TWKilled ListenOverflows ListenDrops TCPTimeWaitOverflow TCPSYNChallenge\n\
                    TcpExt: 1 90 99 8 2 3 4 5\nIpExt: InNoRoutes\nIpExt: 7\n";
        let expected = Counters {
            syncookies_sent: 1,
            listen_overflows: 2,
            listen_drops: 3,
            time_waits: 98,
            time_wait_overflows: 4,
            syn_challenges: 5,
        };
        assert_eq!(Counters::parse(text), Some(expected));
        assert_eq!(Counters::parse("TcpExt: A\nTcpExt: 1\n"), None);
    }

    #[test]
    fn sockstat_tw_is_found_by_name() {
        let text = "sockets: used 100\nTCP: inuse 5 orphan 0 tw 42 alloc 7 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(SocketStats::parse(text), Some(SocketStats { time_wait_buckets: 42 }));
    }
}
