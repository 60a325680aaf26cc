//! What was said in one room lately: to see that something comes back.
//!
//! A foreign bridge that strips every id repeats a text with its author's name somewhere before it, `<alice> hello`, or under a name
//! of its own making, `alice[m]`. So a text is looked for by its end. Of each text only the end is kept.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use comity_bridge::Timestamp;
use tokio::time::Instant;

/// For how long something said can be recognised.
pub(super) const SPAN: Duration = Duration::from_secs(10 * 60);

/// A copy under another name comes within this time, or it is just the same word.
const SAME_WORD: Duration = Duration::from_secs(30);

/// Things kept of one room.
const KEPT: usize = 256;

/// How much is kept of the end of a text. Bytes.
const END: usize = 256;

/// How far before a text its author's name is looked for. Bytes.
const BEFORE: usize = 512;

/// Something that somebody says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    /// The author's id.
    pub(super) author: &'a str,
    /// The name that people see.
    pub(super) name: &'a str,
    /// What is said.
    pub(super) text: &'a str,
    /// Network and channel where it is said, and what it is called there.
    pub(super) source: (&'a str, &'a str, &'a str),
    /// When, as the source says.
    pub(super) time: Timestamp,
    /// When it is heard.
    pub(super) now: Instant,
}

/// What was recognised as a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Copied {
    /// How often it had been copied before: 0 when it was somebody's own words.
    pub(super) turn: u8,
    /// The first of them.
    pub(super) root: u64,
    /// Its author's name stands before it. Otherwise it is the same text under a similar name.
    pub(super) named: bool,
    /// It was said by the one who says it again.
    pub(super) own: bool,
    /// How long ago it was said: the longer of what our clock and the sources' clocks tell.
    pub(super) age: Duration,
    /// Characters.
    pub(super) length: usize,
}

/// The last things said.
#[derive(Debug, Default)]
pub(super) struct Memory {
    hasher: RandomState,
    /// Hashes of last words, beside `said` so that a look costs a walk over one kilobyte.
    ends: Vec<u32>,
    said: Vec<Said>,
    oldest: usize,
    count: u64,
}

#[derive(Debug)]
struct Said {
    author: u64,
    source: u64,
    root: u64,
    at: Instant,
    time: Timestamp,
    turn: u8,
    name: Box<str>,
    /// The end of it.
    text: Box<str>,
    /// Bytes of all of it.
    length: usize,
}

impl Memory {
    /// What this copies, if anything: of several the longest, of those the last. An equal name makes the same text a copy
    /// only where `relay` says that the author repeats others.
    pub(super) fn find(&self, heard: &Heard<'_>, relay: bool) -> Option<Copied> {
        let text = heard.text.trim_end();
        let end = self.end_of(text);
        let author = self.hash(heard.author);
        let mut found: Option<Copied> = None;
        let alike = self.ends.iter().zip(&self.said);
        for (_, said) in alike.filter(|(known, _)| **known == end) {
            let ours = heard.now.saturating_duration_since(said.at);
            let theirs = u64::try_from(heard.time.0.saturating_sub(said.time.0)).unwrap_or(0);
            let age = ours.max(Duration::from_millis(theirs));
            if age > SPAN {
                continue;
            }
            let own = said.author == author;
            let named = said.is_named_in(text);
            let renamed = !own && age <= SAME_WORD && said.is_renamed_in(heard.name, text, relay);
            if !(named || renamed) {
                continue;
            }
            let copied = Copied {
                turn: said.turn,
                root: said.root,
                named,
                own,
                age,
                length: said.text.chars().count(),
            };
            let better = found.is_none_or(|best| {
                (copied.named, copied.length, best.age) >= (best.named, best.length, copied.age)
            });
            if better {
                found = Some(copied);
            }
        }
        found
    }

    /// True when this very message is remembered: its network reports it again.
    pub(super) fn knows(&self, heard: &Heard<'_>) -> bool {
        let source = self.hash(heard.source);
        self.said.iter().any(|said| said.source == source)
    }

    /// Remembers what was said, in the place of the oldest.
    pub(super) fn remember(&mut self, heard: &Heard<'_>, copies: Option<Copied>) {
        let text = heard.text.trim_end();
        self.count += 1;
        let said = Said {
            author: self.hash(heard.author),
            source: self.hash(heard.source),
            root: copies.map_or(self.count, |copied| copied.root),
            at: heard.now,
            time: heard.time,
            turn: copies.map_or(0, |copied| copied.turn.saturating_add(1)),
            name: heard.name.into(),
            text: tail(text, END).into(),
            length: text.len(),
        };
        let end = self.end_of(text);
        self.mark_copies_of(&said, end);
        if self.said.len() < KEPT {
            self.ends.push(end);
            self.said.push(said);
        } else {
            self.ends[self.oldest] = end;
            self.said[self.oldest] = said;
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    /// A copy may be heard before what it copies, when the two come from different networks.
    fn mark_copies_of(&mut self, original: &Said, end: u32) {
        let alike = self.ends.iter().zip(&mut self.said);
        for (_, said) in alike.filter(|(known, _)| **known == end) {
            let age = original.at.saturating_duration_since(said.at);
            if said.turn == 0
                && said.author != original.author
                && age <= SAME_WORD
                && original.is_named_in(&said.text)
            {
                said.turn = original.turn.saturating_add(1);
                said.root = original.root;
            }
        }
    }

    /// A number for an author, good for this memory alone.
    pub(super) fn hash(&self, of: impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    fn end_of(&self, text: &str) -> u32 {
        let word = tail(text, END).split_whitespace().next_back();
        // Half of the hash tells enough apart.
        (self.hash(word) >> 32) as u32
    }
}

impl Said {
    /// `<alice> hello` after alice's `hello`.
    fn is_named_in(&self, text: &str) -> bool {
        if !text.ends_with(&*self.text) {
            return false;
        }
        // A long text that is said again begins with itself, not with a name.
        let before = text.len().checked_sub(self.length);
        before
            .and_then(|end| text.get(..end))
            .is_some_and(|before| names(tail(before, BEFORE), &self.name))
    }

    /// alice[m]'s `hello` after alice's `hello`.
    fn is_renamed_in(&self, name: &str, text: &str, relay: bool) -> bool {
        if text.len() != self.length || !text.ends_with(&*self.text) {
            return false;
        }
        let (name, known) = (folded(name), folded(&self.name));
        name.contains(&known) && (relay || name.len() > known.len())
    }
}

/// The end of a text, so many bytes at the most, from a character boundary on.
fn tail(text: &str, end: usize) -> &str {
    let start = text.len().saturating_sub(end);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at));
    start.and_then(|at| text.get(at..)).unwrap_or(text)
}

/// True when the name stands in it as a word of its own, whatever a bridge has put between its letters.
fn names(before: &str, name: &str) -> bool {
    // Scripts without small and capital letters may set no space between words.
    let carries = |c: char| c.is_lowercase() || c.is_uppercase() || c.is_numeric();
    let wanted: Vec<char> = folded(name).chars().collect();
    let mut letters: Vec<char> = Vec::new();
    // For each letter, whether it goes on with the word of the one before.
    let mut goes_on: Vec<bool> = Vec::new();
    let mut last = None;
    for c in before.chars() {
        if c.is_alphanumeric() {
            let first = carries(c) && last.is_some_and(carries);
            letters.extend(c.to_lowercase());
            goes_on.push(first);
            goes_on.resize(letters.len(), true);
        }
        last = Some(c);
    }
    let is_border = |at: usize| goes_on.get(at).is_none_or(|goes_on| !goes_on);
    let found = letters.windows(wanted.len().max(1)).enumerate();
    let mut found = found.filter(|(_, letters)| **letters == *wanted);
    found.any(|(at, _)| is_border(at) && is_border(at + wanted.len()))
        || (!name.chars().any(char::is_alphanumeric) && !name.is_empty() && before.contains(name))
}

/// Letters and digits alone, for bridges put brackets, colours and invisible characters into names; all of it for a name that has none.
fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    let folded: String = letters.flat_map(char::to_lowercase).collect();
    if folded.is_empty() {
        name.to_owned()
    } else {
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard<'a>(author: &'a str, text: &'a str, now: Instant) -> Heard<'a> {
        Heard {
            author,
            name: author,
            text,
            source: ("one", "#r", text),
            time: Timestamp(0),
            now,
        }
    }

    fn remembering(author: &str, text: &str) -> (Memory, Instant) {
        let now = Instant::now();
        let mut memory = Memory::default();
        memory.remember(&heard(author, text, now), None);
        (memory, now)
    }

    #[test]
    fn a_text_with_its_authors_name_before_it_is_a_copy() {
        let (memory, now) = remembering("alice", "hello there");
        for copy in [
            "<alice> hello there",
            "[irc] <a\u{200b}lice> hello there ",
            "alice: hello there",
            "<comity> <Alice> hello there",
        ] {
            let found = memory.find(&heard("fb", copy, now), false);
            assert!(found.is_some_and(|copied| copied.named), "{copy}");
        }
        for other in [
            "hello there",
            "bob: hello there",
            "<alice> hello there!",
            "alice: hello",
            "there",
        ] {
            let found = memory.find(&heard("fb", other, now), false);
            assert_eq!(found, None, "{other}");
        }
    }

    #[test]
    fn a_copy_heard_before_what_it_copies_is_known_as_one_later() {
        let (mut memory, now) = remembering("fb", "<alice> hello");
        memory.remember(&heard("alice", "hello", now), None);
        let back = heard("fb", "<comity> <fb> <alice> hello", now);
        let found = memory.find(&back, false).expect("a copy");
        assert!(found.own && found.turn == 1, "{found:?}");
    }

    #[test]
    fn the_same_text_is_a_copy_under_a_name_made_of_the_first_one_only() {
        let (memory, now) = remembering("alice", "hello");
        let find = |author: &str, relay: bool| memory.find(&heard(author, "hello", now), relay);
        assert!(find("alice[m]2", false).is_some_and(|copied| !copied.named));
        assert_eq!(find("bob", false), None);
        assert_eq!(find("bob", true), None);
        let same_name = Heard {
            author: "other/alice",
            ..heard("alice", "hello", now)
        };
        assert_eq!(memory.find(&same_name, false), None, "on two networks");
        assert!(memory.find(&same_name, true).is_some());
        let late = heard("alice2", "hello", now + Duration::from_secs(31));
        assert_eq!(memory.find(&late, false), None);
    }

    #[test]
    fn a_long_text_is_known_by_its_end() {
        let long = "ä".repeat(1000);
        let (memory, now) = remembering("alice", &long);
        let copy = format!("<alice> {long}");
        assert!(memory.find(&heard("fb", &copy, now), false).is_some());
    }

    #[test]
    fn a_long_text_said_again_and_again_is_no_copy_though_its_authors_name_is_in_it() {
        let line = "as alice said before, malice is not needed to break a bridge. ";
        let long = line.repeat(8);
        let (mut memory, now) = remembering("alice", &long);
        for _ in 0..3 {
            let again = heard("alice", &long, now);
            assert_eq!(memory.find(&again, false), None);
            memory.remember(&again, None);
        }
    }

    #[test]
    fn a_name_is_found_as_a_word_only() {
        let (memory, now) = remembering("al", "hello");
        let find = |copy: &str| memory.find(&heard("fb", copy, now), false);
        for other in ["also hello", "<malin> hello", "a lot: hello", "al2: hello"] {
            assert_eq!(find(other), None, "{other}");
        }
        for copy in [
            "<al> hello",
            "also <AL> hello",
            "<a\u{2060}l> hello",
            "al说: hello",
        ] {
            assert!(find(copy).is_some(), "{copy}");
        }
    }

    #[test]
    fn what_was_said_long_ago_or_much_before_is_forgotten() {
        let (mut memory, now) = remembering("alice", "hello");
        let copy = "<alice> hello";
        let later = now + SPAN + Duration::from_secs(1);
        assert_eq!(memory.find(&heard("fb", copy, later), false), None);
        for number in 0..KEPT {
            let text = format!("line {number}");
            memory.remember(&heard("bob", &text, now), None);
        }
        assert_eq!(memory.find(&heard("fb", copy, now), false), None);
        assert_eq!(memory.said.len(), KEPT);
    }
}
