//! What became of one event: every step of it that is known, with times.
//!
//! What is in the journal is known for as long as the event is. The lanes' single steps are remembered for the last ones only, and
//! not across a restart.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use comity_bridge::{Channel, EventId, NativeId, RoomAddress};
use serde::Serialize;

use super::Admin;
use super::fault::Fault;
use crate::board::{Board, StepKind};
use crate::journal::{ChannelStep, ChannelTrace, Trace};

/// One event. All times are milliseconds since 1970.
#[derive(Serialize)]
struct Page {
    event: EventId,
    room: RoomAddress,
    seq: u64,
    /// Where it was born.
    origin: Channel,
    /// What it is called there.
    native_id: Option<String>,
    author: Option<String>,
    kind: Option<String>,
    /// Why its content cannot be read any more.
    damaged: Option<String>,
    /// When its source says that it happened.
    claimed: Option<i64>,
    /// When this gateway heard of it.
    received: Option<i64>,
    /// When it was on the disk.
    committed: Option<i64>,
    channels: Vec<InChannel>,
}

/// The same event in one channel.
#[derive(Serialize)]
struct InChannel {
    channel: Channel,
    /// `shown`, `waiting`, `trying`, `dead`, `dropped` (given up, and of no interest any more), `before` (the channel came later) or `finished` (with nothing to tell).
    state: &'static str,
    /// How many events the lane has to finish before it comes to this one.
    before_it: u64,
    /// What the lane did with it, as far as that is remembered.
    steps: Vec<Step>,
    parts: Vec<Part>,
    /// What went wrong, if it did: attempts until now, the reason and the time of the last.
    trouble: Option<Trouble>,
    dead: Option<Dead>,
}

#[derive(Serialize)]
struct Step {
    at: i64,
    #[serde(flatten)]
    what: StepKind,
    /// The same in words.
    says: String,
}

#[derive(Serialize)]
struct Part {
    part: u32,
    native_ids: Vec<NativeId>,
    at: Option<i64>,
}

#[derive(Serialize)]
struct Trouble {
    attempts: u32,
    /// Times that the bridge died with it in hand.
    deaths: u32,
    /// It may have reached the network all the same.
    doubt: bool,
    why: String,
    at: i64,
}

#[derive(Serialize)]
struct Dead {
    reason: String,
    at: i64,
    again: bool,
}

pub(super) async fn trace(
    State(admin): State<Admin>,
    Path(event): Path<String>,
) -> Result<Response, Fault> {
    let id: EventId = event
        .parse()
        .map_err(|error| Fault::wrong(format!("{error}")))?;
    match admin.journal.trace(id).await? {
        Some(trace) => Ok(Json(Page::of(id, trace, &admin.board)).into_response()),
        None => Err(Fault::unknown(format!("the journal has no event {id}"))),
    }
}

impl Page {
    fn of(id: EventId, trace: Trace, board: &Board) -> Self {
        let seq = trace.event.seq();
        let event = trace.event.event();
        let kind = event.and_then(|event| {
            let content = serde_json::to_value(&event.content).ok()?;
            Some(content.get("type")?.as_str()?.to_owned())
        });
        let damaged = match &trace.event {
            crate::journal::Logged::Damaged { why, .. } => Some(why.clone()),
            crate::journal::Logged::Event(_) => None,
        };
        Page {
            event: id,
            room: trace.room.clone(),
            seq,
            native_id: event.map(|event| event.origin.native_id.0.clone()),
            author: event.map(|event| event.author.address.to_string()),
            kind,
            damaged,
            claimed: event.map(|event| event.time.0),
            received: event.map(|event| event.received.0),
            committed: trace.committed.map(|at| at.0),
            origin: trace.origin,
            channels: trace
                .channels
                .into_iter()
                .map(|channel| InChannel::of(channel, seq, board))
                .collect(),
        }
    }
}

impl InChannel {
    fn of(trace: ChannelTrace, seq: u64, board: &Board) -> Self {
        let lane = board.channel(&trace.channel);
        let steps = lane.map(|lane| lane.steps.of(seq)).unwrap_or_default();
        let state = match &trace.step {
            ChannelStep::Dead(_) => "dead",
            ChannelStep::Dropped(_) => "dropped",
            ChannelStep::Before => "before",
            ChannelStep::Finished if trace.parts.is_empty() => "finished",
            ChannelStep::Finished => "shown",
            ChannelStep::Waiting if trace.trouble.is_some() || !trace.parts.is_empty() => "trying",
            ChannelStep::Waiting => "waiting",
        };
        let dead = match trace.step {
            ChannelStep::Dead(letter) | ChannelStep::Dropped(letter) => Some(Dead {
                reason: letter.reason,
                at: letter.at.0,
                again: letter.again,
            }),
            _ => None,
        };
        InChannel {
            steps: steps
                .into_iter()
                .map(|step| Step {
                    at: step.at.0,
                    says: says(&step.what),
                    what: step.what,
                })
                .collect(),
            channel: trace.channel,
            state,
            before_it: seq.saturating_sub(trace.done + 1),
            parts: trace
                .parts
                .into_iter()
                .map(|part| Part {
                    part: part.part,
                    native_ids: part.ids,
                    at: part.at.map(|at| at.0),
                })
                .collect(),
            trouble: trace.trouble.map(|trouble| Trouble {
                attempts: trouble.attempts,
                deaths: trouble.deaths,
                doubt: trouble.doubt,
                why: trouble.why,
                at: trouble.at.0,
            }),
            dead,
        }
    }
}

fn says(what: &StepKind) -> String {
    match what {
        StepKind::HandedOver { attempt, doubt } => {
            let doubt = if *doubt {
                ", an earlier one may have reached the network"
            } else {
                ""
            };
            format!("handed over, attempt {attempt}{doubt}")
        }
        StepKind::Planned { parts } => format!("split into {parts} parts"),
        StepKind::Landed { part } => format!("part {} has landed", part + 1),
        StepKind::Shown => "shown".to_owned(),
        StepKind::Retry { reason } => format!("came back, to be tried again: {reason}"),
        StepKind::Dead { reason } => format!("given up: {reason}"),
        StepKind::Passed { reason } => format!("not shown here: {reason}"),
        StepKind::Folded => "shown within the message that it changes".to_owned(),
    }
}
