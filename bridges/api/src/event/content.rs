//! What can happen in a room: one struct per type, all under the tag `type`.
//!
//! `R` is how an earlier event is named: [`NativeRef`](super::NativeRef) in a report,
//! [`EventId`](super::EventId) in an event.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Text, Timestamp, UserAddress};

type Unknown = BTreeMap<String, serde_json::Value>;

/// The values of the tag `type` that this version knows. Whatever else is there is kept as [`UnknownContent`].
pub const CONTENT_TYPES: [&str; 17] = [
    "message",
    "edit",
    "redact",
    "react",
    "join",
    "leave",
    "kick",
    "ban",
    "rename",
    "profile",
    "topic",
    "room_name",
    "room_avatar",
    "typing",
    "read",
    "presence",
    "encrypted",
];

/// One thing that happened.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content<R> {
    /// Somebody said something or sent files.
    Message(Message<R>),
    /// A message has a new text.
    Edit(Edit<R>),
    /// A message was taken back.
    Redact(Redact<R>),
    /// A reaction was put on a message or taken off.
    React(React<R>),
    /// Somebody came.
    Join(Join),
    /// Somebody went.
    Leave(Leave),
    /// Somebody was put out.
    Kick(Kick),
    /// Somebody was put out for good, or let in again.
    Ban(Ban),
    /// Somebody has a new name.
    Rename(Rename),
    /// Somebody has a new profile.
    Profile(Profile),
    /// The room has a new topic.
    Topic(Topic),
    /// The room has a new name.
    RoomName(RoomName),
    /// The room has a new picture.
    RoomAvatar(RoomAvatar),
    /// Somebody writes or has stopped. Ephemeral: never journaled, dropped first.
    Typing(Typing),
    /// Somebody has read up to a message. Ephemeral.
    Read(Read<R>),
    /// Somebody is here, away or gone. Ephemeral.
    Presence(Presence),
    /// A payload that only its readers can open; passed on, never opened, never shown in clear.
    Encrypted(Encrypted),
    /// A type that this version does not know, kept and passed on whole.
    #[serde(untagged)]
    Unknown(UnknownContent),
}

impl<R> Content<R> {
    /// The value of the tag `type`.
    pub fn type_name(&self) -> &str {
        match self {
            Content::Message(_) => "message",
            Content::Edit(_) => "edit",
            Content::Redact(_) => "redact",
            Content::React(_) => "react",
            Content::Join(_) => "join",
            Content::Leave(_) => "leave",
            Content::Kick(_) => "kick",
            Content::Ban(_) => "ban",
            Content::Rename(_) => "rename",
            Content::Profile(_) => "profile",
            Content::Topic(_) => "topic",
            Content::RoomName(_) => "room_name",
            Content::RoomAvatar(_) => "room_avatar",
            Content::Typing(_) => "typing",
            Content::Read(_) => "read",
            Content::Presence(_) => "presence",
            Content::Encrypted(_) => "encrypted",
            Content::Unknown(unknown) => &unknown.type_name,
        }
    }

    /// True for what is never journaled.
    pub fn is_ephemeral(&self) -> bool {
        matches!(
            self,
            Content::Typing(_) | Content::Read(_) | Content::Presence(_)
        )
    }

    /// Names earlier events in another way. A reply or thread that `resolve` does not know is left out; an edit,
    /// redaction, reaction or read mark of something unknown has no meaning, and its reference comes back as the error.
    pub fn resolve<S>(self, mut resolve: impl FnMut(&R) -> Option<S>) -> Result<Content<S>, R> {
        Ok(match self {
            Content::Message(m) => Content::Message(Message {
                kind: m.kind,
                text: m.text,
                reply_to: m.reply_to.and_then(|r| resolve(&r)),
                thread: m.thread.and_then(|r| resolve(&r)),
                attachments: m.attachments,
                unknown: m.unknown,
            }),
            Content::Edit(e) => match resolve(&e.target) {
                Some(target) => Content::Edit(Edit {
                    target,
                    text: e.text,
                    unknown: e.unknown,
                }),
                None => return Err(e.target),
            },
            Content::Redact(e) => match resolve(&e.target) {
                Some(target) => Content::Redact(Redact {
                    target,
                    reason: e.reason,
                    unknown: e.unknown,
                }),
                None => return Err(e.target),
            },
            Content::React(e) => match resolve(&e.target) {
                Some(target) => Content::React(React {
                    target,
                    action: e.action,
                    emoji: e.emoji,
                    unknown: e.unknown,
                }),
                None => return Err(e.target),
            },
            Content::Read(e) => match resolve(&e.up_to) {
                Some(up_to) => Content::Read(Read {
                    up_to,
                    unknown: e.unknown,
                }),
                None => return Err(e.up_to),
            },
            Content::Join(c) => Content::Join(c),
            Content::Leave(c) => Content::Leave(c),
            Content::Kick(c) => Content::Kick(c),
            Content::Ban(c) => Content::Ban(c),
            Content::Rename(c) => Content::Rename(c),
            Content::Profile(c) => Content::Profile(c),
            Content::Topic(c) => Content::Topic(c),
            Content::RoomName(c) => Content::RoomName(c),
            Content::RoomAvatar(c) => Content::RoomAvatar(c),
            Content::Typing(c) => Content::Typing(c),
            Content::Presence(c) => Content::Presence(c),
            Content::Encrypted(c) => Content::Encrypted(c),
            Content::Unknown(c) => Content::Unknown(c),
        })
    }
}

/// Something said, or files sent, or both.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Message<R> {
    /// How it is said.
    pub kind: MessageKind,
    /// What is said; blank when only files are sent.
    pub text: Text,
    /// The message that this one answers.
    pub reply_to: Option<R>,
    /// The first message of the thread that this one is in.
    pub thread: Option<R>,
    /// Files.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl<R> Message<R> {
    /// A message of text alone.
    pub fn of(kind: MessageKind, text: Text) -> Self {
        Message {
            kind,
            text,
            reply_to: None,
            thread: None,
            attachments: Vec::new(),
            unknown: Unknown::new(),
        }
    }
}

/// How a message is said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Plainly.
    Text,
    /// As something that the author does ("alice waves").
    Emote,
    /// By a program; not to be answered by one.
    Notice,
}

/// A file that goes with a message.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Attachment {
    /// The file's name as its sender gave it; never a path.
    pub name: String,
    /// The media type, if the source names one.
    pub mime: Option<String>,
    /// Bytes, if the source says how many.
    pub size: Option<u64>,
    /// Where the store has it (`sha256:...`); none while it is not known.
    pub media: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A new text for an earlier message.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Edit<R> {
    /// The message as it was first said.
    pub target: R,
    /// The whole new text.
    pub text: Text,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An earlier message is taken back.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Redact<R> {
    /// The message.
    pub target: R,
    /// Why, if anybody says.
    pub reason: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A reaction is put on a message or taken off.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct React<R> {
    /// The message.
    pub target: R,
    /// On or off.
    pub action: ReactAction,
    /// One emoji, or a short text.
    pub emoji: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whether a reaction comes or goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReactAction {
    /// It is put on.
    Add,
    /// It is taken off.
    Remove,
}

/// The author came.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Join {
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author went.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Leave {
    /// How.
    pub kind: LeaveKind,
    /// What they said in going.
    pub reason: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How somebody went.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveKind {
    /// Out of this channel.
    Part,
    /// Off the network.
    Quit,
    /// Servers lost sight of each other; expected back.
    Netsplit,
}

/// The author put somebody out.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Kick {
    /// Who has to go.
    pub whom: UserAddress,
    /// Their name.
    pub name: String,
    /// Why.
    pub reason: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author put somebody out for good, or let them in again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Ban {
    /// Who.
    pub whom: UserAddress,
    /// Their name.
    pub name: String,
    /// True when the ban is lifted.
    pub lifted: bool,
    /// Why.
    pub reason: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author has a new name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Rename {
    /// The name until now.
    pub from: String,
    /// The name from now on.
    pub to: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author has a new profile.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Profile {
    /// The name to show.
    pub name: Option<String>,
    /// A media reference.
    pub avatar: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The room has a new topic.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Topic {
    /// The topic; blank when it was taken away.
    pub text: Text,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The room has a new name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RoomName {
    /// The name.
    pub name: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The room has a new picture.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct RoomAvatar {
    /// A media reference; none when the picture was taken away.
    pub avatar: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author writes, or has stopped.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Typing {
    /// True while they write.
    pub active: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author has read the room up to a message.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Read<R> {
    /// The last message read.
    pub up_to: R,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The author is here, away or gone.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Presence {
    /// Which.
    pub state: PresenceState,
    /// What they say about it.
    pub status: Option<String>,
    /// Since when, if the source says.
    pub since: Option<Timestamp>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// Here.
    Online,
    /// Here, but not looking.
    Away,
    /// Not to be disturbed.
    Busy,
    /// Gone.
    Offline,
}

/// A payload that only its readers can open.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Encrypted {
    /// The algorithm's name, as its own specification writes it.
    pub algorithm: String,
    /// The payload, opaque.
    pub payload: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A type that this version does not know, with all its fields.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(try_from = "UncheckedUnknown")]
pub struct UnknownContent {
    /// The tag.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Everything beside the tag.
    #[serde(flatten)]
    pub fields: Unknown,
}

#[derive(Deserialize, JsonSchema)]
struct UncheckedUnknown {
    #[serde(rename = "type")]
    #[schemars(extend("not" = {"enum": CONTENT_TYPES}))]
    type_name: String,
    #[serde(flatten)]
    fields: Unknown,
}

impl TryFrom<UncheckedUnknown> for UnknownContent {
    type Error = String;
    // A known type with a wrong shape is an error of its sender, not a type from the future.
    fn try_from(unchecked: UncheckedUnknown) -> Result<Self, String> {
        if CONTENT_TYPES.contains(&unchecked.type_name.as_str()) {
            return Err(format!(
                "content of type {:?} has wrong or missing fields",
                unchecked.type_name
            ));
        }
        Ok(UnknownContent {
            type_name: unchecked.type_name,
            fields: unchecked.fields,
        })
    }
}
