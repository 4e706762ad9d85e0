//! How connections began and ended, one by one.

use std::{net::IpAddr, time::Duration};

use super::{Segment, Wire};

impl Wire {
    /// Connection attempts to a service that nothing ever answered: from the first SYN of each to its last.
    #[must_use]
    pub fn unanswered(&self, server: IpAddr, port: u16) -> Vec<Duration> {
        let all = self.connections(server, port).map(|(_, segments)| segments);
        let unanswered = all.filter(|segments| segments.iter().all(|segment| segment.by_client));
        unanswered
            .filter_map(|segments| Some(segments.last()?.at.saturating_sub(segments.first()?.at)))
            .collect()
    }

    /// Connections of a client to a service whose handshake came to its end.
    #[must_use]
    pub fn accepted(&self, client: IpAddr, (server, port): (IpAddr, u16)) -> u64 {
        let of_client = self.connections(server, port).filter(|(from, _)| *from == client);
        of_client.filter(|(_, segments)| established(segments).is_some()).count() as u64
    }

    /// Connections of a client to a service that ended `within` this time although the client had said something, after
    /// fewer than so many bytes of the server.
    #[must_use]
    pub fn aborted_early(
        &self,
        client: IpAddr,
        (server, port): (IpAddr, u16),
        within: Duration,
        bytes: u32,
    ) -> u64 {
        let of_client = self.connections(server, port).filter(|(from, _)| *from == client);
        of_client.filter(|(_, segments)| is_aborted(segments, within, bytes)).count() as u64
    }
}

/// The end of the handshake.
fn established(segments: &[Segment]) -> Option<&Segment> {
    segments.iter().find(|segment| segment.by_client && segment.ack && !segment.syn)
}

fn is_aborted(segments: &[Segment], within: Duration, bytes: u32) -> bool {
    let ended = segments.iter().find(|segment| segment.fin || segment.rst);
    let (Some(established), Some(ended)) = (established(segments), ended) else { return false };
    let said = |by_client: bool| -> u32 {
        segments.iter().filter(|segment| segment.by_client == by_client).map(|segment| segment.payload).sum()
    };
    ended.at.saturating_sub(established.at) <= within && said(true) > 0 && said(false) < bytes
}
