//! The `format` files of tracefs. The five that the agent reads stand in one input, one after the other, each behind its line
//! `name: …`, as the kernel prints them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::{fields::ABSENT, record::Record};
use tcpwarden::probe::format::Records;

fuzz_target!(|text: &str| {
    let section = |event: &str| {
        let name = event.rsplit('/').next().unwrap_or_default();
        let begin = format!("name: {name}\n");
        let from = text.find(&begin).unwrap_or(text.len());
        let section = &text[from..];
        let end = section.get(1..).and_then(|rest| rest.find("name: ")).map_or(section.len(), |end| end + 1);
        section[..end].to_owned()
    };
    let Ok(records) = Records::parse(|event| Ok(section(event))) else { return };
    // Whatever was found is written there.
    let is_written = |event: &str, offset: u32| {
        assert_ne!(offset, ABSENT, "{event}: what is needed is there");
        let text = section(event);
        let parts = text.lines().flat_map(|line| line.split(';'));
        let mut numbers = parts.filter_map(|part| part.trim().strip_prefix("offset:")?.parse::<u32>().ok());
        assert!(numbers.any(|number| number == offset), "{event}: nothing is at {offset}");
    };
    let Records { state, retransmit, synack, receive_reset, send_reset, extras } = records;
    for (event, Record { socket, local, remote, local_port, remote_port }) in [
        ("sock/inet_sock_set_state", state),
        ("tcp/tcp_retransmit_skb", retransmit),
        ("tcp/tcp_retransmit_synack", synack),
        ("tcp/tcp_receive_reset", receive_reset),
        ("tcp/tcp_send_reset", send_reset),
    ] {
        for offset in [socket, local, remote] {
            is_written(event, offset);
        }
        // The ports of `tcp_send_reset` may be inside its addresses.
        let inside = event == "tcp/tcp_send_reset" && extras.send_reset_sockaddr == 1;
        for offset in [local_port, remote_port] {
            if inside { assert_eq!(offset, ABSENT) } else { is_written(event, offset) }
        }
    }
    for offset in [extras.state_old, extras.state_new, extras.state_protocol] {
        is_written("sock/inet_sock_set_state", offset);
    }
    is_written("tcp/tcp_retransmit_synack", extras.synack_request);
    for (event, offset) in [
        ("tcp/tcp_retransmit_skb", extras.retransmit_state),
        ("tcp/tcp_retransmit_skb", extras.retransmit_error),
        ("tcp/tcp_send_reset", extras.send_reset_state),
    ] {
        if offset != ABSENT {
            is_written(event, offset);
        }
    }
});
