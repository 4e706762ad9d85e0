//! Alertmanager, and which alerts it holds.

use std::{fs, net::SocketAddr, path::Path};

use serde::Deserialize;
use tempfile::TempDir;

use super::Labels;
use crate::{host::Host, http::Door, process::Process};

/// Debian's Alertmanager reads its templates below /usr/share, wherever the program is. So that it need not be installed, it
/// gets a /usr/share of its own: the one it was unpacked with.
const WITH_ITS_FILES: &str = r#"
    program=$(command -v prometheus-alertmanager) || exit 127
    mount --bind "${program%/*}/../share" /usr/share && exec "$program" "$@"
"#;

/// A running Alertmanager that is alone in its cluster; killed on drop, and what it stored is gone.
#[derive(Debug)]
pub struct Alertmanager<'a> {
    host: &'a Host,
    address: SocketAddr,
    door: Door,
    _process: Process,
}

/// An alert that has not ended.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What it is about; its identity.
    pub labels: Labels,
    /// What is said about it.
    pub annotations: Labels,
    /// What becomes of it.
    pub status: Status,
    /// When it began, in RFC 3339.
    pub starts_at: String,
    /// When it ends unless it is sent again, in RFC 3339.
    pub ends_at: String,
}

/// Of an alert.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// `unprocessed`, `active`, or `suppressed`.
    pub state: String,
}

impl<'a> Alertmanager<'a> {
    /// Where it usually listens.
    pub const PORT: u16 = 9093;

    /// Starts it with a configuration (YAML) on a port of the host's loopback, and waits until it is ready.
    #[must_use]
    pub fn start(host: &'a Host, port: u16, config: &str) -> Self {
        Self::start_behind(host, port, config, &[], Door::Open)
    }

    /// As [`Self::start`], with a web configuration that asks for TLS and `USER:PASSWORD`.
    #[must_use]
    pub fn start_protected(host: &'a Host, port: u16, config: &str, web_config: &Path, user: &str) -> Self {
        let flag = format!("--web.config.file={}", web_config.display());
        Self::start_behind(host, port, config, &[flag], Door::Locked(user.to_owned()))
    }

    fn start_behind(host: &'a Host, port: u16, config: &str, flags: &[String], door: Door) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let directory = TempDir::new().expect("a temporary directory");
        let [file, data] = ["alertmanager.yml", "data"].map(|name| directory.path().join(name));
        fs::write(&file, config).expect("a config file");
        let mut command = host.command("unshare");
        command
            .args(["--mount", "sh", "-c", WITH_ITS_FILES, "sh"])
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .args(flags);
        let name = format!("Alertmanager on {} port {port}", host.name());
        let mut process = Process::start(name, directory, command);
        process.ready(|| door.get(host, address, "/-/ready"));
        Self { host, address, door, _process: process }
    }

    /// The alerts it holds, silenced and inhibited ones as well. One that was resolved is gone.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let answer = self.door.get(self.host, self.address, "/api/v2/alerts");
        let (status, body) = answer.expect("Alertmanager answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }
}
