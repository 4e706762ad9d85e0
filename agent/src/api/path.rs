//! What paths are made of.

use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};

/// What a segment cannot hold as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\') // A browser takes it for a slash.
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// A peer as a segment of a path: a group may be called anything.
#[must_use]
pub fn segment(peer: &str) -> PercentEncode<'_> {
    utf8_percent_encode(peer, SEGMENT)
}
