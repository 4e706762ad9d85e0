//! nginx, which resolves the names of what it forwards to once, when it starts, and keeps the addresses.

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::TempDir;

use crate::{dns::Resolver, host::Host, http, process::Process};

/// A running nginx with one worker; ended on drop.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
}

impl Nginx {
    /// Starts one that answers every request by a few lines.
    #[must_use]
    pub fn page(host: &Host, resolver: &Resolver, port: u16) -> Self {
        let page = "a page of more than sixty-four bytes, as pages are, so that nobody takes it for an alert";
        Self::start(host, resolver, port, &format!("return 200 '{page}\\n';"))
    }

    /// Starts one that forwards every request to `upstream`, a name and a port, and gives a connection attempt so much time.
    #[must_use]
    pub fn proxy(host: &Host, resolver: &Resolver, port: u16, upstream: &str, patience: Duration) -> Self {
        let patience = patience.as_millis();
        let location = format!(
            "proxy_pass http://{upstream}; proxy_connect_timeout {patience}ms; proxy_read_timeout 5s;"
        );
        Self::start(host, resolver, port, &location)
    }

    fn start(host: &Host, resolver: &Resolver, port: u16, location: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path();
        let own = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {}/{what}; ", path.display()))
            .concat();
        let config = format!(
            "daemon off; worker_processes 1; user root; pid {}/pid; error_log stderr warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; default_type text/plain; {own}\n\
             server {{ listen {port}; location / {{ {location} }} }} }}\n",
            path.display()
        );
        let file = path.join("nginx.conf");
        fs::write(&file, config).expect("written");
        let mut command = resolver.command(host, "nginx");
        command.arg("-p").arg(path).arg("-c").arg(&file);
        let name = format!("nginx on {}", host.name());
        let mut nginx = Self { process: Process::start(name, directory, command) };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        nginx.process.ready(|| http::get(host, address, "/"));
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it, unless it is killed.
        self.process.end();
    }
}
