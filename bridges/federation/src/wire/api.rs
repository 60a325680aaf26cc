//! The bodies of requests and answers (PROTOCOL 9).
//!
//! Events travel inside them as raw JSON: their bytes are what was signed, and are neither parsed nor
//! printed on the way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::Reject;
use crate::ident::{Alias, EventId, RoomId, ServerName};

pub const KEYS_PATH: &str = "/.well-known/chat/keys";
pub const HELLO_PATH: &str = "/_chat/v1/hello";
pub const PUSH_PATH: &str = "/_chat/v1/push";
pub const GET_PATH: &str = "/_chat/v1/get";
pub const HEADS_PATH: &str = "/_chat/v1/heads";
pub const MISSED_PATH: &str = "/_chat/v1/missed";
pub const JOIN_PATH: &str = "/_chat/v1/join";
pub const ALIAS_PREFIX: &str = "/_chat/v1/alias/";

pub const MAX_PUSH: usize = 4 << 20;
pub const MAX_REQUEST: usize = 256 << 10;
pub const MAX_ANSWER: usize = 8 << 20;
pub const MAX_PUSH_EVENTS: usize = 50;
pub const MAX_GET_IDS: usize = 100;
pub const MAX_HEADS_ROOMS: usize = 256;
pub const MAX_MISSED: usize = 100;
pub const MAX_ORIGINS: usize = 1000;

/// One event as signed bytes.
pub type Raw = Box<RawValue>;

/// Wraps signed bytes for sending; nothing when they are not JSON, as only a damaged store would have it.
pub fn raw(bytes: Vec<u8>) -> Option<Raw> {
    RawValue::from_string(String::from_utf8(bytes).ok()?).ok()
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Push {
    pub txn: String,
    pub events: Vec<Raw>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PushAnswer {
    pub results: Vec<EventResult>,
}

/// What became of one pushed event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventResult {
    /// Absent when the bytes were no event at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub need: Vec<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Dup,
    Need,
    Pending,
    Reject,
}

impl EventResult {
    pub fn of(id: Option<EventId>, status: Status) -> Self {
        Self {
            id,
            status,
            need: Vec::new(),
            code: None,
        }
    }

    pub fn rejected(id: Option<EventId>, reject: Reject) -> Self {
        Self {
            code: Some(reject.code().to_owned()),
            ..Self::of(id, Status::Reject)
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Get {
    pub room: RoomId,
    pub ids: Vec<EventId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct GetAnswer {
    pub events: Vec<Raw>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Heads {
    /// Each once, however often it is named: all of its events are counted for the answer.
    pub rooms: BTreeSet<RoomId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct HeadsAnswer {
    pub rooms: BTreeMap<RoomId, RoomHeads>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RoomHeads {
    pub heads: Vec<EventId>,
    pub count: u64,
}

/// Which events the asker has: the number of the last one of each origin (PROTOCOL 16).
#[derive(Debug, Serialize, Deserialize)]
pub struct Missed {
    pub room: RoomId,
    pub have: BTreeMap<ServerName, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MissedAnswer {
    pub events: Vec<Raw>,
    pub more: bool,
}

/// What a joiner needs to compose its own join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AliasAnswer {
    pub room: RoomId,
    pub alias: Alias,
    pub join: String,
    pub servers: Vec<ServerName>,
    pub heads: Vec<EventId>,
    pub depth: u64,
    pub auth: Vec<EventId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Join {
    pub room: RoomId,
    pub events: Vec<Raw>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct JoinAnswer {
    pub genesis: Raw,
    pub state: Vec<Raw>,
    pub auth: Vec<Raw>,
    pub edge: Vec<Raw>,
    pub heads: Vec<EventId>,
    pub servers: Vec<ServerName>,
}

/// Why a request was not answered as it hoped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// `GET /.well-known/chat.json` of a domain without SRV records (PROTOCOL 3.2).
#[derive(Debug, Deserialize)]
pub struct WellKnown {
    pub host: ServerName,
    pub port: u16,
}
