//! What the kernel answers over `sock_diag`, held against a reading of the same bytes by the layouts of
//! `linux/netlink.h` and `linux/inet_diag.h`.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use tcpwarden::sock_diag::{DiagSocket, parse};

const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `struct inet_diag_msg`
const SOCKET: usize = 72;

fuzz_target!(|datagram: &[u8]| {
    let mut sockets = Vec::new();
    let result = parse(datagram, &mut |socket| sockets.push(socket));
    assert!(sockets.len() <= datagram.len() / (HEADER + SOCKET), "more sockets than there is room for");
    if result.is_err() {
        return;
    }
    assert_eq!(sockets, by_hand(datagram));
});

fn by_hand(mut datagram: &[u8]) -> Vec<DiagSocket> {
    let mut sockets = Vec::new();
    while datagram.len() >= HEADER {
        let length = u32::from_ne_bytes(array(datagram, 0)) as usize;
        match u16::from_ne_bytes(array(datagram, 4)) {
            SOCK_DIAG_BY_FAMILY => sockets.extend(socket(&datagram[HEADER..])),
            // NLMSG_DONE
            3 => break,
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    sockets
}

/// `None` where it is no socket of the Internet.
fn socket(message: &[u8]) -> Option<DiagSocket> {
    let address: fn(&[u8], usize) -> IpAddr = match message[0] {
        AF_INET => |message, at| array::<4>(message, at).into(),
        AF_INET6 => |message, at| array::<16>(message, at).into(),
        _ => return None,
    };
    let end = |at, port| {
        SocketAddr::new(address(message, at).to_canonical(), u16::from_be_bytes(array(message, port)))
    };
    Some(DiagSocket {
        state: message[1],
        local: end(8, 4),
        remote: end(24, 6),
        // `tcp_diag`: 3 is the timer of a mini-socket.
        is_mini_socket: message[2] == 3,
        receive_queue: u32::from_ne_bytes(array(message, 56)),
        send_queue: u32::from_ne_bytes(array(message, 60)),
        inode: u32::from_ne_bytes(array(message, 68)),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|place| bytes[at + place])
}
