//! Makes events of what bridges report: room, identity, loop guard, limits. It never knows a protocol's name.
//!
//! [`Router`] is a function of the report and the configuration; what needs the log (`seq`, the meaning of native references, whether it
//! is there already) happens at the commit, in the journal. What has to be remembered from one report to the next belongs to the
//! [`Gate`]: how much waits, and what was said lately.

mod gaps;
mod identity;
mod intake;
mod loop_guard;
mod pace;
mod pauses;
mod policy;
mod quota;

use std::collections::{HashMap, HashSet};

use comity_bridge::report::Refusal;
use comity_bridge::{Channel, Incoming, NativeId, NetworkName, RoomAddress, Timestamp};

use crate::journal::{Draft, Entry};
use crate::notice::new_id;

pub use intake::Gate;

/// What the router knows: which channel shows which room.
#[derive(Debug)]
pub struct Router {
    domain: String,
    rooms: HashMap<Channel, RoomAddress>,
    networks: HashSet<NetworkName>,
}

impl Router {
    /// The router of the gateway `domain` with these rooms.
    pub fn new(domain: &str, rooms: &[(RoomAddress, Vec<Channel>)]) -> Self {
        let rooms: HashMap<Channel, RoomAddress> = rooms
            .iter()
            .flat_map(|(room, channels)| {
                channels
                    .iter()
                    .map(|channel| (channel.clone(), room.clone()))
            })
            .collect();
        let networks = rooms
            .keys()
            .map(|channel| channel.network().clone())
            .collect();
        Router {
            domain: domain.to_owned(),
            rooms,
            networks,
        }
    }

    /// Decides what an incoming item is to the journal.
    pub fn admit(&self, network: &NetworkName, incoming: Incoming, received: Timestamp) -> Entry {
        if let Some(key) = incoming.own {
            return Entry::Receipt(key, NativeId(incoming.source_id.0));
        }
        match self.draft(network, incoming, received) {
            Ok(draft) => Entry::Event(Box::new(draft)),
            Err(refusal) => Entry::Refused(refusal),
        }
    }

    fn draft(
        &self,
        network: &NetworkName,
        incoming: Incoming,
        received: Timestamp,
    ) -> Result<Draft, Refusal> {
        // A bridge speaks for its own network only.
        if incoming.channel.network() != network {
            return Err(Refusal::UnknownChannel);
        }
        let room = self
            .rooms
            .get(&incoming.channel)
            .ok_or(Refusal::UnknownChannel)?;
        policy::check(&incoming)?;
        let author = identity::author(&self.domain, network, incoming.author)?;
        loop_guard::check(&self.domain, &self.networks, &author, network)?;
        let via = loop_guard::way(&self.domain, incoming.via)?;
        Ok(Draft {
            id: new_id(received),
            room: room.clone(),
            channel: incoming.channel,
            source_id: incoming.source_id,
            author,
            time: policy::plausible(incoming.claimed, received),
            received,
            content: incoming.content,
            via,
            ext: Default::default(),
        })
    }

    /// The room that a channel shows.
    fn room(&self, channel: &Channel) -> Option<&RoomAddress> {
        self.rooms.get(channel)
    }
}

#[cfg(test)]
mod tests {
    use comity_bridge::event::{Join, Message, MessageKind, Typing};
    use comity_bridge::{Content, DeliveryKey, EventId, NativeAuthor, SourceId, Text};

    use super::*;

    fn router() -> Router {
        let room: RoomAddress = "#rust@gw1.example".parse().expect("a room");
        let channels = vec![
            "libera/#rust".parse().expect("a channel"),
            "home/!r".parse().expect("a channel"),
        ];
        Router::new("gw1.example", &[(room, channels)])
    }

    fn said(channel: &str, text: &str) -> Incoming {
        Incoming {
            channel: channel.parse().expect("a channel"),
            source_id: SourceId::from("1"),
            author: NativeAuthor::named("alice", "alice"),
            claimed: None,
            own: None,
            content: Content::Message(Message::of(MessageKind::Text, Text::plain(text))),
            via: Vec::new(),
        }
    }

    fn admit(incoming: Incoming) -> Entry {
        let network = incoming.channel.network().clone();
        router().admit(&network, incoming, Timestamp(1_732_280_000_000))
    }

    #[test]
    fn an_author_gets_an_id_and_an_address_of_this_gateway() {
        let Entry::Event(draft) = admit(said("libera/#rust", "hi")) else {
            panic!("refused")
        };
        assert_eq!(draft.author.id, "libera/alice");
        assert_eq!(draft.author.address.to_string(), "alice@libera.gw1.example");
        assert_eq!(draft.room.to_string(), "#rust@gw1.example");
        assert_eq!(draft.via, ["gw1.example"]);
    }

    #[test]
    fn what_belongs_to_no_room_is_refused() {
        assert!(matches!(
            admit(said("libera/#other", "hi")),
            Entry::Refused(Refusal::UnknownChannel)
        ));
    }

    #[test]
    fn a_bridge_cannot_speak_for_another_network() {
        let other: NetworkName = "home".parse().expect("a name");
        let entry = router().admit(&other, said("libera/#rust", "hi"), Timestamp(0));
        assert!(matches!(entry, Entry::Refused(Refusal::UnknownChannel)));
    }

    #[test]
    fn our_own_coming_back_is_a_receipt() {
        let key = DeliveryKey {
            event: EventId::from_bytes([1; 16]),
            channel: "libera/#rust".parse().expect("a channel"),
        };
        let mut incoming = said("libera/#rust", "hi");
        incoming.own = Some(key.clone());
        assert!(
            matches!(admit(incoming), Entry::Receipt(found, id) if found == key && id.0 == "1")
        );
    }

    #[test]
    fn blank_text_ephemeral_and_oversized_content_is_refused() {
        assert!(matches!(
            admit(said("libera/#rust", " \n")),
            Entry::Refused(Refusal::Malformed)
        ));
        assert!(matches!(
            admit(said("libera/#rust", &"x".repeat(300_000))),
            Entry::Refused(Refusal::Malformed)
        ));
        let mut typing = said("libera/#rust", "");
        typing.content = Content::Typing(Typing {
            active: true,
            unknown: Default::default(),
        });
        assert!(matches!(admit(typing), Entry::Refused(Refusal::Ephemeral)));
        let mut join = said("libera/#rust", "");
        join.content = Content::Join(Join::default());
        assert!(matches!(admit(join), Entry::Event(_)));
    }

    #[test]
    fn an_event_of_this_gateway_that_comes_back_through_a_peer_is_a_loop() {
        let mut incoming = said("libera/#rust", "hi");
        incoming.author.address = Some("bob@home.gw1.example".parse().expect("an address"));
        assert!(matches!(admit(incoming), Entry::Refused(Refusal::Loop)));
    }

    #[test]
    fn an_event_that_has_passed_this_gateway_is_a_loop_whoever_wrote_it() {
        let mut incoming = said("libera/#rust", "hi");
        incoming.author.address = Some("carol@gw3.example".parse().expect("an address"));
        incoming.via = vec!["gw3.example".to_owned(), "gw2.example".to_owned()];
        let Entry::Event(draft) = admit(incoming.clone()) else {
            panic!("refused")
        };
        assert_eq!(draft.via, ["gw3.example", "gw2.example", "gw1.example"]);
        incoming.via.insert(1, "gw1.example".to_owned());
        assert!(matches!(admit(incoming), Entry::Refused(Refusal::Loop)));
    }

    #[test]
    fn a_claimed_time_is_kept_within_what_is_plausible() {
        let mut incoming = said("libera/#rust", "hi");
        incoming.claimed = Some(Timestamp(i64::MAX));
        let Entry::Event(draft) = admit(incoming) else {
            panic!("refused")
        };
        assert_eq!(draft.time, draft.received);
    }
}
