//! Accept queues of our listeners.

use std::collections::BTreeMap;

use anyhow::Context as _;
use netlink_packet_sock_diag::inet::StateFlags;

use crate::sock_diag;

/// The accept queues of one port, those of all its listeners together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// The port.
    pub port: u16,
    /// Connections waiting to be accepted.
    pub waiting: u64,
    /// How many may wait: the smaller of listen()'s backlog and `somaxconn`, per listener.
    pub limit: u64,
    /// The listening sockets, by inode.
    pub sockets: Vec<u32>,
}

/// Reads the queues of every listening port, by port.
pub fn listen_queues() -> anyhow::Result<Vec<ListenQueue>> {
    let mut queues: BTreeMap<u16, ListenQueue> = BTreeMap::new();
    sock_diag::dump(&StateFlags::LISTEN, |socket| {
        let port = socket.local.port();
        let queue =
            queues.entry(port).or_insert(ListenQueue { port, waiting: 0, limit: 0, sockets: Vec::new() });
        queue.waiting += u64::from(socket.receive_queue);
        queue.limit += u64::from(socket.send_queue);
        queue.sockets.push(socket.inode);
    })
    .context("cannot read the accept queues over sock_diag netlink")?;
    Ok(queues.into_values().collect())
}
