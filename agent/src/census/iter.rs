//! The census by `iter/tcp`: the kernel sums, we read the sums.

use probe_ebpf::sweep::STATES;

use super::Census;
use crate::probe::Probe;

pub(super) fn take(probe: &mut Probe, ephemeral: (u16, u16)) -> anyhow::Result<Census> {
    let sweep = probe.sweep(ephemeral)?;
    let mut rows = Vec::new();
    probe.for_each_account(|key, account| {
        if account.generation == sweep.generation && account.sockets != [0; STATES] {
            rows.push((key.peer, account.sockets));
        }
    })?;
    Ok(Census { rows, totals: sweep.sockets, mini_sockets: sweep.mini_sockets, ..Census::default() })
}
