//! Breaks a circle through a foreign bridge that strips every id, so that nothing but the text tells that it is ours.
//!
//! Such a bridge sits in two channels of one room. What we show in one of them it repeats in the other, where it is a message
//! by somebody else; we show that in the first, and so on for ever. What gives it away is what comes back: somebody says what
//! has been said, with the first one's name before it, and then the same again with *their own* name before it.
//!
//! The first copy passes: people quote each other. The breaker opens at
//!
//! - a copy of a copy that its own author had made: the circle is closed;
//! - a text copied for the fourth time, by whomever; for the third time when only the names grow (`alice`, `alice[m]`, `alice[m][m]`);
//! - a second copy, of something else, by an author whom the network calls a program, or by one who copies faster than people
//!   can, more than a word or two (or anything, while another channel of the room is paused), and says nothing else in between;
//! - any copy by an author for whom it has been open before.
//!
//! While it is open, nothing is shown in that channel and nothing taken from that author in it. It closes by itself after five minutes,
//! or twice as long as the last time if that was not long ago, or when the operator says so.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::{Channel, Content, RoomAddress};
use tokio::time::Instant;

use super::memory::{Copied, Heard, Memory, SPAN};
use crate::journal::Draft;

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(60 * 60));

/// After so much peace everything is forgotten.
const PEACE: Duration = Duration::from_secs(60 * 60);

/// Nobody reads, copies, names and sends a line in this time.
const QUICK: Duration = Duration::from_secs(3);

/// What people greet and thank each other with is shorter. Characters.
const LONG: usize = 12;

/// Authors remembered of one room because they have copied something.
const COPIERS: usize = 64;

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::router) enum Finding {
    /// Nothing to say against it.
    Pass,
    /// It is a copy; the breaker is open.
    Refuse,
    /// It is a copy, and the breaker opens now, for this long.
    Open(Duration),
}

/// The breakers of all rooms.
#[derive(Debug)]
pub(in crate::router) struct Breaker {
    rooms: HashMap<RoomAddress, Mutex<Watch>>,
}

impl Breaker {
    /// Watches the rooms that have more than one channel. In others nothing can go round.
    pub(in crate::router) fn new(rooms: &[(RoomAddress, Vec<Channel>)]) -> Self {
        let several = rooms.iter().filter(|(_, channels)| channels.len() > 1);
        Breaker {
            rooms: several
                .map(|(room, _)| (room.clone(), Mutex::default()))
                .collect(),
        }
    }

    /// Looks at a message before it is committed.
    pub(in crate::router) fn hear(&self, draft: &Draft, now: Instant) -> Finding {
        let (Some(watch), Content::Message(message)) =
            (self.rooms.get(&draft.room), &draft.content)
        else {
            return Finding::Pass;
        };
        if message.text.is_blank() {
            return Finding::Pass;
        }
        let heard = Heard {
            author: &draft.author.id,
            name: &draft.author.name,
            text: &message.text.plain,
            source: (
                draft.channel.network().as_str(),
                draft.channel.native(),
                &draft.source_id.0,
            ),
            time: draft.time,
            now,
        };
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.hear(&heard, &draft.channel, draft.author.bot)
    }

    /// The operator says that it is over.
    pub(in crate::router) fn forget(&self, room: &RoomAddress, channel: &Channel) {
        if let Some(watch) = self.rooms.get(room) {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.forget(channel);
        }
    }
}

/// One room.
#[derive(Debug, Default)]
struct Watch {
    memory: Memory,
    copiers: HashMap<u64, Copier>,
    pauses: HashMap<Channel, Pause>,
}

/// An author who has copied something.
#[derive(Debug)]
struct Copier {
    channel: Channel,
    last: Instant,
    copied: Copied,
    /// Something else was said since.
    own_words: bool,
    /// The breaker has been open for them.
    known: bool,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Watch {
    fn hear(&mut self, heard: &Heard<'_>, channel: &Channel, bot: bool) -> Finding {
        let author = self.memory.hash(heard.author);
        let open = self.is_open(channel, heard.now);
        self.forget_old(author, heard.now);
        let known = self.copiers.get(&author).is_some_and(|c| c.known);
        if open && known {
            self.touch(author, heard.now);
            return Finding::Refuse;
        }
        let Some(copied) = self.memory.find(heard, bot || known) else {
            if let Some(copier) = self.copiers.get_mut(&author) {
                copier.own_words = true;
            }
            self.memory.remember(heard, None);
            return Finding::Pass;
        };
        if self.memory.knows(heard) {
            return Finding::Pass;
        }
        // The bridge that sits in one channel of the room sits in another one too.
        let alarmed = self.pauses.values().any(|pause| heard.now < pause.until);
        let second = self
            .copiers
            .get(&author)
            .is_some_and(|before| before.has_done_so(&copied, bot, alarmed));
        let closes = known || closes_a_circle(&copied) || second;
        let copier = Copier {
            channel: channel.clone(),
            last: heard.now,
            copied,
            own_words: false,
            known: closes,
        };
        self.make_room(heard.now);
        self.copiers.insert(author, copier);
        if !closes {
            self.memory.remember(heard, Some(copied));
            return Finding::Pass;
        }
        if open {
            return Finding::Refuse;
        }
        Finding::Open(self.pause(channel, heard.now))
    }

    fn pause(&mut self, channel: &Channel, now: Instant) -> Duration {
        let length = match self.pauses.get(channel) {
            Some(last) if now < last.until + PEACE => (last.length * 2).min(PAUSES.1),
            _ => PAUSES.0,
        };
        let until = now + length;
        self.pauses.insert(channel.clone(), Pause { until, length });
        length
    }

    fn is_open(&self, channel: &Channel, now: Instant) -> bool {
        self.pauses
            .get(channel)
            .is_some_and(|pause| now < pause.until)
    }

    fn forget(&mut self, channel: &Channel) {
        self.pauses.remove(channel);
        self.copiers.retain(|_, copier| copier.channel != *channel);
    }

    fn touch(&mut self, author: u64, now: Instant) {
        if let Some(copier) = self.copiers.get_mut(&author) {
            copier.last = now;
        }
    }

    fn forget_old(&mut self, author: u64, now: Instant) {
        if self
            .copiers
            .get(&author)
            .is_some_and(|copier| copier.is_old(now))
        {
            self.copiers.remove(&author);
        }
    }

    /// Lets go of copiers: of those that are old, and of the oldest if there are still too many.
    fn make_room(&mut self, now: Instant) {
        if self.copiers.len() < COPIERS {
            return;
        }
        self.copiers.retain(|_, copier| !copier.is_old(now));
        while self.copiers.len() >= COPIERS {
            let oldest = self
                .copiers
                .iter()
                .min_by_key(|(_, copier)| (copier.known, copier.last));
            let Some(oldest) = oldest.map(|(author, _)| *author) else {
                return;
            };
            self.copiers.remove(&oldest);
        }
    }
}

impl Copier {
    /// True when this makes two copies of different things, as people do not make them, and without a word in between.
    fn has_done_so(&self, copied: &Copied, bot: bool, alarmed: bool) -> bool {
        self.copied.root != copied.root
            && (bot || !self.own_words)
            && is_inhuman(&self.copied, bot, alarmed)
            && is_inhuman(copied, bot, alarmed)
    }

    fn is_old(&self, now: Instant) -> bool {
        let kept = if self.known { PAUSES.1 + PEACE } else { SPAN };
        now.saturating_duration_since(self.last) > kept
    }
}

/// It has come back to who made it, or has been round so often that it does not matter who made it.
fn closes_a_circle(copied: &Copied) -> bool {
    if copied.named {
        (copied.own && copied.turn >= 1) || copied.turn >= 3
    } else {
        copied.turn >= 2
    }
}

/// A copy that people do not make, at least not while there is no other sign of a foreign bridge in the room.
fn is_inhuman(copied: &Copied, bot: bool, alarmed: bool) -> bool {
    let no_greeting = alarmed || copied.length >= LONG;
    !copied.own && (bot || (copied.named && copied.age <= QUICK && no_greeting))
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
