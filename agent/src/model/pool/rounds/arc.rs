//! The ports of a moment that lie beside each other on the circle.

/// Ports further from their neighbours than so many times what is usual on the arc do not belong to it: SYNs that are repeated many seconds
/// later, and what others behind the same address do.
const STRAY: f64 = 20.0;

/// The arc of a moment.
pub(super) struct Arc {
    /// In the order in which one meets them going round.
    pub ports: Vec<u32>,
    /// From the first to the last.
    pub length: f64,
}

impl Arc {
    /// The arc with the most of these ports, which are ascending, at least two, and below `size`.
    pub fn of(mut ports: Vec<u32>, size: u32) -> Self {
        let count = ports.len();
        // The gap after each port; the last one's goes on to the first.
        let gaps: Vec<u32> =
            (0..count).map(|at| (ports[(at + 1) % count] + size - ports[at] - 1) % size + 1).collect();
        let mut sorted = gaps.clone();
        sorted.sort_unstable();
        let stray = STRAY * f64::from(sorted[(count - 1) / 2]);
        let is_end = |at: usize| f64::from(gaps[at]) > stray;
        // Going round begins after the widest gap, so that no arc is cut in two by the beginning.
        let widest = (0..count).max_by_key(|&at| gaps[at]).unwrap_or_default();
        ports.rotate_left((widest + 1) % count);
        let (mut best, mut begin) = (0..0, 0);
        for at in 0..count {
            if at + 1 == count || is_end((widest + 1 + at) % count) {
                if at + 1 - begin > best.len() {
                    best = begin..at + 1;
                }
                begin = at + 1;
            }
        }
        let ports = ports[best].to_vec();
        let length = f64::from((ports[ports.len() - 1] + size - ports[0]) % size);
        Self { ports, length }
    }
}
