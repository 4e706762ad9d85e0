//! When a pool of ports runs out.
//!
//! Each connection that we close keeps its port for 60 s, so the TIME_WAITs of a steady load level off at 60 times its rate, and
//! the next minute follows from the last one: when those there are now will end is known, what comes is the rate now.

use super::traffic::TIME_WAIT_SECONDS;

/// What takes ports, now and in the minute to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Ports in TIME_WAIT now.
    pub time_wait: f64,
    /// Ports of live connections.
    pub live: f64,
    /// Ports that go into TIME_WAIT per second.
    pub rate: f64,
    /// How many of the TIME_WAITs there are now end within each of the next seconds; their sum is `time_wait`.
    pub ends: [f64; TIME_WAIT_SECONDS],
}

impl Load {
    /// Ports taken now.
    #[must_use]
    pub fn used(&self) -> f64 {
        self.time_wait + self.live
    }

    /// The same, when no more than `ports` can be taken: what exceeds them is at other addresses of ours.
    #[must_use]
    pub fn at_most(self, ports: f64) -> Self {
        let part = if self.used() > ports { ports / self.used() } else { 1.0 };
        let (time_wait, live) = (self.time_wait * part, self.live * part);
        Self { time_wait, live, ends: self.ends.map(|ends| ends * part), ..self }
    }

    /// The load of live connections alone.
    #[must_use]
    pub fn without_time_wait(self) -> Self {
        Self { time_wait: 0.0, live: self.live, rate: 0.0, ends: [0.0; TIME_WAIT_SECONDS] }
    }

    /// How many more TIME_WAITs there are in so many seconds, at the rate of now.
    #[must_use]
    pub fn growth(&self, seconds: f64) -> f64 {
        let passed = (0_u32..).map(f64::from).zip(self.ends);
        let ended: f64 = passed.map(|(second, ends)| ends * (seconds - second).clamp(0.0, 1.0)).sum();
        self.rate * seconds - ended
    }

    /// Seconds until `pool` ports are taken, if the load goes on like this; infinite when it levels off below.
    #[must_use]
    pub fn seconds_until(&self, pool: f64) -> f64 {
        let mut used = self.used();
        if used >= pool {
            return 0.0;
        }
        for (second, ends) in (0_u32..).zip(self.ends) {
            let next = used + self.rate - ends;
            if next >= pool {
                // Within this second, in proportion.
                return f64::from(second) + (pool - used) / (next - used);
            }
            used = next;
        }
        f64::INFINITY
    }
}
