//! What is known of one pool.

use std::net::IpAddr;

use super::{
    blocks::{Circling, Outgrown},
    chance::Chance,
    forecast::Load,
    port_set::Ports,
    ranges::Ranges,
    reach::Gaps,
    rounds::Turn,
};

/// One pool at one moment.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct PoolFigures {
    /// Different source ports seen.
    pub source_ports: u32,
    /// The lowest and the highest of them.
    pub bounds: Option<(u16, u16)>,
    /// The pool as it is inferred.
    pub observed: Ranges,
    /// How surely the next connection comes from it, 0 to 1.
    pub confidence: f64,
    /// Whether it is taken for the pool: from a confidence of [`KNOWN`](super::KNOWN) on, until it is doubtful again.
    pub is_known: bool,
    /// Whether both are what was known before the ports were recorded this time, and nothing has contradicted it.
    pub remembered: bool,
    /// The pool as it is configured.
    pub configured: Option<Ranges>,
    /// Ports seen outside of the configured pool.
    pub outside: u32,
    /// How many ports of the pool can come here; `None` while the pool is not known, and while it is only known that not all can.
    pub reachable: Option<u32>,
    /// What lies between them, where they are a part of the pool.
    pub gaps: Option<Gaps>,
    /// The ports of the pool that other servers get, where it is handed out in turn: those that did not come here in the last two rounds. `None`
    /// where all can come here, or where it is not known which.
    pub elsewhere: Option<Ports>,
    /// Whether it is not settled yet, or no longer, which ports can come here.
    pub is_learning: bool,
    /// The address of ours whose load this is: the one towards which most ports are taken. `None` while no census found a socket.
    pub local: Option<IpAddr>,
    /// How many addresses of ours the peer has sockets at.
    pub local_addresses: u32,
    /// Ports taken towards that address, and rates.
    pub load: Load,
    /// SYNs accepted into TIME_WAIT in the last minute.
    pub accepted: f64,
    /// SYNs refused by TIME_WAIT in the last minute.
    pub refused: f64,
    /// Connections on 4-tuples seen before in the last minute whose timestamps go on from those of the connection before, as those of a single
    /// host do: a TIME_WAIT accepts their SYN. After its end, too, they say what it would do.
    pub same_clock: f64,
    /// And those whose timestamps are of another clock, as behind a NAT with several clients: a TIME_WAIT refuses their SYN as often as not.
    pub other_clock: f64,
    /// Whether TIME_WAIT accepts whatever this peer sends, so that only live connections keep a port.
    pub accepts_reuse: bool,
    /// How the peer goes round the pool, where it hands its ports out in turn.
    pub turn: Option<Turn>,
    /// What its SYNs meet, where it draws its ports at random.
    pub chance: Option<Chance>,
    /// Which machines behind the address have outgrown their blocks of ports, where that shows.
    pub outgrown: Option<Outgrown>,
    /// Which machine behind the address goes round its block of ports so fast that its SYNs meet its own TIME_WAITs, soonest.
    pub circling: Option<Circling>,
    /// Seconds until no port is free, or until the first SYN is refused where ports, or those of a block, are handed out in turn; infinite when that will not be;
    /// `None` while the pool is not known, after a forecast that did not come true, when the kernel's limit of TIME_WAITs comes first, and where
    /// ports are drawn at random: there is no such moment then.
    pub exhaustion_seconds: Option<f64>,
    /// How surely such forecasts of this pool come true, by those before, 0 to 1.
    pub forecast_confidence: f64,
}

impl PoolFigures {
    /// The pool that counts: the configured one, else the observed one once it is known.
    #[must_use]
    pub fn pool(&self) -> Option<&Ranges> {
        self.configured.as_ref().or_else(|| self.observed_pool())
    }

    /// The observed pool, once it is known.
    #[must_use]
    pub fn observed_pool(&self) -> Option<&Ranges> {
        self.is_known.then_some(&self.observed)
    }

    /// The share that is taken of the ports that can come here. It may be above 1 when a configured pool is smaller than the real one.
    #[must_use]
    pub fn used_ratio(&self) -> Option<f64> {
        self.share(&self.load)
    }

    /// The share of them that cannot be used for a new connection.
    #[must_use]
    pub fn blocked_ratio(&self) -> Option<f64> {
        self.share(&self.blocking())
    }

    fn share(&self, load: &Load) -> Option<f64> {
        let ports = self.reachable.filter(|&ports| ports > 0)?;
        Some(load.used() / f64::from(ports))
    }

    /// What keeps ports from being used for a new connection.
    pub(super) fn blocking(&self) -> Load {
        if self.accepts_reuse { self.load.without_time_wait() } else { self.load }
    }

    /// The share of the peer's SYNs here that are expected to be refused at this rate; where it hands its ports out in turn, that are expected
    /// to meet a TIME_WAIT.
    #[must_use]
    pub fn expected_refused_ratio(&self) -> Option<f64> {
        match (&self.turn, &self.chance) {
            (Some(turn), _) => turn.expected_refused_ratio(),
            (None, Some(chance)) => chance.expected_refused_ratio,
            (None, None) => None,
        }
    }

    /// Nothing is forecast.
    pub(super) fn withdraw(&mut self) {
        self.exhaustion_seconds = None;
        self.circling = None;
        if let Some(turn) = &mut self.turn {
            turn.is_withdrawn = true;
        }
    }

    /// Whether the configured pool is not the one the peer draws from: ports come from outside of it, or all of them from a part.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        let Some(configured) = &self.configured else { return false };
        let part = self.observed_pool().is_some_and(|observed| observed.len() * 10 < configured.len() * 9);
        self.outside > 0 || part
    }
}
