//! Asking the kernel for its TCP sockets over `sock_diag` netlink. Needs no right beyond being in the namespace.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, Parseable as _,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY},
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

/// One TCP socket as `sock_diag` reports it: mini-sockets with their sub-state, requests as SYN_RECV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiagSocket {
    /// TCP state number.
    pub state: u8,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port.
    pub remote: SocketAddr,
    /// Whether it is a mini-socket: no process owns it, and it counts against `tcp_max_tw_buckets`.
    pub is_mini_socket: bool,
    /// Of a listener: connections waiting to be accepted.
    pub receive_queue: u32,
    /// Of a listener: how many may wait.
    pub send_queue: u32,
    /// Which socket it is; 0 for one that no process owns.
    pub inode: u32,
}

/// Set by the kernel when what it was walking changed so much that the dump may be incomplete.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Room for the kernel's largest dump message (32 KiB, `NLMSG_GOODSIZE` on a dump) and then some.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Dumps all TCP sockets of this network namespace in one of `states`, IPv4 first, then IPv6.
///
/// # Errors
/// What the kernel answered; `Interrupted` when a dump was declared inconsistent.
pub fn dump(states: &StateFlags, mut each: impl FnMut(DiagSocket)) -> io::Result<()> {
    for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        dump_family(family, id, states, &mut each)?;
    }
    Ok(())
}

fn dump_family(
    family: u8,
    socket_id: SocketId,
    states: &StateFlags,
    each: &mut impl FnMut(DiagSocket),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states.clone(),
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut buffer = vec![0; RECEIVE_BYTES];
    loop {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        if parse(&buffer[..length], each)? {
            return Ok(());
        }
    }
}

/// Takes the sockets from one datagram of the kernel; returns whether it ends the dump.
///
/// # Errors
/// What the kernel answered, or that it cannot be read; `Interrupted` when the dump was declared inconsistent.
pub fn parse(mut datagram: &[u8], each: &mut impl FnMut(DiagSocket)) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?;
        if message.flags() & NLM_F_DUMP_INTR != 0 {
            return Err(io::Error::new(
                io::ErrorKind::Interrupted,
                "the kernel's socket dump was interrupted",
            ));
        }
        if message.message_type() == SOCK_DIAG_BY_FAMILY {
            // Attributes follow that nobody asked for; to read them, too, takes longer than all else.
            let socket = InetResponseHeader::parse(message.payload()).map_err(io::Error::other)?;
            let id = &socket.socket_id;
            each(DiagSocket {
                state: socket.state,
                local: canonical(id.source_address, id.source_port),
                remote: canonical(id.destination_address, id.destination_port),
                is_mini_socket: socket.timer == Some(Timer::TimeWait),
                receive_queue: socket.recv_queue,
                send_queue: socket.send_queue,
                inode: socket.inode,
            });
        } else {
            let other = NetlinkMessage::<SockDiagMessage>::deserialize(datagram).map_err(io::Error::other)?;
            match other.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return Err(io::Error::from_raw_os_error(error.raw_code().saturating_neg()));
                }
                _ => {}
            }
        }
        let step = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(step..).unwrap_or_default();
    }
    Ok(false)
}

/// IPv4 has one spelling, whichever socket family carries it.
fn canonical(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr.to_canonical(), port)
}
