//! Names to watch: which, towards which port, how often.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use super::{check::Check, raw};

/// So many may be watched; each has some eighty series.
const MOST: usize = 1_000;

/// So many times a second all of them together may be asked for.
const MOST_PER_SECOND: f64 = 1_000.0;

const SHORTEST: Duration = Duration::from_millis(100);
const SHORTEST_WHILE_FAILING: Duration = Duration::from_millis(25);
const LONGEST: Duration = Duration::from_hours(1);

/// A name that connections of ours go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The name in lower case; with a dot at its end, the search list is left alone.
    pub name: Arc<str>,
    /// The port that is called under it.
    pub port: u16,
    /// How often it is resolved.
    pub every: Duration,
    /// How often while an address of it fails; at most [`Self::every`].
    pub failing_every: Duration,
}

pub(super) fn watches(check: &mut Check<'_>, raw: &[raw::Watch]) -> Vec<Watch> {
    let most = format!("are more than {MOST}; watch those that fail over");
    if !check.that(raw.len() <= MOST, "watch", format_args!("{} names", raw.len()), most) {
        return Vec::new();
    }
    let mut places: HashMap<(String, u16), usize> = HashMap::new();
    let mut watches = Vec::new();
    for (place, raw::Watch { name, port, every, failing_every }) in raw.iter().enumerate() {
        let at = format!("watch[{place}]");
        let mut is_right = check_name(check, &format!("{at}.name"), name);
        let port = u16::try_from(*port).ok().filter(|port| *port > 0);
        is_right &= check.that(
            port.is_some(),
            &format!("{at}.port"),
            raw[place].port,
            "must be between 1 and 65535: the port that connections to this name go to",
        );
        is_right &= check.that(
            (SHORTEST..=LONGEST).contains(every),
            &format!("{at}.every"),
            format_args!("{every:?}"),
            "must be between 100ms and 1h",
        );
        is_right &= check.that(
            (SHORTEST_WHILE_FAILING..=LONGEST).contains(failing_every),
            &format!("{at}.failing_every"),
            format_args!("{failing_every:?}"),
            "must be between 25ms and 1h",
        );
        let Some(port) = port.filter(|_| is_right) else { continue };
        let name = name.to_ascii_lowercase();
        let before = places.insert((name.trim_end_matches('.').to_owned(), port), place);
        if let Some(before) = before {
            let told = format!("is watched at port {port} by watch[{before}] already; leave one of them");
            check.that(false, &format!("{at}.name"), &name, told);
        }
        let failing_every = *failing_every.min(every);
        watches.push(Watch { name: Arc::from(name), port, every: *every, failing_every });
    }
    let per_second: f64 = watches.iter().map(|watch| 1.0 / watch.every.as_secs_f64()).sum();
    check.that(
        per_second <= MOST_PER_SECOND,
        "watch",
        format_args!("{per_second:.0} lookups per second"),
        format!("are more than {MOST_PER_SECOND}, all names together; raise every"),
    );
    watches
}

/// A host name as RFC 1123 has it; underscores are in use, and harmless.
fn check_name(check: &mut Check<'_>, at: &str, name: &str) -> bool {
    let is_address = name.parse::<IpAddr>().is_ok();
    if !check.that(!is_address, at, name, "is an address, which no answer of DNS changes; give a name") {
        return false;
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len())
            && label.chars().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    check.that(
        bare.len() <= 253 && bare.split('.').all(is_label),
        at,
        name,
        "is no name of a host; write it as db-writer.example, others than ASCII letters in their xn-- form",
    )
}
