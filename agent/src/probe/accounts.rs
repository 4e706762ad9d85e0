//! Reading a map of accounts, many at a time.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::maps::{HashMap, Map, MapData, MapError};
use aya_obj::generated::{bpf_attr, bpf_cmd};
use bytemuck::Zeroable as _;
use probe_ebpf::account::{Account, Counters, PeerKey};

/// How many accounts one system call fetches.
const BATCH: usize = 512;

/// A map of accounts. Aya reads hash maps with two system calls per entry; with thousands of peers, every second, the
/// kernel's batch lookup (5.6 on) is what keeps the agent idle.
pub struct AccountReader {
    map: Map,
    keys: Vec<PeerKey>,
    values: Vec<Account>,
    one_by_one: bool,
}

impl AccountReader {
    /// Wraps a map from [`PeerKey`] to [`Account`].
    pub fn new(mut map: Map) -> anyhow::Result<Self> {
        typed_accounts(&mut map)?; // Fails when key or value have another size.
        Ok(Self {
            map,
            keys: vec![PeerKey::zeroed(); BATCH],
            values: vec![Account::zeroed(); BATCH],
            one_by_one: false,
        })
    }

    /// Reads entry by entry from now on. While a batch is read, the kernel runs no program of a classic tracepoint on that
    /// CPU (kernel/bpf/hashtab.c bpf_disable_instrumentation(), kernel/trace/bpf_trace.c trace_call_bpf()): an event in a
    /// softirq meanwhile would be missed. A single lookup is over in a hundredth of the time.
    pub fn read_one_by_one(&mut self) {
        self.one_by_one = true;
    }

    /// Creates an empty account.
    pub fn create(&mut self, key: &PeerKey) -> Result<(), MapError> {
        typed_accounts(&mut self.map)?.insert(key, Account::zeroed(), 0)
    }

    /// Removes an account whose counters are still as `seen`; returns whether it is gone. An event between the look and
    /// the removal, microseconds later, would be lost: the price of not stopping the kernel, paid only by peers idle
    /// for minutes.
    pub fn remove_idle(&mut self, key: &PeerKey, seen: &Counters) -> Result<bool, MapError> {
        let mut accounts = typed_accounts(&mut self.map)?;
        match accounts.get(key, 0) {
            Ok(account) if account.counters != *seen => Ok(false),
            Ok(_) => accounts.remove(key).map(|()| true),
            Err(MapError::KeyNotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Hands every account to `each`. An account may come twice or be missed when the map is changed meanwhile in the
    /// same hash bucket; since its counters only grow, the next reading has what this one lacks.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn for_each(&mut self, mut each: impl FnMut(&PeerKey, &Account)) -> io::Result<()> {
        let Self { map, keys, values, one_by_one } = self;
        if *one_by_one {
            for entry in &typed_accounts(map).map_err(io::Error::other)? {
                let (key, account) = entry.map_err(io::Error::other)?;
                each(&key, &account);
            }
            return Ok(());
        }
        let Map::HashMap(data) = map else {
            return Err(io::Error::other("accounts are kept in a hash map"));
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
                    keys.resize(larger, PeerKey::zeroed());
                    values.resize(larger, Account::zeroed());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The map as aya sees it, for single keys.
fn typed_accounts(map: &mut Map) -> Result<HashMap<&mut MapData, PeerKey, Account>, MapError> {
    HashMap::try_from(map)
}

struct Batch {
    count: usize,
    /// Where the next batch begins; opaque.
    next: u64,
    last: bool,
}

/// `BPF_MAP_LOOKUP_BATCH`: fills `keys` and `values` from `position` on (`None` is the beginning).
fn lookup_batch(
    fd: BorrowedFd<'_>,
    position: Option<u64>,
    keys: &mut [PeerKey],
    values: &mut [Account],
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
    // SAFETY: the kernel writes at most `count` keys and values, whose sizes `new` compared with the map's, and 4 bytes
    // of `next` (a hash map's position is a u32); all buffers outlive the call.
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
