//! Being in a room: making our own, and entering those of others (PROTOCOL 7.1, 12).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::{Access, Channel, ChannelState, JoinOptions, failpoint};
use comity_net::Backoff;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::graph::Store;
use crate::ident::{Alias, ServerName};
use crate::node::{Node, RequestError, random_text};
use crate::outbound::send_to_all;
use crate::server::{Entry, take_entry};
use crate::session::compose::{ComposeError, Place};
use crate::session::judge::Acceptance;
use crate::session::{Genesis, Room, Shelf as _, ShelfError, Stage};
use crate::wire::api::{
    self, ALIAS_PREFIX, AliasAnswer, JOIN_PATH, Join, JoinAnswer, MAX_ANSWER, MAX_REQUEST,
};
use crate::wire::event::{Event, MAX_PARENTS, Reject};

/// A room that cannot be entered is tried again: soon at first, since two gateways are often started together.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(300);
/// Servers whose keys are fetched for one join; the events of others wait.
const MAX_KEYS_FETCHED: usize = 200;
const KEYS_AT_ONCE: usize = 8;

/// Why a room is not entered.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{0:?} is not the address of a room (expected #name@domain)")]
    NotAnAlias(String),
    #[error(
        "this gateway does not offer the room to peers; federation = \"open\" in its [[room]] does"
    )]
    NotOffered,
    #[error("federation = \"invite\" is not built yet; use \"open\" or \"off\"")]
    Invite,
    #[error("{0} is shut out by allow or deny")]
    ShutOut(ServerName),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("{0} describes the room wrongly: {1}")]
    Wrong(ServerName, &'static str),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("our own join cannot be made: {0}")]
    Compose(#[from] Reject),
    #[error("the answer to our join is not believed: {0}")]
    Answer(String),
}

impl JoinError {
    /// Whether only a change of the configuration helps.
    fn is_final(&self) -> bool {
        matches!(
            self,
            Self::NotAnAlias(_) | Self::NotOffered | Self::Invite | Self::ShutOut(_)
        )
    }
}

/// The rooms that are being entered, or were in this run.
#[derive(Default)]
pub struct Joins {
    under_way: HashMap<Channel, CancellationToken>,
}

impl Joins {
    /// Enters a room, however long that takes.
    pub fn begin(
        &mut self,
        node: &Arc<Node>,
        channel: Channel,
        options: JoinOptions,
        shutdown: &CancellationToken,
    ) {
        let token = shutdown.child_token();
        if let Some(before) = self.under_way.insert(channel.clone(), token.clone()) {
            before.cancel();
        }
        let node = Arc::clone(node);
        let watched = Arc::clone(&node);
        watched.tasks.spawn("the entering of a room", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = enter(&node, &channel, &options) => {}
            }
        });
    }

    /// Leaves the rooms of earlier runs that nobody has asked for in this one: an operator who closes a room, or does not show one any
    /// more, must not go on sharing it.
    pub async fn leave_unclaimed(&mut self, node: &Arc<Node>, shutdown: &CancellationToken) {
        let known = match node.graph.run(|store| store.aliases()).await {
            Ok(known) => known,
            Err(error) => return tracing::error!(%error, "graph not readable"),
        };
        let channels = known.iter().filter_map(|alias| node.channel(alias));
        for channel in channels.filter(|channel| !self.under_way.contains_key(channel)) {
            tracing::info!(%channel, "left, since it is not configured any more");
            go(node, &channel, shutdown).await;
            let why = "not configured any more".to_owned();
            let state = ChannelState::NotJoined { why };
            node.reports.channel(&channel, state);
        }
    }

    /// Leaves a room, or stops entering it.
    pub async fn end(&mut self, node: &Arc<Node>, channel: &Channel, shutdown: &CancellationToken) {
        if let Some(token) = self.under_way.remove(channel) {
            token.cancel();
        }
        go(node, channel, shutdown).await;
        node.reports.channel(
            channel,
            ChannelState::NotJoined {
                why: "left".to_owned(),
            },
        );
    }
}

async fn go(node: &Arc<Node>, channel: &Channel, shutdown: &CancellationToken) {
    match leave(node, channel).await {
        Ok(wake) => wake
            .iter()
            .for_each(|peer| node.peers.wake(node, peer, shutdown)),
        Err(error) => tracing::warn!(%channel, %error, "room not left properly"),
    }
}

async fn enter(node: &Arc<Node>, channel: &Channel, options: &JoinOptions) {
    let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
    let mut said = String::new();
    loop {
        let entered = match Alias::parse(channel.native()) {
            Err(_) => Err(JoinError::NotAnAlias(channel.native().to_owned())),
            Ok(alias) if options.hosted => host(node, alias, options.access).await,
            Ok(alias) => join(node, alias).await,
        };
        let error = match entered {
            Ok(()) => {
                tracing::info!(%channel, "room entered");
                node.reports.channel(channel, ChannelState::Joined);
                return;
            }
            Err(error) => error,
        };
        let why = error.to_string();
        if why != said {
            tracing::warn!(%channel, %error, "room not entered");
            node.reports
                .channel(channel, ChannelState::NotJoined { why: why.clone() });
            said = why;
        }
        if error.is_final() {
            return;
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Makes sure that our own room is there.
async fn host(node: &Arc<Node>, alias: Alias, access: Access) -> Result<(), JoinError> {
    match access {
        Access::Open if alias.server() == *node.server() => {}
        Access::Open | Access::Off => return Err(JoinError::NotOffered),
        Access::Invite => return Err(JoinError::Invite),
    }
    let (inside, now, nonce) = (Arc::clone(node), node.now_ms(), random_text(22));
    node.graph
        .run(move |store| {
            if let Some(room) = store.room_by_alias(&alias)? {
                store.put_room(&Room {
                    stage: Stage::In,
                    ..room
                })?;
                return Ok(());
            }
            let genesis = inside
                .author
                .genesis(&alias, &inside.document(), &nonce, now)?;
            let join = inside.author.first_join(&genesis, now)?;
            let id = genesis.room.clone();
            store.put_room(&Room {
                id,
                alias,
                hosted: true,
                stage: Stage::In,
                horizon: 0,
            })?;
            for event in [&genesis, &join] {
                store.put(event, Acceptance::default())?;
            }
            Ok(())
        })
        .await
}

/// Enters a room of another server, or finds that we are in it.
async fn join(node: &Arc<Node>, alias: Alias) -> Result<(), JoinError> {
    let server = alias.server();
    if server == *node.server() {
        return Err(JoinError::NotOffered);
    }
    if !node.lists.admit(&server) {
        return Err(JoinError::ShutOut(server));
    }
    let name = alias.clone();
    let known = node
        .graph
        .run(move |store| Ok::<_, JoinError>(store.room_by_alias(&name)?))
        .await?;
    let room = match known {
        Some(room) if room.stage == Stage::In => return Ok(()),
        Some(room) if room.stage == Stage::Joining => room,
        left => resolve(node, alias, left).await?,
    };
    let (id, own) = {
        let id = room.id.clone();
        let own = node
            .graph
            .run(move |store| Ok::<_, JoinError>(store.entry(&id)?))
            .await?;
        (room.id.clone(), own)
    };
    failpoint::reached("federation.joining");
    let events = own.iter().cloned().filter_map(api::raw).collect();
    let body = serde_json::to_vec(&Join { room: id, events }).expect("names and raw JSON");
    let answer: JoinAnswer = node
        .ask(&server, Method::POST, JOIN_PATH, body, MAX_ANSWER)
        .await?;
    let entry = check(node, &server, room, answer, &own).await?;
    let inside = Arc::clone(node);
    let others = node
        .graph
        .run(move |store| {
            take_entry(&inside, store, &entry)
                .map_err(|error| JoinError::Answer(error.to_string()))?;
            Ok::<_, JoinError>(store.servers(&entry.room.id)?)
        })
        .await?;
    for other in others.iter().filter(|other| *other != node.server()) {
        node.catch_up.entered_with(other, Instant::now());
    }
    node.arrived.notify_one();
    Ok(())
}

/// Asks for the room behind an alias, pins it, and signs our join: once, for however many attempts (PROTOCOL 12.1, 12.2).
async fn resolve(node: &Arc<Node>, alias: Alias, left: Option<Room>) -> Result<Room, JoinError> {
    let server = alias.server();
    let path = format!("{ALIAS_PREFIX}{}", alias.name());
    let answer: AliasAnswer = node
        .ask(&server, Method::GET, &path, Vec::new(), MAX_REQUEST)
        .await?;
    let wrong = |what| JoinError::Wrong(server.clone(), what);
    if answer.alias != alias {
        return Err(wrong("another alias"));
    }
    if answer.join != "open" {
        return Err(wrong("it is not open"));
    }
    if answer.heads.is_empty() || answer.heads.len() > MAX_PARENTS {
        return Err(wrong("its heads"));
    }
    if left.as_ref().is_some_and(|room| room.id != answer.room) {
        return Err(wrong(
            "the alias has another room than the one that we were in",
        ));
    }
    let (inside, now) = (Arc::clone(node), node.now_ms());
    node.graph
        .run(move |store| {
            let place = Place {
                room: answer.room.clone(),
                parents: answer
                    .heads
                    .into_iter()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                depth: answer.depth,
                hlc: (0, 0),
                previous: store.tip(&answer.room, inside.server())?,
            };
            let entry = match &place.previous {
                None => {
                    let [keys, join] = inside.author.entry(&place, &inside.document(), now)?;
                    vec![keys.into_bytes(), join.into_bytes()]
                }
                Some(_) => {
                    let keys = store
                        .keys_event(&answer.room, inside.server())?
                        .into_iter()
                        .collect::<Vec<_>>();
                    let mut entry = store.bytes_of(&answer.room, &keys)?;
                    entry.push(inside.author.come_back(&place, now)?.into_bytes());
                    entry
                }
            };
            let room = Room {
                id: answer.room,
                alias,
                hosted: false,
                stage: Stage::Joining,
                horizon: 0,
            };
            store.put_room(&room)?;
            store.put_entry(&room.id, &entry)?;
            Ok(room)
        })
        .await
}

/// Checks what can be checked before the graph is touched, and fetches the keys that the rest needs.
async fn check(
    node: &Arc<Node>,
    server: &ServerName,
    room: Room,
    answer: JoinAnswer,
    own: &[Vec<u8>],
) -> Result<Entry, JoinError> {
    let wrong = |what| JoinError::Wrong(server.clone(), what);
    let genesis =
        Event::parse(answer.genesis.get().as_bytes()).map_err(|_| wrong("its genesis"))?;
    if genesis.room != room.id {
        return Err(wrong("another genesis than that of the pinned room"));
    }
    let meaning = Genesis::of(&genesis).ok_or_else(|| wrong("its genesis"))?;
    if meaning.alias != room.alias || genesis.verify(&meaning.keys).is_err() {
        return Err(wrong("its genesis"));
    }
    let mut events = Vec::new();
    for raw in answer.auth.iter().chain(&answer.state).chain(&answer.edge) {
        // One event that we cannot read does not keep us out of the room.
        match Event::parse(raw.get().as_bytes()) {
            Ok(event) => events.push(event),
            Err(reject) => node.reports.skip(
                "malformed",
                format!("an event in the answer of {server}: {}", reject.code()),
            ),
        }
    }
    let origins: BTreeSet<ServerName> = events.iter().map(|event| event.origin.clone()).collect();
    let admitted = origins
        .into_iter()
        .filter(|origin| origin != node.server() && node.lists.admit(origin));
    stream::iter(admitted.take(MAX_KEYS_FETCHED))
        .for_each_concurrent(KEYS_AT_ONCE, |origin| async move {
            if let Err(error) = node.keyring.get(&origin, None, node.now_ms()).await {
                tracing::debug!(%origin, %error, "keys missing, its events wait");
            }
        })
        .await;
    // The creator's keys decide what the room is: a genesis that claims another server's name must not pass (PROTOCOL 4.8).
    let fetched = node.keyring.get(&genesis.origin, None, node.now_ms()).await;
    let fetched = fetched.map_err(|error| JoinError::Answer(error.to_string()))?;
    meaning
        .keys
        .allows(&fetched)
        .map_err(|error| JoinError::Answer(error.to_string()))?;

    let own: Vec<Event> = own
        .iter()
        .map(|bytes| Event::parse(bytes))
        .collect::<Result<_, _>>()?;
    // Not of our own entry: what others say at the same time as we enter lies as deep, and is said to us.
    let depth = events
        .iter()
        .filter(|event| event.origin != *node.server())
        .map(|event| event.depth)
        .max()
        .unwrap_or(0);
    let room = Room {
        stage: Stage::In,
        horizon: depth,
        ..room
    };
    Ok(Entry {
        room,
        genesis,
        events,
        heads: answer.heads,
        own,
    })
}

/// Leaves a room; returns whom to tell.
async fn leave(node: &Arc<Node>, channel: &Channel) -> Result<BTreeSet<ServerName>, JoinError> {
    let Ok(alias) = Alias::parse(channel.native()) else {
        return Ok(BTreeSet::new());
    };
    let (inside, now) = (Arc::clone(node), node.now_ms());
    node.graph
        .run(move |store| {
            let mut wake = BTreeSet::new();
            if let Some(room) = store.room_by_alias(&alias)?
                && room.stage != Stage::Left
            {
                if !room.hosted && room.stage == Stage::In {
                    say_goodbye(&inside, store, &room, now, &mut wake)?;
                }
                store.put_room(&Room {
                    stage: Stage::Left,
                    ..room
                })?;
            }
            Ok(wake)
        })
        .await
}

fn say_goodbye(
    node: &Node,
    store: &Store<'_>,
    room: &Room,
    now: u64,
    wake: &mut BTreeSet<ServerName>,
) -> Result<(), JoinError> {
    match node.author.leave(store, &room.id, now) {
        Ok(event) => Ok(send_to_all(node, store, &event, wake)?),
        Err(ComposeError::NotInRoom) => Ok(()),
        Err(ComposeError::Shelf(error)) => Err(error.into()),
        Err(ComposeError::Content(reject)) => Err(reject.into()),
    }
}
