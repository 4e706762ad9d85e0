//! Whose clock the timestamps of a client port are of, connection after connection.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Segment, Wire};

/// Connections on a port that an earlier one used, by whether their timestamps are of the same clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The clock went on by as many milliseconds as passed.
    pub same: u64,
    /// It did not.
    pub other: u64,
}

/// When a timestamp was sent, and what it says.
type Stamp = (Duration, u32);

/// What happened on one port so far.
#[derive(Default)]
struct Port {
    /// The last timestamp of the connection before.
    before: Option<Stamp>,
    /// The last timestamp of the connection that is open.
    open: Option<Stamp>,
}

impl Port {
    fn see(&mut self, segment: Segment, clocks: &mut Clocks) {
        let Some(stamp) = segment.timestamp.map(|timestamp| (segment.at, timestamp)).filter(|_| !segment.rst)
        else {
            return;
        };
        if segment.syn {
            self.before = self.open.take().or(self.before);
            return;
        }
        if self.open.is_none()
            && let Some(before) = self.before
        {
            let count = if went_on(before, stamp) { &mut clocks.same } else { &mut clocks.other };
            *count += 1;
        }
        self.open = Some(stamp);
    }
}

/// Whether a clock of 1,000 Hz went from one timestamp to the other, within a tenth of the time.
fn went_on((since, before): Stamp, (until, after): Stamp) -> bool {
    let passed = until.saturating_sub(since).as_secs_f64() * 1_000.0;
    let ticks = f64::from(after.wrapping_sub(before).cast_signed());
    (ticks - passed).abs() <= passed / 10.0 + 10.0
}

impl Wire {
    /// The clocks of a client address towards a service, as it is here.
    #[must_use]
    pub fn clocks(&self, client: IpAddr, server: IpAddr, port: u16) -> Clocks {
        let mut clocks = Clocks::default();
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        for (from, segment) in self.between(client, server, port).filter(|(_, segment)| segment.by_client) {
            ports.entry(from).or_default().see(segment, &mut clocks);
        }
        clocks
    }
}
