//! Reading a hash map, many entries at a time.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use aya_obj::generated::{bpf_attr, bpf_cmd};
use bytemuck::Zeroable;

/// How many entries one system call fetches.
const BATCH: usize = 512;

/// A hash map. Aya reads one with two system calls per entry; with thousands of peers, every second, the kernel's batch
/// lookup (5.6 on) is what keeps the agent idle.
pub struct Table<K, V> {
    map: Map,
    keys: Vec<K>,
    values: Vec<V>,
    one_by_one: bool,
}

impl<K: Pod + Zeroable, V: Pod + Zeroable> Table<K, V> {
    /// Wraps a map from `K` to `V`.
    ///
    /// # Errors
    /// When its keys or values have another size.
    pub fn new(map: Map) -> Result<Self, MapError> {
        let mut table = Self { map, keys: Vec::new(), values: Vec::new(), one_by_one: false };
        table.typed()?;
        Ok(table)
    }

    /// The map as aya sees it, for single keys.
    fn typed(&mut self) -> Result<HashMap<&mut MapData, K, V>, MapError> {
        HashMap::try_from(&mut self.map)
    }

    /// Reads entry by entry from now on. While a batch is read, the kernel runs no program of a classic tracepoint on that
    /// CPU (kernel/bpf/hashtab.c bpf_disable_instrumentation(), kernel/trace/bpf_trace.c trace_call_bpf()): an event in a
    /// softirq meanwhile would be missed. A single lookup is over in a hundredth of the time.
    pub fn read_one_by_one(&mut self) {
        self.one_by_one = true;
    }

    /// Writes an entry, over an old one if need be.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.typed()?.insert(key, value, 0)
    }

    /// Reads an entry.
    pub fn get(&mut self, key: &K) -> Result<Option<V>, MapError> {
        match self.typed()?.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an entry, if it is there: the kernel side may have been faster.
    pub fn remove(&mut self, key: &K) -> Result<(), MapError> {
        match self.typed()?.remove(key) {
            // Not KeyNotFound, as a lookup has it.
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            other => other,
        }
    }

    /// Hands every entry to `each`. One may come twice or be missed when the map is changed meanwhile in the same hash
    /// bucket; the next reading has what this one lacks.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn for_each(&mut self, mut each: impl FnMut(&K, &V)) -> io::Result<()> {
        if self.one_by_one {
            for entry in &self.typed().map_err(io::Error::other)? {
                let (key, value) = entry.map_err(io::Error::other)?;
                each(&key, &value);
            }
            return Ok(());
        }
        let Self { map, keys, values, .. } = self;
        // Not before they are needed: a table whose entries are only looked up singly needs none.
        keys.resize(keys.len().max(BATCH), K::zeroed());
        values.resize(values.len().max(BATCH), V::zeroed());
        let (Map::HashMap(data) | Map::LruHashMap(data)) = map else {
            return Err(io::Error::other("the map is no hash map"));
        };
        let fd = data.fd().as_fd();
        let mut position = None;
        loop {
            let batch = lookup_batch(fd, position, keys, values);
            match batch {
                Ok(Batch { count, next, last }) => {
                    for (key, value) in keys.iter().zip(values.iter()).take(count) {
                        each(key, value);
                    }
                    if last {
                        return Ok(());
                    }
                    position = Some(next);
                }
                // One hash bucket holds more than fits.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    let larger = keys.len() * 2;
                    keys.resize(larger, K::zeroed());
                    values.resize(larger, V::zeroed());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

struct Batch {
    count: usize,
    /// Where the next batch begins; opaque.
    next: u64,
    last: bool,
}

/// `BPF_MAP_LOOKUP_BATCH`: fills `keys` and `values` from `position` on (`None` is the beginning).
fn lookup_batch<K: Pod, V: Pod>(
    fd: BorrowedFd<'_>,
    position: Option<u64>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<Batch> {
    let room = keys.len().min(values.len());
    let mut next = 0_u64;
    let start = position.unwrap_or_default();
    // SAFETY: `bpf_attr` is a union of plain integers, for which all zeroes is valid.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    attr.batch.in_batch = if position.is_some() { &raw const start as u64 } else { 0 };
    attr.batch.out_batch = &raw mut next as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(room).unwrap_or(u32::MAX);
    attr.batch.map_fd = fd.as_raw_fd().cast_unsigned();
    // SAFETY: the kernel writes at most `count` keys and values, whose sizes `Table::new` compared with the map's and which may
    // hold any bits (`Pod`), and 4 bytes of `next` (a hash map's position is a u32); all buffers outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of::<bpf_attr>())
    };
    let error = (result < 0).then(io::Error::last_os_error);
    // SAFETY: the kernel wrote the number of entries it returned; before, it held ours.
    let count = unsafe { attr.batch.count } as usize;
    match error {
        None => Ok(Batch { count, next, last: false }),
        Some(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, next, last: true }),
        Some(error) => Err(error),
    }
}
