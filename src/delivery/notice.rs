//! Tells an author, once and where they are, that a message of theirs could not be shown somewhere.
//!
//! Only people on this gateway's own networks are told: another gateway's would have to say it to a whole room. The notice is an event
//! for one channel alone and is committed together with the dead letter that it is about.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::{Channel, Content, DeliveryError, Event, NetworkName, Timestamp, UserAddress};
use tokio::time::Instant;

use crate::journal::Draft;
use crate::notice::Notice;

/// Notices of one lane in an hour.
const MOST: usize = 10;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Characters of a message that are quoted.
const QUOTED: usize = 40;

/// Who may be told, on this gateway.
#[derive(Clone, Debug)]
pub struct Courtesy {
    /// The gateway's name.
    pub domain: String,
    /// The networks whose people want to know.
    pub networks: HashSet<NetworkName>,
}

/// What one lane tells.
#[derive(Debug)]
pub(super) struct Teller {
    courtesy: Arc<Courtesy>,
    channel: Channel,
    told: VecDeque<Instant>,
}

impl Teller {
    pub(super) fn new(courtesy: Arc<Courtesy>, channel: Channel) -> Self {
        Teller {
            courtesy,
            channel,
            told: VecDeque::new(),
        }
    }

    /// What its author is told about an event that was given up, if anything.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        why: &DeliveryError,
        now: Timestamp,
    ) -> Option<Draft> {
        let quote = match &event.content {
            Content::Message(message) => quote(&message.text.plain),
            Content::Edit(edit) => quote(&edit.text.plain),
            // Nobody waits for an answer to anything else.
            _ => return None,
        };
        let courtesy = &self.courtesy;
        let own = UserAddress::of("comity", &courtesy.domain);
        let foreign = event.via.iter().any(|gateway| *gateway != courtesy.domain);
        if event.author.address == own
            || foreign
            || !courtesy.networks.contains(&event.origin.network)
        {
            return None;
        }
        let only =
            Channel::new(event.origin.network.clone(), event.origin.channel.as_str()).ok()?;
        while self.told.front().is_some_and(|at| at.elapsed() > HOUR) {
            self.told.pop_front();
        }
        if self.told.len() >= MOST {
            return None;
        }
        self.told.push_back(Instant::now());
        let mut text = format!(
            "{}: your message {quote} could not be shown in {}: {}.",
            event.author.name,
            self.channel,
            in_plain_words(why)
        );
        if self.told.len() == MOST {
            text.push_str(" More such notices about that channel are left out for an hour.");
        }
        let notice = Notice {
            domain: &courtesy.domain,
            room: &event.room,
            channel: &self.channel,
            source_id: format!("dead:{}", event.id),
            only: Some(&only),
            text,
            now,
        };
        Some(notice.draft())
    }
}

fn quote(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    let short: String = line.chars().take(QUOTED).collect();
    let mark = if short.len() < line.len() { "…" } else { "" };
    if short.is_empty() {
        "without text".to_owned()
    } else {
        format!("“{short}{mark}”")
    }
}

fn in_plain_words(why: &DeliveryError) -> &'static str {
    match why {
        DeliveryError::NotJoined(_) => "the bridge is not in that channel",
        DeliveryError::TooLarge(_) => "it is too long",
        DeliveryError::Forbidden(_) => "the bridge may not speak there",
        DeliveryError::TargetGone => "what it refers to is gone",
        DeliveryError::RateLimited(_) => "the network takes no more messages",
        DeliveryError::ConnectionLost(_) => "the network cannot be reached",
        DeliveryError::Rejected(_) => "the network refuses it",
        DeliveryError::Unsupported(_) => "it cannot be shown there",
        DeliveryError::Poison(_) => "the bridge failed at it again and again",
        DeliveryError::HeldTooLong(_) => "the network could not be reached for too long",
        DeliveryError::TooOld => "it had become too old when the network could be reached again",
        DeliveryError::Damaged(_) => "it was damaged on the bridge's disk",
    }
}

#[cfg(test)]
mod tests {
    use comity_bridge::Content;

    use super::*;

    fn event(text: &str) -> Event {
        let json = serde_json::json!({
            "id": "01JD9V7R0M8Q4Z3W2T6YB5K1NC", "room": "#r@gw1.example", "seq": 1, "time": 1, "received": 1,
            "origin": {"network": "libera", "channel": "#r", "native_id": "1"},
            "author": {"id": "libera/a", "address": "a@libera.gw1.example", "name": "alice", "avatar": null, "bot": false},
            "content": {"type": "message", "kind": "text", "text": {"plain": text}, "reply_to": null, "thread": null},
            "via": ["gw1.example"], "ext": {}
        });
        serde_json::from_value(json).expect("an event")
    }

    fn teller() -> Teller {
        let courtesy = Courtesy {
            domain: "gw1.example".to_owned(),
            networks: HashSet::from(["libera".parse().expect("a name")]),
        };
        Teller::new(Arc::new(courtesy), "home/!r".parse().expect("a channel"))
    }

    fn said(draft: &Draft) -> &str {
        match &draft.content {
            Content::Message(message) => &message.text.plain,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_author_is_told_in_plain_words_where_they_are() {
        let why = DeliveryError::TooLarge("70,000 bytes".to_owned());
        let long = "one two three four five six seven eight nine ten";
        let draft = teller()
            .tell(&event(long), &why, Timestamp(5))
            .expect("told");
        assert_eq!(
            said(&draft),
            "alice: your message “one two three four five six seven eight …” could not be shown in home/!r: it is too long."
        );
        assert_eq!(draft.channel.to_string(), "home/!r");
        assert_eq!(draft.source_id.0, "dead:01JD9V7R0M8Q4Z3W2T6YB5K1NC");
        assert_eq!(draft.ext["only"], "libera/#r");
    }

    #[tokio::test]
    async fn nobody_is_told_who_does_not_want_to_know_or_is_elsewhere() {
        let mut teller = teller();
        let mut of_other_network = event("x");
        of_other_network.origin.network = "home".parse().expect("a name");
        let mut of_other_gateway = event("x");
        of_other_gateway.via.insert(0, "gw2.example".to_owned());
        let mut own = event("x");
        own.author.address = UserAddress::of("comity", "gw1.example");
        for event in [of_other_network, of_other_gateway, own] {
            assert!(
                teller
                    .tell(&event, &DeliveryError::TooOld, Timestamp(5))
                    .is_none()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_notices_in_an_hour_and_the_tenth_says_so() {
        let mut teller = teller();
        let mut tell = || teller.tell(&event("x"), &DeliveryError::TooOld, Timestamp(5));
        for number in 1..=10 {
            let draft = tell().expect("told");
            assert_eq!(said(&draft).ends_with("for an hour."), number == 10);
        }
        assert!(tell().is_none());
        tokio::time::advance(HOUR + Duration::from_secs(1)).await;
        assert!(tell().is_some());
    }
}
