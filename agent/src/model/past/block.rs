//! Samples of one series in a row, as they are kept.

use super::field::{Field, Sample};

/// So many samples make a block: a minute of seconds, or an hour of minutes.
pub const SLOTS: usize = 60;

/// Up to [`SLOTS`] samples, each in its place; there may be gaps, which take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Ascending by place, which is below [`SLOTS`].
    samples: Vec<(usize, Sample)>,
}

/// The numbers of a block in columns: which slots are filled, and of each field how each value differs from the one before.
/// Neighbours are alike, so most differences are 0 and take little room.
pub type Columns = (u64, Vec<Vec<i32>>);

impl Block {
    /// Puts a sample in its place.
    pub fn set(&mut self, slot: usize, sample: Sample) {
        match self.samples.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(place) => self.samples[place].1 = sample,
            Err(place) if slot < SLOTS => self.samples.insert(place, (slot, sample)),
            Err(_) => {}
        }
    }

    /// Takes a sample into what is in its place already.
    pub fn take_in(&mut self, slot: usize, sample: Sample) {
        match self.samples.iter_mut().find(|(taken, _)| *taken == slot) {
            Some((_, before)) => before.take_in(&sample),
            None => self.set(slot, sample),
        }
    }

    /// The samples there are, with their places.
    pub fn samples(&self) -> impl Iterator<Item = (usize, &Sample)> {
        self.samples.iter().map(|(slot, sample)| (*slot, sample))
    }

    /// Its numbers in columns.
    #[must_use]
    pub fn columns(&self) -> Columns {
        let filled = self.samples().fold(0, |filled, (slot, _)| filled | 1_u64 << slot);
        let column = |field: Field| {
            let values = self.samples().map(|(_, sample)| sample[field]);
            values
                .scan(0_u32, |before, value| {
                    let difference = value.wrapping_sub(*before).cast_signed();
                    *before = value;
                    Some(difference)
                })
                .collect()
        };
        (filled, Field::ALL.into_iter().map(column).collect())
    }

    /// The block with these columns; fields that it was written without keep what an empty sample has. `None` if the columns are not of
    /// one length, or of more fields than there are.
    #[must_use]
    pub fn from_columns((filled, columns): &Columns) -> Option<Self> {
        let fits = columns.iter().all(|column| column.len() == filled.count_ones() as usize);
        if !fits || columns.len() > Field::ALL.len() || filled >> SLOTS != 0 {
            return None;
        }
        let mut samples = vec![Sample::default(); filled.count_ones() as usize];
        for (field, column) in Field::ALL.into_iter().zip(columns) {
            let mut value = 0_u32;
            for (sample, difference) in samples.iter_mut().zip(column) {
                value = value.wrapping_add(difference.cast_unsigned());
                sample[field] = value;
            }
        }
        let mut block = Self::default();
        let places = (0..SLOTS).filter(|slot| filled & (1 << slot) != 0);
        for (slot, sample) in places.zip(samples) {
            block.set(slot, sample);
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> impl Strategy<Value = Sample> {
        prop::collection::vec(any::<u32>(), Field::ALL.len()).prop_map(|values| {
            let mut sample = Sample::default();
            for (field, value) in Field::ALL.into_iter().zip(values) {
                sample[field] = value;
            }
            sample
        })
    }

    proptest! {
        #[test]
        fn columns_hold_the_block(samples in prop::collection::vec(prop::option::of(sample()), SLOTS)) {
            let mut block = Block::default();
            for (slot, sample) in samples.into_iter().enumerate() {
                if let Some(sample) = sample {
                    block.set(slot, sample);
                }
            }
            prop_assert_eq!(Block::from_columns(&block.columns()), Some(block));
        }

        #[test]
        fn whatever_is_read_harms_nothing(filled in any::<u64>(), columns in prop::collection::vec(prop::collection::vec(any::<i32>(), 0..4), 0..50)) {
            let _ = Block::from_columns(&(filled, columns));
        }
    }

    #[test]
    fn a_block_of_fewer_fields_has_the_rest_empty() {
        let mut block = Block::default();
        let mut sample = Sample::default();
        sample[Field::Established] = 7;
        sample[Field::TimeWait] = 8;
        block.set(3, sample);
        let (filled, mut columns) = block.columns();
        columns.truncate(1);
        let read = Block::from_columns(&(filled, columns)).expect("an older block");
        let (slot, sample) = read.samples().next().expect("a sample");
        let values = [Field::Established, Field::TimeWait, Field::SecondsLeft].map(|field| sample[field]);
        assert_eq!((slot, values), (3, [7, 0, Sample::NEVER]));
    }
}
