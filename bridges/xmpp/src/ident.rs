//! Addresses and names: JIDs as the server gives them, addresses and nicks of our ghosts, stanza ids.
//!
//! No stringprep here on purpose. Servers differ in what they let through (Prosody 0.12 accepts
//! nicks that RFC 6122 refuses), and a nick that we cannot prepare must not make its owner's
//! messages unreadable; so what the server says is compared as it stands, node and domain without case.

use std::fmt;

use comity_bridge::event::is_hidden;
use sha1::{Digest, Sha1};
use unicode_segmentation::UnicodeSegmentation;
use xmpp_parsers::jid::ResourcePart;

/// RFC 7622 §3.1: each part of a JID holds at most this many bytes.
const MAX_PART: usize = 1023;
/// Graphemes of a ghost's nick, before a suffix.
const MAX_NICK: usize = 64;
/// Bytes of a ghost's nick, before a suffix: well below [`MAX_PART`] even after preparation.
const MAX_NICK_BYTES: usize = 256;
/// Scalar values of one grapheme; the rest of a stack of combining marks is dropped.
const MAX_STACK: usize = 8;

/// A JID without a resource, node and domain in lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Bare(String);

impl Bare {
    /// Reads `node@domain` as the operator wrote it; a room's address has both.
    ///
    /// Stricter than [`Jid::parse`], which must take what a server says: what RFC 7622 §3.3.1 forbids in a node, and a
    /// domain with an empty label, can be no room's.
    pub(crate) fn room(text: &str) -> Option<Self> {
        let jid = Jid::parse(text)?;
        let (node, domain) = jid.bare.0.split_once('@')?;
        let fits = jid.resource.is_none()
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            && !node.contains(['"', '&', '\'', ':', '<', '>'])
            && domain.split('.').all(|label| !label.is_empty());
        fits.then_some(jid.bare)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JID as a stanza carries it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Jid {
    pub(crate) bare: Bare,
    pub(crate) resource: Option<String>,
}

impl Jid {
    /// Splits a JID; none when it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (node, domain) = match bare.split_once('@') {
            Some((node, domain)) => (Some(node), domain),
            None => (None, bare),
        };
        let fits = |part: &str| !part.is_empty() && part.len() <= MAX_PART;
        if !fits(domain)
            || domain.contains('@')
            || !node.is_none_or(fits)
            || !resource.is_none_or(fits)
        {
            return None;
        }
        Some(Self {
            bare: Bare(bare.to_lowercase()),
            resource: resource.map(str::to_owned),
        })
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            Some(resource) => write!(f, "{}/{resource}", self.bare),
            None => fmt::Display::fmt(&self.bare, f),
        }
    }
}

/// The node of the ghost that stands for the author with this id: the same for ever, different for different authors.
///
/// Escaped by XEP-0106. What the server would fold together or might refuse (capitals, anything
/// beyond ASCII) is replaced, and a digest of the whole id keeps such nodes apart.
pub(crate) fn ghost_node(author: &str) -> String {
    let mut node = String::new();
    let mut lossy = false;
    for char in author.chars().take(200) {
        match char {
            'a'..='z' | '0'..='9' | '.' | '_' | '=' | '-' | '+' | '#' | '%' | '!' => {
                node.push(char)
            }
            ' ' | '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@' | '\\' => {
                node.push_str(&format!("\\{:02x}", u32::from(char)));
            }
            _ => {
                lossy = true;
                node.push(if char.is_ascii_uppercase() {
                    char.to_ascii_lowercase()
                } else {
                    '_'
                });
            }
        }
    }
    // XEP-0106 §3: a node neither begins nor ends with an escaped space.
    lossy |= author.chars().count() > 200 || author.starts_with(' ') || author.ends_with(' ');
    if lossy {
        let digest = Sha1::digest(author.as_bytes());
        let hex: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        return format!(
            "g{}-{hex}",
            node.trim_start_matches("\\20").trim_end_matches("\\20")
        );
    }
    node
}

/// A name as it can be shown: one line, no character that is invisible, turns the direction of
/// text or is mapped to nothing by resourceprep, at most [`MAX_NICK`] graphemes. May be empty.
pub(crate) fn shown_name(name: &str) -> String {
    let mut shown = String::new();
    let mut graphemes = 0;
    let visible: String = name
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_hidden(*c) && !is_unprepared(*c))
        .collect();
    for grapheme in visible.graphemes(true) {
        let is_space = grapheme == " ";
        if is_space && (shown.is_empty() || shown.ends_with(' ')) {
            continue;
        }
        let short: String = grapheme.chars().take(MAX_STACK).collect();
        if graphemes == MAX_NICK || shown.len() + short.len() > MAX_NICK_BYTES {
            break;
        }
        shown.push_str(&short);
        graphemes += 1;
    }
    shown.truncate(shown.trim_end().len());
    shown
}

/// The nick for an author of this name, or of this id when the name leaves nothing.
pub(crate) fn nick(name: &str, id: &str) -> String {
    [shown_name(name), shown_name(id)]
        .into_iter()
        .find(|nick| !nick.is_empty())
        .unwrap_or_else(|| "someone".to_owned())
}

/// The letters and digits of a nick that any server's resourceprep knows (Unicode 3.2 has no emoji beyond U+FFFF).
pub(crate) fn plain_nick(nick: &str, id: &str) -> String {
    let plain = |text: &str| -> String {
        let kept = text.chars().filter(|c| {
            c.is_ascii_graphic() || *c == ' ' || (c.is_alphanumeric() && u32::from(*c) < 0x3000)
        });
        kept.collect::<String>().trim().to_owned()
    };
    [plain(nick), plain(&shown_name(id))]
        .into_iter()
        .find(|nick| !nick.is_empty())
        .unwrap_or_else(|| "someone".to_owned())
}

/// A nick as resourceprep makes it; as it stands when resourceprep refuses it.
pub(crate) fn prepared_nick(nick: &str) -> String {
    ResourcePart::new(nick).map_or_else(|_| nick.to_owned(), |nick| nick.to_string())
}

/// What resourceprep maps to nothing or refuses, beyond what is hidden: variation selectors, private use, what is no
/// character (RFC 3454, tables B.1, C.3, C.4, C.6).
fn is_unprepared(char: char) -> bool {
    matches!(char,
        '\u{fe00}'..='\u{fe0f}' | '\u{fffc}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{e1000}'..='\u{10ffff}')
}

/// Ids of the stanzas that show our deliveries.
///
/// An id is made of the event and the part alone, so that it is the same for every attempt and the
/// room's archive and reflection tell whether an earlier one arrived; and of the component, so that
/// another gateway in the same room is not taken for us.
#[derive(Clone, Debug)]
pub(crate) struct PartIds {
    tag: String,
}

impl PartIds {
    pub(crate) fn new(component: &str) -> Self {
        let digest = Sha1::digest(component.as_bytes());
        Self {
            tag: digest
                .iter()
                .take(4)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }

    pub(crate) fn make(&self, event: &str, part: u32) -> String {
        format!("{event}-{part}-{}", self.tag)
    }

    /// The event and the part, if the id is one of ours.
    pub(crate) fn read<'a>(&self, id: &'a str) -> Option<(&'a str, u32)> {
        let (event, part) = id
            .strip_suffix(&self.tag)?
            .strip_suffix('-')?
            .rsplit_once('-')?;
        Some((event, part.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use comity_bridge::BridgeKind;

    use super::*;
    use crate::Xmpp;

    #[test]
    fn a_jid_is_split_and_folded_but_the_nick_is_kept() {
        let jid = Jid::parse("Rust@MUC.Example/Alice/\u{1f600}").expect("a JID");
        assert_eq!(jid.bare.as_str(), "rust@muc.example");
        assert_eq!(jid.resource.as_deref(), Some("Alice/\u{1f600}"));
        assert_eq!(jid.to_string(), "rust@muc.example/Alice/\u{1f600}");
    }

    #[test]
    fn what_cannot_be_a_jid_is_none() {
        let long = "x".repeat(1024);
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a@b/",
            "a@b@c",
            "/x",
            &format!("{long}@b"),
            &format!("a@b/{long}"),
        ] {
            assert_eq!(Jid::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_room_is_a_bare_address_and_known_by_its_lower_case() {
        assert_eq!(
            Xmpp.channel("Rust@MUC.example"),
            Ok("rust@muc.example".to_owned())
        );
        for bad in [
            "muc.example",
            "@muc.example",
            "rust@",
            "rust@muc.example/nick",
            "rust room@muc.example",
            "rust&go@muc.example",
            "rust@muc..example",
            "rust@muc example",
            "#rust:hs.example",
        ] {
            let instead = Xmpp.channel(bad).expect_err(bad);
            assert!(instead.contains("network/room@service"), "{instead}");
        }
        assert!(Bare::room("r\u{e4}tsel@muc.example").is_some());
    }

    #[test]
    fn ghosts_of_different_authors_never_share_an_address() {
        assert_eq!(ghost_node("libera/alice"), "libera\\2falice");
        let ids = [
            "libera/alice",
            "libera/Alice",
            "libera/ALICE",
            "home/@al:hs",
            "home/\u{e9}",
            "home/\u{ea}",
            "home/ x ",
        ];
        let nodes: Vec<String> = ids.iter().map(|id| ghost_node(id)).collect();
        for (n, node) in nodes.iter().enumerate() {
            assert!(
                node.len() <= MAX_PART && !nodes[..n].contains(node),
                "{node}"
            );
            assert!(
                node.bytes().all(|b| b.is_ascii_graphic()
                    && !b.is_ascii_uppercase()
                    && !b"\"&'/:<>@".contains(&b)),
                "{node}"
            );
        }
        let long = |end: &str| ghost_node(&format!("home/{}{end}", "\u{e9}".repeat(2_000)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= MAX_PART);
    }

    #[test]
    fn b6_a_nick_holds_nothing_invisible_and_no_line_break() {
        assert_eq!(nick("a\u{202e}b\u{200b}c\r\nd\te\u{0}", "x"), "abc d e");
        assert_eq!(nick("\u{200b} \u{feff}", "libera/al"), "libera/al");
        assert_eq!(nick("\u{1f600}", "x"), "\u{1f600}");
        assert_eq!(nick("", ""), "someone");
    }

    #[test]
    fn b6_a_nick_is_short_whatever_the_name() {
        let name = nick(&"\u{1f468}".repeat(10_000), "x");
        assert!(name.graphemes(true).count() <= MAX_NICK && name.len() <= MAX_NICK_BYTES);
        let zalgo = nick(&format!("a{}", "\u{301}".repeat(5_000)), "x");
        assert!(zalgo.chars().count() <= MAX_STACK);
    }

    #[test]
    fn a_plain_nick_has_no_emoji_left() {
        assert_eq!(plain_nick("al \u{1fae0}", "x"), "al");
        assert_eq!(plain_nick("\u{1fae0}", "libera/al"), "libera/al");
    }

    #[test]
    fn a_part_id_names_event_and_part_and_only_its_own_component_reads_it() {
        let (ours, theirs) = (
            PartIds::new("bridge.a.example"),
            PartIds::new("bridge.b.example"),
        );
        let id = ours.make("01JD9V7R0M8Q4Z3W2T6YB5K1NC", 3);
        assert_eq!(ours.read(&id), Some(("01JD9V7R0M8Q4Z3W2T6YB5K1NC", 3)));
        assert_eq!(theirs.read(&id), None);
        assert_eq!(ours.read("purple1234"), None);
    }
}
