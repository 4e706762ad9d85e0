//! The programs to compare with.

use std::{
    fs,
    io::{ErrorKind, Read as _},
};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf, include_bytes_aligned,
    maps::HashMap,
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Iter, TracePoint},
};

/// The programs that do one thing: name, what that is, and the program that does all but that.
pub const PIECES: [(&str, &str, &str); 6] = [
    ("typed", "nothing", "typed"),
    ("clock", "reading the clock", "typed"),
    ("random", "a random number", "typed"),
    ("lookup", "finding an account", "random"),
    ("insertion", "putting a connection into a table and taking it out", "typed"),
    ("cold", "a word of 8 MiB that is in no cache", "random"),
];

/// Accounts that `lookup` finds.
const ACCOUNTS: u64 = 128;

/// They run until this is dropped.
pub struct Yardsticks(Ebpf);

impl Yardsticks {
    pub fn load() -> anyhow::Result<Self> {
        Ok(Self(Ebpf::load(include_bytes_aligned!(concat!(env!("OUT_DIR"), "/yardsticks")))?))
    }

    /// Attaches a program that does nothing to the most frequent hook of each kind.
    pub fn attach_empty(&mut self) -> anyhow::Result<()> {
        self.attach_typed("typed", &Btf::from_sys_fs()?)?;
        let classic: &mut TracePoint = self.program("classic")?.try_into()?;
        classic.load()?;
        classic.attach("sock", "inet_sock_set_state")?;
        let filter: &mut CgroupSkb = self.program("filter")?.try_into()?;
        filter.load()?;
        let root = fs::File::open(cgroup_root()?).context("the root of cgroup2 cannot be opened")?;
        // A link shares its cgroup with others in any mode, and takes no flag that says so.
        filter.attach(root, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)?;
        Ok(())
    }

    /// Attaches the programs that do one thing.
    pub fn attach_pieces(&mut self) -> anyhow::Result<()> {
        let accounts = self.0.map_mut("ACCOUNTS").context("the object has this map")?;
        let mut accounts: HashMap<_, [u64; 3], [u64; 84]> = accounts.try_into()?;
        for number in 0..ACCOUNTS {
            accounts.insert([number, 0, 0], [0; 84], 0)?;
        }
        let types = Btf::from_sys_fs()?;
        PIECES.iter().try_for_each(|(name, ..)| self.attach_typed(name, &types))
    }

    /// Loads the program that [`Self::walk`] runs.
    pub fn load_walk(&mut self) -> anyhow::Result<()> {
        let walk: &mut Iter = self.program("walk")?.try_into()?;
        Ok(walk.load("tcp", &Btf::from_sys_fs()?)?)
    }

    /// Visits all TCP sockets of the namespace of this thread, and does nothing with them.
    pub fn walk(&mut self) -> anyhow::Result<()> {
        let walk: &mut Iter = self.program("walk")?.try_into()?;
        let link = walk.attach()?;
        let mut file = walk.take_link(link)?.into_file()?;
        // The kernel interrupts itself every million sockets (kernel/bpf/bpf_iter.c bpf_seq_read(), 6.18).
        while let Err(error) = file.read(&mut [0; 8]) {
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn attach_typed(&mut self, name: &str, types: &Btf) -> anyhow::Result<()> {
        let program: &mut BtfTracePoint = self.program(name)?.try_into()?;
        program.load("inet_sock_set_state", types)?;
        program.attach()?;
        Ok(())
    }

    fn program(&mut self, name: &str) -> anyhow::Result<&mut aya::programs::Program> {
        self.0.program_mut(name).with_context(|| format!("the object has no program {name}"))
    }
}

/// Where cgroup2 is mounted.
fn cgroup_root() -> anyhow::Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = lines.find(|words| words.get(2) == Some(&"cgroup2")).context("cgroup2 is not mounted")?;
    root.get(1).map(|&path| path.to_owned()).context("a mount has a place")
}
