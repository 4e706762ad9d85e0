//! How this host resolves names: resolv.conf(5) and hosts(5), read again when they change.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::base::Name;
use resolv_conf::{Config, ScopedIp};

use super::{
    Listing,
    wire::{Asked, listing},
};

/// As much of a file is read, in bytes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// More servers, domains, seconds and attempts the C library does not take either (resolv.conf(5)).
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
const MOST_SECONDS: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;

/// How to resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    /// Whom to ask, in this order.
    pub servers: Vec<SocketAddr>,
    /// How long one of them is waited for.
    pub timeout: Duration,
    /// How often all of them are tried.
    pub attempts: u32,
    /// Whether IPv6 addresses are asked for.
    pub asks_v6: bool,
    /// Whether the questions say how large an answer may be.
    pub edns: bool,
    ndots: usize,
    search: Vec<String>,
    hosts: HashMap<Arc<str>, Vec<IpAddr>>,
}

impl Conf {
    fn new(conf: &Config, hosts: HashMap<Arc<str>, Vec<IpAddr>>) -> Self {
        let servers = conf.get_nameservers_or_local();
        Self {
            servers: servers.iter().filter_map(server).take(MOST_SERVERS).collect(),
            timeout: Duration::from_secs(conf.timeout.clamp(1, MOST_SECONDS).into()),
            attempts: conf.attempts.clamp(1, MOST_ATTEMPTS),
            asks_v6: !conf.no_aaaa,
            edns: conf.edns0,
            ndots: conf.ndots as usize,
            search: conf.get_last_search_or_domain().take(MOST_DOMAINS).cloned().collect(),
            hosts,
        }
    }

    /// The names to ask for, one after the other until one is known.
    pub fn candidates(&self, name: &str) -> Vec<Asked> {
        let whole = name.parse::<Asked>().ok();
        if name.ends_with('.') {
            return whole.into_iter().collect();
        }
        let searched = self.search.iter().filter(|domain| *domain != ".");
        let searched =
            searched.filter_map(|domain| Name::from_chars(format!("{name}.{domain}").chars()).ok());
        if name.matches('.').count() >= self.ndots {
            whole.into_iter().chain(searched).collect()
        } else {
            searched.chain(whole.clone()).collect()
        }
    }

    /// What the hosts file lists, which nobody is asked for.
    pub fn of_hosts(&self, name: &str) -> Option<[Listing; 2]> {
        let addresses = self.hosts.get(name.trim_end_matches('.'))?;
        let (v4, v6) = addresses.iter().partition::<Vec<IpAddr>, _>(|address| address.is_ipv4());
        Some([listing(v4), listing(v6)])
    }
}

#[cfg(test)]
impl Conf {
    /// Asks these servers, once, each for so long.
    pub fn of_servers(servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        let mut conf = Self::new(&Config::new(), HashMap::new());
        (conf.servers, conf.timeout, conf.attempts) = (servers, timeout, 1);
        conf
    }

    pub fn with_search(mut self, domain: &str) -> Self {
        self.search.push(domain.to_owned());
        self
    }
}

fn server(server: &ScopedIp) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    Some(match server {
        ScopedIp::V4(address) => SocketAddrV4::new(*address, PORT).into(),
        ScopedIp::V6(address, None) => SocketAddrV6::new(*address, PORT, 0, 0).into(),
        ScopedIp::V6(address, Some(interface)) => {
            // A link-local address is one of an interface, by its name or its index.
            let index = || fs::read_to_string(Path::new("/sys/class/net").join(interface).join("ifindex"));
            let index = interface.parse().ok().or_else(|| index().ok()?.trim().parse().ok())?;
            SocketAddrV6::new(*address, PORT, 0, index).into()
        }
    })
}

/// What tells one version of a file from another.
type Version = Option<(u64, u64, i64, i64, u64)>;

/// The two files.
pub(super) struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    read: Option<(Version, Version)>,
}

impl Files {
    pub fn of_host() -> Self {
        Self::new("/etc/resolv.conf".into(), "/etc/hosts".into())
    }

    pub fn new(resolv_conf: PathBuf, hosts: PathBuf) -> Self {
        Self { resolv_conf, hosts, read: None }
    }

    /// The next [`Self::changed`] reads them, whether they have changed or not.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Reads both if one has changed. Of the hosts, those in `wanted` are kept. A file that is not there says nothing.
    pub fn changed(&mut self, wanted: &[Arc<str>]) -> Option<Conf> {
        let versions = (version(&self.resolv_conf), version(&self.hosts));
        if self.read == Some(versions) {
            return None;
        }
        self.read = Some(versions);
        let text = read(&self.resolv_conf).unwrap_or_default();
        let (conf, errors) = Config::parse_with_errors(&text);
        for error in errors {
            log::warn!("{}: {error}; that line is left out", self.resolv_conf.display());
        }
        let hosts = hosts(&read(&self.hosts).unwrap_or_default(), wanted);
        Some(Conf::new(&conf, hosts))
    }
}

fn version(path: &Path) -> Version {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// The addresses of the names in `wanted`, which are in lower case.
fn hosts(text: &[u8], wanted: &[Arc<str>]) -> HashMap<Arc<str>, Vec<IpAddr>> {
    let wanted: HashSet<&str> = wanted.iter().map(|name| name.trim_end_matches('.')).collect();
    let mut found: HashMap<Arc<str>, Vec<IpAddr>> = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for word in words {
            if let Some(&name) = wanted.get(word.to_ascii_lowercase().as_str()) {
                found.entry(Arc::from(name)).or_default().push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Conf {
        Conf::new(&Config::parse(text).expect("right"), HashMap::new())
    }

    fn candidates(conf: &Conf, name: &str) -> Vec<String> {
        conf.candidates(name).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_are_honoured_within_what_the_c_library_takes() {
        let conf =
            parsed("nameserver 192.0.2.53\nnameserver 2001:db8::53\noptions timeout:2 attempts:9 edns0\n");
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:53"]);
        assert_eq!(
            (conf.timeout, conf.attempts, conf.edns, conf.asks_v6),
            (Duration::from_secs(2), 5, true, true)
        );
        assert_eq!(parsed("").servers.first().map(ToString::to_string).as_deref(), Some("127.0.0.1:53"));
        assert!(!parsed("options no-aaaa\n").asks_v6);
    }

    #[test]
    fn the_search_list_is_the_c_librarys() {
        let conf = parsed("search a.example b.example\noptions ndots:2\n");
        assert_eq!(candidates(&conf, "db"), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(candidates(&conf, "db.x.y"), ["db.x.y", "db.x.y.a.example", "db.x.y.b.example"]);
        assert_eq!(candidates(&conf, "db."), ["db"]);
    }

    #[test]
    fn hosts_are_those_that_are_wanted_by_any_of_their_names() {
        let wanted = [Arc::from("db.example"), Arc::from("other.example.")];
        let text = b"192.0.2.1 first DB.example # db2\n2001:db8::1\tdb.example\nbroken db.example\n192.0.2.9 Other.example";
        let conf = Conf::new(&Config::new(), hosts(text, &wanted));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(
            conf.of_hosts("db.example"),
            Some([
                Listing::Listed(vec![address("192.0.2.1")], 0),
                Listing::Listed(vec![address("2001:db8::1")], 0)
            ])
        );
        let v4_only = [Listing::Listed(vec![address("192.0.2.9")], 0), Listing::Nothing { exists: true }];
        assert_eq!(conf.of_hosts("other.example."), Some(v4_only));
        assert_eq!(conf.of_hosts("first"), None);
    }

    #[test]
    fn files_are_read_when_they_change() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let path = |name| directory.path().join(name);
        let mut files = Files::new(path("resolv.conf"), path("hosts"));
        let none = files.changed(&[]).expect("read for the first time");
        assert_eq!(none.servers.first().map(SocketAddr::port), Some(53));
        assert_eq!(files.changed(&[]), None);
        fs::write(path("resolv.conf"), "nameserver 192.0.2.1\n").expect("written");
        let conf = files.changed(&[]).expect("it has changed");
        assert_eq!(conf.servers, ["192.0.2.1:53".parse().expect("an address")]);
        assert_eq!(files.changed(&[]), None);
        files.forget();
        assert_eq!(files.changed(&[]), Some(conf));
    }
}
