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

    /// Connections of a client to a service that the server ended `within` this time, after it had sent fewer than so many bytes although
    /// the client had sent as many.
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
    let is_short = ended.at.saturating_sub(established.at) <= within;
    is_short && said(true) >= bytes && said(false) < bytes && !is_ended_by_client(segments)
}

/// Whether the client's RST came before any FIN, or its FIN before the server's: one that the server's FIN acknowledges. Where both cross on the
/// wire, the server's was not sent later.
fn is_ended_by_client(segments: &[Segment]) -> bool {
    let ending = |by_client: bool| {
        segments.iter().find(|segment| segment.by_client == by_client && (segment.fin || segment.rst))
    };
    match (ending(true), ending(false)) {
        (Some(client), Some(server)) if client.fin && server.ack => {
            server.expects.wrapping_sub(client.seq.wrapping_add(client.payload)).cast_signed() > 0
        }
        (Some(client), Some(server)) => client.at < server.at,
        (Some(_), None) => true,
        (None, _) => false,
    }
}
