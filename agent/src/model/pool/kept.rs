//! In which seconds the kernel kept TIME_WAITs. At its limit of them (net.ipv4.tcp_max_tw_buckets, per network namespace) a connection ends without
//! one, and the next SYN from its port meets none (net/ipv4/tcp_minisocks.c, tcp_time_wait(), and net/ipv4/inet_timewait_sock.c,
//! inet_twsk_alloc(), 6.18).

use std::{collections::VecDeque, time::Duration};

use super::traffic::TIME_WAIT_SECONDS;

/// What the kernel says of all its TIME_WAIT and FIN_WAIT2 sockets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeWaits {
    /// How many more it keeps.
    pub left: f64,
    /// How many it made so far.
    pub made: u64,
    /// Connections that got none because of the limit, so far.
    pub overflows: u64,
}

/// Those of the last minute.
#[derive(Debug, Default)]
pub(super) struct Kept {
    last: Option<TimeWaits>,
    /// The seconds in which connections got none: the second, how many were made in it, and how many lacked.
    limited: VecDeque<(u32, u64, u64)>,
}

impl Kept {
    /// Takes what the kernel says now.
    pub fn observe(&mut self, now: Duration, time_waits: TimeWaits) {
        let last = self.last.replace(time_waits).unwrap_or(time_waits);
        let made = time_waits.made.saturating_sub(last.made);
        let lacking = time_waits.overflows.saturating_sub(last.overflows);
        let second = second(now.as_secs_f64());
        if lacking > 0 {
            self.limited.push_back((second, made, lacking));
        }
        let begin = self::second((now.as_secs_f64() - TIME_WAIT_SECONDS as f64).max(0.0));
        while self.limited.front().is_some_and(|&(second, ..)| second < begin) {
            self.limited.pop_front();
        }
    }

    /// How many more the kernel keeps.
    pub fn left(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| last.left)
    }

    /// Whether connections got none within the last minute.
    pub fn is_limited(&self) -> bool {
        !self.limited.is_empty()
    }

    /// Whether a TIME_WAIT is met soon where SYNs come, `rate` a second, from ports whose connections ended at this time, in seconds: unless fewer
    /// than one of these connections a second got one. A connection is taken to end in the second in which it began.
    pub fn is_met(&self, at: f64, rate: f64) -> bool {
        let second = second(at);
        let place = self.limited.partition_point(|limited| limited.0 < second);
        let (made, lacking) = self
            .limited
            .range(place..)
            .take_while(|limited| limited.0 == second)
            .fold((0, 0), |(made, lacking), limited| (made + limited.1, lacking + limited.2));
        let share = if lacking > 0 { made as f64 / (made + lacking) as f64 } else { 1.0 };
        share > 0.0 && share * rate.max(1.0) >= 1.0
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "wraps after 136 years")]
fn second(seconds: f64) -> u32 {
    seconds as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_in_which_the_kernel_made_too_few_is_told_from_the_others() {
        let mut kept = Kept::default();
        let (mut made, mut overflows) = (1_000, 7);
        // What was before the first look is nobody's.
        for (second, more, lacking) in
            [(1, 0, 0), (2, 50, 0), (3, 20, 30), (4, 0, 50), (5, 1, 99), (6, 50, 0)]
        {
            (made, overflows) = (made + more, overflows + lacking);
            kept.observe(Duration::from_secs(second), TimeWaits { left: 0.0, made, overflows });
        }
        let met = |rate| [1.0, 2.9, 3.5, 4.0, 5.0, 6.0].map(|at| kept.is_met(at, rate));
        assert_eq!(met(50.0), [true, true, true, false, false, true]);
        assert_eq!(met(100.0), [true, true, true, false, true, true], "one of a hundred a second");
        assert_eq!(met(0.5), [true, true, false, false, false, true], "it may take longer than foretold");
        assert!(kept.is_limited());
        kept.observe(Duration::from_secs(66), TimeWaits { left: 10.0, made, overflows });
        assert!(!kept.is_limited() && kept.is_met(4.0, 50.0), "those are over");
    }
}
