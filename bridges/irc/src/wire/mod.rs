//! The grammar of IRC: parse, print, and nothing else.
//!
//! Incoming text is whatever a stranger sent; it is decoded here and never refused for its bytes.
//! Outgoing parameters are types that cannot hold CR, LF or NUL, so no text from elsewhere can
//! become a second command. Nothing in here knows what a line means.

mod codec;
mod command;
mod decode;
mod line;
pub(crate) mod numeric;
mod param;
mod tags;
pub(crate) mod time;

pub(crate) use codec::{Codec, Frame};
pub(crate) use command::{Command, KEY_TAG, Label, LineTooLong};
pub(crate) use line::Line;
pub(crate) use param::{Middle, Trailing};

/// The longest line we send, CR LF included (RFC 2812 section 2.3).
pub(crate) const MAX_LINE: usize = 512;

/// The longest line we take: the tag budget of IRCv3 message-tags, then the 512 of RFC 2812.
pub(crate) const MAX_LINE_IN: usize = 8191 + MAX_LINE;
