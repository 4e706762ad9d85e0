//! Layouts of the classic tracepoints' records, from tracefs `format`. The common header differs between kernels
//! (longer with PREEMPT_RT), so no offset is taken for granted.

use std::{collections::HashMap, fs, path::Path};

use probe_ebpf::{
    fields::ABSENT,
    record::{Extras, Record},
};
use thiserror::Error;

/// Why the records of a tracepoint cannot be read.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The file is missing or unreadable.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The `format` file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A field the programs need is not there.
    #[error("{event} has no field {field}")]
    MissingField {
        /// The tracepoint.
        event: String,
        /// The field.
        field: &'static str,
    },
}

/// Offset and size of each field of one record.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    event: String,
    fields: HashMap<String, (u32, u32)>,
}

impl Format {
    fn parse(event: &str, text: &str) -> Self {
        Self { event: event.to_owned(), fields: text.lines().filter_map(parse_field).collect() }
    }

    fn offset(&self, field: &'static str) -> Result<u32, FormatError> {
        self.optional(field).ok_or_else(|| FormatError::MissingField { event: self.event.clone(), field })
    }

    fn optional(&self, field: &str) -> Option<u32> {
        self.fields.get(field).map(|&(offset, _)| offset)
    }

    fn size(&self, field: &str) -> Option<u32> {
        self.fields.get(field).map(|&(_, size)| size)
    }

    fn record(&self) -> Result<Record, FormatError> {
        Ok(Record {
            socket: self.offset("skaddr")?,
            local: self.offset("saddr_v6")?,
            remote: self.offset("daddr_v6")?,
            local_port: self.offset("sport")?,
            remote_port: self.offset("dport")?,
        })
    }

    /// Two `sockaddr` in place of addresses and ports (`tcp_send_reset`, 6.10 on).
    fn record_of_sockaddrs(&self) -> Result<Record, FormatError> {
        Ok(Record {
            socket: self.offset("skaddr")?,
            local: self.offset("saddr")?,
            remote: self.offset("daddr")?,
            local_port: ABSENT,
            remote_port: ABSENT,
        })
    }
}

/// `\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;`
fn parse_field(line: &str) -> Option<(String, (u32, u32))> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    // An array's length may be an expression: `__u8 saddr[sizeof(struct sockaddr_in6)]`.
    let name = declaration.split('[').next()?.rsplit([' ', '*']).next()?.to_owned();
    // A record is never larger than 64 KiB: what lies behind is no offset, and `ABSENT` least of all.
    let offset: u16 = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
    let size = parts.next()?.strip_prefix("size:")?.parse().ok()?;
    Some((name, (offset.into(), size)))
}

/// The layouts of all five records, as the kernel side wants them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// `inet_sock_set_state`
    pub state: Record,
    /// `tcp_retransmit_skb`
    pub retransmit: Record,
    /// `tcp_retransmit_synack`
    pub synack: Record,
    /// `tcp_receive_reset`
    pub receive_reset: Record,
    /// `tcp_send_reset`
    pub send_reset: Record,
    /// What only one of them has.
    pub extras: Extras,
}

impl Records {
    /// Reads the layouts of the running kernel.
    pub fn read(tracefs: &Path) -> Result<Self, FormatError> {
        Self::parse(|event| {
            let path = tracefs.join("events").join(event).join("format");
            fs::read_to_string(&path)
                .map_err(|source| FormatError::Unreadable { path: path.display().to_string(), source })
        })
    }

    /// Takes the layouts from the texts of `format` files; `text` has that of an event such as `tcp/tcp_send_reset`.
    pub fn parse(text: impl Fn(&str) -> Result<String, FormatError>) -> Result<Self, FormatError> {
        let format = |event: &str| Ok(Format::parse(event, &text(event)?));
        let state = format("sock/inet_sock_set_state")?;
        let retransmit = format("tcp/tcp_retransmit_skb")?;
        let synack = format("tcp/tcp_retransmit_synack")?;
        let receive_reset = format("tcp/tcp_receive_reset")?;
        let send_reset = format("tcp/tcp_send_reset")?;
        let sockaddrs = send_reset.optional("saddr_v6").is_none();
        let extras = Extras {
            state_old: state.offset("oldstate")?,
            state_new: state.offset("newstate")?,
            state_protocol: state.offset("protocol")?,
            state_protocol_width: state.size("protocol").unwrap_or(2),
            retransmit_state: retransmit.optional("state").unwrap_or(ABSENT),
            retransmit_error: retransmit.optional("err").unwrap_or(ABSENT),
            synack_request: synack.offset("req")?,
            send_reset_state: send_reset.optional("state").unwrap_or(ABSENT),
            send_reset_sockaddr: u32::from(sockaddrs),
        };
        Ok(Self {
            state: state.record()?,
            retransmit: retransmit.record()?,
            synack: synack.record()?,
            receive_reset: receive_reset.record()?,
            send_reset: if sockaddrs { send_reset.record_of_sockaddrs()? } else { send_reset.record()? },
            extras,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ABSENT, Records};

    /// Lines as kernels 5.4 and 6.18 print them.
    fn format(kernel: &str, event: &str) -> String {
        let lines: &[(&str, u32, u32)] = match (kernel, event) {
            ("5.4", "sock/inet_sock_set_state") => &[
                ("const void * skaddr", 8, 8),
                ("int oldstate", 16, 4),
                ("int newstate", 20, 4),
                ("__u16 sport", 24, 2),
                ("__u16 dport", 26, 2),
                ("__u16 family", 28, 2),
                ("__u8 protocol", 30, 1),
                ("__u8 saddr[4]", 31, 4),
                ("__u8 daddr[4]", 35, 4),
                ("__u8 saddr_v6[16]", 39, 16),
                ("__u8 daddr_v6[16]", 55, 16),
            ],
            (_, "sock/inet_sock_set_state") => &[
                ("const void * skaddr", 8, 8),
                ("int oldstate", 16, 4),
                ("int newstate", 20, 4),
                ("__u16 sport", 24, 2),
                ("__u16 dport", 26, 2),
                ("__u16 family", 28, 2),
                ("__u16 protocol", 30, 2),
                ("__u8 saddr[4]", 32, 4),
                ("__u8 daddr[4]", 36, 4),
                ("__u8 saddr_v6[16]", 40, 16),
                ("__u8 daddr_v6[16]", 56, 16),
            ],
            ("6.18", "tcp/tcp_send_reset") => &[
                ("const void * skbaddr", 8, 8),
                ("const void * skaddr", 16, 8),
                ("int state", 24, 4),
                ("enum sk_rst_reason reason", 28, 4),
                ("__u8 saddr[sizeof(struct sockaddr_in6)]", 32, 28),
                ("__u8 daddr[sizeof(struct sockaddr_in6)]", 60, 28),
            ],
            ("6.18", "tcp/tcp_retransmit_skb") => &[
                ("const void * skbaddr", 8, 8),
                ("const void * skaddr", 16, 8),
                ("int state", 24, 4),
                ("__u16 sport", 28, 2),
                ("__u16 dport", 30, 2),
                ("__u16 family", 32, 2),
                ("__u8 saddr[4]", 34, 4),
                ("__u8 daddr[4]", 38, 4),
                ("__u8 saddr_v6[16]", 42, 16),
                ("__u8 daddr_v6[16]", 58, 16),
                ("int err", 76, 4),
            ],
            _ => &[
                ("const void * skaddr", 16, 8),
                ("const void * req", 24, 8),
                ("int state", 32, 4),
                ("__u16 sport", 36, 2),
                ("__u16 dport", 38, 2),
                ("__u8 saddr_v6[16]", 48, 16),
                ("__u8 daddr_v6[16]", 64, 16),
            ],
        };
        let line = |(field, offset, size): &(&str, u32, u32)| {
            format!("\tfield:{field};\toffset:{offset};\tsize:{size};\tsigned:0;\n")
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn protocol_is_one_byte_on_old_kernels_and_shifts_what_follows() {
        let old = Records::parse(|event| Ok(format("5.4", event))).expect("all fields are there");
        assert_eq!((old.extras.state_protocol, old.extras.state_protocol_width), (30, 1));
        assert_eq!((old.state.local, old.state.remote), (39, 55));
        assert_eq!(old.extras.retransmit_error, ABSENT);
        assert_eq!(old.extras.send_reset_sockaddr, 0);
    }

    #[test]
    fn new_kernels_report_failed_sends_and_sockaddrs() {
        let new = Records::parse(|event| Ok(format("6.18", event))).expect("all fields are there");
        assert_eq!(new.extras.state_protocol_width, 2);
        assert_eq!(new.extras.retransmit_error, 76);
        assert_eq!(
            (new.extras.send_reset_sockaddr, new.send_reset.local, new.send_reset.remote),
            (1, 32, 60)
        );
    }

    #[test]
    fn what_no_record_can_hold_is_no_field() {
        let far = |event: &str| format("6.18", event).replace("offset:8;", "offset:4294967295;");
        let error = Records::parse(|event| Ok(far(event))).expect_err("beyond every record");
        assert_eq!(error.to_string(), "sock/inet_sock_set_state has no field skaddr");
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = Records::parse(|_| Ok(String::new())).expect_err("nothing is there");
        assert_eq!(error.to_string(), "sock/inet_sock_set_state has no field oldstate");
    }
}
