//! What there is to say about a pool, in a sentence that names the peer, the numbers and the remedy.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{peer::AccountId, pool::PoolFigures};

/// A finding must hold for so long before it is raised, so that one second's noise raises none.
const HOLD: Duration = Duration::from_secs(1);

/// A finding that no longer holds is kept for so long, so that it does not come and go.
const LINGER: Duration = Duration::from_mins(1);

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The pool is going to run out at this rate, or has.
    TimeWaitNearPoolLimit,
    /// SYNs that met TIME_WAIT were refused.
    PortReuseRefused,
    /// The configured pool is not the one the peer draws from.
    PoolDiffers,
}

impl Kind {
    /// As it is written in the log and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeWaitNearPoolLimit => "TimeWaitNearPoolLimit",
            Self::PortReuseRefused => "PortReuseRefused",
            Self::PoolDiffers => "PoolDiffers",
        }
    }
}

/// Something to say about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// About whom.
    pub account: AccountId,
    /// The sentence.
    pub text: String,
}

/// What the figures of one pool, that of the address `address`, say.
#[must_use]
pub fn of_pool(account: &AccountId, address: &str, figures: &PoolFigures) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |kind, text| findings.push(Finding { kind, account: account.clone(), text });
    if figures.exhaustion_seconds.is_some_and(f64::is_finite) {
        say(Kind::TimeWaitNearPoolLimit, near_limit(account, address, figures));
    }
    if figures.refused >= 1.0 {
        say(Kind::PortReuseRefused, reuse_refused(account, address, figures));
    }
    if figures.contradicts() {
        say(Kind::PoolDiffers, pool_differs(account, address, figures));
    }
    findings
}

fn near_limit(account: &AccountId, address: &str, figures: &PoolFigures) -> String {
    let mut text = format!("{address} towards port {}", account.port);
    if let Some(pool) = figures.pool() {
        let how = if figures.configured.is_some() { "configured" } else { "seen" };
        let _ = write!(text, " draws its source ports from {pool} ({} ports, {how})", pool.len());
    }
    let _ = write!(
        text,
        "; {:.0} % of them are taken here, {:.0} in TIME_WAIT",
        figures.used_ratio().unwrap_or_default() * 100.0,
        figures.load.time_wait
    );
    let seconds = figures.exhaustion_seconds.unwrap_or(f64::INFINITY);
    if seconds > 0.0 {
        let _ = write!(text, "; at {:.0} connections/s they run out in {seconds:.0} s", figures.load.rate);
    } else {
        let _ = write!(text, "; none is free, at {:.0} connections/s", figures.load.rate);
    }
    if figures.refused >= 1.0 {
        let _ = write!(text, "; {:.0} SYNs were refused in the last minute", figures.refused);
    }
    text.push_str("; pool connections on the client, or close on the client's side");
    text
}

fn reuse_refused(account: &AccountId, address: &str, figures: &PoolFigures) -> String {
    format!(
        "{address} towards port {}: {:.0} SYNs met a TIME_WAIT and were refused in the last minute, {:.0} were accepted; it reuses its \
         source ports within 60 s of our close: pool connections on the client, close on the client's side, or give it more ports",
        account.port, figures.refused, figures.accepted
    )
}

fn pool_differs(account: &AccountId, address: &str, figures: &PoolFigures) -> String {
    let mut text = format!("{address} towards port {}: ", account.port);
    if let Some(configured) = &figures.configured {
        let _ = write!(text, "configured {configured} ({} ports), but ", configured.len());
    }
    if figures.outside > 0 {
        let _ = write!(text, "{} of {} ports seen lie outside of it", figures.outside, figures.source_ports);
    } else {
        let _ = write!(
            text,
            "{} ports seen, none outside {} ({} ports)",
            figures.source_ports,
            figures.observed,
            figures.observed.len()
        );
    }
    text.push_str("; correct port_pool of this peer, or ask whoever runs its NAT");
    text
}

/// A finding came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds now.
    Raised(Finding),
    /// It no longer does.
    Cleared(Finding),
}

/// The findings that hold.
#[derive(Debug, Default)]
pub struct Findings {
    known: BTreeMap<(Kind, AccountId), Known>,
}

#[derive(Debug)]
struct Known {
    finding: Finding,
    since: Duration,
    last: Duration,
    raised: bool,
}

impl Findings {
    /// Takes what is found now, at most one of each kind per account; returns what came and went.
    pub fn update(&mut self, now: Duration, found: Vec<Finding>) -> Vec<Change> {
        for finding in found {
            let key = (finding.kind, finding.account.clone());
            let known = self.known.entry(key).or_insert_with(|| Known {
                finding: finding.clone(),
                since: now,
                last: now,
                raised: false,
            });
            known.finding = finding;
            known.last = now;
        }
        let mut changes = Vec::new();
        self.known.retain(|_, known| {
            let holds = known.last == now;
            if holds && !known.raised && now.saturating_sub(known.since) >= HOLD {
                known.raised = true;
                changes.push(Change::Raised(known.finding.clone()));
            }
            let over = !holds && (!known.raised || now.saturating_sub(known.last) >= LINGER);
            if over && known.raised {
                changes.push(Change::Cleared(known.finding.clone()));
            }
            !over
        });
        changes
    }

    /// Those that are raised.
    #[must_use]
    pub fn raised(&self) -> Vec<Finding> {
        self.known.values().filter(|known| known.raised).map(|known| known.finding.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Direction, Peer};

    fn finding(text: &str) -> Finding {
        let account = AccountId {
            peer: Peer::Address([192, 0, 2, 1].into()),
            port: 443,
            direction: Direction::Inbound,
        };
        Finding { kind: Kind::PortReuseRefused, account, text: text.to_owned() }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_finding_is_raised_once_it_holds_and_cleared_once_it_is_gone_for_good() {
        let mut findings = Findings::default();
        assert_eq!(findings.update(s(10), vec![finding("a")]), []);
        assert_eq!(findings.update(s(11), vec![finding("b")]), [Change::Raised(finding("b"))]);
        assert_eq!(findings.update(s(12), vec![finding("c")]), []);
        assert_eq!(findings.raised(), [finding("c")]);
        assert_eq!(findings.update(s(40), vec![]), []);
        assert_eq!(findings.update(s(50), vec![finding("d")]), [], "it came back before it was gone");
        assert_eq!(findings.update(s(110), vec![]), [Change::Cleared(finding("d"))]);
        assert_eq!(findings.raised(), []);
    }

    #[test]
    fn noise_of_one_reading_raises_nothing() {
        let mut findings = Findings::default();
        assert_eq!(findings.update(s(1), vec![finding("a")]), []);
        assert_eq!(findings.update(s(2), vec![]), []);
        assert_eq!(findings.update(s(3), vec![finding("a")]), []);
    }
}
