//! The census by `iter/tcp`: the kernel sums, we read the sums.

use std::time::Duration;

use probe_ebpf::{
    account::Account,
    sweep::{Heard, Held, HeldAt, STATES, Sweep},
};

use super::Census;
use crate::probe::{Probe, monotonic_ns};

pub(super) fn take(
    probe: &mut Probe,
    ephemeral: (u16, u16),
    patience: Duration,
    free_accounts: u32,
) -> anyhow::Result<Census> {
    let now = monotonic_ns();
    let sweep = probe.sweep(ephemeral, patience, free_accounts)?;
    let (mut rows, mut at) = (Vec::new(), Vec::new());
    probe.for_each_account(|key, account| {
        if account.generation == sweep.generation && account.sockets != [0; STATES] {
            let Account { sockets, waiting, heard_ns, live_at_local, time_wait_at_local, local, .. } =
                *account;
            let peer = key.peer;
            let heard = match now.saturating_sub(heard_ns) {
                _ if heard_ns == 0 => Heard::Never,
                ago if ago > sweep.stalled_ns => Heard::LongAgo,
                _ => Heard::Lately,
            };
            rows.push(Held { peer, sockets, waiting, heard });
            let first = HeldAt { peer, local, live: live_at_local, time_wait: time_wait_at_local };
            if first.sockets() > 0 {
                at.push(first);
            }
        }
    })?;
    probe.take_local_addresses(sweep.generation, |row| at.push(row))?;
    let Sweep { sockets, mini_sockets, without_account, .. } = sweep;
    Ok(Census { rows, at, totals: sockets, mini_sockets, without_account, ..Census::default() })
}
