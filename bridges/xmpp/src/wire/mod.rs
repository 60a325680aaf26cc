//! The grammar of an XMPP stream: bytes to stanzas and stanzas to bytes, and nothing else.
//!
//! Knows no room, no person and no socket. Whatever a stranger can put into a stanza, the reader
//! either yields the stanza, skips it with a reason, or, for bytes that are not XML at all, ends
//! the stream with a [`ParseError`]; it never panics and never holds more than one bounded stanza.

mod element;
mod reader;
mod repair;
mod writer;

pub(crate) use element::{Build, child, element};
pub(crate) use minidom::Element;
pub(crate) use reader::{Read, Reader, Skipped};
pub(crate) use writer::{FOOTER, MAX_STANZA_OUT, header, size, write};

/// Namespaces that the bridge reads or writes.
pub(crate) mod ns {
    pub(crate) const CLIENT: &str = "jabber:client";
    pub(crate) const COMPONENT: &str = "jabber:component:accept";
    pub(crate) const DELAY: &str = "urn:xmpp:delay";
    pub(crate) const DELAY_LEGACY: &str = "jabber:x:delay";
    pub(crate) const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
    pub(crate) const FORWARD: &str = "urn:xmpp:forward:0";
    pub(crate) const MAM: &str = "urn:xmpp:mam:2";
    pub(crate) const MUC: &str = "http://jabber.org/protocol/muc";
    pub(crate) const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
    pub(crate) const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
    pub(crate) const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
    pub(crate) const PING: &str = "urn:xmpp:ping";
    pub(crate) const RSM: &str = "http://jabber.org/protocol/rsm";
    pub(crate) const SID: &str = "urn:xmpp:sid:0";
    pub(crate) const STANZA_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
    pub(crate) const STREAM: &str = "http://etherx.jabber.org/streams";
    pub(crate) const STREAM_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-streams";
}

/// These bytes are not an XMPP stream; it cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    /// Not well-formed, or a construct that XMPP forbids (RFC 6120 §11.1): a document type, an
    /// entity, a processing instruction, a comment.
    #[error("byte {offset} of the stream is not XML that XMPP allows: {fault}")]
    NotWellFormed { offset: u64, fault: rxml::Error },
    /// The document element is not `<stream:stream>`.
    #[error("the stream opens with <{name} xmlns='{ns}'> instead of <stream:stream>")]
    NotAStream { name: String, ns: String },
    /// A stanza that was already being skipped for its size does not end.
    #[error("a stanza of more than {0} bytes does not end")]
    Endless(usize),
}
