//! Mail, messages, names, logins and files.

use super::workload::{
    Proof::{Client, Sockets},
    Script::Debian,
    Server, Workload,
};

pub(super) const SERVERS: &[Server] = &[
    Server {
        ports: &[25],
        script: Debian(
            r"
            mkdir -p /var/spool/smtpd /var/lib/opensmtpd/empty /var/empty; chmod 711 /var/spool/smtpd
            printf 'listen on 0.0.0.0 port 25\naction send relay\nmatch for any action send\n' > smtpd.conf
            exec smtpd -d -f smtpd.conf",
        ),
    },
    Server {
        ports: &[1883],
        script: Debian(
            r"
            printf 'listener 1883 0.0.0.0\nallow_anonymous true\nuser root\n' > mosquitto.conf
            exec mosquitto -c mosquitto.conf",
        ),
    },
    Server {
        ports: &[53],
        script: Debian(
            "exec dnsmasq -k --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts --address=/example/192.0.2.1",
        ),
    },
    Server {
        ports: &[22, 2222],
        script: Debian(
            "
            mkdir /run/sshd; ssh-keygen -q -t ed25519 -N '' -f key
            exec /usr/sbin/sshd -D -e -p 22 -p 2222 -f /dev/null -h /data/key -o PidFile=none -o UsePAM=no \
            -o PermitRootLogin=yes -o PermitEmptyPasswords=yes",
        ),
    },
    Server {
        ports: &[21],
        script: Debian(
            r"
            mkdir empty files; echo contents > files/file
            printf 'listen=YES\nbackground=NO\nanonymous_enable=YES\nanon_root=/data/files\n' > vsftpd.conf
            printf 'secure_chroot_dir=/data/empty\nseccomp_sandbox=NO\n' >> vsftpd.conf
            exec vsftpd /data/vsftpd.conf",
        ),
    },
];

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "SMTP: the greeting and QUIT",
        ports: &[25],
        client: Debian(
            r"
            greet() { (sleep 0.1; printf 'QUIT\r\n') | nc.openbsd -w 5 $SERVER 25; }
            every 0.9 greet",
        ),
        proofs: &[Client("221 ", 100)],
    },
    Workload {
        name: "MQTT: mosquitto_pub, one message each, and a subscriber",
        ports: &[1883],
        client: Debian(
            "
            mosquitto_sub -h $SERVER -t heat & sleep 1
            every 0.5 mosquitto_pub -h $SERVER -t heat -m payload",
        ),
        proofs: &[Client("payload", 200), Sockets("established", 1..=2)],
    },
    Workload {
        name: "DNS over TCP: dig",
        ports: &[53],
        client: Debian("every 0.5 dig +tcp +short @$SERVER www.example"),
        proofs: &[Client("192.0.2.1", 200)],
    },
    // As check_ssh of the Nagios plugins does.
    Workload {
        name: "SSH: a probe that sends its version once it has read the server's",
        ports: &[22],
        client: Debian(
            r"
            probe() { (sleep 0.1; printf 'SSH-2.0-check_ssh_2.3\r\n') | nc.openbsd -N -w 5 $SERVER 22 | head -n 1; }
            every 0.9 probe",
        ),
        proofs: &[Client("SSH-2.0-OpenSSH", 100)],
    },
    Workload {
        name: "SSH: a login that stays",
        ports: &[2222],
        client: Debian(
            "
            login() {
                ssh -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@$SERVER \
                'while echo here; do sleep 5; done'
            }
            every 1 login",
        ),
        proofs: &[Client("here", 24), Sockets("established", 1..=1)],
    },
    Workload {
        name: "FTP: passive transfers",
        ports: &[21],
        client: Debian("every 1 curl -sSf ftp://$SERVER/file"),
        proofs: &[Client("contents", 100)],
    },
];
