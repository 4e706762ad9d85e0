//! `cargo xtask package`: the static binary, the Debian package, the bill of materials, and their checksums.
//!
//! The same commit gives the same bytes wherever it is built, as long as the compilers are the same.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::{
    licences, setup,
    shell::{output, run},
};

const TARGET: &str = "x86_64-unknown-linux-musl";
/// Where everything lands, below the workspace.
const OUT: &str = "target/package";
/// Beside the binary, where cargo-deb looks for what was built.
const LICENCES: &str = "third-party-licences.txt";
const SUMS: &str = "SHA256SUMS";
/// What the paths of the builder's machine are replaced by.
const SOURCES: &str = "/tcpwarden";

#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Build the last commit once more in another directory, and compare
    #[arg(long)]
    verify: bool,
}

/// Makes everything that is shipped.
pub(crate) fn package(options: &Options) -> anyhow::Result<Shipped> {
    setup::build_tools()?;
    setup::package_tools()?;
    let workspace = env::current_dir()?;
    let shipped = make(&workspace)?;
    if options.verify {
        verify()?;
    }
    Ok(shipped)
}

/// Builds a program of the workspace as the binary is built, and returns where it is.
pub(crate) fn compile(package: &str) -> anyhow::Result<PathBuf> {
    setup::build_tools()?;
    setup::musl()?;
    Builder::new(&env::current_dir()?)?.compile(package)
}

/// Where the parts are that others use.
#[derive(Debug)]
pub(crate) struct Shipped {
    /// The static binary.
    pub(crate) binary: PathBuf,
    /// The Debian package.
    pub(crate) package: PathBuf,
}

/// Makes everything anew in `workspace/target/package`.
fn make(workspace: &Path) -> anyhow::Result<Shipped> {
    let out = workspace.join(OUT);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let builder = Builder::new(workspace)?;
    let built = builder.compile("tcpwarden")?;
    builder.licences(&built.with_file_name(LICENCES))?;
    let name = format!("tcpwarden-{}-linux-amd64", env!("CARGO_PKG_VERSION"));
    fs::copy(&built, out.join(&name)).with_context(|| format!("cannot copy {}", built.display()))?;
    run(builder
        .dated_cargo("deb")
        .args(["--no-build", "--no-strip", "--package", "tcpwarden", "--target", TARGET])
        .arg("--output")
        .arg(&out))?;
    builder.bill_of_materials(&out.join(format!("{name}.cdx.json")))?;
    sums(&out)?;
    let mut files = fs::read_dir(&out)?.filter_map(Result::ok).map(|entry| entry.path());
    let package = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    Ok(Shipped { binary: built, package: package.context("cargo deb made no package")? })
}

/// What every step of a build has in common.
struct Builder<'a> {
    workspace: &'a Path,
    cargo_home: PathBuf,
    rustup_home: PathBuf,
    /// When the sources were committed; everything is dated then.
    epoch: String,
}

impl<'a> Builder<'a> {
    fn new(workspace: &'a Path) -> anyhow::Result<Self> {
        let git = |args: &[&str]| {
            let repository = workspace.to_str()?;
            output("git", &[&["-C", repository], args].concat())
        };
        let epoch =
            git(&["log", "-1", "--format=%ct"]).context("git does not tell when the last commit was made")?;
        let rustup_home =
            output("rustup", &["show", "home"]).context("rustup does not tell where it lives")?;
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        Ok(Self {
            workspace,
            cargo_home: cargo_home.context("neither CARGO_HOME nor HOME is set")?,
            rustup_home: rustup_home.trim().into(),
            epoch: epoch.trim().to_owned(),
        })
    }

    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(command).current_dir(self.workspace);
        cargo.env("CARGO_TARGET_DIR", self.workspace.join("target"));
        cargo
    }

    /// As `cargo`, for what writes a date. Not for compiling, which writes none, but would begin anew with every commit.
    fn dated_cargo(&self, command: &str) -> Command {
        let mut cargo = self.cargo(command);
        cargo.env("SOURCE_DATE_EPOCH", &self.epoch);
        cargo
    }

    /// Builds a static program, and returns where it is.
    fn compile(&self, package: &str) -> anyhow::Result<PathBuf> {
        let mut flags = OsString::new();
        let places =
            [(self.workspace, SOURCES), (&self.cargo_home, "/cargo"), (&self.rustup_home, "/rustup")];
        for (place, name) in places {
            if !flags.is_empty() {
                flags.push("\u{1f}");
            }
            flags.push("--remap-path-prefix=");
            flags.push(place);
            flags.push(format!("={name}"));
        }
        let mut build = self.cargo("build");
        build.env("CARGO_ENCODED_RUSTFLAGS", flags).env("CC_x86_64_unknown_linux_musl", "musl-gcc");
        run(build.args(["--locked", "--profile", "shipped", "--package", package, "--target", TARGET]))?;
        let binary = self.workspace.join("target").join(TARGET).join("shipped").join(package);
        let bytes = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
        for (place, _) in places {
            let place = place.as_os_str().as_encoded_bytes();
            if bytes.windows(place.len()).any(|window| window == place) {
                bail!("{} names {}, where it was built", binary.display(), place.escape_ascii());
            }
        }
        Ok(binary)
    }

    /// Writes the licences of what is linked into the binary and its kernel side.
    fn licences(&self, to: &Path) -> anyhow::Result<()> {
        let tree = |package: &str, target: &str| {
            let mut tree = self.cargo("tree");
            tree.args(["--package", package, "--target", target]);
            tree
        };
        let trees = [tree("tcpwarden", TARGET), tree("probe-ebpf", "bpfel-unknown-none")];
        let text = licences::collect(trees, &self.cargo_home)?;
        fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Lists what the binary is made of (CycloneDX).
    fn bill_of_materials(&self, to: &Path) -> anyhow::Result<()> {
        let name = "bill-of-materials";
        let options = ["--format", "json", "--spec-version", "1.5", "--no-build-deps", "--target", TARGET];
        // It writes one beside every manifest of the workspace.
        let members: Vec<Member> =
            fs::read_dir(self.workspace)?.filter_map(|entry| Member::new(entry.ok()?.path())).collect();
        run(self.dated_cargo("cyclonedx").args(options).args(["--override-filename", name]))?;
        let file = |member: &Path| member.join(name).with_extension("json");
        let bill = fs::read_to_string(file(&self.workspace.join("agent")));
        let bill = bill.context("cargo cyclonedx wrote nothing")?;
        for member in members {
            member.remove(&file(&member.path))?;
        }
        let place = self.workspace.to_str().context("the path of the workspace is not UTF-8")?;
        fs::write(to, bill.replace(place, SOURCES)).with_context(|| format!("cannot write {}", to.display()))
    }
}

/// A directory of the workspace, and when it was last changed: the build script of the agent runs again, and with it the whole agent is
/// compiled again, when the directory of the eBPF programs seems to have changed.
struct Member {
    path: PathBuf,
    modified: SystemTime,
}

impl Member {
    fn new(path: PathBuf) -> Option<Self> {
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_dir)?;
        Some(Self { path, modified: metadata.modified().ok()? })
    }

    /// Removes a file that is there or not, and leaves no trace of it.
    fn remove(&self, file: &Path) -> anyhow::Result<()> {
        if fs::remove_file(file).is_ok() {
            fs::File::open(&self.path)?.set_modified(self.modified)?;
        }
        Ok(())
    }
}

/// Lists every file of a directory with its checksum, as `sha256sum --check` reads it.
fn sums(directory: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.sort();
    let sums = Command::new("sha256sum").args(names).current_dir(directory).output()?;
    if !sums.status.success() {
        bail!("sha256sum failed: {}", String::from_utf8_lossy(&sums.stderr));
    }
    print!("{}", String::from_utf8_lossy(&sums.stdout));
    Ok(fs::write(directory.join(SUMS), sums.stdout)?)
}

/// Builds the last commit in a clone, from nothing, and holds its checksums against those of the workspace, where it was made.
pub(crate) fn verify() -> anyhow::Result<()> {
    let workspace = &env::current_dir()?;
    if output("git", &["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty()) {
        bail!("only a commit can be built again; commit the changes first (git status)");
    }
    let elsewhere = workspace.join("target/verify/elsewhere");
    if elsewhere.exists() {
        fs::remove_dir_all(&elsewhere)?;
    }
    run(Command::new("git").args(["clone", "--quiet", "."]).arg(&elsewhere))?;
    make(&elsewhere)?;
    let sums = |workspace: &Path| fs::read_to_string(workspace.join(OUT).join(SUMS));
    let (first, second) = (sums(workspace)?, sums(&elsewhere)?);
    if first != second {
        bail!("built twice, it differs:\n{first}\n{second}both are kept in target/package and target/verify");
    }
    fs::remove_dir_all(&elsewhere)?;
    println!("built twice, the bytes are the same");
    Ok(())
}
