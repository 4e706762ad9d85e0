//! Which kernels, and getting them: Debian's cloud images, from the archive that this machine's apt is set up to use.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::shell::{output, run};

/// The package that depends on a suite's present kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";
/// Where everything of the virtual machines is kept.
pub(super) const CACHE: &str = "target/vm";

/// A kernel that is tried, by the oldest supported release it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 11's
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's
    #[value(name = "6.12")]
    V6_12,
    /// The newest that Debian carries
    Newest,
}

/// A kernel on disk.
#[derive(Debug)]
pub(super) struct Image {
    /// `uname -r`.
    pub(super) release: String,
    /// What a machine boots.
    pub(super) vmlinuz: PathBuf,
    /// Its modules, `…/lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// The path of Debian's archive it comes from, and the suite.
    fn suite(self) -> (&'static str, &'static str) {
        match self {
            Self::V5_10 => ("/debian-security", "bullseye-security"),
            Self::V6_1 => ("/debian", "bookworm"),
            Self::V6_12 => ("/debian", "trixie"),
            Self::Newest => ("/debian", "sid"),
        }
    }

    /// Who ships it.
    pub(super) fn shipped_by(self) -> &'static str {
        match self {
            Self::V5_10 => "Debian 11",
            Self::V6_1 => "Debian 12",
            Self::V6_12 => "Debian 13",
            Self::Newest => "Debian sid",
        }
    }

    /// Brings it here, once.
    pub(super) fn fetch(self) -> anyhow::Result<Image> {
        let (archive, suite) = self.suite();
        let home = Path::new(CACHE).join(suite);
        if let Ok(image) = unpacked(&home) {
            return Ok(image);
        }
        let apt = Apt::new(&home, archive, suite)?;
        run(&mut apt.command("apt-get", &["-qq", "update"]))?;
        let packages = apt.image_packages()?;
        let unpacked_into = home.join("root");
        fs::create_dir_all(&unpacked_into)?;
        let mut download = apt.command("apt-get", &["-qq", "download"]);
        run(download.args(&packages).current_dir(&home))?;
        for entry in fs::read_dir(&home)?.filter_map(Result::ok) {
            let package = entry.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked_into))?;
                fs::remove_file(&package)?;
            }
        }
        unpacked(&home)
    }
}

/// The kernel that lies unpacked below `home`; where its parts lie changed with the years.
fn unpacked(home: &Path) -> anyhow::Result<Image> {
    let root = home.join("root");
    let modules = ["usr/lib/modules", "lib/modules"].map(|path| root.join(path));
    let modules = modules.iter().find(|path| path.is_dir()).context("no kernel modules were unpacked")?;
    let entry = fs::read_dir(modules)?.next().context("no kernel modules were unpacked")??;
    let release = entry.file_name().to_string_lossy().into_owned();
    let images = [root.join("boot").join(format!("vmlinuz-{release}")), entry.path().join("vmlinuz")];
    let vmlinuz = images.into_iter().find(|path| path.is_file());
    let vmlinuz = vmlinuz.with_context(|| format!("no vmlinuz of {release} was unpacked"))?;
    Ok(Image { release, vmlinuz, modules: entry.path() })
}

/// apt with one suite of its own, so that this machine's stays as it is.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(home: &Path, archive: &str, suite: &str) -> anyhow::Result<Self> {
        let sites = output("apt-get", &["indextargets", "--format", "$(SITE)"]).unwrap_or_default();
        let Some(source) = sites.lines().find(|source| source.ends_with(archive)) else {
            bail!(
                "apt on this machine has no source whose address ends with {archive}; Debian's kernels come from there"
            );
        };
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(directory))?;
        }
        // apt wants whole paths, or reads them below /.
        let home = fs::canonicalize(home)?;
        let list = home.join("sources.list");
        fs::write(&list, format!("deb {source} {suite} main\n"))?;
        let home = home.display();
        let options = [
            format!("Dir::Etc::sourcelist={home}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::State::lists={home}/lists"),
            format!("Dir::Cache={home}/cache"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The download lands in a directory of ours, where apt's own user may not write.
            "APT::Sandbox::User=root".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).args(args);
        command
    }

    /// The packages that hold the kernel and its modules: one, or three since 7.x.
    fn image_packages(&self) -> anyhow::Result<Vec<String>> {
        let mut command = self.command("apt-cache", &["depends", "--recurse", "--important", META]);
        let listed = command.output().context("cannot run apt-cache")?;
        let holds_kernel = |name: &&str| {
            let rest = ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .find_map(|kind| name.strip_prefix(kind));
            rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut packages: Vec<String> = listed.lines().filter(holds_kernel).map(str::to_owned).collect();
        packages.sort_unstable();
        packages.dedup();
        if packages.is_empty() {
            bail!("{META} depends on no kernel: {listed}");
        }
        Ok(packages)
    }
}
