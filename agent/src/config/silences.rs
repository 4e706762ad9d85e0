//! When no alert is announced.

use toml::value::{Datetime, Offset, Time};

use super::{alerts::AlertName, check::Check, peers::PeerGroup, raw};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar.
const EPOCH: i64 = 719_468;

/// When a silence holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Once, from and to in seconds since the epoch.
    Once(i64, i64),
    /// On some days of the week (bit 0 is Monday), from and to in seconds since midnight UTC; past midnight when `to` is
    /// not after `from`.
    Weekly(u8, u64, u64),
}

/// A time in which some alerts of some peers are not announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which; empty is all.
    pub alerts: Vec<AlertName>,
    /// Whose; empty is all, and what is about the host.
    pub peers: Vec<String>,
    /// When.
    pub window: Window,
}

impl Window {
    /// Whether it holds at a time, in seconds since the epoch.
    #[must_use]
    pub fn holds(self, unix: u64) -> bool {
        match self {
            Self::Once(from, to) => (from..to).contains(&i64::try_from(unix).unwrap_or(i64::MAX)),
            Self::Weekly(days, from, to) => {
                let (day, second) = (unix / DAY, unix % DAY);
                // 1970-01-01 was a Thursday.
                let on = |day: u64| days & (1 << ((day + 3) % 7)) != 0;
                if from < to {
                    on(day) && (from..to).contains(&second)
                } else {
                    on(day) && second >= from || on(day + 6) && second < to
                }
            }
        }
    }
}

pub(super) fn silences(check: &mut Check<'_>, raw: &[raw::Silence], groups: &[PeerGroup]) -> Vec<Silence> {
    let mut silences = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let at = format!("silence[{place}]");
        let mut alerts = Vec::new();
        for (place, name) in raw.alerts.iter().enumerate() {
            let alert = AlertName::named(name);
            let names = AlertName::ALL.map(AlertName::name).join(", ");
            check.that(
                alert.is_some(),
                &format!("{at}.alerts[{place}]"),
                name,
                format!("is none of the alerts: {names}"),
            );
            alerts.extend(alert);
        }
        for (place, peer) in raw.peers.iter().enumerate() {
            let is_known = groups.iter().any(|group| *group.name == **peer);
            check.that(
                is_known || peer.parse::<std::net::IpAddr>().is_ok(),
                &format!("{at}.peers[{place}]"),
                peer,
                "is neither an address nor the name of a [[peer]]",
            );
        }
        if let Some(window) = window(check, &at, raw) {
            silences.push(Silence { alerts, peers: raw.peers.clone(), window });
        }
    }
    silences
}

fn window(check: &mut Check<'_>, at: &str, raw: &raw::Silence) -> Option<Window> {
    let weekly = raw.from.is_some() || raw.to.is_some() || !raw.days.is_empty();
    match (raw.starts, raw.ends, weekly) {
        (Some(starts), Some(ends), false) => {
            let remedy = "must be a moment with its offset, such as 2026-12-24T22:00:00Z";
            let (from, to) = (seconds_since_epoch(starts), seconds_since_epoch(ends));
            check.that(from.is_some(), &format!("{at}.starts"), starts, remedy);
            check.that(to.is_some(), &format!("{at}.ends"), ends, remedy);
            let (from, to) = (from?, to?);
            check.that(from < to, &format!("{at}.ends"), ends, "must be after starts");
            Some(Window::Once(from, to))
        }
        (None, None, true) => {
            let days = days(check, at, &raw.days);
            let remedy = "must be a time of day (UTC) without quotes, such as 02:30:00";
            let time = |time: Option<Datetime>| match time {
                Some(Datetime { date: None, time: Some(time), offset: None }) => Some(seconds(time)),
                _ => None,
            };
            let (from, to) = (time(raw.from), time(raw.to));
            let shown = |time: Option<Datetime>| time.map_or_else(String::new, |time| time.to_string());
            check.that(from.is_some(), &format!("{at}.from"), shown(raw.from), remedy);
            check.that(to.is_some(), &format!("{at}.to"), shown(raw.to), remedy);
            Some(Window::Weekly(days, from?, to?))
        }
        _ => {
            let remedy = "needs either starts and ends, or from and to (and days)";
            check.that(false, at, "{…}", remedy);
            None
        }
    }
}

fn days(check: &mut Check<'_>, at: &str, names: &[String]) -> u8 {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut days = 0;
    for (place, name) in names.iter().enumerate() {
        let day = NAMES.iter().position(|day| day == name);
        let remedy = format!("must be one of {}", NAMES.join(", "));
        check.that(day.is_some(), &format!("{at}.days[{place}]"), name, remedy);
        days |= day.map_or(0, |day| 1 << day);
    }
    if names.is_empty() { 0x7f } else { days }
}

fn seconds(time: Time) -> u64 {
    u64::from(time.hour) * 3_600 + u64::from(time.minute) * 60 + u64::from(time.second.unwrap_or(0))
}

fn seconds_since_epoch(moment: Datetime) -> Option<i64> {
    let Datetime { date: Some(date), time: Some(time), offset: Some(offset) } = moment else { return None };
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    // Years that begin in March put the leap day last.
    let month = i64::from(date.month);
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - EPOCH;
    let seconds = i64::try_from(seconds(time)).ok()?;
    Some(days * i64::try_from(DAY).ok()? + seconds - offset_minutes * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(text: &str) -> u64 {
        let moment: Datetime = text.parse().expect("a moment");
        u64::try_from(seconds_since_epoch(moment).expect("with an offset")).expect("after 1970")
    }

    #[test]
    fn moments_are_seconds_since_the_epoch() {
        // As `date -ud … +%s` prints them.
        assert_eq!(unix("1970-01-01T00:00:00Z"), 0);
        assert_eq!(unix("2000-02-29T12:00:00Z"), 951_825_600);
        assert_eq!(unix("2026-11-22T06:44:29Z"), 1_795_329_869);
        assert_eq!(unix("2026-11-22T15:44:29+09:00"), 1_795_329_869);
    }

    #[test]
    fn a_window_once_holds_from_its_begin_to_before_its_end() {
        let window = Window::Once(100, 200);
        assert_eq!([99, 100, 199, 200].map(|unix| window.holds(unix)), [false, true, true, false]);
    }

    #[test]
    fn a_weekly_window_holds_on_its_days_and_past_midnight() {
        let saturday_night = Window::Weekly(1 << 5, 22 * 3_600, 2 * 3_600);
        for (moment, holds) in [
            ("2026-11-21T21:59:59Z", false),
            ("2026-11-21T22:00:00Z", true),
            ("2026-11-22T01:59:59Z", true),
            ("2026-11-22T02:00:00Z", false),
            ("2026-11-22T23:00:00Z", false),
        ] {
            assert_eq!(saturday_night.holds(unix(moment)), holds, "{moment}");
        }
        let sunday_morning = Window::Weekly(1 << 6, 3_600, 7_200);
        assert!(sunday_morning.holds(unix("2026-11-22T01:30:00Z")));
        assert!(!sunday_morning.holds(unix("2026-11-21T01:30:00Z")));
    }
}
