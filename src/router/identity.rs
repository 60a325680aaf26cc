//! Who an author is to the rest of the world.

use std::collections::BTreeMap;

use comity_bridge::report::Refusal;
use comity_bridge::{Author, NativeAuthor, NetworkName, UserAddress};

/// Names shown are cut here; nobody's name is that long by accident. Characters.
const LONGEST_NAME: usize = 64;

/// The author as an event has them: the id with its network in front, the address bound to this gateway or, for
/// somebody of another one, as that one signed it.
pub(super) fn author(
    domain: &str,
    network: &NetworkName,
    native: NativeAuthor,
) -> Result<Author, Refusal> {
    if native.id.is_empty() || native.id.len() > 512 {
        return Err(Refusal::Malformed);
    }
    let address = native
        .address
        .unwrap_or_else(|| UserAddress::of(&native.id, &format!("{network}.{domain}")));
    Ok(Author {
        id: format!("{network}/{}", native.id),
        name: name(&native.name, &native.id),
        address,
        avatar: native.avatar,
        bot: native.bot,
        unknown: BTreeMap::new(),
    })
}

/// The name without what could break a line, turn the writing direction or hide; the id when nothing is left.
fn name(shown: &str, id: &str) -> String {
    let clean = |text: &str| -> String {
        let kept = text
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .filter(|c| !hides(*c));
        kept.take(LONGEST_NAME)
            .collect::<String>()
            .trim()
            .to_owned()
    };
    let name = clean(shown);
    if !name.is_empty() {
        return name;
    }
    let id = clean(id);
    if id.is_empty() { "?".to_owned() } else { id }
}

/// Controls, zero-width characters but the joiners that emoji and scripts need, and direction overrides.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_a_name_cannot_turn_hide_or_break_lines() {
        assert_eq!(name("ad\u{202e}min\u{200b}\r\n\u{0}x", "id"), "admin  x");
        assert_eq!(name("\u{200b}", "id"), "id");
        assert_eq!(name(&"x".repeat(10_000), "id").len(), LONGEST_NAME);
    }
}
