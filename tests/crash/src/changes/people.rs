//! Somebody in a channel, who does things at random with what they see there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use comity_people::history::changes::What;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::place::{Place, Record};

/// People look back so far.
const SEEN: usize = 60;

const EMOJI: [&str; 3] = ["+1", "heart", "tada"];

/// Does `acts` things, counted over all lives, and says good night in each.
pub(crate) async fn live(place: Arc<Place>, acts: u64) {
    let mut mind = Mind::new(&place);
    let mut done = mind.own;
    while done < acts {
        // Several at once and then nothing, as people are.
        for _ in 0..mind.dice.random_range(1..=4_u64).min(acts - done) {
            mind.look(&place);
            let what = mind.choose(&place);
            place.does(what);
            done += 1;
        }
        let pause = mind.dice.random_range(0..3_000);
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
    let token = mind.token(&place);
    let text = format!("{token} {}", place.good_night());
    place.does(What::Message { text });
}

/// A message as its reader remembers it.
struct Remembered {
    id: String,
    own: bool,
    redacted: bool,
    reactions: Vec<&'static str>,
}

struct Mind {
    dice: SmallRng,
    read: usize,
    own: u64,
    messages: Vec<Remembered>,
    by_id: HashMap<String, usize>,
    only_says: bool,
}

impl Mind {
    fn new(place: &Place) -> Mind {
        let seed = std::env::var("COMITY_SEED").ok();
        let seed = seed.and_then(|seed| seed.parse::<u64>().ok()).unwrap_or(0);
        // Another one in each life and each place, and the same again with the same seed.
        let salt: u64 = place.channel.bytes().map(u64::from).sum();
        let mut mind = Mind {
            dice: SmallRng::seed_from_u64(seed ^ (place.len() as u64) << 20 ^ salt),
            read: 0,
            own: 0,
            messages: Vec::new(),
            by_id: HashMap::new(),
            only_says: place.channel.starts_with("plain/"),
        };
        mind.look(place);
        mind
    }

    /// Reads what has appeared.
    fn look(&mut self, place: &Place) {
        for record in place.from(self.read) {
            self.read += 1;
            self.own += u64::from(record.seen.own);
            self.see(&record);
        }
    }

    fn see(&mut self, record: &Record) {
        match &record.seen.what {
            What::Message { text } => {
                // Nobody meddles with a good night: it has to be seen.
                if text.contains("good night") {
                    return;
                }
                self.by_id
                    .insert(record.seen.id.clone(), self.messages.len());
                self.messages.push(Remembered {
                    id: record.seen.id.clone(),
                    own: record.seen.own,
                    redacted: false,
                    reactions: Vec::new(),
                });
            }
            What::Redact { of } => {
                if let Some(message) = self.by_id.get(of) {
                    self.messages[*message].redacted = true;
                }
            }
            What::Reaction { of, emoji, on } if record.seen.own => {
                let emoji = EMOJI.iter().find(|known| *known == emoji);
                if let (Some(message), Some(emoji)) = (self.by_id.get(of), emoji) {
                    let reactions = &mut self.messages[*message].reactions;
                    reactions.retain(|known| known != emoji);
                    reactions.extend(on.then_some(*emoji));
                }
            }
            What::Edit { .. } | What::Reaction { .. } | What::Notice { .. } => {}
        }
    }

    fn choose(&mut self, place: &Place) -> What {
        let recent = self.messages.len().saturating_sub(SEEN);
        let visible: Vec<&Remembered> = self.messages[recent..]
            .iter()
            .filter(|message| !message.redacted)
            .collect();
        let own: Vec<&Remembered> = visible.iter().copied().filter(|m| m.own).collect();
        let kind = self.dice.random_range(0..100);
        if self.only_says || kind < 40 {
            // Says something, below.
        } else if kind < 65 {
            // What was said last is changed most.
            let late = own.len().saturating_sub(4);
            if let Some(message) = own[late..].choose(&mut self.dice) {
                return What::Edit {
                    of: message.id.clone(),
                    text: format!("{} edited", self.token(place)),
                };
            }
        } else if kind < 75 {
            // Own things, or, in the right of a moderator, anybody's.
            let those = if kind < 72 { &own } else { &visible };
            if let Some(message) = those.choose(&mut self.dice) {
                return What::Redact {
                    of: message.id.clone(),
                };
            }
        } else if let Some(message) = visible.choose(&mut self.dice) {
            let emoji = EMOJI.choose(&mut self.dice).copied().unwrap_or("+1");
            return What::Reaction {
                of: message.id.clone(),
                emoji: emoji.to_owned(),
                on: !message.reactions.contains(&emoji),
            };
        }
        What::Message {
            text: format!("{} hello", self.token(place)),
        }
    }

    /// What nobody else says.
    fn token(&self, place: &Place) -> String {
        format!("core-{}-{}-", place.person, place.len())
    }
}
