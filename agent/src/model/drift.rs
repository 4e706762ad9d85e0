//! How far the census is off the kernel's own count of TIME_WAIT and FIN_WAIT2 sockets.

/// So many censuses in succession must be off in the same direction: what begins or ends during one is not.
pub const CENSUSES: usize = 3;

/// Off by no more than this share of the kernel's count is not told: at many thousands of closes a second a census cannot be exact.
const TOLERANCE: f64 = 0.01;

/// The last censuses, as far as they were off.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastingDrift {
    last: [i64; CENSUSES],
}

impl LastingDrift {
    /// Takes what a census found and the kernel's counts before and after it. Returns by how many sockets, at least, each of the last
    /// [`CENSUSES`] was off in the same direction; 0 if they were not.
    pub fn update(&mut self, found: u64, [before, after]: [u64; 2]) -> i64 {
        let (low, high) = (before.min(after), before.max(after));
        let off =
            if found < low { -(low - found).cast_signed() } else { found.saturating_sub(high).cast_signed() };
        let is_told = off.unsigned_abs() as f64 > high as f64 * TOLERANCE;
        self.last.rotate_left(1);
        self.last[CENSUSES - 1] = if is_told { off } else { 0 };
        let [first, rest @ ..] = self.last;
        let same = rest.iter().all(|off| off.signum() == first.signum());
        let least = self.last.into_iter().min_by_key(|off| off.unsigned_abs());
        if same { least.unwrap_or_default() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_lasts_when_three_censuses_in_succession_are_off_in_one_direction() {
        let mut drift = LastingDrift::default();
        assert_eq!(drift.update(0, [30, 30]), 0);
        assert_eq!(drift.update(0, [30, 30]), 0);
        assert_eq!(drift.update(2, [30, 31]), -28, "the least of the three");
        assert_eq!(drift.update(30, [30, 31]), 0, "one that is right ends it");
        assert_eq!([(); 2].map(|()| drift.update(40, [30, 31])), [0, 0]);
        assert_eq!(drift.update(20, [30, 31]), 0, "now it lacks some");
        assert_eq!([(); 3].map(|()| drift.update(40, [31, 30])), [0, 0, 9], "fewer after it than before");
    }

    #[test]
    fn what_lies_between_both_counts_or_is_a_small_share_is_no_drift() {
        let mut drift = LastingDrift::default();
        assert_eq!([(); 4].map(|()| drift.update(95, [90, 100])), [0; 4]);
        assert_eq!([(); 4].map(|()| drift.update(9_900, [10_000, 10_000])), [0; 4]);
        assert_eq!([(); 3].map(|()| drift.update(9_899, [10_000, 10_000])), [0, 0, -101]);
    }
}
