//! The census by `iter/tcp`: the kernel sums, we read the sums.

use std::time::Duration;

use probe_ebpf::{
    account::Account,
    sweep::{Held, STATES},
};

use super::Census;
use crate::probe::Probe;

pub(super) fn take(probe: &mut Probe, ephemeral: (u16, u16), patience: Duration) -> anyhow::Result<Census> {
    let sweep = probe.sweep(ephemeral, patience)?;
    let mut rows = Vec::new();
    probe.for_each_account(|key, account| {
        if account.generation == sweep.generation && account.sockets != [0; STATES] {
            let Account { sockets, stalled, elsewhere, .. } = *account;
            rows.push(Held { peer: key.peer, sockets, stalled, elsewhere });
        }
    })?;
    Ok(Census { rows, totals: sweep.sockets, mini_sockets: sweep.mini_sockets, ..Census::default() })
}
