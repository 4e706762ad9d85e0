//! On what it was measured.

use std::{fmt, fs};

use serde::Serialize;

/// What figures depend on.
#[derive(Debug, Serialize)]
pub struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
    memory_gib: u64,
}

impl Machine {
    /// The machine we run on.
    pub fn here() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let value = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value("/proc/meminfo", "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        Self {
            kernel,
            processor: value("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            memory_gib: kib / 1_048_576,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, processors, memory_gib } = self;
        write!(f, "kernel {kernel}, {processors} × {processor}, {memory_gib} GiB")
    }
}
