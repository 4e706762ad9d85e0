//! Messages of DNS (RFC 1035), as far as the lab needs them.

use std::net::{IpAddr, Ipv4Addr};

/// Addresses of IPv4 and IPv6.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const IN: u16 = 1;
const HEADER: usize = 12;
/// A name that is the one right behind the header.
const BACK: u16 = 0xc00c;

/// Of an answer: it is one, by an authority, and the question is of the usual kind.
const ANSWER: u16 = 0x8400;
/// It did not fit.
pub(super) const TRUNCATED: u16 = 0x0200;
/// The name does not exist.
pub(super) const NXDOMAIN: u16 = 3;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name in lower case, without a dot at its end.
    pub name: String,
    /// [`A`], [`AAAA`], or another.
    pub kind: u16,
    /// As it came: header and question.
    id: [u8; 2],
    text: Vec<u8>,
}

/// Asks for the IPv4 addresses of a name.
pub(super) fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x7a, 0x51, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(A.to_be_bytes());
    message.extend(IN.to_be_bytes());
    message
}

/// The IPv4 addresses in an answer.
pub(super) fn addresses(answer: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let Some(Question { text, .. }) = parse(answer) else { return found };
    let mut rest = &answer[HEADER + text.len()..];
    // A name that points back, type, class, TTL, length, data.
    while let [0xc0..=0xff, _, kind @ ..] = rest {
        let [k0, k1, _, _, _, _, _, _, l0, l1, data @ ..] = kind else { return found };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let Some((data, after)) = data.split_at_checked(length) else { return found };
        if let (A, [a, b, c, d]) = (u16::from_be_bytes([*k0, *k1]), data) {
            found.push(Ipv4Addr::new(*a, *b, *c, *d).into());
        }
        rest = after;
    }
    found
}

/// The first question of a message.
pub(super) fn parse(message: &[u8]) -> Option<Question> {
    let mut rest = message.get(HEADER..)?;
    let mut labels = Vec::new();
    loop {
        let (&length, after) = rest.split_first()?;
        let (label, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let [k0, k1, _, _, after @ ..] = rest else { return None };
    let text = message[HEADER..message.len() - after.len()].to_vec();
    let id = [message[0], message[1]];
    Some(Question { name: labels.join("."), kind: u16::from_be_bytes([*k0, *k1]), id, text })
}

impl Question {
    /// An answer with those of `addresses` that are of the kind that was asked for, which lives for no time.
    pub(super) fn answer(&self, flags: u16, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
                (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
                _ => None,
            })
            .collect();
        let count = u16::try_from(records.len()).expect("few enough for one answer");
        let mut message = self.id.to_vec();
        for word in [ANSWER | flags, 1, count, 0, 0] {
            message.extend(word.to_be_bytes());
        }
        message.extend(&self.text);
        for data in records {
            let length = u16::try_from(data.len()).expect("an address is short");
            for word in [BACK, self.kind, IN, 0, 0, length] {
                message.extend(word.to_be_bytes());
            }
            message.extend(data);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_what_was_asked_for() {
        let question = parse(&question("Db-Writer.example")).expect("a question");
        assert_eq!((question.name.as_str(), question.kind), ("db-writer.example", A));
        let four: IpAddr = [10, 80, 0, 21].into();
        let six: IpAddr = [0xfd80, 0, 0, 0, 0, 0, 0, 21].into();
        assert_eq!(addresses(&question.answer(0, &[four, six])), [four]);
        let other = Question { kind: AAAA, ..question.clone() };
        assert_eq!(other.answer(0, &[four, six]).len(), question.answer(0, &[four]).len() + 12);
    }

    #[test]
    fn what_is_cut_off_holds_nothing() {
        let question = parse(&question("db-writer.example")).expect("a question");
        let answer = question.answer(0, &[[10, 80, 0, 21].into()]);
        for length in 0..answer.len() {
            assert_eq!(addresses(&answer[..length]), [] as [IpAddr; 0], "{length}");
        }
    }
}
