//! Many orders of arrival, one room: what is accepted and what the heads are depends on the set of events alone.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::compose::{Author, Place, Said};
use super::judge::{Acceptance, Context, Judgement, Via, judge};
use super::{Room, Shelf as _, ShelfError, Stage};
use crate::graph::Graph;
use crate::ident::{Alias, EventId, ServerName, UserAddress};
use crate::identity::Identity;
use crate::wire::event::Event;
use crate::wire::keys::KeyDocument;

const NOW: u64 = 1_732_280_000_000;

/// Two servers with a copy of the room each, and what both of them have said.
struct Scene {
    servers: Vec<(Author, Graph)>,
    keys: BTreeMap<ServerName, KeyDocument>,
    events: Vec<Event>,
    room: Room,
}

impl Scene {
    /// A room of the first server that the second has entered.
    async fn new() -> Self {
        let mut servers = Vec::new();
        let mut keys = BTreeMap::new();
        for (name, seed) in [("a.example", 1), ("b.example", 2)] {
            let server = ServerName::parse(name).expect("a name");
            let identity = Identity::from_seed(seed);
            keys.insert(server.clone(), identity.document(&server, NOW));
            let key = identity.key.clone();
            servers.push((Author { server, key }, Graph::in_memory()));
        }
        let (a, b) = (&servers[0].0, &servers[1].0);
        let alias = Alias::parse("#room@a.example").expect("an alias");
        let genesis = a
            .genesis(&alias, &keys[&a.server], "nonce", NOW)
            .expect("well formed");
        let join = a.first_join(&genesis, NOW).expect("well formed");
        let place = Place {
            room: genesis.room.clone(),
            parents: vec![join.id.clone()],
            depth: join.depth,
            hlc: join.hlc,
            previous: None,
        };
        let [document, entry] = b.entry(&place, &keys[&b.server], NOW).expect("well formed");
        let id = genesis.room.clone();
        let room = Room {
            id,
            alias,
            hosted: false,
            stage: Stage::In,
            horizon: 0,
        };
        let scene = Self {
            servers,
            keys,
            events: vec![genesis, join, document, entry],
            room,
        };
        for (_, graph) in &scene.servers {
            scene.take(graph, scene.events.clone()).await;
        }
        scene
    }

    /// Takes events into a copy of the room, again and again while that brings something.
    async fn take(&self, graph: &Graph, mut events: Vec<Event>) -> usize {
        let (room, keys) = (self.room.clone(), self.keys.clone());
        graph
            .run(move |store| {
                store.put_room(&room)?;
                let own = ServerName::parse("observer.example").expect("a name");
                let mut taken = 0;
                loop {
                    let (mut left, before) = (Vec::new(), taken);
                    for event in std::mem::take(&mut events) {
                        let context = Context {
                            own: &own,
                            via: Via::Get,
                            fetched: Box::new(|server| keys.get(server).cloned()),
                            asked: false,
                        };
                        let how = match judge(&event, store, &context)? {
                            // The genesis comes with the answer to a join, not with a push.
                            Judgement::Reject(_) if event.kind == "genesis" => {
                                Acceptance::default()
                            }
                            Judgement::Accept(how) => how,
                            Judgement::Duplicate => continue,
                            Judgement::Need(_) => {
                                left.push(event);
                                continue;
                            }
                            other => panic!("{} of {}: {other:?}", event.kind, event.origin),
                        };
                        store.put(&event, how)?;
                        taken += 1;
                    }
                    if left.is_empty() || taken == before {
                        return Ok::<_, ShelfError>(taken);
                    }
                    events = left;
                }
            })
            .await
            .expect("a graph")
    }

    /// One server says something to what it knows of the room.
    async fn say(&mut self, who: usize, speaker: u32) {
        let (author, graph) = self.servers[who].clone();
        let room = self.room.id.clone();
        let user = UserAddress::parse(&format!("user{speaker}@irc.{}", author.server))
            .expect("an address");
        let said = Said {
            body: json!({ "content": speaker }),
            prov: Vec::new(),
        };
        let events = graph
            .run(move |store| {
                let events = author
                    .message(store, &room, &user, said, NOW)
                    .expect("in the room");
                for event in &events {
                    store.put(event, Acceptance::default())?;
                }
                Ok::<_, ShelfError>(events)
            })
            .await
            .expect("a graph");
        self.events.extend(events);
    }

    async fn heads(&self, graph: &Graph) -> Vec<EventId> {
        let room = self.room.id.clone();
        let heads = graph
            .run(move |store| store.heads(&room))
            .await
            .expect("a graph");
        heads.into_iter().map(|head| head.id).collect()
    }
}

#[tokio::test]
async fn every_order_of_arrival_gives_the_same_room() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut scene = Scene::new().await;
        for _ in 0..10 {
            let (who, speaker) = (random.random_range(0..2), random.random_range(0..3));
            scene.say(who, speaker).await;
            if random.random_bool(0.3) {
                let to = scene.servers[random.random_range(0..2)].1.clone();
                scene.take(&to, scene.events.clone()).await;
            }
        }
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let graph = Graph::in_memory();
            let mut events = scene.events.clone();
            // The genesis is what makes it this room; everything else comes as it likes, in pieces.
            events[1..].shuffle(&mut random);
            let cut = random.random_range(1..events.len());
            let first = scene.take(&graph, events[..cut].to_vec()).await;
            let second = scene.take(&graph, events.clone()).await;
            assert_eq!(first + second, events.len(), "seed {seed}");
            outcomes.push(scene.heads(&graph).await);
        }
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1, "seed {seed}");
        for (_, graph) in scene.servers.clone() {
            scene.take(&graph, scene.events.clone()).await;
            assert_eq!(scene.heads(&graph).await, outcomes[0], "seed {seed}");
        }
    }
}

#[tokio::test]
async fn f13_an_event_names_at_most_eight_of_many_heads() {
    let mut scene = Scene::new().await;
    // Twelve heads: the second server says twelve things, each as if it knew of nothing but its entry.
    let (b, graph) = scene.servers[1].clone();
    let (room, user) = (scene.room.id.clone(), b.server.gateway());
    let said = Said {
        body: json!({ "content": 1 }),
        prov: Vec::new(),
    };
    let first = graph
        .run(move |store| {
            Ok::<_, ShelfError>(
                b.message(store, &room, &user, said, NOW)
                    .expect("in the room"),
            )
        })
        .await
        .expect("a graph")
        .remove(0);
    let key = scene.servers[1].0.key.clone();
    let mut previous = first.clone();
    let mut heads = vec![first.clone()];
    for seq in first.seq + 1..first.seq + 12 {
        let draft = crate::wire::event::Draft {
            room: Some(scene.room.id.clone()),
            kind: "message",
            origin: first.origin.clone(),
            sender: first.sender.clone(),
            seq,
            previous: Some(previous.id.clone()),
            parents: first.parents.clone(),
            auth: first.auth.clone(),
            depth: first.depth,
            hlc: first.hlc,
            body: json!({ "content": seq }),
            prov: Vec::new(),
        };
        previous = draft.sign(&key).expect("well formed");
        heads.push(previous.clone());
    }
    let a = scene.servers[0].1.clone();
    assert_eq!(scene.take(&a, heads).await, 12);
    assert_eq!(scene.heads(&a).await.len(), 12);
    scene.say(0, 1).await;
    let made = scene
        .events
        .iter()
        .rev()
        .find(|event| event.kind == "member")
        .expect("a join of the speaker");
    assert_eq!(made.parents.len(), 8);
    assert_eq!(scene.heads(&a).await.len(), 5);
}
