//! What an agent says of a peer over time, and when it forecasts the first refused SYN.

use std::ops::RangeBounds;

use crate::agent::Metrics;

/// What one scrape of an agent says of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// When, in seconds.
    pub at: f64,
    /// Seconds until the first SYN is refused.
    pub left: Option<f64>,
    /// Connections of the peer per second, towards all servers.
    pub rate: Option<f64>,
    /// The share of its SYNs here that will be refused.
    pub share: Option<f64>,
    /// Of the ports that can come here, the share that is taken.
    pub used: Option<f64>,
    /// Sockets here.
    pub sockets: u64,
    /// Connections here so far.
    pub connections: u64,
    /// SYNs that were refused so far.
    pub refused: u64,
    /// SYNs that met a TIME_WAIT so far. Which of them are refused is chance: that hangs on the clocks of the clients behind the NAT.
    pub met: u64,
    /// SYNs that were sent again so far.
    pub retries: u64,
}

impl Said {
    /// What a scrape at this time says of an inbound peer.
    #[must_use]
    pub fn of(metrics: &Metrics, peer: &str, port: u16, at: f64) -> Self {
        let value = |name| metrics.value(name, &[("peer", peer)]);
        let sum = |name| metrics.sum(name, "inbound", Some(peer));
        let reuses = metrics.reuses(peer, port);
        Self {
            at,
            left: value("peer_pool_exhaustion_seconds"),
            rate: value("peer_pool_allocations_per_second"),
            share: value("peer_pool_expected_refused_ratio"),
            used: value("peer_pool_used_ratio"),
            sockets: sum("peer_sockets"),
            connections: sum("peer_connections_total"),
            refused: reuses.refused(),
            met: reuses.accepted + reuses.refused(),
            retries: reuses.syn_retries,
        }
    }

    /// Attempts to connect so far: each SYN that is none of one sent before opens a connection or is refused.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        (self.connections + self.refused).saturating_sub(self.retries)
    }
}

/// The moments for which the agent forecast the first refused SYN, as said within a span of time. `+Inf` is no forecast.
#[must_use]
pub fn forecasts(said: &[Said], within: impl RangeBounds<f64>) -> Vec<f64> {
    let said = said.iter().filter(|said| within.contains(&said.at));
    said.filter_map(|said| Some(said.at + said.left.filter(|left| left.is_finite())?)).collect()
}
