//! The stories of refused SYNs, as the ring buffer and the map carry them. The kernel side writes them, so every byte may be
//! anything that a broken clock or a lost update leaves behind.

#![no_main]
#![expect(clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytemuck::pod_read_unaligned;
use libfuzzer_sys::fuzz_target;
use probe_ebpf::refusal::EndedRefusal;
use tcpwarden::model::refusals::{Clocks, End, Refusals, has_given_up};

const NOW: Clocks = Clocks { monotonic_ns: 1 << 50, unix_seconds: 1.8e9 };
const ROOM: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let records: Vec<EndedRefusal> =
        bytes.chunks_exact(size_of::<EndedRefusal>()).map(pod_read_unaligned).collect();
    for EndedRefusal { refusal, .. } in &records {
        // Whoever has given up now has given up for good.
        assert!(!has_given_up(refusal, NOW.monotonic_ns) || has_given_up(refusal, u64::MAX));
    }
    let mut log = Refusals::new(ROOM);
    log.add(&records, NOW);
    let kept: Arc<[_]> = log.last();
    assert_eq!(kept.len() as u64 + log.dropped(), records.len() as u64, "each is kept or counted");
    for (reuse, EndedRefusal { attempt, refusal }) in kept.iter().zip(&records[records.len() - kept.len()..])
    {
        assert!(reuse.began.is_finite() && reuse.began <= NOW.unix_seconds);
        assert!(reuse.waited <= Duration::from_nanos(refusal.last_ns.max(refusal.connected_ns)));
        assert_eq!(reuse.end == End::GaveUp, refusal.connected_ns == 0);
        assert_eq!((reuse.remote.1, reuse.local.1), (refusal.port, attempt.local_port));
        assert_eq!(reuse.remote.0, reuse.remote.0.to_canonical(), "an address has one spelling");
        let seconds = serde_json::to_value(reuse.waited.as_secs_f64()).expect("a number");
        assert!(!seconds.is_null(), "a number that JSON can hold");
    }
});
