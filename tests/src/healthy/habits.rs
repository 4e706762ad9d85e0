//! How programs use their connections, whatever they speak.

use super::workload::{
    Proof::{Client, Server as Logs, Sockets, Waiting},
    Script::{Debian, Lab},
    Server, Workload,
};

pub(super) const SERVERS: &[Server] = &[
    Server {
        ports: &[7000],
        script: Debian(
            "exec socat TCP-LISTEN:7000,fork,reuseaddr,backlog=128 SYSTEM:'while echo tick; do sleep 1; done'",
        ),
    },
    Server {
        ports: &[2003],
        script: Debian("exec socat -u TCP-LISTEN:2003,fork,reuseaddr,backlog=128 STDOUT"),
    },
    Server { ports: &[7020], script: Lab("exec $TRAFFIC work $SERVER:7020 1000000 40000") },
    Server {
        ports: &[7030],
        script: Debian(
            "exec perl -MIO::Socket::INET -e 'my $listener = IO::Socket::INET->new(LocalPort => 7030, Listen => 1) or die; sleep'",
        ),
    },
    Server { ports: &[7040], script: Debian("exec socat TCP-LISTEN:7040,fork,reuseaddr EXEC:'echo hello'") },
    Server { ports: &[7050], script: Lab("exec $TRAFFIC welcome $SERVER:7050 1000000 server") },
];

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "a feed to 11 clients: only the server sends",
        ports: &[7000],
        client: Debian("together 11 every 1 nc.openbsd -d $SERVER 7000"),
        proofs: &[Client("tick", 1000), Sockets("established", 11..=11)],
    },
    Workload {
        name: "11 clients that send a metric every 30 s and get no answer",
        ports: &[2003],
        client: Debian(
            "
            metrics() { while echo 'load 1'; do sleep 30; done | nc.openbsd $SERVER 2003; }
            together 11 every 1 metrics",
        ),
        proofs: &[Logs("load 1", 44), Sockets("established", 11..=11)],
    },
    Workload {
        name: "requests that end with a half-close and are answered after 40 s, 2 per second",
        ports: &[7020],
        client: Lab("exec $TRAFFIC request $SERVER:7020 1000000 2 80000"),
        proofs: &[Sockets("close-wait", 60..=100)],
    },
    Workload {
        name: "listen(1), and one connection that waits to be accepted",
        ports: &[7030],
        client: Debian("sleep 1000000 | nc.openbsd $SERVER 7030"),
        proofs: &[Waiting(1)],
    },
    // The server closes first. Four rounds of some seconds, by which the agent comes to know the ports, then slow ones: each port comes back just
    // after its TIME_WAIT, which is 60 s.
    Workload {
        name: "a client that uses 40 source ports in turn, each of them every 62 s",
        ports: &[7040],
        client: Debian(
            "
            round() {
                for port in $(seq 20000 20039); do
                    sleep $1 & nc.openbsd -d -p $port -w 5 $SERVER 7040 || echo FAILED; wait
                done
            }
            for _ in 1 2 3 4; do round 0.1; done
            while :; do round 1.55; done",
        ),
        proofs: &[Client("hello", 200), Sockets("time-wait", 34..=40)],
    },
    Workload {
        name: "50 connections per second, closed by the server",
        ports: &[7050],
        client: Lab("exec $TRAFFIC pace $SERVER:7050 1000000 50 server"),
        proofs: &[Sockets("time-wait", 2_500..=3_100)],
    },
];
