//! An event to what is sent: the parts of a text, and the body of one part in a speaker's or the bot's mouth.

use comity_bridge::Text;
use unicode_segmentation::UnicodeSegmentation;

use crate::ident;
use crate::wire::{Build, element, ns};

/// The largest part, counted as it stands on the wire in the longer of its two forms. Clients'
/// servers often take 64 KiB, and a stanza over a limit ends the stream of whoever sent it.
const MAX_PART: usize = 32_000;

/// Who says it in the room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mouth<'a> {
    /// The speaker's own occupant.
    Ghost,
    /// Our bot, which names the speaker.
    Bot(&'a str),
}

/// Splits a text into parts that fit, at line ends where it can and never within a grapheme.
pub(crate) fn split(text: &str, name: &str) -> Vec<String> {
    let naming = escaped(&format!("<{}> ", relay_name(name)));
    // One line end, and no control character that a reader's client might act on.
    let text = Text::plain(text).plain;
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut cost = 0;
    for line in text.split_inclusive('\n') {
        let whole = naming + escaped(line);
        if cost > 0 && cost + whole > MAX_PART {
            parts.push(std::mem::take(&mut part));
            cost = 0;
        }
        if whole <= MAX_PART {
            part.push_str(line);
            cost += whole;
            continue;
        }
        for grapheme in line.graphemes(true) {
            let weight = escaped(grapheme);
            if cost > 0 && cost + weight > MAX_PART {
                parts.push(std::mem::take(&mut part));
                cost = 0;
            }
            cost += weight + if part.is_empty() { naming } else { 0 };
            part.push_str(grapheme);
        }
    }
    parts.push(part);
    for part in &mut parts {
        part.truncate(part.trim_end_matches('\n').len());
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// The body for one part.
///
/// In the bot's mouth every line carries the author, so that nobody can fake a line of somebody
/// else. A text that only looks like an emote gets a space in front (XEP-0245 knows no escape).
///
/// `late` is when it was written, in front of the text, for a room that would not say it otherwise.
pub(crate) fn body(text: &str, emote: bool, mouth: Mouth<'_>, late: Option<&str>) -> String {
    let dated;
    let text = match late {
        Some(late) => {
            dated = format!("{late} {text}");
            &dated
        }
        None => text,
    };
    match mouth {
        Mouth::Ghost if emote => format!("/me {text}"),
        Mouth::Ghost if text.starts_with("/me ") => format!(" {text}"),
        Mouth::Ghost => text.to_owned(),
        Mouth::Bot(name) => {
            let name = relay_name(name);
            let named = |line: &str| {
                if emote {
                    format!("* {name} {line}")
                } else {
                    format!("<{name}> {line}")
                }
            };
            text.split('\n').map(named).collect::<Vec<_>>().join("\n")
        }
    }
}

/// The stanza for one part (XEP-0045 §7.4); its id is also its origin id, which a room keeps in its archive.
pub(crate) fn message(from: &str, to: &str, id: &str, body: &str) -> Build {
    element("message", ns::CLIENT)
        .attr("from", from)
        .attr("to", to)
        .attr("type", "groupchat")
        .attr("id", id)
        .child(element("body", ns::CLIENT).text(body))
        .child(element("origin-id", ns::SID).attr("id", id))
}

/// Says in the stanza when it was written (XEP-0203), if it comes late.
pub(crate) fn stamped(message: Build, component: &str, stamp: Option<&str>) -> Build {
    match stamp {
        Some(stamp) => message.child(
            element("delay", ns::DELAY)
                .attr("from", component)
                .attr("stamp", stamp),
        ),
        None => message,
    }
}

fn relay_name(name: &str) -> String {
    let name = ident::nick(name, "someone");
    name.chars()
        .map(|c| match c {
            '<' => '\u{2039}',
            '>' => '\u{203a}',
            c => c,
        })
        .collect()
}

fn escaped(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '&' | '\r' => 5,
            '<' | '>' => 4,
            c => c.len_utf8(),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_one_part_as_it_is() {
        assert_eq!(split("one\ntwo", "al"), ["one\ntwo"]);
        assert_eq!(split(" \n", "al"), Vec::<String>::new());
    }

    #[test]
    fn a_long_text_is_split_at_lines_and_every_part_fits() {
        let text: String = (0..20_000).map(|n| format!("line {n} <&>\n")).collect();
        let parts = split(&text, "alice");
        assert!(parts.len() > 1);
        assert_eq!(parts.join("\n"), text.trim_end());
        for part in &parts {
            assert!(escaped(&body(part, false, Mouth::Bot("alice"), None)) <= MAX_PART + 64);
        }
    }

    #[test]
    fn a_long_line_is_never_cut_within_a_grapheme() {
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        let parts = split(&family.repeat(5_000), "al");
        assert!(parts.len() > 1);
        assert!(
            parts
                .iter()
                .all(|part| part.len() % family.len() == 0 && part.len() <= MAX_PART)
        );
    }

    #[test]
    fn a_ghost_says_what_was_said() {
        assert_eq!(body("hi\nthere", false, Mouth::Ghost, None), "hi\nthere");
        assert_eq!(body("waves", true, Mouth::Ghost, None), "/me waves");
        assert_eq!(
            body("/me is text", false, Mouth::Ghost, None),
            " /me is text"
        );
    }

    #[test]
    fn the_bot_names_the_author_on_every_line() {
        assert_eq!(
            body("hi\n<bob> fake", false, Mouth::Bot("al"), None),
            "<al> hi\n<al> <bob> fake"
        );
        assert_eq!(body("waves", true, Mouth::Bot("al"), None), "* al waves");
        assert_eq!(
            body("x", false, Mouth::Bot("a>\n<b\u{202e}"), None),
            "<a\u{203a} \u{2039}b> x"
        );
    }
}
