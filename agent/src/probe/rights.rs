//! Giving up rights: what was needed to load and attach is not needed to read and serve.
//!
//! Capabilities belong to a thread (capabilities(7)); whoever calls this must not have started another.

use rustix::{
    io,
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs},
};

/// What starting needs: eBPF, perf for classic tracepoints, the cgroup of the SYN watch, locked memory before 5.11, and a port
/// below 1024.
const FOR_STARTING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Which rights are left once everything is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// None.
    Nothing,
    /// `CAP_BPF`: the kernel asks for it on every use of a map (kernel/bpf/syscall.c `__do_sys_bpf()`; seen on 5.10, not on 6.1).
    ReadingMaps,
}

/// Gives up everything but what starting needs, above all to read any file: what can be read now can be read on a reload, too.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn keep_for_starting() -> io::Result<()> {
    set_no_new_privs(true)?;
    let CapabilitySets { permitted, .. } = capabilities(None)?;
    keep(permitted & FOR_STARTING)
}

/// Gives up the rest, but for what `still_works` turns out not to do without.
pub(super) fn drop_all(still_works: impl FnOnce() -> bool) -> io::Result<Kept> {
    let CapabilitySets { permitted, .. } = capabilities(None)?;
    set_effective(CapabilitySet::empty(), permitted)?;
    if still_works() {
        keep(CapabilitySet::empty())?;
        return Ok(Kept::Nothing);
    }
    // CAP_SYS_ADMIN contains it.
    let bpf = permitted & CapabilitySet::BPF;
    keep(if bpf.is_empty() { permitted & CapabilitySet::SYS_ADMIN } else { bpf })?;
    Ok(Kept::ReadingMaps)
}

fn keep(rights: CapabilitySet) -> io::Result<()> {
    set_effective(rights, rights)
}

fn set_effective(effective: CapabilitySet, permitted: CapabilitySet) -> io::Result<()> {
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}
