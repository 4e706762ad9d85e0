//! The limits in force, and which of them matter to what happened.

use serde::Serialize;

use super::{
    evidence::Evidence,
    judge::{Hypothesis, Verdict},
};
use crate::model::{grouped, past::Field};

/// A setting of the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value at the end of the span.
    pub value: u64,
    /// Whether it bears on what the evidence supports.
    pub matters: bool,
    /// Why, or why not.
    pub why: String,
}

/// Every setting that was recorded.
pub(super) fn settings(evidence: &Evidence<'_>, hypotheses: &[Hypothesis]) -> Vec<Setting> {
    let supported = |name: &str| {
        hypotheses.iter().any(|hypothesis| hypothesis.name == name && hypothesis.verdict <= Verdict::Follows)
    };
    let mut settings: Vec<Setting> = evidence
        .settings
        .iter()
        .map(|(name, value)| {
            let (matters, why) = judge(evidence, &supported, name, *value);
            Setting { name: (*name).to_owned(), value: *value, matters, why }
        })
        .collect();
    settings.sort_by_key(|setting| !setting.matters);
    settings
}

fn judge(
    evidence: &Evidence<'_>,
    supported: &impl Fn(&str) -> bool,
    name: &str,
    value: u64,
) -> (bool, String) {
    let short = name.strip_prefix("net.ipv4.").or_else(|| name.strip_prefix("net.core.")).unwrap_or(name);
    let overflows = evidence.host_sum(Field::ListenOverflows);
    let (buckets, _) = evidence.host_most(Field::Buckets);
    match short {
        "tcp_fin_timeout" => (
            false,
            "it bounds FIN_WAIT2 of connections that no program holds any more; TIME_WAIT lasts 60 s whatever it says".to_owned(),
        ),
        "tcp_max_tw_buckets" => {
            let used = format!("at most {} of {} were used", grouped(buckets), grouped(value));
            (supported("bucket_limit"), used)
        }
        "tcp_timestamps" => (
            supported("pool_too_small"),
            if value == 0 {
                "they are off, so only a higher sequence number gets a SYN accepted into TIME_WAIT".to_owned()
            } else {
                "they are on: a newer timestamp gets a SYN accepted into TIME_WAIT, where nothing on the way removes or mixes them".to_owned()
            },
        ),
        "tcp_tw_reuse" => (
            supported("own_ports_too_few"),
            "it is about connections of this host, not about those that come in".to_owned(),
        ),
        "tcp_rfc1337" => {
            let ignores = if value == 0 { "a RST removes a TIME_WAIT, which lets the next SYN in" } else { "RSTs are ignored in TIME_WAIT, so that a refused client cannot free its port" };
            (supported("pool_too_small") && value != 0, ignores.to_owned())
        }
        "somaxconn" | "tcp_max_syn_backlog" | "netdev_max_backlog" | "tcp_abort_on_overflow" | "tcp_syncookies" => {
            (supported("queue_full"), format!("an accept queue was full {} times", grouped(overflows)))
        }
        "tcp_syn_retries" => (
            supported("backend_gone") || supported("backend_moved"),
            "how often our SYN is repeated: what a call costs that nobody answers".to_owned(),
        ),
        "tcp_synack_retries" | "tcp_retries2" => {
            (supported("packet_loss"), "how often we repeat what is not acknowledged".to_owned())
        }
        _ if short.starts_with("ip_local_port_range") => {
            (supported("own_ports_too_few"), "the ports of this host's own connections".to_owned())
        }
        _ => (false, "nothing here depends on it".to_owned()),
    }
}
