//! The agent's pod as the chart makes it, in a sandbox with the rights that its manifest gives it and no others: what a container
//! runtime would do, done by bubblewrap.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::program;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/tcpwarden");

/// What `helm template` makes of the chart's defaults, and an image with the agent.
#[derive(Debug)]
pub struct Pod {
    spec: Value,
    config: String,
    image: TempDir,
    volumes: TempDir,
}

impl Pod {
    /// Renders the manifests, and puts into the image what the Containerfile does: the agent. It is static there, and here brings its
    /// libraries.
    #[must_use]
    pub fn new() -> Self {
        let resources = render();
        let of_kind = |kind| {
            let found = resources.iter().find(|resource| resource["kind"] == kind);
            found.unwrap_or_else(|| panic!("the chart has no {kind}"))
        };
        let image = TempDir::new().expect("a temporary directory");
        copy(&program("tcpwarden"), &image.path().join("usr/bin/tcpwarden"));
        for library in libraries(&program("tcpwarden")) {
            copy(&library, &image.path().join(library.strip_prefix("/").expect("an absolute path")));
        }
        // What a runtime makes to mount something on.
        for directory in ["proc", "sys", "dev"] {
            fs::create_dir(image.path().join(directory)).expect("a directory");
        }
        Self {
            spec: of_kind("DaemonSet")["spec"]["template"]["spec"].clone(),
            config: text(&of_kind("ConfigMap")["data"]["tcpwarden.toml"]).to_owned(),
            image,
            volumes: TempDir::new().expect("a temporary directory"),
        }
    }

    /// The memory that it may have, in MiB.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        let limit = text(&self.container()["resources"]["limits"]["memory"]);
        limit.strip_suffix("Mi").and_then(|limit| limit.parse().ok()).expect("a limit in MiB")
    }

    fn container(&self) -> &Value {
        let [container] = self.spec["containers"].as_array().expect("a list").as_slice() else {
            panic!("there is more than the agent: {}", self.spec);
        };
        container
    }

    /// Adds to `command` the sandbox and the agent within. `address` is that of the node.
    pub(crate) fn enter(&self, command: &mut Command, address: &str) {
        let container = self.container();
        let rights = &container["securityContext"];
        assert_eq!(self.spec["securityContext"]["runAsUser"], 0, "the lab runs as root");
        assert_eq!(self.spec["hostNetwork"], true, "else it would watch an empty namespace");
        assert_eq!(rights["readOnlyRootFilesystem"], true);
        assert_eq!(rights["allowPrivilegeEscalation"], false, "which is what bubblewrap does");
        assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]));
        let image = self.image.path().to_str().expect("a path is text");
        command.args(["--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts"]);
        command.args(["--clearenv", "--ro-bind", image, "/"]);
        command.args(["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]);
        for mount in container["volumeMounts"].as_array().expect("a list") {
            self.mount(command, mount);
        }
        command.args(["--cap-drop", "ALL"]);
        for capability in rights["capabilities"]["add"].as_array().expect("a list") {
            command.args(["--cap-add", &format!("CAP_{}", text(capability))]);
        }
        command.arg("/usr/bin/tcpwarden");
        let args = container["args"].as_array().expect("a list");
        command.args(args.iter().map(|arg| text(arg).replace("$(NODE_IP)", address)));
    }

    fn mount(&self, command: &mut Command, mount: &Value) {
        let name = text(&mount["name"]);
        let directory = self.volumes.path().join(name);
        fs::create_dir_all(&directory).expect("a directory");
        if name == "config" {
            fs::write(directory.join("tcpwarden.toml"), &self.config).expect("a config file");
        }
        let at = text(&mount["mountPath"]);
        // The runtime makes it.
        fs::create_dir_all(self.image.path().join(at.trim_start_matches('/'))).expect("a directory");
        let how = if mount["readOnly"] == true { "--ro-bind" } else { "--bind" };
        command.arg(how).arg(directory).arg(at);
    }
}

impl Default for Pod {
    fn default() -> Self {
        Self::new()
    }
}

fn render() -> Vec<Value> {
    let mut helm = Command::new("helm");
    helm.args(["template", "tcpwarden", CHART]);
    let Output { status, stdout, stderr } =
        helm.output().expect("helm runs (`cargo xtask setup` fetches it)");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let manifests = String::from_utf8(stdout).expect("text");
    serde_saphyr::from_multiple(&manifests).expect("YAML")
}

/// The shared libraries of a program, and its loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output =
        Command::new("ldd").arg(program).stderr(Stdio::null()).output().expect("ldd runs (libc-bin)");
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
    fs::copy(from, to).unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
