use std::fmt::Display;

/// A whole number with its thousands apart.
#[must_use]
pub fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0_u64, 999, 1_000, 14_336, 1_234_567].map(grouped),
            ["0", "999", "1,000", "14,336", "1,234,567"]
        );
    }
}
