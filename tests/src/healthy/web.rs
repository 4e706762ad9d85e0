//! nginx, and haproxy in front of it.

use super::workload::{
    Proof::{Client, Server as Logs, Sockets},
    Script::Debian,
    Server, Workload,
};

/// A server that answers after so many seconds.
macro_rules! slow {
    () => {
        r#"
        cat > answer <<END
sleep $TAKES; printf 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nlate\n'
END
        exec socat TCP-LISTEN:$PORT,fork,reuseaddr,backlog=128 EXEC:'sh answer'"#
    };
}

pub(super) const SERVERS: &[Server] = &[
    Server {
        ports: &[8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 9006],
        script: Debian(
            "
            mkdir www; echo 'a page that is longer than the sixty-four bytes of a short answer' > www/page
            cat > nginx.conf <<'END'
daemon off; worker_processes 1; user root; pid /run/nginx.pid; error_log stderr error;
events { worker_connections 512; }
http {
 log_format ports '$server_port $status'; access_log /dev/stderr ports; root /data/www;
 client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;
 client_max_body_size 0; keepalive_requests 1000000; keepalive_time 24h;
 server { listen 8001; listen 8003; listen 8008; }
 server { listen 8002; listen 127.0.0.1:9006; location / { return 204; } }
 server { listen 8004; listen 8007; location / { proxy_pass http://127.0.0.1:9004; } }
 server { listen 8005; location / { proxy_pass http://127.0.0.1:9005; } }
 server { listen 8006; location / { proxy_pass http://127.0.0.1:9006; } }
}
END
            exec nginx -e stderr -c /data/nginx.conf",
        ),
    },
    // What nginx waits for.
    Server { ports: &[9004], script: Debian(concat!("PORT=9004; TAKES=25;", slow!())) },
    Server { ports: &[9005], script: Debian(concat!("PORT=9005; TAKES=12;", slow!())) },
];

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "nginx: requests on one connection that is kept",
        ports: &[8001],
        client: Debian(
            "every 1 curl -sSf --rate 120/m -o /dev/null \"http://$SERVER:8001/page?[1-1000000]\"",
        ),
        proofs: &[Logs("8001 200", 200), Sockets("established", 1..=1)],
    },
    Workload {
        name: "nginx: answers without content (204)",
        ports: &[8002],
        client: Debian("every 0.5 curl -sSf -d sample=1 http://$SERVER:8002/"),
        proofs: &[Logs("8002 204", 200)],
    },
    Workload {
        name: "nginx: health checks that connect and close",
        ports: &[8003],
        client: Debian("every 0.5 nc.openbsd -vz $SERVER 8003"),
        proofs: &[Client("succeeded", 200)],
    },
    Workload {
        name: "nginx: 11 long polls of 25 s",
        ports: &[8004, 9004],
        client: Debian("together 11 every 0.1 curl -sSf -o /dev/null http://$SERVER:8004/"),
        proofs: &[Logs("8004 200", 44)],
    },
    Workload {
        name: "nginx: 11 requests that its upstream server answers after 12 s",
        ports: &[8005, 9005],
        client: Debian("together 11 every 0.1 curl -sSf -o /dev/null http://$SERVER:8005/"),
        proofs: &[Logs("8005 200", 88)],
    },
    Workload {
        name: "nginx: 11 uploads of 15 s",
        ports: &[8006, 9006],
        client: Debian(
            "
            head -c 1500000 /dev/zero > file
            together 11 every 0.1 curl -sSf --limit-rate 100k -T file http://$SERVER:8006/",
        ),
        proofs: &[Logs("8006 204", 66), Logs("9006 204", 66)],
    },
    // nginx has asked its upstream server, and the client does not wait for the answer.
    Workload {
        name: "nginx: clients that give up after 0.3 s",
        ports: &[8007],
        client: Debian(
            "
            hurry() { curl -s -m 0.3 http://$SERVER:8007/; [ $? = 28 ]; }
            every 0.7 hurry",
        ),
        proofs: &[Logs("8007 499", 100)],
    },
    Workload {
        name: "haproxy in front of nginx: HTTP and TCP health checks and requests",
        ports: &[8008],
        client: Debian(
            "
            cat > haproxy.cfg <<END
global
 stats socket /data/stats
defaults
 mode http
 timeout client 1m
 timeout server 1m
 timeout connect 5s
frontend in
 bind 127.0.0.1:8080
 default_backend pages
backend pages
 option httpchk GET /page
 server checked-by-http $SERVER:8008 check inter 500ms
backend others
 server checked-by-tcp $SERVER:8008 check inter 500ms
END
            haproxy -db -f haproxy.cfg & sleep 2
            status() { echo 'show stat' | socat - UNIX-CONNECT:/data/stats; }
            every 10 status &
            every 0.5 curl -sSf http://127.0.0.1:8080/page",
        ),
        proofs: &[Logs("8008 200", 400), Client("L7OK", 10), Client("L4OK", 10), Client("a page", 200)],
    },
];
