//! Questions and answers of DNS, as they are sent.

use std::net::IpAddr;

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode, message_builder::PushError, wire::ParseError},
    rdata::{A, Aaaa},
};

use super::Listing;

/// So many addresses of a name and family are kept.
const MOST: usize = 64;

/// What a datagram may have where the host's resolver is told to use EDNS: it fits into one packet nearly everywhere.
const EDNS_PAYLOAD: u16 = 1_232;

/// A name to be asked for.
pub type Asked = Name<Vec<u8>>;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn rtype(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

/// What a name server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It answered.
    Answer(Listing),
    /// The answer has no room in a datagram.
    Truncated,
    /// Another server may know better.
    Useless(String),
    /// It answers another question.
    NotOurs,
}

/// A question as it is sent.
///
/// # Errors
/// Never: a name has 255 bytes at most.
pub(super) fn question(id: u16, name: &Asked, family: Family, edns: bool) -> Result<Vec<u8>, PushError> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((name, family.rtype()))?;
    if !edns {
        return Ok(message.finish());
    }
    let mut message = message.additional();
    message.opt(|opt| {
        opt.set_udp_payload_size(EDNS_PAYLOAD);
        Ok(())
    })?;
    Ok(message.finish())
}

/// The number that a message says it answers.
pub(super) fn id(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// What a message says to a question.
#[must_use]
pub fn reply(message: &[u8], name: &Asked, family: Family) -> Reply {
    let Ok(message) = Message::from_octets(message) else { return garbage() };
    let header = message.header();
    if !header.qr() {
        return Reply::NotOurs;
    }
    // Servers that understand nothing may leave the question out.
    if let Some(question) = message.first_question()
        && (question.qtype() != family.rtype() || question.qname() != name)
    {
        return Reply::NotOurs;
    }
    match header.rcode() {
        Rcode::NOERROR if header.tc() => Reply::Truncated,
        Rcode::NOERROR => addresses(&message, family)
            .map_or_else(|_| garbage(), |addresses| Reply::Answer(listing(addresses))),
        Rcode::NXDOMAIN => Reply::Answer(Listing::Nothing { exists: false }),
        other => Reply::Useless(format!("answers {other}")),
    }
}

fn garbage() -> Reply {
    Reply::Useless("answers with what is no DNS message".to_owned())
}

/// The addresses of the name at the end of the chain of aliases that begins with the question.
fn addresses(message: &Message<&[u8]>, family: Family) -> Result<Vec<IpAddr>, ParseError> {
    let Some(canonical) = message.canonical_name() else { return Err(ParseError::form_error("aliases")) };
    let mut found = Vec::new();
    match family {
        Family::V4 => {
            for record in message.answer()?.limit_to_in::<A>() {
                let record = record?;
                found.extend((*record.owner() == canonical).then(|| IpAddr::V4(record.data().addr())));
            }
        }
        Family::V6 => {
            for record in message.answer()?.limit_to_in::<Aaaa>() {
                let record = record?;
                found.extend((*record.owner() == canonical).then(|| IpAddr::V6(record.data().addr())));
            }
        }
    }
    Ok(found)
}

/// The listing of these addresses, each in its one spelling.
pub(super) fn listing(mut addresses: Vec<IpAddr>) -> Listing {
    for address in &mut addresses {
        *address = address.to_canonical();
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Listing::Nothing { exists: true };
    }
    let left_out = addresses.len().saturating_sub(MOST);
    addresses.truncate(MOST);
    Listing::Listed(addresses, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Asked {
        text.parse().expect("a name")
    }

    /// As a name server wrote it (RFC 1035 4.1): the answer to `db.example`, an alias of `a.example`, which has 192.0.2.1.
    const ALIAS: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0\x02db\x07example\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x0f\
        \xc0\x28\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        let question = question(0x1234, &name("db.example"), Family::V4, false).expect("built");
        assert_eq!(question, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02db\x07example\0\0\x01\0\x01");
        assert_eq!(id(&question), Some(0x1234));
    }

    #[test]
    fn aliases_are_followed() {
        let listed = Listing::Listed(vec!["192.0.2.1".parse().expect("an address")], 0);
        assert_eq!(reply(ALIAS, &name("DB.example"), Family::V4), Reply::Answer(listed));
    }

    #[test]
    fn what_answers_something_else_is_not_ours() {
        assert_eq!(reply(ALIAS, &name("other.example"), Family::V4), Reply::NotOurs);
        assert_eq!(reply(ALIAS, &name("db.example"), Family::V6), Reply::NotOurs);
        let mut question = ALIAS.to_vec();
        question[2] &= 0x7f;
        assert_eq!(reply(&question, &name("db.example"), Family::V4), Reply::NotOurs);
    }

    #[test]
    fn every_code_has_its_meaning() {
        let with = |flags: [u8; 2]| {
            let mut message = ALIAS.to_vec();
            message[2..4].copy_from_slice(&flags);
            reply(&message, &name("db.example"), Family::V4)
        };
        assert_eq!(with([0x81, 0x83]), Reply::Answer(Listing::Nothing { exists: false }));
        assert_eq!(with([0x81, 0x82]), Reply::Useless("answers SERVFAIL".to_owned()));
        assert_eq!(with([0x83, 0x80]), Reply::Truncated);
    }

    #[test]
    fn no_byte_that_is_cut_off_or_turned_over_does_harm() {
        for end in 0..ALIAS.len() {
            let _ = reply(&ALIAS[..end], &name("db.example"), Family::V4);
        }
        for at in 0..ALIAS.len() {
            for bit in 0..8 {
                let mut message = ALIAS.to_vec();
                message[at] ^= 1 << bit;
                let _ = reply(&message, &name("db.example"), Family::V4);
            }
        }
        assert_eq!(reply(&ALIAS[..59], &name("db.example"), Family::V4), garbage());
    }

    #[test]
    fn of_a_thousand_addresses_64_are_kept_and_the_rest_is_counted() {
        let addresses = (0..1_000_u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
        let Listing::Listed(kept, left_out) = listing(addresses) else { panic!("nothing") };
        assert_eq!((kept.len(), left_out), (64, 936));
        assert_eq!(listing(Vec::new()), Listing::Nothing { exists: true });
    }
}
