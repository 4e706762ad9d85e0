//! A virtual machine whose processor is emulated: slow, and the same everywhere.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::kernels::{CACHE, Image};

/// What the kernel forbids even root (kernel_lockdown(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lockdown {
    /// Nothing
    None,
    /// To change the running kernel
    Integrity,
    /// To read its memory, too
    Confidentiality,
}

impl Lockdown {
    /// As the kernel writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

/// Boots a machine, waits until it switches itself off, and returns what came out of its second serial port. What the kernel said
/// is kept beside it.
pub(super) fn boot(
    image: &Image,
    lockdown: Lockdown,
    name: &str,
    archives: &[&Path],
    patience: Duration,
) -> anyhow::Result<String> {
    let (console, results) = (Path::new(CACHE).join(format!("{name}.console")), log(name));
    let archive = Path::new(CACHE).join(format!("{name}.cpio"));
    join(archives, &archive)?;
    let level = match lockdown {
        Lockdown::None => String::new(),
        level => format!(" lockdown={}", level.name()),
    };
    let child = Command::new("qemu-system-x86_64")
        // Without cmpxchg16b, whose emulation gets the flags wrong now and then (seen with QEMU 7.2: an oops in the guest's allocator).
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "3072"])
        .args(["-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(&archive)
        .args(["-append", &format!("console=ttyS0 panic=-1 quiet rdinit=/init net.ifnames=0{level}")])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;
    let ended = Machine(child).wait(patience);
    fs::remove_file(&archive)?;
    let text = printed(&results)?;
    if let Err(error) = ended {
        bail!("{error}; it got as far as:\n{}\n(the kernel's words: {})", tail(&text), console.display());
    }
    Ok(text)
}

/// Where what a machine prints is kept.
pub(super) fn log(name: &str) -> PathBuf {
    Path::new(CACHE).join(format!("{name}.log"))
}

/// What a machine printed.
pub(super) fn printed(log: &Path) -> anyhow::Result<String> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&text).replace('\r', ""))
}

fn join(archives: &[&Path], joined: &PathBuf) -> io::Result<()> {
    let mut out = File::create(joined)?;
    for archive in archives {
        io::copy(&mut File::open(archive)?, &mut out)?;
    }
    Ok(())
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> &str {
    let start = text.rmatch_indices('\n').nth(40).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

/// A running machine; killed on drop.
struct Machine(Child);

impl Machine {
    fn wait(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the machine failed: {status}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        bail!("the machine did not switch itself off within {patience:?}")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
