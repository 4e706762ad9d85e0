//! A block as bytes: its columns, packed.

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use crate::model::past::{Block, Columns};

/// How hard to pack. What matters is that a column of zeros takes no room.
const LEVEL: u8 = 4;

/// No block is as large unpacked.
const MOST_BYTES: usize = 64 * 1024;

/// Packs a block. Where that fails, which only a lack of memory could bring about, it is left out.
pub(super) fn pack(block: &Block) -> Option<Vec<u8>> {
    let plain = postcard::to_allocvec(&block.columns()).ok()?;
    Some(compress_to_vec(&plain, LEVEL))
}

/// Unpacks a block; `None` if it is none.
pub(super) fn unpack(packed: &[u8]) -> Option<Block> {
    let plain = decompress_to_vec_with_limit(packed, MOST_BYTES).ok()?;
    let columns: Columns = postcard::from_bytes(&plain).ok()?;
    Block::from_columns(&columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::past::{Field, SLOTS, Sample};

    /// A busy minute of a NAT gateway.
    fn busy() -> Block {
        let mut block = Block::default();
        for slot in 0..SLOTS {
            let noise = u32::try_from(slot * 7_919 % 37).expect("small");
            let mut sample = Sample::default();
            for (field, value) in [
                (Field::Established, 40 + noise),
                (Field::TimeWait, 14_000 + noise * 3),
                (Field::PoolSize, 14_336),
                (Field::PortsTaken, 14_040 + noise * 3),
                (Field::SecondsLeft, noise),
                (Field::Connections, 240 + noise),
                (Field::ClosedLocal, 238 + noise),
                (Field::LivedMillis, 9_000 + noise * 100),
                (Field::SynRetries, noise),
                (Field::RefusedByAck, noise / 2),
                (Field::Reused, 230 + noise),
                (Field::ReusedAfterMillis, 13_000_000 + noise * 10_000),
            ] {
                sample[field] = value;
            }
            block.set(slot, sample);
        }
        block
    }

    #[test]
    fn a_packed_block_is_small_and_whole() {
        let packed = pack(&busy()).expect("packed");
        // A day of a hundred peers is 144,000 blocks, and has to fit into 256 MiB beside everything else.
        assert!(packed.len() < 1_200, "{} bytes", packed.len());
        assert_eq!(unpack(&packed), Some(busy()));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bytes in [&[][..], &[0xff; 40], &pack(&busy()).expect("packed")[..20]] {
            assert_eq!(unpack(bytes), None);
        }
        let bomb = compress_to_vec(&vec![0; 1024 * 1024], LEVEL);
        assert_eq!(unpack(&bomb), None);
    }
}
