//! Recordings of SYNs as they reached one server, for tests.
//!
//! `hash`, `random`, `turn`: one NAT address hands out 4,096 ports from 2048 in turn, 40 a second, and 150 from second 130 on; the first of
//! three servers behind a balancer, repeated SYNs as well. `chance`: a lone server; two hosts with 20 connections a second each behind a Linux
//! gateway that draws from 32768-36863 at random. `blocks`: a lone server; 16 machines behind one address, each of which goes round in 64 ports
//! of its own, 0.2 a second, and one of them 2 a second from second 400 on. The last two say which SYNs were refused: those that came again.

/// When a SYN came, in seconds, its source port, and whether it was refused, where that was recorded.
pub(super) type Syn = (f64, u16, bool);

pub(super) const HASH: &[u8] = include_bytes!("recordings/hash.csv.gz");
pub(super) const RANDOM: &[u8] = include_bytes!("recordings/random.csv.gz");
pub(super) const TURN: &[u8] = include_bytes!("recordings/turn.csv.gz");
pub(super) const CHANCE: &[u8] = include_bytes!("recordings/chance.csv.gz");
pub(super) const BLOCKS: &[u8] = include_bytes!("recordings/blocks.csv.gz");

/// The SYNs of a recording.
pub(super) fn syns(packed: &[u8]) -> Vec<Syn> {
    // gzip's header, of 10 bytes without a name, and its sums at the end.
    let text = miniz_oxide::inflate::decompress_to_vec(&packed[10..packed.len() - 8]).expect("unpacked");
    let text = String::from_utf8(text).expect("text");
    let syn = |line: &str| {
        let mut columns = line.split(',');
        let mut column = || columns.next();
        let seconds = column().expect("a time").parse().expect("seconds");
        let port = column().expect("a second column").parse().expect("a port");
        (seconds, port, column() == Some("1"))
    };
    text.lines().map(syn).collect()
}

/// The SYNs of each second, from the first one on.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes")]
pub(super) fn seconds(syns: &[Syn]) -> Vec<Vec<Syn>> {
    let mut seconds = Vec::new();
    for &syn in syns {
        let second = syn.0 as usize;
        seconds.resize_with(seconds.len().max(second + 1), Vec::new);
        seconds[second].push(syn);
    }
    seconds
}
