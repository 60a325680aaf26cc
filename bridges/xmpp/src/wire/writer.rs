//! Stanzas to bytes.
//!
//! Everything that can hold a stranger's text passes through [`XmlText`], which cannot hold a
//! character that XML 1.0 forbids: one such character would make the server close the link for
//! everybody (RFC 6120 §11.1).

use super::repair::is_forbidden;
use super::{Element, ns};

/// The largest stanza sent. Prosody closes a stream over 256 KiB by default, and every ghost with it.
pub(crate) const MAX_STANZA_OUT: usize = 250 * 1024;

/// What ends our side of the stream.
pub(crate) const FOOTER: &str = "</stream:stream>";

/// What opens our side of the stream (XEP-0114 §3).
pub(crate) fn header(component: &str) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"<?xml version='1.0'?><stream:stream xmlns='");
    out.extend_from_slice(ns::COMPONENT.as_bytes());
    out.extend_from_slice(b"' xmlns:stream='");
    out.extend_from_slice(ns::STREAM.as_bytes());
    out.extend_from_slice(b"' to='");
    XmlText::new(component).write(true, &mut out);
    out.extend_from_slice(b"'>");
    out
}

/// Appends `stanza` in the stream's own namespace.
pub(crate) fn write(stanza: &Element, out: &mut Vec<u8>) {
    write_in(stanza, ns::CLIENT, out);
}

/// How many bytes `stanza` takes on the wire.
pub(crate) fn size(stanza: &Element) -> usize {
    let mut out = Vec::new();
    write(stanza, &mut out);
    out.len()
}

fn write_in(element: &Element, around: &str, out: &mut Vec<u8>) {
    let own = element.ns();
    let own = if own == ns::COMPONENT {
        ns::CLIENT
    } else {
        &own
    };
    out.push(b'<');
    out.extend_from_slice(element.name().as_bytes());
    if own != around {
        attribute("xmlns", own, out);
    }
    for ((space, name), value) in element.attrs() {
        match space.as_str() {
            "" => attribute(name.as_str(), value, out),
            rxml::XMLNS_XML => attribute(&format!("xml:{name}"), value, out),
            // No payload we send has an attribute in a namespace of its own.
            _ => {}
        }
    }
    if element.nodes().next().is_none() {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    for node in element.nodes() {
        match node {
            minidom::Node::Element(child) => write_in(child, own, out),
            minidom::Node::Text(text) => XmlText::new(text).write(false, out),
        }
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(element.name().as_bytes());
    out.push(b'>');
}

fn attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    XmlText::new(value).write(true, out);
    out.push(b'\'');
}

/// Text in which every character that XML 1.0 forbids has become U+FFFD.
struct XmlText(String);

impl XmlText {
    fn new(text: &str) -> Self {
        let allowed = |char: char| {
            if is_forbidden(char.into()) {
                '\u{fffd}'
            } else {
                char
            }
        };
        Self(text.chars().map(allowed).collect())
    }

    fn write(&self, quoted: bool, out: &mut Vec<u8>) {
        for char in self.0.chars() {
            match char {
                '&' => out.extend_from_slice(b"&amp;"),
                '<' => out.extend_from_slice(b"&lt;"),
                '>' => out.extend_from_slice(b"&gt;"),
                '\'' if quoted => out.extend_from_slice(b"&apos;"),
                '"' if quoted => out.extend_from_slice(b"&quot;"),
                // A parser turns these into spaces in an attribute and a lone CR into LF anywhere.
                '\n' | '\t' if quoted => {
                    out.extend_from_slice(format!("&#{};", u32::from(char)).as_bytes())
                }
                '\r' => out.extend_from_slice(b"&#13;"),
                _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Read, Reader, element};
    use super::*;

    fn written(stanza: &Element) -> String {
        let mut out = Vec::new();
        write(stanza, &mut out);
        String::from_utf8(out).expect("the writer yields UTF-8")
    }

    #[test]
    fn forbidden_characters_never_reach_the_wire() {
        let stanza = element("message", ns::CLIENT)
            .attr("to", "room@muc.example/a\u{0}b\u{ffff}")
            .child(element("body", ns::CLIENT).text("bell \u{7} and escape \u{1b}"))
            .build();
        assert_eq!(
            written(&stanza),
            "<message to='room@muc.example/a\u{fffd}b\u{fffd}'><body>bell \u{fffd} and escape \u{fffd}</body></message>"
        );
    }

    #[test]
    fn markup_in_text_stays_text() {
        let nasty = "</body></message><iq type='set'/>&#x1;]]>\r\"'";
        let stanza = element("message", ns::CLIENT)
            .attr("id", nasty)
            .child(element("body", ns::CLIENT).text(nasty))
            .build();
        let mut bytes = header("bridge.example");
        write(&stanza, &mut bytes);
        let mut out = Vec::new();
        Reader::new()
            .feed(&bytes, &mut out)
            .expect("our own output parses");
        assert_eq!(out.len(), 2);
        let Read::Stanza(read) = &out[1] else {
            panic!("not a stanza: {out:?}")
        };
        assert_eq!(read.attr("id"), stanza.attr("id"));
        assert_eq!(
            read.children().map(Element::text).collect::<Vec<_>>(),
            [nasty]
        );
    }

    #[test]
    fn a_namespace_is_written_where_it_changes_only() {
        let stanza = element("iq", ns::CLIENT)
            .child(
                element("query", ns::MAM)
                    .child(element("set", ns::RSM).child(element("max", ns::RSM).text("5"))),
            )
            .build();
        assert_eq!(
            written(&stanza),
            "<iq><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>5</max></set></query></iq>"
        );
    }
}
