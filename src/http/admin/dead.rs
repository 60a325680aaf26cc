//! Dead letters: what was given up, why, and what to do about it.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use comity_bridge::{Channel, EventId, NetworkName, RoomAddress};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Admin;
use super::fault::Fault;
use crate::journal::{ChannelStep, DeadEntry, DeadFilter, DeadPlace, Logged};

/// Letters on a page, when nobody says how many.
const PAGE: usize = 100;

/// Letters on a page at the most.
const LONGEST_PAGE: usize = 1000;

/// Which letters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    event: Option<String>,
    channel: Option<String>,
    network: Option<String>,
    room: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    /// Has to be said when nothing else is, so that nobody drops all letters by forgetting a parameter.
    #[serde(default)]
    all: bool,
}

/// The same, read.
#[derive(Clone, Debug, Default)]
struct Wanted {
    event: Option<EventId>,
    filter: DeadFilter,
    after: DeadPlace,
    limit: usize,
}

/// One letter as JSON.
#[derive(Serialize)]
struct Letter {
    event: Option<EventId>,
    channel: Channel,
    room: RoomAddress,
    seq: u64,
    reason: String,
    /// When it was given up. Milliseconds since 1970.
    at: i64,
    /// True when it may well be shown as it is, once something else was mended.
    parked: bool,
    /// True when another attempt was asked for and has not ended.
    again: bool,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Query(which): Query<Which>,
) -> Result<Response, Fault> {
    let wanted = Wanted::read(&which)?;
    let found = wanted.page(&admin).await?;
    let full = wanted.event.is_none() && found.len() == wanted.limit;
    let next = full.then(|| found.last().map(|letter| letter.place.to_string()));
    let letters: Vec<Letter> = found.into_iter().map(Letter::from).collect();
    Ok(Json(json!({"dead": letters, "next": next.flatten()})).into_response())
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path((channel, event)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let (channel, event) = (parsed::<Channel>(&channel)?, parsed::<EventId>(&event)?);
    let Some((letter, about)) = admin.journal.dead_show(&channel, event).await? else {
        return Err(none(&channel, event));
    };
    let about = match about {
        Logged::Event(event) => serde_json::to_value(&*event).unwrap_or(Value::Null),
        Logged::Damaged { why, .. } => json!({"damaged": why}),
    };
    Ok(Json(json!({"letter": Letter::from(letter), "event": about})).into_response())
}

pub(super) async fn retry_one(
    State(admin): State<Admin>,
    Path((channel, event)): Path<(String, String)>,
) -> Result<Response, Fault> {
    one(&admin, &channel, &event, true).await
}

pub(super) async fn drop_one(
    State(admin): State<Admin>,
    Path((channel, event)): Path<(String, String)>,
) -> Result<Response, Fault> {
    one(&admin, &channel, &event, false).await
}

pub(super) async fn retry(
    State(admin): State<Admin>,
    Query(which): Query<Which>,
) -> Result<Response, Fault> {
    several(&admin, &which, true).await
}

pub(super) async fn drop(
    State(admin): State<Admin>,
    Query(which): Query<Which>,
) -> Result<Response, Fault> {
    several(&admin, &which, false).await
}

async fn one(admin: &Admin, channel: &str, event: &str, again: bool) -> Result<Response, Fault> {
    let (channel, event) = (parsed::<Channel>(channel)?, parsed::<EventId>(event)?);
    if change(admin, &channel, event, again).await? {
        tracing::info!(%channel, %event, again, "the operator has decided about a dead letter");
        Ok(Json(json!({"count": 1})).into_response())
    } else {
        Err(none(&channel, event))
    }
}

async fn several(admin: &Admin, which: &Which, again: bool) -> Result<Response, Fault> {
    let mut wanted = Wanted::read(which)?;
    if !(which.all || wanted.names_something()) {
        let text = "say which: event, channel, network, room, or all=true";
        return Err(Fault::wrong(text));
    }
    wanted.limit = LONGEST_PAGE;
    let (mut count, mut homeless) = (0, None);
    loop {
        let page = wanted.page(admin).await?;
        let mut places = Vec::with_capacity(page.len());
        for letter in &page {
            if again && !is_configured(admin, &letter.channel) {
                homeless = Some(letter.channel.clone());
            } else {
                places.push(letter.place);
            }
        }
        // One commit for the page.
        count += admin.journal.dead_change(places, again).await?;
        match page.last() {
            Some(last) if wanted.event.is_none() && page.len() == wanted.limit => {
                wanted.after = last.place;
            }
            _ => break,
        }
    }
    if count > 0 {
        say_decided(again, count);
    }
    match (homeless, wanted.event) {
        (Some(channel), _) if count == 0 => Err(not_configured(&channel)),
        (None, Some(event)) if count == 0 => {
            Err(Fault::unknown(format!("{event} is no dead letter")))
        }
        _ => Ok(Json(json!({"count": count})).into_response()),
    }
}

async fn change(
    admin: &Admin,
    channel: &Channel,
    event: EventId,
    again: bool,
) -> Result<bool, Fault> {
    if !again {
        return Ok(admin.journal.dead_drop(channel, event).await?);
    }
    if !is_configured(admin, channel) {
        return Err(not_configured(channel));
    }
    Ok(admin.journal.dead_retry(channel, event).await?)
}

fn say_decided(again: bool, count: usize) {
    let what = if again { "tried again" } else { "dropped" };
    tracing::info!(what, count, "the operator has decided about dead letters");
}

/// A channel that is not in the configuration any more has nobody who could show anything in it.
fn is_configured(admin: &Admin, channel: &Channel) -> bool {
    admin.board.channel(channel).is_some()
}

fn not_configured(channel: &Channel) -> Fault {
    Fault::unknown(format!(
        "{channel} is not in the configuration: nothing can be tried again there"
    ))
}

fn none(channel: &Channel, event: EventId) -> Fault {
    Fault::unknown(format!("{event} is no dead letter of {channel}"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Fault> {
    text.parse()
        .map_err(|error| Fault::wrong(format!("{error}")))
}

impl Wanted {
    fn read(which: &Which) -> Result<Self, Fault> {
        fn maybe<T: std::str::FromStr<Err: std::fmt::Display>>(
            text: Option<&String>,
        ) -> Result<Option<T>, Fault> {
            text.map(|text| parsed(text)).transpose()
        }
        Ok(Wanted {
            event: maybe(which.event.as_ref())?,
            filter: DeadFilter {
                network: maybe::<NetworkName>(which.network.as_ref())?,
                channel: maybe(which.channel.as_ref())?,
                room: maybe(which.room.as_ref())?,
            },
            after: maybe(which.after.as_ref())?.unwrap_or_default(),
            limit: which.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE),
        })
    }

    fn names_something(&self) -> bool {
        self.event.is_some() || self.filter != DeadFilter::default()
    }

    async fn page(&self, admin: &Admin) -> Result<Vec<DeadEntry>, Fault> {
        let Some(event) = self.event else {
            let page = admin
                .journal
                .dead_list(self.filter.clone(), self.after, self.limit);
            return Ok(page.await?);
        };
        let mut found = Vec::new();
        let trace = admin.journal.trace(event).await?;
        for channel in trace.into_iter().flat_map(|trace| trace.channels) {
            if matches!(channel.step, ChannelStep::Dead(_))
                && let Some((letter, _)) = admin.journal.dead_show(&channel.channel, event).await?
                && self.takes(&letter)
            {
                found.push(letter);
            }
        }
        Ok(found)
    }

    fn takes(&self, letter: &DeadEntry) -> bool {
        let filter = &self.filter;
        filter.room.as_ref().is_none_or(|r| *r == letter.room)
            && filter.channel.as_ref().is_none_or(|c| *c == letter.channel)
            && filter
                .network
                .as_ref()
                .is_none_or(|n| n == letter.channel.network())
    }
}

impl From<DeadEntry> for Letter {
    fn from(letter: DeadEntry) -> Self {
        Letter {
            event: letter.event,
            channel: letter.channel,
            room: letter.room,
            seq: letter.seq,
            reason: letter.reason,
            at: letter.at.0,
            parked: letter.parked,
            again: letter.again,
        }
    }
}
