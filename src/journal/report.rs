//! What comes in: a report as the router has made it, and what of it can be prepared before the writing thread sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use comity_bridge::report::Refusal;
use comity_bridge::{
    Author, Channel, Content, Cursor, DeliveryKey, Event, EventId, NativeId, NativeRef,
    NetworkName, Origin, RoomAddress, SourceId, Timestamp,
};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event on its way into the journal: everything but what is known only at the commit (`seq` and resolved references).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Draft {
    /// Minted by the router.
    pub id: EventId,
    /// The room.
    pub room: RoomAddress,
    /// Where it was born.
    pub channel: Channel,
    /// What tells it from all others of that channel.
    pub source_id: SourceId,
    /// Who.
    pub author: Author,
    /// When, as the source says; already clamped.
    pub time: Timestamp,
    /// When it came in.
    pub received: Timestamp,
    /// What.
    pub content: Content<NativeRef>,
    /// The gateways that it passed, this one last.
    pub via: Vec<String>,
    /// Free fields.
    pub ext: BTreeMap<String, Value>,
}

impl Draft {
    /// The event that it becomes at `seq`, or the reference that nobody knows.
    pub(super) fn into_event(
        self,
        seq: u64,
        resolve: impl FnMut(&NativeRef) -> Option<EventId>,
    ) -> Result<Event, NativeRef> {
        Ok(Event {
            id: self.id,
            room: self.room,
            origin: Origin {
                network: self.channel.network().clone(),
                channel: self.channel.native().to_owned(),
                native_id: self.source_id,
                unknown: BTreeMap::new(),
            },
            author: self.author,
            seq,
            time: self.time,
            received: self.received,
            content: self.content.resolve(resolve)?,
            via: self.via,
            ext: self.ext,
            unknown: BTreeMap::new(),
        })
    }

    /// True when its content names another message, which only the commit can look up.
    fn refers(&self) -> bool {
        match &self.content {
            Content::Message(message) => message.reply_to.is_some() || message.thread.is_some(),
            Content::Edit(_) | Content::Redact(_) | Content::React(_) | Content::Read(_) => true,
            _ => false,
        }
    }
}

/// One incoming item after the router has seen it.
#[derive(Clone, Debug)]
pub enum Entry {
    /// To be an event.
    Event(Box<Draft>),
    /// One of ours that came back: the network's id for it.
    Receipt(DeliveryKey, NativeId),
    /// Not to be stored; the verdict is kept in its place.
    Refused(Refusal),
}

/// What one report asks to have committed, all or nothing.
#[derive(Debug)]
pub struct Append {
    /// The network that reports.
    pub network: NetworkName,
    /// In order.
    pub entries: Vec<Entry>,
    /// The network's new position.
    pub cursor: Option<Cursor>,
    /// The bridge's own facts.
    pub writes: Vec<(String, String)>,
}

/// An [`Append`] with everything done that needs no log: the writing thread is the one that all others wait for.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(super) network: NetworkName,
    pub(super) entries: Vec<PreparedEntry>,
    pub(super) cursor: Option<Cursor>,
    pub(super) writes: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) enum PreparedEntry {
    /// Complete but for its `seq`.
    Whole(Whole),
    /// Its references are to be looked up.
    Draft(Box<Draft>),
    Receipt(DeliveryKey, NativeId),
    Refused(Refusal),
}

/// An event that waits for its `seq` alone. The stored JSON has 0 there; the row's place says what it is.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(super) event: Arc<Event>,
    pub(super) channel: Channel,
    pub(super) json: Json,
}

/// An event as it is stored.
#[derive(Debug)]
pub(crate) struct Json(Vec<u8>);

impl Json {
    /// What an event is written in beside its text, usually.
    const FRAME: usize = 512;

    fn of(event: &Event) -> Result<Json, serde_json::Error> {
        let text = match &event.content {
            Content::Message(message) => message.text.plain.len(),
            _ => 0,
        };
        // Grown step by step, it would be copied three times.
        let mut json = Vec::with_capacity(Self::FRAME + text);
        serde_json::to_writer(&mut json, event)?;
        Ok(Json(json))
    }

    /// In bytes.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }
}

impl ToSql for Json {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

impl Whole {
    pub(super) fn new(event: Event, channel: Channel) -> Result<Whole, serde_json::Error> {
        debug_assert_eq!(event.seq, 0, "the place of the row says it");
        Ok(Whole {
            json: Json::of(&event)?,
            event: Arc::new(event),
            channel,
        })
    }
}

impl Prepared {
    pub(super) fn of(append: Append) -> Prepared {
        Prepared {
            network: append.network,
            entries: append.entries.into_iter().map(prepare).collect(),
            cursor: append.cursor,
            writes: append.writes,
        }
    }
}

fn prepare(entry: Entry) -> PreparedEntry {
    match entry {
        Entry::Refused(refusal) => PreparedEntry::Refused(refusal),
        Entry::Receipt(key, native) => PreparedEntry::Receipt(key, native),
        Entry::Event(draft) if draft.refers() => PreparedEntry::Draft(draft),
        Entry::Event(draft) => {
            let channel = draft.channel.clone();
            let event = draft.into_event(0, |_| None).ok();
            match event.and_then(|event| Whole::new(event, channel).ok()) {
                Some(whole) => PreparedEntry::Whole(whole),
                // JSON has a form for every event, so this is an event that no reader would understand.
                None => PreparedEntry::Refused(Refusal::Malformed),
            }
        }
    }
}
