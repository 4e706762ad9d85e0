//! The settings that decide how many connections a host can take and how it lets go of them.

use std::fs;

/// Name and value. Settings that hold two numbers come as two, with `.low` and `.high`.
type Setting = (&'static str, u64);

const SINGLE: [&str; 13] = [
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_rfc1337",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_retries2",
];

/// Reads every setting that this namespace has; `netdev_max_backlog`, for one, exists only on the host itself.
#[must_use]
pub fn read() -> Vec<Setting> {
    let mut settings: Vec<Setting> =
        SINGLE.into_iter().filter_map(|name| Some((name, value(name)?))).collect();
    if let Some((low, high)) = port_range() {
        settings.push(("net.ipv4.ip_local_port_range.low", low));
        settings.push(("net.ipv4.ip_local_port_range.high", high));
    }
    settings
}

/// One setting that holds a single number.
#[must_use]
pub fn value(name: &str) -> Option<u64> {
    text(name)?.trim().parse().ok()
}

/// The ports the kernel chooses for a connect(); its built-in ones if it does not say.
#[must_use]
pub fn ephemeral_ports() -> (u16, u16) {
    port_range()
        .and_then(|(low, high)| Some((u16::try_from(low).ok()?, u16::try_from(high).ok()?)))
        .unwrap_or((32_768, 60_999))
}

/// How many ports the kernel chooses from for a connect(): those of the range that are not reserved.
#[must_use]
pub fn ephemeral_port_count() -> u32 {
    let reserved = text("net.ipv4.ip_local_reserved_ports").unwrap_or_default();
    unreserved(ephemeral_ports(), &reserved)
}

fn unreserved((low, high): (u16, u16), reserved: &str) -> u32 {
    let ranges: Vec<(u16, u16)> = reserved
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.trim().split_once('-').unwrap_or((range.trim(), range.trim()));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect();
    let is_free = |port: &u16| !ranges.iter().any(|(first, last)| (first..=last).contains(&port));
    (low..=high).filter(is_free).map(|_| 1).sum()
}

fn port_range() -> Option<(u64, u64)> {
    let text = text("net.ipv4.ip_local_port_range")?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn text(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()
}

#[cfg(test)]
mod tests {
    use super::unreserved;

    #[test]
    fn reserved_ports_are_not_there_to_choose() {
        assert_eq!(unreserved((32_768, 60_999), "\n"), 28_232);
        assert_eq!(unreserved((40_000, 40_009), "39990-40001,40005,50000-50010\n"), 7);
        assert_eq!(unreserved((40_000, 40_001), "1-65535"), 0);
    }
}
