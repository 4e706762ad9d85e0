//! Sockets whose `sk_prot` is not TCP's own: what MPTCP, a sockmap and kernel TLS make of one.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd},
    str::FromStr,
    sync::OnceLock,
};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// What the listeners and the clients of this process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing else.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// Listeners are in a sockmap.
    Sockmap,
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "tcp" => Self::Tcp,
            "mptcp" => Self::Mptcp,
            "sockmap" => Self::Sockmap,
            _ => bail!("no kind {name}"),
        })
    }
}

static KIND: OnceLock<Kind> = OnceLock::new();

/// Decides for the whole process, once.
pub fn choose(kind: Kind) {
    let _ = KIND.set(kind);
}

fn kind() -> Kind {
    *KIND.get_or_init(|| Kind::Tcp)
}

/// A socket that does nothing yet.
pub fn socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, (kind() == Kind::Mptcp).then_some(Protocol::MPTCP))
}

/// Makes a socket that listens what this process's listeners are.
pub fn listening(listener: &Socket) -> anyhow::Result<()> {
    if kind() == Kind::Sockmap { into_sockmap(listener).context("into a sockmap") } else { Ok(()) }
}

/// Puts a socket into a sockmap of its own, which lives as long as the process.
pub fn into_sockmap(socket: &Socket) -> io::Result<()> {
    const MAP_CREATE: libc::c_int = 0;
    const MAP_UPDATE_ELEM: libc::c_int = 2;
    const SOCKMAP: u32 = 15;
    // Before 5.11 every map of the user counts towards this limit (kernel/bpf/syscall.c bpf_map_charge_init()), the agents' too. Some
    // sandboxes do not let it be lifted, and have a newer kernel.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let (key, value) = (0_u32, socket.as_raw_fd());
    // map_type, key_size, value_size, max_entries, map_flags (include/uapi/linux/bpf.h, union bpf_attr).
    let map = bpf(MAP_CREATE, &[SOCKMAP, 4, 4, 1, 0])?;
    // SAFETY: the kernel has just made this descriptor for us.
    let map = unsafe { OwnedFd::from_raw_fd(map) };
    // map_fd, key, value, flags.
    let map = map.into_raw_fd();
    let map = u64::from(map.cast_unsigned());
    bpf(MAP_UPDATE_ELEM, &[map, (&raw const key).addr() as u64, (&raw const value).addr() as u64, 0_u64])?;
    Ok(())
}

fn bpf<T>(command: libc::c_int, attributes: &[T]) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as we say; what they point to lives until it returns.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(answer).unwrap_or(-1)) }
}

/// Gives a connection the kernel's TLS, without keys yet: the socket is another from here on.
pub fn into_ktls(socket: &Socket) -> io::Result<()> {
    let name = c"tls";
    // SAFETY: the kernel reads the bytes of the name.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_TCP, libc::TCP_ULP, name.as_ptr().cast(), 3)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
