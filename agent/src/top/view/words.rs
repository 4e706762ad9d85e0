//! Text that has to fit.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A length of time, roughly.
pub(in crate::top) fn roughly(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// A name in so many columns: the middle is left out, since names of one kind often begin alike and end differently.
pub(super) fn shortened(name: &str, columns: usize) -> String {
    if name.width() <= columns {
        return name.to_owned();
    }
    let room = columns.saturating_sub(1);
    let head = taken(name.chars(), room / 2);
    let tail = taken(name.chars().rev(), room - room / 2);
    head.into_iter().chain(['~']).chain(tail.into_iter().rev()).collect()
}

/// The first letters that fit into so many columns.
fn taken(letters: impl Iterator<Item = char>, columns: usize) -> Vec<char> {
    let mut width = 0;
    letters
        .take_while(|letter| {
            width += letter.width().unwrap_or_default();
            width <= columns
        })
        .collect()
}

/// Phrases as lines of at most so many columns, with `gap` between two in one line. A longer phrase has a line of its own.
pub(super) fn lines<S: AsRef<str>>(
    phrases: impl IntoIterator<Item = S>,
    gap: &str,
    columns: usize,
) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for phrase in phrases {
        let phrase = phrase.as_ref();
        match lines.last_mut() {
            Some(line) if line.width() + gap.width() + phrase.width() <= columns => {
                line.push_str(gap);
                line.push_str(phrase);
            }
            _ => lines.push(phrase.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_long_name_remain() {
        assert_eq!(shortened("10.0.1.11", 9), "10.0.1.11");
        assert_eq!(shortened("2001:db8:85a3::8a2e:370:7334", 15), "2001:db~70:7334");
        assert_eq!(shortened("서울서울서울", 7), "서~울");
    }

    #[test]
    fn phrases_fill_lines() {
        assert_eq!(lines(["one", "two", "three"], ", ", 8), ["one, two", "three"]);
        assert_eq!(lines(["longer than that", "a"], " ", 4), ["longer than that", "a"]);
    }
}
