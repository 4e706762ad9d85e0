//! The chart of deploy/helm: whether it renders with every kind of values, refuses wrong ones, and makes what Kubernetes understands.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{
    setup,
    shell::{files, run},
};

const CHART: &str = "deploy/helm/tcpwarden";
const TESTS: &str = "deploy/helm/tests";
const RENDERED: &str = "target/helm";

/// The oldest and the newest Kubernetes that it is held against.
const KUBERNETES: [&str; 2] = ["1.25", "1.35"];

/// Renders the chart with all values of `deploy/helm/tests` and validates what comes out.
pub(crate) fn test() -> anyhow::Result<()> {
    setup::helm()?;
    fs::create_dir_all(RENDERED).with_context(|| format!("cannot create {RENDERED}"))?;
    let mut rendered = Vec::new();
    for values in files(&Path::new(TESTS).join("valid"), ".yaml")? {
        run(helm("lint")?.args(["--strict", "--quiet", CHART, "--values"]).arg(&values))?;
        let name = values.file_name().context("a file has a name")?;
        let manifests = Path::new(RENDERED).join(name);
        let output =
            fs::File::create(&manifests).with_context(|| format!("cannot write {}", manifests.display()))?;
        run(helm("template")?
            .args(["tcpwarden", CHART, "--namespace", "monitoring", "--values"])
            .arg(&values)
            .stdout(output))?;
        rendered.push(manifests);
    }
    for values in files(&Path::new(TESTS).join("invalid"), ".yaml")? {
        let refused = helm("template")?.args(["tcpwarden", CHART, "--values"]).arg(&values).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        if refused.status.success() || !said.contains("don't meet the specifications of the schema") {
            bail!("{} is not refused by values.schema.json: {said}", values.display());
        }
    }
    for version in KUBERNETES {
        run(Command::new(setup::PYTHON).arg(format!("{TESTS}/validate.py")).arg(version).args(&rendered))?;
    }
    Ok(())
}

fn helm(command: &str) -> anyhow::Result<Command> {
    let mut helm = Command::new("helm");
    helm.arg(command).env("PATH", setup::path_with_tools()?);
    Ok(helm)
}
