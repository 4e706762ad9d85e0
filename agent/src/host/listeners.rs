//! Accept queues of our listeners.

use std::collections::BTreeMap;

use anyhow::Context as _;
use netlink_packet_sock_diag::inet::StateFlags;

use crate::sock_diag;

/// The accept queue of one port. Each listening socket has a queue and a limit of its own (SO_REUSEPORT, or one per address), and the
/// kernel drops connections of one that is full whatever the others hold: these are the figures of the fullest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// The port.
    pub port: u16,
    /// Connections waiting to be accepted.
    pub waiting: u64,
    /// Its backlog, the smaller of listen()'s and `somaxconn`. One more may wait (include/net/sock.h of 6.18, sk_acceptq_is_full()).
    pub limit: u64,
    /// All listening sockets of the port, by inode.
    pub sockets: Vec<u32>,
}

impl ListenQueue {
    /// Takes another listening socket of the port.
    fn take_in(&mut self, waiting: u64, limit: u64, inode: u32) {
        self.sockets.push(inode);
        let (share, other) = (waiting * (self.limit + 1), self.waiting * (limit + 1));
        // Of two as full, the one that has less to hold.
        if share > other || (share == other && limit < self.limit) {
            (self.waiting, self.limit) = (waiting, limit);
        }
    }
}

/// Reads the queues of every listening port, by port.
pub fn listen_queues() -> anyhow::Result<Vec<ListenQueue>> {
    let mut queues: BTreeMap<u16, ListenQueue> = BTreeMap::new();
    sock_diag::dump(&StateFlags::LISTEN, |socket| {
        let port = socket.local.port();
        let (waiting, limit) = (u64::from(socket.receive_queue), u64::from(socket.send_queue));
        queues.entry(port).or_insert(ListenQueue { port, waiting, limit, sockets: Vec::new() }).take_in(
            waiting,
            limit,
            socket.inode,
        );
    })
    .context("cannot read the accept queues over sock_diag netlink")?;
    Ok(queues.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_listener_of_a_port_is_told() {
        let mut queue = ListenQueue { port: 80, waiting: 1, limit: 3, sockets: vec![1] };
        queue.take_in(60, 4_096, 2);
        assert_eq!((queue.waiting, queue.limit), (1, 3), "a share of a long queue is little");
        queue.take_in(3, 3, 3);
        assert_eq!((queue.waiting, queue.limit, queue.sockets), (3, 3, vec![1, 2, 3]));
    }

    #[test]
    fn of_empty_queues_the_shortest_is_told() {
        let mut queue = ListenQueue { port: 80, waiting: 0, limit: 4_096, sockets: vec![1] };
        queue.take_in(0, 128, 2);
        queue.take_in(0, 511, 3);
        assert_eq!((queue.waiting, queue.limit), (0, 128));
    }
}
