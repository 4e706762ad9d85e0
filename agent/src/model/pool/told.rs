//! How a peer goes round its pool, and which of its blocks of ports are too small, in words: one sentence each for alerts, pages, `top` and
//! reports.

use std::fmt::Write as _;

use super::{
    blocks::{Circling, Outgrown},
    ranges::Range,
    rounds::{RARE, Turn},
    traffic::TIME_WAIT_SECONDS,
};

/// What becomes of ports while the host keeps no more TIME_WAITs.
const AT_LIMIT: &str = "this host is at its limit of TIME_WAITs (net.ipv4.tcp_max_tw_buckets), so only ports whose TIME_WAIT it kept meet one";

impl Turn {
    /// After how many rounds the ports used here come back here at the earliest, and which share of them does then; `None` where none is
    /// seen to come back, or where that is not known.
    #[must_use]
    pub fn soonest_return(&self) -> Option<(u32, f64)> {
        (1..).zip(self.returning.iter().flatten().copied()).find(|&(_, share)| share >= RARE)
    }

    /// What the peer does; its name goes before it. `here` is how many of its ports go into TIME_WAIT here per second.
    #[must_use]
    pub fn text(&self, here: f64) -> String {
        let Self { rate, round_seconds, .. } = self;
        let than = if *round_seconds < TIME_WAIT_SECONDS as f64 { "less" } else { "more" };
        let mut text = format!(
            "hands its ports out in turn, {rate:.0} a second over all servers ({here:.0} here): one round takes {round_seconds:.0} s, {than} \
             than the {TIME_WAIT_SECONDS} s of a TIME_WAIT"
        );
        if self.returning.is_none() {
            return text + "; which of them come back to this server is known after one more round";
        }
        // Writing to a string does not fail.
        let _ = match self.soonest_return() {
            Some((1, share)) => {
                write!(text, "; {:.0} % of the ports used here come back here after one round", share * 100.0)
            }
            Some((rounds, share)) => write!(
                text,
                "; {:.0} % of the ports used here come back here after {rounds} rounds ({:.0} s), none sooner",
                share * 100.0,
                f64::from(rounds) * round_seconds
            ),
            None => write!(text, "; none of the ports used here has come back here so far"),
        };
        text + &self.refusals() + &self.limit()
    }

    /// What the host's limit of TIME_WAITs does to it.
    fn limit(&self) -> String {
        let of_these = match self.next_met {
            Some((first, last)) if !self.is_withdrawn => format!(", next ports {first} to {last}"),
            _ => String::new(),
        };
        if self.is_at_limit { format!("; {AT_LIMIT}{of_these}") } else { String::new() }
    }

    fn refusals(&self) -> String {
        let Self { refusal_seconds, refused_share, .. } = self;
        if self.is_withdrawn {
            return "; when the first of its SYNs meets a TIME_WAIT here is not known".to_owned();
        }
        let percent = refused_share * 100.0;
        let is_share = *refused_share > 0.0;
        if !refusal_seconds.is_finite() {
            return if is_share {
                format!("; at this rate about {percent:.0} % of its SYNs here will meet a TIME_WAIT")
            } else {
                "; so none of its SYNs is expected to meet a TIME_WAIT here".to_owned()
            };
        }
        if *refusal_seconds < 0.5 {
            return if is_share {
                format!("; about {percent:.0} % of its SYNs here meet a TIME_WAIT now")
            } else {
                "; its SYNs meet a TIME_WAIT here now".to_owned()
            };
        }
        let share = if is_share { format!(", from then on about {percent:.0} % do") } else { String::new() };
        format!("; in {refusal_seconds:.0} s the first of its SYNs here meets a TIME_WAIT{share}")
    }
}

impl Outgrown {
    /// Who has outgrown which block.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { blocks, refused, all_refused, seconds } = self;
        let is_all = refused == all_refused;
        let of = if is_all { format!("all {refused}") } else { format!("{refused} of {all_refused}") };
        let ranges = blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let ports = |range: &Range| u32::from(range.high - range.low) + 1;
        let whose = match &blocks[..] {
            [block] => format!(
                "one machine or subscriber behind this address has outgrown its block of {} ports",
                ports(block)
            ),
            _ => format!(
                "{} machines or subscribers behind this address have outgrown their blocks of {} ports",
                blocks.len(),
                blocks.iter().map(|block| ports(block).to_string()).collect::<Vec<_>>().join(" and ")
            ),
        };
        let minute = match *seconds {
            seconds if (seconds as usize) < TIME_WAIT_SECONDS => format!("{seconds} s"),
            _ => "minute".to_owned(),
        };
        let others = if is_all { "; the other ports of the address are fine" } else { "" };
        format!(
            "{of} attempts that TIME_WAIT refused in the last {minute} came from ports {ranges}: {whose}{others}"
        )
    }
}

impl Circling {
    /// What the machine does, and what comes of it.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { block, round_seconds, refusal_seconds, .. } = self;
        let ports = u32::from(block.high - block.low) + 1;
        let mut text = format!(
            "one machine or subscriber behind this address goes round its block of ports, {block} ({ports}), in {round_seconds:.0} s, sooner than a \
             TIME_WAIT ends"
        );
        // Writing to a string does not fail.
        let _ = if *refusal_seconds < 1.0 {
            write!(text, "; SYNs from these ports meet a TIME_WAIT now")
        } else {
            write!(text, "; in {refusal_seconds:.0} s the first SYN from these ports meets a TIME_WAIT")
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_will_outgrow_a_block_is_told() {
        let block = Range { low: 1_344, high: 1_407, step: 1 };
        let circling =
            |refusal_seconds| Circling { block, rate: 2.0, round_seconds: 32.0, refusal_seconds }.text();
        let round = "one machine or subscriber behind this address goes round its block of ports, 1344-1407 (64), in 32 s, sooner than a TIME_WAIT \
                     ends; ";
        assert_eq!(
            circling(16.5).strip_prefix(round),
            Some("in 16 s the first SYN from these ports meets a TIME_WAIT")
        );
        assert_eq!(circling(0.5).strip_prefix(round), Some("SYNs from these ports meet a TIME_WAIT now"));
    }

    #[test]
    fn who_has_outgrown_a_block_is_told() {
        let block = |low| Range { low, high: low + 63, step: 1 };
        let all = Outgrown { blocks: vec![block(1_344)], refused: 14, all_refused: 14, seconds: 60 };
        assert_eq!(
            all.text(),
            "all 14 attempts that TIME_WAIT refused in the last minute came from ports 1344-1407: one machine or subscriber behind this address \
             has outgrown its block of 64 ports; the other ports of the address are fine"
        );
        let most =
            Outgrown { blocks: vec![block(1_344), block(1_472)], refused: 14, all_refused: 15, seconds: 27 };
        assert_eq!(
            most.text(),
            "14 of 15 attempts that TIME_WAIT refused in the last 27 s came from ports 1344-1407 and 1472-1535: 2 machines or subscribers \
             behind this address have outgrown their blocks of 64 and 64 ports"
        );
    }

    /// 4,096 ports at 150 a second, on the first of three servers, one second after the step.
    fn turn(returning: Option<&[f64]>, refusal_seconds: f64, refused_share: f64) -> Turn {
        Turn {
            rate: 150.0,
            round_seconds: 4_096.0 / 150.0,
            returning: returning.map(<[f64]>::to_vec),
            refusal_seconds,
            is_withdrawn: false,
            refused_share,
            is_at_limit: false,
            next_met: None,
        }
    }

    const ROUND: &str = "hands its ports out in turn, 150 a second over all servers (52 here): one round takes 27 s, less than the 60 s of a TIME_WAIT; ";

    fn told(turn: &Turn) -> String {
        turn.text(52.0).strip_prefix(ROUND).map_or_else(|| turn.text(52.0), str::to_owned)
    }

    #[test]
    fn each_balancer_is_told_from_the_others() {
        let hash = turn(Some(&[0.98, 0.0, 0.0, 0.0, 0.0, 0.0]), 13.6, 0.98);
        assert_eq!(
            told(&hash),
            "98 % of the ports used here come back here after one round; in 14 s the first of its SYNs here meets a TIME_WAIT, from then on \
             about 98 % do"
        );
        // A third, and a third of the rest within two rounds of 27 s.
        let random = turn(Some(&[0.33, 0.22, 0.15, 0.1, 0.07, 0.04]), 13.5, 0.55);
        assert_eq!(
            told(&random),
            "33 % of the ports used here come back here after one round; in 14 s the first of its SYNs here meets a TIME_WAIT, from then on \
             about 55 % do"
        );
        let round_robin = turn(Some(&[0.0, 0.01, 0.99, 0.0, 0.0, 0.0]), f64::INFINITY, 0.0);
        assert_eq!(
            told(&round_robin),
            "99 % of the ports used here come back here after 3 rounds (82 s), none sooner; so none of its SYNs is expected to meet a TIME_WAIT here"
        );
    }

    #[test]
    fn what_has_come_is_foretold_no_more() {
        let hash = turn(Some(&[0.98, 0.0, 0.0, 0.0, 0.0, 0.0]), 0.2, 0.98);
        assert_eq!(
            told(&hash),
            "98 % of the ports used here come back here after one round; about 98 % of its SYNs here meet a TIME_WAIT now"
        );
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        assert_eq!(
            told(&turn(None, f64::INFINITY, 0.0)),
            "which of them come back to this server is known after one more round"
        );
        assert_eq!(
            told(&turn(Some(&[0.0; 6]), f64::INFINITY, 0.0)),
            "none of the ports used here has come back here so far; so none of its SYNs is expected to meet a TIME_WAIT here"
        );
    }

    #[test]
    fn what_did_not_come_true_is_told_no_more() {
        let hash = Turn { is_withdrawn: true, ..turn(Some(&[0.98]), 13.6, 0.98) };
        assert_eq!(
            told(&hash),
            "98 % of the ports used here come back here after one round; when the first of its SYNs meets a TIME_WAIT here is not known"
        );
    }

    #[test]
    fn which_ports_meet_one_is_told_where_the_host_keeps_no_more() {
        let limited = Turn { is_at_limit: true, ..turn(Some(&[0.98]), 13.6, 0.3) };
        let begin = "98 % of the ports used here come back here after one round; ";
        let limit = "; this host is at its limit of TIME_WAITs (net.ipv4.tcp_max_tw_buckets), so only ports whose TIME_WAIT it kept meet one";
        let in_time = "in 14 s the first of its SYNs here meets a TIME_WAIT, from then on about 30 % do";
        let met = Turn { next_met: Some((2_100, 2_400)), ..limited.clone() };
        assert_eq!(told(&met), format!("{begin}{in_time}{limit}, next ports 2100 to 2400"));
        let withdrawn = Turn { is_withdrawn: true, ..limited };
        let unknown = "when the first of its SYNs meets a TIME_WAIT here is not known";
        assert_eq!(told(&withdrawn), format!("{begin}{unknown}{limit}"));
    }

    #[test]
    fn a_slow_round_is_harmless() {
        let calm = Turn {
            rate: 40.0,
            round_seconds: 102.4,
            ..turn(Some(&[0.98, 0.0, 0.0, 0.0, 0.0, 0.0]), f64::INFINITY, 0.0)
        };
        assert_eq!(
            calm.text(13.4),
            "hands its ports out in turn, 40 a second over all servers (13 here): one round takes 102 s, more than the 60 s of a TIME_WAIT; 98 % \
             of the ports used here come back here after one round; so none of its SYNs is expected to meet a TIME_WAIT here"
        );
    }
}
