//! Caches and databases.

use super::workload::{
    Proof::{Client, Server as Logs, Sockets},
    Script::Debian,
    Server, Workload,
};

/// It refuses to run as root.
macro_rules! postgres {
    () => {
        "
        chown postgres /data; exec chroot --userspec=postgres:postgres / sh -c \"
        cd /data; initdb --no-sync --auth=trust --pgdata=db --username=postgres &&
        echo host all all all trust >> db/pg_hba.conf &&
        exec postgres -D db -k /data -h 0.0.0.0 -p $PORT -c fsync=off\""
    };
}

pub(super) const SERVERS: &[Server] = &[
    Server {
        ports: &[6379],
        script: Debian("exec redis-server --port 6379 --save '' --bind 0.0.0.0 --protected-mode no"),
    },
    Server {
        ports: &[6380],
        script: Debian("exec redis-server --port 6380 --save '' --bind 0.0.0.0 --protected-mode no"),
    },
    Server {
        ports: &[6381],
        script: Debian(
            "
            while :; do
                redis-server --port 6381 --save '' --bind 0.0.0.0 --protected-mode no; sleep 0.5; echo RESTARTED
            done",
        ),
    },
    Server {
        ports: &[6390],
        script: Debian("exec redis-server --port 6390 --save '' --bind 0.0.0.0 --protected-mode no"),
    },
    Server { ports: &[11211], script: Debian("exec memcached -u root -p 11211 -l 0.0.0.0") },
    Server { ports: &[11212], script: Debian("exec memcached -u root -p 11212 -l 0.0.0.0") },
    Server { ports: &[5432], script: Debian(concat!("PORT=5432;", postgres!())) },
    Server { ports: &[5433], script: Debian(concat!("PORT=5433;", postgres!())) },
];

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "redis: PING every 200 ms, each on a new connection",
        ports: &[6379],
        client: Debian("every 0.2 redis-cli -h $SERVER -p 6379 ping"),
        proofs: &[Client("PONG", 400)],
    },
    Workload {
        name: "redis: 11 workers on BLPOP jobs 30, a job every 27 s",
        ports: &[6380],
        client: Debian(
            "
            every 27 redis-cli -h $SERVER -p 6380 rpush jobs work &
            together 11 every 0.1 redis-cli -h $SERVER -p 6380 -r -1 blpop jobs 30",
        ),
        proofs: &[Client("work", 4), Sockets("established", 11..=12)],
    },
    Workload {
        name: "redis: 20 clients with a connection each, and a restart of the server",
        ports: &[6381],
        client: Debian(
            "
            restart() { sleep 60; redis-cli -h $SERVER -p 6381 shutdown; }
            restart &
            connection() { redis-cli -h $SERVER -p 6381 -r -1 -i 0.5 ping || echo reconnecting; }
            together 20 every 0.3 connection",
        ),
        proofs: &[Client("PONG", 3000), Client("reconnecting", 20), Logs("RESTARTED", 1)],
    },
    // The lab moves the name to 10.80.0.11 (mod.rs).
    Workload {
        name: "redis: a monitor goes on asking the old address after a failover, and clients use the new one",
        ports: &[6390],
        client: Debian(
            "
            every 2 redis-cli -h $SERVER -p 6390 ping &
            every 0.5 redis-cli -h cache.example -p 6390 client list",
        ),
        proofs: &[
            Client("PONG", 60),
            Client("laddr=10.80.0.10:6390", 10),
            Client("laddr=10.80.0.11:6390", 150),
        ],
    },
    Workload {
        name: "memcached: version",
        ports: &[11211],
        client: Debian(
            r"
            ask() { printf 'version\r\nquit\r\n' | nc.openbsd -w 5 $SERVER 11211; }
            every 0.5 ask",
        ),
        proofs: &[Client("VERSION", 200)],
    },
    Workload {
        name: "memcached: set",
        ports: &[11212],
        client: Debian(
            r"
            store() { printf 'set key 0 0 5\r\nvalue\r\nquit\r\n' | nc.openbsd -w 5 $SERVER 11212; }
            every 0.5 store",
        ),
        proofs: &[Client("STORED", 200)],
    },
    Workload {
        name: "PostgreSQL: 11 queries of 25 s",
        ports: &[5432],
        client: Debian(
            r#"together 11 every 0.1 psql -h $SERVER -p 5432 -U postgres -qAt -c "select 'slept' from pg_sleep(25)""#,
        ),
        proofs: &[Client("slept", 44)],
    },
    Workload {
        name: "PostgreSQL: a pool of 20 connections that are never used",
        ports: &[5433],
        client: Debian(
            "
            restart() { sleep 60; redis-cli -h $SERVER -p 6381 shutdown; }
            restart &
            connection() { sleep 1000000 | psql -h $SERVER -p 5433 -U postgres -qAt; }
            together 20 every 1 connection",
        ),
        proofs: &[Sockets("established", 20..=20)],
    },
];
