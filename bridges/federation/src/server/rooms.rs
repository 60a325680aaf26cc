//! Finding a room, entering it, and reading what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::receive::{retry_pending, settle};
use super::{Answer, Refusal, to_json};
use crate::graph::Store;
use crate::ident::{Alias, EventId, ServerName};
use crate::node::Node;
use crate::session::judge::{Context, Judgement, Via, judge};
use crate::session::{MemberBody, Room, Shelf, ShelfError, Stage};
use crate::wire::api::{
    self, AliasAnswer, Get, GetAnswer, Heads, HeadsAnswer, Join, JoinAnswer, MAX_ANSWER,
    MAX_GET_IDS, MAX_HEADS_ROOMS, MAX_MISSED, MAX_ORIGINS, Missed, MissedAnswer, Raw, RoomHeads,
};
use crate::wire::event::{Event, MAX_PARENTS};

/// `GET /_chat/v1/alias/{name}`. A room that is not open is not there.
pub(super) async fn alias(node: &Arc<Node>, name: &str) -> Answer {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "not-found", "no such room here");
    let alias = Alias::new(name, node.server()).ok_or_else(unknown)?;
    let answer = node
        .graph
        .run(move |store| {
            let Some(room) = store
                .room_by_alias(&alias)?
                .filter(|room| room.hosted && room.stage == Stage::In)
            else {
                return Ok(None);
            };
            let heads = store.heads(&room.id)?;
            Ok::<_, ShelfError>(Some(AliasAnswer {
                alias,
                join: "open".to_owned(),
                servers: store.servers(&room.id)?,
                depth: heads.iter().map(|head| head.depth).max().unwrap_or(0),
                heads: heads
                    .into_iter()
                    .take(MAX_PARENTS)
                    .map(|head| head.id)
                    .collect(),
                auth: vec![room.id.genesis()],
                room: room.id,
            }))
        })
        .await?;
    Ok(to_json(&answer.ok_or_else(unknown)?))
}

/// `POST /_chat/v1/join`: the joiner's own keys and membership, composed and signed by itself.
pub(super) async fn join(
    node: &Arc<Node>,
    shutdown: &CancellationToken,
    peer: &ServerName,
    body: &[u8],
) -> Answer {
    let join: Join =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(error.to_string()))?;
    let events: Vec<Event> = join
        .events
        .iter()
        .map(|raw| Event::parse(raw.get().as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|reject| Refusal::new(StatusCode::BAD_REQUEST, "rejected", reject.code()))?;
    let is_own_entry = |event: &Event| {
        event.origin == *peer && event.sender == peer.gateway() && event.room == join.room
    };
    let [keys, member] = events.as_slice() else {
        return Err(Refusal::malformed(
            "a join is two events: key.doc and member",
        ));
    };
    let joins = MemberBody::of(member)
        .is_some_and(|body| body.user == peer.gateway() && body.membership == "join");
    if keys.kind != "key.doc"
        || member.kind != "member"
        || !joins
        || !events.iter().all(is_own_entry)
    {
        return Err(Refusal::malformed(
            "a join is the key.doc and the membership of the server that asks",
        ));
    }
    let (inside, name) = (Arc::clone(node), peer.clone());
    let (answer, others) = node
        .graph
        .run(move |store| admit(&inside, store, &name, join.room.genesis(), &events))
        .await?;
    tracing::info!(%peer, "server joined a room");
    for other in others {
        node.peers.wake(node, &other, shutdown);
    }
    node.arrived.notify_one();
    Ok(answer)
}

/// Takes the joiner in and collects what it has to know. Says whom to tell.
fn admit(
    node: &Node,
    store: &Store<'_>,
    peer: &ServerName,
    genesis: EventId,
    events: &[Event],
) -> Result<(Vec<u8>, Vec<ServerName>), Refusal> {
    let room = store
        .room(&genesis.as_room())?
        .filter(|room| room.stage == Stage::In)
        .ok_or_else(Refusal::forbidden)?;
    let mut others = store.servers(&room.id)?;
    others.retain(|server| server != peer && server != node.server());
    // As for what we say ourselves.
    let unproved: Vec<ServerName> = others
        .iter()
        .filter_map(|server| match store.is_unproved(&room.id, server) {
            Ok(false) => None,
            Ok(true) => Some(Ok(server.clone())),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, _>>()?;
    others.retain(|server| !unproved.contains(server));
    for event in events {
        let fetched = Box::new(|server: &ServerName| {
            node.keyring
                .cached(server)
                .map(|document| (*document).clone())
        });
        // Via `Get`, since a joiner is not in the room yet; everything else is checked as for a push.
        let context = Context {
            own: node.server(),
            via: Via::Get,
            fetched,
            asked: false,
        };
        settle(node, store, event)?;
        match judge(event, store, &context)? {
            Judgement::Accept(how) if how.hidden => {
                // Its numbers were used by other events: it has lost its copy of the room, or somebody has its keys.
                let reason =
                    "chain: this server was in the room before, and does not know its own events";
                return Err(Refusal::new(StatusCode::CONFLICT, "rejected", reason));
            }
            Judgement::Accept(how) => {
                let arrival = store.put(event, how)?;
                for other in &others {
                    store.enqueue(other, arrival)?;
                }
            }
            Judgement::Duplicate => {}
            Judgement::Need(_) => {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "rejected",
                    "the join names events that are not here",
                ));
            }
            Judgement::NeedKeys(server, _) => {
                return Err(Refusal::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("the keys of {server} are missing"),
                    2,
                ));
            }
            Judgement::Reject(reject) => {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "rejected",
                    reject.code(),
                ));
            }
        }
    }
    retry_pending(node, store, &room.id)?;
    Ok((to_json(&answer(store, &room)?), others))
}

fn answer(store: &Store<'_>, room: &Room) -> Result<JoinAnswer, Refusal> {
    let servers = store.servers(&room.id)?;
    let genesis = room.id.genesis();
    let mut state = BTreeSet::new();
    for server in &servers {
        state.extend(store.keys_event(&room.id, server)?);
        state.extend(
            store
                .membership(&room.id, &server.gateway(), u64::MAX)?
                .map(|membership| membership.id),
        );
    }
    let heads: Vec<EventId> = store
        .heads(&room.id)?
        .into_iter()
        .map(|head| head.id)
        .collect();
    let mut edge: BTreeSet<EventId> = store.chain_ends(&room.id)?.into_iter().collect();
    edge.extend(heads.iter().cloned());
    let mut auth = BTreeSet::new();
    for id in state.iter().chain(&edge) {
        if let Some(event) = store.event(id)? {
            // Also of those that have left: the joiner may not be able to ask them.
            auth.extend(store.keys_event(&room.id, &event.origin)?);
            auth.extend(event.auth);
        }
    }
    let load =
        |ids: BTreeSet<EventId>, but: &[&BTreeSet<EventId>]| -> Result<Vec<Raw>, ShelfError> {
            let wanted: Vec<EventId> = ids
                .into_iter()
                .filter(|id| *id != genesis && !but.iter().any(|other| other.contains(id)))
                .collect();
            Ok(store
                .bytes_of(&room.id, &wanted)?
                .into_iter()
                .filter_map(api::raw)
                .collect())
        };
    let auth = load(auth, &[&state, &edge])?;
    let edge = load(edge, &[&state])?;
    let state = load(state, &[])?;
    let genesis = store
        .bytes_of(&room.id, std::slice::from_ref(&genesis))?
        .pop()
        .and_then(api::raw);
    let genesis = genesis
        .ok_or_else(|| ShelfError::Damaged("the genesis of a room is missing".to_owned()))?;
    Ok(JoinAnswer {
        genesis,
        state,
        auth,
        edge,
        heads,
        servers,
    })
}

/// `POST /_chat/v1/get`: members only.
pub(super) async fn get(node: &Arc<Node>, peer: &ServerName, body: &[u8]) -> Answer {
    let get: Get =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(error.to_string()))?;
    if get.ids.len() > MAX_GET_IDS {
        return Err(Refusal::malformed(format!("at most {MAX_GET_IDS} ids")));
    }
    let peer = peer.clone();
    let events = node
        .graph
        .run(move |store| {
            members_only(store, &get.room, &peer)?;
            Ok::<_, Refusal>(store.bytes_of(&get.room, &get.ids)?)
        })
        .await?;
    let mut size = 0;
    let fits = events.into_iter().take_while(|bytes| {
        size += bytes.len() + 1;
        size < MAX_ANSWER - 1024
    });
    Ok(to_json(&GetAnswer {
        events: fits.filter_map(api::raw).collect(),
    }))
}

/// `POST /_chat/v1/heads`: rooms that the asker is not in are left out, like those that we lack.
pub(super) async fn heads(node: &Arc<Node>, peer: &ServerName, body: &[u8]) -> Answer {
    let heads: Heads =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(error.to_string()))?;
    if heads.rooms.len() > MAX_HEADS_ROOMS {
        return Err(Refusal::malformed(format!(
            "at most {MAX_HEADS_ROOMS} rooms"
        )));
    }
    let peer = peer.clone();
    let rooms = node
        .graph
        .run(move |store| {
            let mut answer = BTreeMap::new();
            for room in heads.rooms {
                if members_only(store, &room, &peer).is_ok() {
                    let heads = store
                        .heads(&room)?
                        .into_iter()
                        .map(|head| head.id)
                        .collect();
                    let count = store.count(&room)?;
                    answer.insert(room, RoomHeads { heads, count });
                }
            }
            Ok::<_, ShelfError>(answer)
        })
        .await?;
    Ok(to_json(&HeadsAnswer { rooms }))
}

/// `POST /_chat/v1/missed`: members only; what the asker lacks, ancestors first (PROTOCOL 16).
pub(super) async fn missed(node: &Arc<Node>, peer: &ServerName, body: &[u8]) -> Answer {
    let missed: Missed =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(error.to_string()))?;
    if missed.have.len() > MAX_ORIGINS {
        return Err(Refusal::malformed(format!("at most {MAX_ORIGINS} origins")));
    }
    let peer = peer.clone();
    let page = node
        .graph
        .run(move |store| {
            members_only(store, &missed.room, &peer)?;
            let (room, have) = (&missed.room, &missed.have);
            Ok::<_, Refusal>(store.missed(room, have, MAX_MISSED, MAX_ANSWER - 1024)?)
        })
        .await?;
    Ok(to_json(&MissedAnswer {
        events: page.events.into_iter().filter_map(api::raw).collect(),
        more: page.more,
    }))
}

fn members_only(
    store: &Store<'_>,
    room: &crate::ident::RoomId,
    peer: &ServerName,
) -> Result<(), Refusal> {
    let has_room = store
        .room(room)?
        .is_some_and(|room| room.stage == Stage::In);
    if has_room && store.is_in_room(room, peer)? {
        Ok(())
    } else {
        Err(Refusal::forbidden())
    }
}
