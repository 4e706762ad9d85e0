//! Loading the kernel side and keeping it.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Pod,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::{Iter, ProgramError},
};
use bytemuck::Zeroable;
use probe_ebpf::{
    account::{Account, AccountKey, Counters, INBOUND, OUTBOUND, PeerKey},
    caller::{CallerKey, OwnerKey},
    connection::FourTuple,
    fields::{ABSENT, FIELDS},
    port::Port,
    refusal::Refusal,
    source_ports::{PortSet, PortSetKey},
    sweep::{HeldAt, LocalKey, LocalSockets, PORTS_ONLY, Sweep},
    tally::{TALLIES, Tally},
    tuple_memory::WAYS,
};
use thiserror::Error;

use super::{
    capability::{Capability, KERNEL_BTF, own_netns},
    format::Records,
    hooks::{self, HOOKS, HookReport, Mode, Obstacles, Request},
    offsets::Offsets,
    prototypes::Prototypes,
    rights::{self, Kept},
    stats::{self, ProgramStats},
    table::Table,
    ticks::tick_ns,
};
use crate::config::{Aborted, HookMode, Limits};

/// The compiled programs (build.rs).
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probe"));

/// Why the kernel side cannot be used.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The process may not use eBPF.
    #[error("missing right {}: run as root, or grant it (systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON)", .0.join(" and "))]
    MissingRights(Vec<&'static str>),
    /// The kernel has no `bpf()` system call, or forbids it.
    #[error(
        "this kernel offers no eBPF (bpf(): {0}): it needs CONFIG_BPF_SYSCALL=y and no filter in the way"
    )]
    NoBpf(io::Error),
    /// The hook without which there is nothing to count cannot be attached.
    #[error("cannot attach to {hook}: {reason}; `tcpwarden check` shows what this kernel allows")]
    NoHook {
        /// The hook.
        hook: &'static str,
        /// Why, each way it was tried.
        reason: String,
    },
    /// Anything else, with its context.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl From<anyhow::Error> for ProbeError {
    fn from(error: anyhow::Error) -> Self {
        // ENOSYS can surface from any of the loader's steps; wherever it does, it means the same.
        let no_bpf = error.chain().find_map(|cause| {
            let io_error = cause.downcast_ref::<io::Error>()?;
            (io_error.raw_os_error() == Some(libc::ENOSYS))
                .then(|| io::Error::from_raw_os_error(libc::ENOSYS))
        });
        match no_bpf {
            Some(io_error) => Self::NoBpf(io_error),
            None => Self::Other(error),
        }
    }
}

/// What the kernel side is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Wishes<'a> {
    /// Sizes.
    pub limits: &'a Limits,
    /// Whether [`Probe::attach`] is to attach the SYN watch, too.
    pub syn_watch: bool,
    /// Which connections are aborted early.
    pub aborted: Aborted,
}

/// The loaded kernel side.
pub struct Probe {
    pub(super) ebpf: Ebpf,
    btf: Option<Btf>,
    prototypes: Prototypes,
    obstacles: Obstacles,
    accounts: Table<PeerKey, Account>,
    half_open: Table<PeerKey, Account>,
    pub(super) callers: Table<CallerKey, u64>,
    pub(super) owners: Table<OwnerKey, u64>,
    pub(super) source_ports: Table<PortSetKey, PortSet>,
    /// In which of both sets of each peer ports are recorded now.
    pub(super) recording: u32,
    pub(super) local_addresses: Table<LocalKey, LocalSockets>,
    pub(super) refusals: Table<FourTuple, Refusal>,
    pub(super) evidence: RingBuf<MapData>,
    syn_watch: bool,
    cgroup: Option<PathBuf>,
    hooks: Vec<HookReport>,
    knows_layout: bool,
    /// Why a SYN on an open connection is dropped, where the kernel has a reason of its own for that.
    drop_invalid_syn: u32,
}

impl Probe {
    /// Creates the maps and fills in the constants. Nothing is attached yet.
    pub fn load(capability: &Capability, wishes: Wishes<'_>) -> Result<Self, ProbeError> {
        let Wishes { limits, syn_watch, aborted } = wishes;
        if !capability.missing_rights.is_empty() {
            return Err(ProbeError::MissingRights(capability.missing_rights.clone()));
        }
        let (offsets, no_btf) = match capability.btf.then(Offsets::read) {
            Some(Ok(offsets)) => (offsets, None),
            Some(Err(error)) => (Offsets::unknown(), Some(format!("{error:#}"))),
            None => (
                Offsets::unknown(),
                Some(format!("this kernel publishes no types ({KERNEL_BTF}; CONFIG_DEBUG_INFO_BTF)")),
            ),
        };
        let (records, no_tracepoint) = records(capability);
        let btf = match &no_btf {
            None => Some(Btf::from_sys_fs().context("cannot parse the kernel's types")?),
            Some(_) => None,
        };
        let netns = own_netns().context("cannot tell our network namespace (/proc/self/ns/net)")?;
        let settings = Constants {
            offsets: &offsets,
            records: &records,
            netns,
            rfc1337: capability.rfc1337,
            syn_watch,
            aborted,
        };
        let mut ebpf = Self::create(settings, limits, btf.as_ref()).context("cannot create the eBPF maps")?;

        let mut accounts = table(&mut ebpf, "PEERS")?;
        for direction in [INBOUND, OUTBOUND] {
            accounts
                .insert(&PeerKey::overflow(direction), &Account::zeroed())
                .context("cannot create the overflow accounts")?;
        }
        let evidence = take(&mut ebpf, "EVIDENCE")?;
        Ok(Self {
            accounts,
            half_open: table(&mut ebpf, "HALF_OPEN")?,
            callers: table(&mut ebpf, "CALLERS")?,
            owners: table(&mut ebpf, "OWNERS")?,
            source_ports: table(&mut ebpf, "SOURCE_PORTS")?,
            local_addresses: table(&mut ebpf, "LOCAL_ADDRESSES")?,
            recording: 0,
            refusals: table(&mut ebpf, "REFUSALS")?,
            evidence: RingBuf::try_from(evidence).context("cannot map the ring of evidence")?,
            syn_watch,
            cgroup: capability.cgroup.clone(),
            prototypes: offsets.prototypes,
            obstacles: Obstacles { btf: no_btf, tracepoint: no_tracepoint },
            hooks: Vec::new(),
            knows_layout: btf.is_some(),
            drop_invalid_syn: offsets.drop_invalid_syn,
            ebpf,
            btf,
        })
    }

    fn create(constants: Constants<'_>, limits: &Limits, btf: Option<&Btf>) -> Result<Ebpf, EbpfError> {
        let Constants { offsets, records, netns, rfc1337, syn_watch, aborted } = constants;
        let aborted_within = u64::try_from(aborted.within.as_nanos()).unwrap_or(u64::MAX);
        let aborted_bytes = aborted.bytes;
        let has_current_task = u32::from(offsets.has_current_task);
        let [unsigned_char, unsigned_int] = &offsets.printed_types;
        let has_error = u32::from(offsets.prototypes.count("tcp_retransmit_skb") > 2);
        let time_wait_arguments = offsets.prototypes.count("tcp_timewait_state_process");
        let (rfc1337, watch) = (u32::from(rfc1337), u32::from(syn_watch));
        let closed_sets = limits.closed_tuples.div_ceil(WAYS);
        let syn_sets = if syn_watch { limits.syns.div_ceil(WAYS) } else { 1 };
        let tick_ns = tick_ns();
        let seed = RandomState::new().build_hasher().finish();
        let mut loader = EbpfLoader::new();
        loader.btf(btf);
        for (field, offset) in FIELDS.iter().zip(&offsets.fields) {
            loader.override_global(field.name, offset, true);
        }
        loader
            .override_global("NETNS", &netns, true)
            .override_global("HASH_SEED", &seed, true)
            .override_global("CLOSED_SETS", &closed_sets, true)
            .override_global("SYN_SETS", &syn_sets, true)
            .override_global("SYN_WATCH", &watch, true)
            .override_global("HAS_CURRENT_TASK", &has_current_task, true)
            .override_global("UNSIGNED_CHAR_TYPE", unsigned_char, true)
            .override_global("UNSIGNED_INT_TYPE", unsigned_int, true)
            .override_global("TICK_NS", &tick_ns, true)
            .override_global("ABORTED_WITHIN_NS", &aborted_within, true)
            .override_global("ABORTED_BYTES", &aborted_bytes, true)
            .override_global("RFC1337", &rfc1337, true)
            .override_global("TIME_WAIT_ARGUMENTS", &time_wait_arguments, true)
            .override_global("DROP_NOT_SPECIFIED", &offsets.drop_not_specified, true)
            .override_global("DROP_TW_PAWS", &offsets.drop_tw_paws, true)
            .override_global("DROP_INVALID_SYN", &offsets.drop_invalid_syn, true)
            .override_global("RETRANSMIT_HAS_ERROR", &has_error, true)
            .override_global("RECORD_STATE", &records.state, true)
            .override_global("RECORD_RETRANSMIT", &records.retransmit, true)
            .override_global("RECORD_SYNACK", &records.synack, true)
            .override_global("RECORD_RECEIVE_RESET", &records.receive_reset, true)
            .override_global("RECORD_SEND_RESET", &records.send_reset, true)
            .override_global("RECORD_EXTRAS", &records.extras, true)
            .map_max_entries("PEERS", limits.peers)
            .map_max_entries("HALF_OPEN", limits.half_open_peers)
            .map_max_entries("CONNECTIONS", limits.connections)
            .map_max_entries("CLOSED", closed_sets)
            .map_max_entries("SYNS", syn_sets)
            .map_max_entries("CALLERS", limits.callers)
            .map_max_entries("SOURCE_PORTS", 2 * limits.tracked_peers)
            .map_max_entries("REFUSALS", limits.refusals)
            .load(OBJECT)
    }

    /// Attaches every hook in the best way `wanted` allows; fails only when the indispensable one fails.
    pub fn attach(&mut self, wanted: HookMode) -> Result<(), ProbeError> {
        let Self { ebpf, btf, prototypes, obstacles, syn_watch, cgroup, .. } = self;
        let request = Request {
            wanted,
            syn_watch: *syn_watch,
            btf: btf.as_ref(),
            cgroup: cgroup.as_deref(),
            prototypes,
            obstacles,
        };
        self.hooks = HOOKS.iter().map(|&hook| hooks::attach(ebpf, hook, request)).collect();
        let is_classic = |report: &HookReport| report.way.is_some_and(|way| way.mode == Mode::Tracepoint);
        if self.hooks.iter().any(is_classic) {
            self.accounts.read_one_by_one();
            self.half_open.read_one_by_one();
            self.callers.read_one_by_one();
            self.local_addresses.read_one_by_one();
            self.refusals.read_one_by_one();
        }
        match self.hooks.first() {
            Some(first) if first.way.is_none() => {
                Err(ProbeError::NoHook { hook: first.hook.name, reason: first.reasons() })
            }
            _ => Ok(()),
        }
    }

    /// What became of each hook.
    #[must_use]
    pub fn hooks(&self) -> &[HookReport] {
        &self.hooks
    }

    /// Loads the census iterator; the reason when this kernel has none.
    pub fn load_census(&mut self) -> Result<(), String> {
        self.load_iterator("census", "tcp")
    }

    /// Loads the iterator that tells who owns sockets (5.11 on); the reason when this kernel has none.
    pub fn load_owners(&mut self) -> Result<(), String> {
        self.load_iterator("owners", "task_file")
    }

    fn load_iterator(&mut self, program: &str, target: &str) -> Result<(), String> {
        let Some(btf) = &self.btf else {
            return Err(self.obstacles.btf.clone().unwrap_or_default());
        };
        let load = |ebpf: &mut Ebpf| -> Result<(), ProgramError> {
            let program = ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?;
            let program: &mut Iter = program.try_into()?;
            program.load(target, btf)
        };
        load(&mut self.ebpf).map_err(|error| hooks::one_line(&error))
    }

    /// Runs an iterator that is loaded to its end.
    pub(super) fn run_iterator(&mut self, program: &str) -> anyhow::Result<()> {
        let found = self.ebpf.program_mut(program);
        let program: &mut Iter =
            found.with_context(|| format!("the program {program} is missing"))?.try_into()?;
        let link = program.attach()?;
        let file = program.take_link(link)?.into_file()?;
        Ok(read_to_end(file)?)
    }

    /// Forgets the kernel's types, which only loading needs: they are most of the agent's memory until then.
    pub fn finish_loading(&mut self) {
        self.btf = None;
        give_back_memory();
    }

    /// Gives up every right that reading does not need; nothing can be loaded or attached any more. To be called before a thread is
    /// started.
    pub fn drop_rights(&mut self) -> io::Result<Kept> {
        Ok(rights::drop_all(|| self.tallies().is_ok())?)
    }

    /// Walks all TCP sockets of this namespace once with the iterator loaded by [`Self::load_census`]; afterwards the
    /// accounts whose `generation` equals the returned one hold their sockets. `ephemeral` is
    /// `net.ipv4.ip_local_port_range`, and a connection of ours that has waited for an answer for longer than `patience` is stalled. The walk
    /// adds `free_accounts` accounts at most.
    ///
    /// The first walk is preceded by one that counts the sockets of each local port, for the services that nobody
    /// listens on any more.
    pub fn sweep(
        &mut self,
        ephemeral: (u16, u16),
        patience: Duration,
        free_accounts: u32,
    ) -> anyhow::Result<Sweep> {
        let last = typed_array::<Sweep>(&mut self.ebpf, "SWEEP")?.get(&0, 0)?.generation;
        let begun = Sweep {
            ephemeral_low: ephemeral.0,
            ephemeral_high: ephemeral.1,
            stalled_ns: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            free_accounts,
            ..Sweep::zeroed()
        };
        if last == 0 {
            self.walk(Sweep { generation: 1, kind: PORTS_ONLY, ..begun })?;
            return self.walk(Sweep { generation: 2, ..begun });
        }
        self.walk(Sweep { generation: last.wrapping_add(1).max(1), ..begun })
    }

    /// Tells the kernel side which ports the kernel chooses from, where no walk does.
    pub fn set_ephemeral_ports(&mut self, (low, high): (u16, u16)) -> anyhow::Result<()> {
        let mut map = typed_array::<Sweep>(&mut self.ebpf, "SWEEP")?;
        let sweep = map.get(&0, 0)?;
        map.set(0, Sweep { ephemeral_low: low, ephemeral_high: high, ..sweep }, 0)?;
        Ok(())
    }

    fn walk(&mut self, begun: Sweep) -> anyhow::Result<Sweep> {
        typed_array(&mut self.ebpf, "SWEEP")?.set(0, begun, 0)?;

        self.run_iterator("census").context("cannot walk the sockets")?;
        Ok(typed_array::<Sweep>(&mut self.ebpf, "SWEEP")?.get(&0, 0)?)
    }

    /// Hands every account to `each`, those of half-open peers last.
    pub fn for_each_account(&mut self, mut each: impl FnMut(AccountKey, &Account)) -> anyhow::Result<()> {
        self.accounts
            .for_each(|&peer, account| each(AccountKey { peer, half_open: false }, account))
            .context("cannot read the accounts")?;
        self.half_open
            .for_each(|&peer, account| each(AccountKey { peer, half_open: true }, account))
            .context("cannot read the accounts of half-open peers")
    }

    /// Hands every row of walk `generation` that is of another local address than a peer's first one to `each`, and removes those of
    /// older walks.
    pub fn take_local_addresses(
        &mut self,
        generation: u32,
        mut each: impl FnMut(HeldAt),
    ) -> anyhow::Result<()> {
        let mut stale = Vec::new();
        self.local_addresses
            .for_each(|&place, row| {
                if row.generation == generation {
                    let LocalKey { peer, local } = place;
                    each(HeldAt { peer, local, live: row.live, time_wait: row.time_wait });
                } else {
                    stale.push(place);
                }
            })
            .context("cannot read the local addresses")?;
        for place in stale {
            self.local_addresses.remove(&place).context("cannot forget a local address")?;
        }
        Ok(())
    }

    /// Removes an account, unless it moved since its counters were `seen`. Returns whether it is gone. An event between the
    /// look and the removal, microseconds later, would be lost: the price of not stopping the kernel, paid only by peers idle
    /// for minutes.
    pub fn remove_idle_account(&mut self, key: &AccountKey, seen: &Counters) -> anyhow::Result<bool> {
        let map = if key.half_open { &mut self.half_open } else { &mut self.accounts };
        match map.get(&key.peer)? {
            Some(account) if account.counters != *seen => Ok(false),
            _ => map.remove(&key.peer).map(|()| true).context("cannot forget an idle account"),
        }
    }

    /// Whether this kernel's layout lets the programs know how much a connection carried, and which timestamps.
    #[must_use]
    pub fn knows_layout(&self) -> bool {
        self.knows_layout
    }

    /// Whether this kernel tells whose SYNs meet a connection that is still open: `kfree_skb` names the socket, and the reason is one of
    /// its own (6.11 on).
    #[must_use]
    pub fn knows_challenged(&self) -> bool {
        let is_named = |report: &HookReport| {
            report.hook.runs == Tally::RunsTimeWait && report.way.is_some_and(|way| way.mode == Mode::Btf)
        };
        self.drop_invalid_syn != ABSENT && self.hooks.iter().any(is_named)
    }

    /// The kernel side's counters of itself, summed over the CPUs.
    pub fn tallies(&mut self) -> anyhow::Result<[u64; TALLIES as usize]> {
        let map = self.ebpf.map("TALLIES").context("the map TALLIES is missing")?;
        let tallies: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        let mut sums = [0; TALLIES as usize];
        for (index, sum) in (0..).zip(&mut sums) {
            *sum = tallies.get(&index, 0)?.iter().sum();
        }
        Ok(sums)
    }

    /// Marks local ports as services: with [`LISTENING`](probe_ebpf::port::LISTENING), or with the monotonic time in
    /// nanoseconds. Without it the first events of old connections would be taken for outbound.
    pub fn mark_ports(&mut self, ports: impl IntoIterator<Item = u16>, mark: u64) -> anyhow::Result<()> {
        let mut map = typed_array::<Port>(&mut self.ebpf, "PORTS")?;
        for number in ports {
            let index = u32::from(number);
            let port = map.get(&index, 0)?;
            map.set(index, Port { mark, ..port }, 0)?;
        }
        Ok(())
    }

    /// What the kernel side knows of a local port.
    pub fn port(&self, number: u16) -> anyhow::Result<Port> {
        let ports: Array<_, Port> =
            Array::try_from(self.ebpf.map("PORTS").context("the map PORTS is missing")?)?;
        Ok(ports.get(&u32::from(number), 0)?)
    }

    /// The kernel's own statistics of each attached program.
    #[must_use]
    pub fn program_stats(&self) -> Vec<ProgramStats> {
        stats::of(&self.ebpf, &self.hooks)
    }
}

/// Gives the kernel back what is free of the heap: glibc keeps what a burst has taken.
pub fn give_back_memory() {
    // SAFETY: malloc_trim only returns free pages to the kernel; it has no precondition.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the programs are told before they are loaded.
#[derive(Clone, Copy)]
struct Constants<'a> {
    offsets: &'a Offsets,
    records: &'a Records,
    netns: u32,
    rfc1337: bool,
    syn_watch: bool,
    aborted: Aborted,
}

/// Layouts of the classic records, or why they cannot be had.
fn records(capability: &Capability) -> (Records, Option<String>) {
    let Some(tracefs) = &capability.tracefs else {
        let reason = if capability.lockdown.as_deref() == Some("confidentiality") {
            "lockdown=confidentiality shuts tracefs, through which they are attached"
        } else {
            "tracefs is not mounted; mount it: mount -t tracefs tracefs /sys/kernel/tracing"
        };
        return (Records::default(), Some(reason.to_owned()));
    };
    match Records::read(tracefs) {
        Ok(records) if capability.perf_events => (records, None),
        Ok(records) => {
            let reason = "missing right CAP_SYS_ADMIN (classic tracepoints are opened through perf)";
            (records, Some(reason.to_owned()))
        }
        Err(error) => (Records::default(), Some(error.to_string())),
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the map {name} is missing"))
}

fn table<K: Pod + Zeroable, V: Pod + Zeroable>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Table<K, V>> {
    Table::new(take(ebpf, name)?).with_context(|| format!("the map {name} has another layout"))
}

pub(super) fn typed_array<'a, V: Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> anyhow::Result<Array<&'a mut MapData, V>> {
    let map = ebpf.map_mut(name).with_context(|| format!("the map {name} is missing"))?;
    Ok(Array::try_from(map)?)
}

/// Reads the iterator to its end. It prints nothing, so one read is the whole walk, except that the kernel interrupts
/// itself with EAGAIN every million sockets (kernel/bpf/bpf_iter.c bpf_seq_read(), MAX_ITER_OBJECTS, 5.9 to 6.18).
fn read_to_end(mut file: std::fs::File) -> io::Result<()> {
    use std::io::Read as _;
    let mut buffer = [0; 8];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
