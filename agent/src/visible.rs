//! Text from outside, made harmless for logs, terminals and pages.

/// A text without letters that would change how others are shown: control characters, those that take no room, and those that turn the
/// direction of writing. Names of processes, groups and hosts may hold anything.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars().map(|letter| if is_hidden(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_play_tricks_is_shown_as_what_it_is() {
        assert_eq!(
            visible("line\nbreak\u{1b}[2J \u{202e}evil\u{200b}"),
            "line\u{fffd}break\u{fffd}[2J \u{fffd}evil\u{fffd}"
        );
        assert_eq!(visible("서울 nat-1 – a|b <c>"), "서울 nat-1 – a|b <c>");
    }
}
