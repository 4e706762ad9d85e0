#!/usr/bin/env python3
"""Makes the seeds that are bytes of a kernel, from the running one. Needs root, for a network namespace of its own.

    unshare --net ./make.py
"""

import os, socket, struct, subprocess, time
from pathlib import Path

HERE = Path(__file__).parent
TRACEFS = Path("/sys/kernel/tracing/events")
EVENTS = ["sock/inet_sock_set_state", "tcp/tcp_retransmit_skb", "tcp/tcp_retransmit_synack",
          "tcp/tcp_receive_reset", "tcp/tcp_send_reset"]


def write(target, name, data):
    directory = HERE / target
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(data)
    print(f"{target}/{name}: {len(data)} bytes")


def tracepoint_formats():
    text = b"".join((TRACEFS / event / "format").read_bytes() for event in EVENTS)
    write("tracepoint_formats", f"linux-{os.uname().release.split('-')[0]}", text)


def socket_dumps():
    """A listener, connections and TIME_WAIT over IPv4 and IPv6, as `sock_diag` reports them."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    kept = []
    for family, host in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
        listener = socket.create_server((host, 0), family=family)
        kept.append(listener)
        for closes in [False, True]:
            ours = socket.create_connection(listener.getsockname()[:2])
            theirs, _ = listener.accept()
            if closes:
                ours.close()
                theirs.close()
            else:
                kept += [ours, theirs]
    time.sleep(0.1)
    for family, name in [(socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")]:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4)
        request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 0xfff)
        netlink.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
        dump = netlink.recv(65536)
        end = netlink.recv(65536)
        write("socket_dumps", name, dump)
        write("socket_dumps", "done", end)
        # An unknown attribute is an error.
        netlink.send(struct.pack("=IHHII", 16, 20, 0x1, 1, 0))
        write("socket_dumps", "refused", netlink.recv(65536))


class Btf:
    """As much of the kernel's types as lies between the names and what the agent looks for."""

    STRUCT, UNION, ENUM, TYPEDEF, FUNC, FUNC_PROTO, PTR, INT = 4, 5, 6, 8, 12, 13, 2, 1
    # Bytes per member of a kind.
    ITEM = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, 15: 12, 19: 12}
    # Bytes behind other kinds: numbers, arrays, variables, and tags of declarations.
    BEHIND = {INT: 4, 3: 12, 14: 4, 17: 4}

    def __init__(self, data):
        _, _, _, length, types, types_length, names, names_length = struct.unpack_from("=HBBIIIII", data)
        self.names = data[length + names:length + names + names_length]
        self.types = [None]
        at = length + types
        while at < length + types + types_length:
            name, info, size = struct.unpack_from("=III", data, at)
            kind, count = info >> 24 & 0x1f, info & 0xffff
            extra = self.ITEM[kind] * count if kind in self.ITEM else self.BEHIND.get(kind, 0)
            self.types.append((name, info, size, data[at + 12:at + 12 + extra]))
            at += 12 + extra

    def name(self, offset):
        return self.names[offset:self.names.index(b"\0", offset)].decode()

    def find(self, name, kind):
        return next(i for i, t in enumerate(self.types)
                    if t and t[1] >> 24 & 0x1f == kind and self.name(t[0]) == name)


def kernel_types():
    whole = Btf(Path("/sys/kernel/btf/vmlinux").read_bytes())
    names, types, made = b"\0", [], {}
    fields = {}
    for line in (HERE / "../../probe-ebpf/src/fields.rs").read_text().splitlines():
        parts = line.split('"')
        if line.startswith("            ") and len(parts) == 5:
            fields.setdefault(parts[1], []).append(parts[3])

    def named(text):
        nonlocal names
        if not text:
            return 0
        at = names.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            names += text.encode() + b"\0"
            return len(names) - len(text) - 1
        return at + 1

    def add(name, info, size, rest=b""):
        types.append(struct.pack("=III", named(name), info, size) + rest)
        return len(types)

    number = add("int", Btf.INT << 24, 4, struct.pack("=I", 1 << 24 | 32))

    def reaches(identity, wanted):
        """The members of a structure, or of those without a name in it, that lead to what is wanted."""
        _, info, size, rest = whole.types[identity]
        members = []
        for at in range(0, len(rest), 12):
            name, inner, offset = struct.unpack_from("=III", rest, at)
            text = whole.name(name)
            kind = whole.types[inner][1] >> 24 & 0x1f if inner else 0
            below = [w.split(".", 1)[1] for w in wanted if w.startswith(text + ".")] if text else wanted
            if kind in (Btf.STRUCT, Btf.UNION) and below:
                found = reaches(inner, below)
                if found:
                    members.append((text, found, offset))
            elif text and text in wanted:
                members.append((text, number, offset))
        if not members:
            return None
        flag = info & 1 << 31
        rest = b"".join(struct.pack("=III", named(t), i, o) for t, i, o in members)
        return add(whole.name(whole.types[identity][0]), flag | (info >> 24 & 0x1f) << 24 | len(members), size, rest)

    for structure, wanted in fields.items():
        reaches(whole.find(structure, Btf.STRUCT), wanted)
    _, info, size, rest = whole.types[whole.find("skb_drop_reason", Btf.ENUM)]
    values = [struct.unpack_from("=Ii", rest, at) for at in range(0, len(rest), 8)]
    values = [(whole.name(n), v) for n, v in values if "NOT_SPECIFIED" in whole.name(n) or "TW_PAWS" in whole.name(n)]
    add("skb_drop_reason", Btf.ENUM << 24 | len(values), size,
        b"".join(struct.pack("=Ii", named(n), v) for n, v in values))

    def prototype(count):
        return add("", Btf.FUNC_PROTO << 24 | count, 0, struct.pack("=II", 0, number) * count)

    pointer = whole.types[whole.find("btf_trace_tcp_retransmit_skb", Btf.TYPEDEF)][2]
    arguments = whole.types[whole.types[pointer][2]][1] & 0xffff
    add("btf_trace_tcp_retransmit_skb", Btf.TYPEDEF << 24, add("", Btf.PTR << 24, prototype(arguments)))
    arguments = whole.types[whole.types[whole.find("tcp_timewait_state_process", Btf.FUNC)][2]][1] & 0xffff
    add("tcp_timewait_state_process", Btf.FUNC << 24 | 1, prototype(arguments))

    body = b"".join(types)
    header = struct.pack("=HBBIIIII", 0xeb9f, 1, 0, 24, 0, len(body), len(body), len(names))
    write("kernel_types", f"linux-{os.uname().release.split('-')[0]}", header + body + names)


def endless_types():
    """A structure that lies in itself without a name, which no kernel has."""
    names = b"\0sock_common\0skc_daddr\0"
    types = struct.pack("=III", 1, Btf.STRUCT << 24 | 1, 8) + struct.pack("=III", 0, 1, 0)
    header = struct.pack("=HBBIIIII", 0xeb9f, 1, 0, 24, 0, len(types), len(types), len(names))
    write("kernel_types", "endless", header + types + names)


tracepoint_formats()
socket_dumps()
kernel_types()
endless_types()
