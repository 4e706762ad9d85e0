//! Runs a command as on a kernel that was built without eBPF: `bpf()` answers ENOSYS.

use std::{collections::BTreeMap, os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().context("usage: without-bpf PROGRAM ARGUMENT…")?;
    let filter: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_bpf, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(program).args(args).exec().into())
}
