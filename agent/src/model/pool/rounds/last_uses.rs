//! In which round each port of a pool was used here last.

/// Rounds are told apart up to this number.
const ROUNDS: i64 = u8::MAX as i64;

/// A use that lies further back is forgotten, before its round could be taken for another one.
const FORGOTTEN: i64 = 64;

/// A byte for each port, since a pool may have tens of thousands.
#[derive(Debug, Default)]
pub(super) struct LastUses {
    /// By the number of the port: the round modulo [`ROUNDS`], plus 1; 0 while it was not used here.
    rounds: Vec<u8>,
    /// The round that the peer is in.
    round: i64,
}

impl LastUses {
    /// None yet of a pool of so many ports.
    pub fn new(size: u32) -> Self {
        Self { rounds: vec![0; size as usize], round: 0 }
    }

    /// The peer is in this round now.
    pub fn enter(&mut self, round: i64) {
        if round == self.round {
            return;
        }
        self.round = round;
        for stored in &mut self.rounds {
            if ago(*stored, round).is_some_and(|ago| ago > FORGOTTEN) {
                *stored = 0;
            }
        }
    }

    /// Notes that a port was used in a round.
    #[expect(clippy::cast_possible_truncation, reason = "1 to 255")]
    pub fn set(&mut self, port: u32, round: i64) {
        if let Some(stored) = self.rounds.get_mut(port as usize) {
            *stored = (round.rem_euclid(ROUNDS) + 1).cast_unsigned() as u8;
        }
    }

    /// How many rounds before this one a port was used last; less than 0 if it was after it.
    pub fn ago(&self, port: u32, round: i64) -> Option<i64> {
        ago(*self.rounds.get(port as usize)?, round)
    }

    /// The same uses, where each port has another number, or none any more, among `size`.
    pub fn renumbered(&self, size: u32, number: impl Fn(u32) -> Option<u32>) -> Self {
        let mut uses = Self { round: self.round, ..Self::new(size) };
        for (old, &stored) in (0..).zip(&self.rounds) {
            if let Some(entry) = number(old).and_then(|new| uses.rounds.get_mut(new as usize)) {
                *entry = stored;
            }
        }
        uses
    }
}

fn ago(stored: u8, round: i64) -> Option<i64> {
    let stored = i64::from(stored).checked_sub(1).filter(|&stored| stored >= 0)?;
    Some((round - stored + ROUNDS / 2).rem_euclid(ROUNDS) - ROUNDS / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_known_for_as_many_rounds_as_ports_are_followed() {
        let mut uses = LastUses::new(2);
        for round in -3..1_000 {
            uses.enter(round);
            if round == 0 {
                uses.set(1, 0);
            }
            let right = (0..=FORGOTTEN).contains(&round).then_some(round);
            assert_eq!(uses.ago(1, round), right, "in round {round}");
        }
        uses.set(0, 999);
        assert_eq!((uses.ago(0, 998), uses.ago(2, 999)), (Some(-1), None));
    }
}
