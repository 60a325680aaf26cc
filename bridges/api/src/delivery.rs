//! Outbound: one event for one channel, its parts, and what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::error::DeliveryError;
use crate::event::{DeliveryKey, Event, NativeId, Timestamp};

/// The gateway asks a bridge to show one event in one channel.
#[derive(Debug)]
pub struct Delivery {
    /// The same for every attempt, across restarts.
    pub key: DeliveryKey,
    /// Already fitted to what the channel can show.
    pub event: Arc<Event>,
    /// What the event refers to, in this channel's native ids.
    pub refs: Refs,
    /// When it was written, if it comes so late that people would take it for new otherwise: shown with the message, in
    /// the network's own way. The same for attempts in doubt as for the one that left the doubt, within one run of the gateway.
    pub late: Option<Timestamp>,
    /// From 1.
    pub attempt: u32,
    /// An earlier attempt may have reached the network: look before you send.
    pub doubt: bool,
    /// How an earlier attempt split it, and how far it got. Wins over a new splitting.
    pub plan: Option<Plan>,
    /// Where to say what becomes of it.
    pub receipts: Receipts,
}

/// Native ids, in the delivery's channel, of the message that it replies to, edits, redacts or reacts to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Refs {
    /// All parts of that message, in order; empty when it was never shown here.
    pub target: Vec<NativeId>,
}

/// How a delivery was split.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// What each part says, in the bridge's own form.
    pub parts: Vec<String>,
    /// The parts that have landed, with the native ids that they got.
    pub done: BTreeMap<u32, Vec<NativeId>>,
}

/// What became of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The network has it.
    Shown,
    /// Nothing of it reached the network.
    NotAttempted,
    /// It did not reach the network; try again, not before `after`.
    Retry {
        /// At least this long.
        after: Duration,
        /// For the operator.
        why: DeliveryError,
    },
    /// It may have reached the network or not: the next attempt is told so.
    Ambiguous {
        /// For the operator.
        why: DeliveryError,
    },
    /// It cannot be shown as things are; kept for the operator, and its successors go on.
    Park(DeliveryError),
    /// It can never be shown there; kept as a dead letter with its reason.
    GiveUp(DeliveryError),
}

/// One thing said about a delivery, on its way to the lane.
#[derive(Debug)]
pub enum Receipt {
    /// The parts; answered when they are durable.
    Plan {
        /// What each part says.
        parts: Vec<String>,
        /// Dropped unanswered when the journal cannot take it now.
        durable: oneshot::Sender<()>,
    },
    /// A part has landed.
    Part {
        /// Its index in the plan.
        index: u32,
        /// What the network calls it; may be empty.
        ids: Vec<NativeId>,
    },
    /// The delivery is over. Native ids of parts that were not sent as [`Receipt::Part`] are in `parts`.
    Finish {
        /// What became of it.
        outcome: Outcome,
        /// Part index and native id.
        parts: Vec<(u32, Vec<NativeId>)>,
    },
    /// The bridge dropped the delivery, most likely in dying.
    Dropped,
}

/// Where a bridge says what becomes of a delivery: `plan` before the first byte, `part` as each lands, then `finish`.
/// Dropped without `finish`, the delivery counts as one that its bridge died with.
pub struct Receipts {
    token: u64,
    lane: Option<mpsc::UnboundedSender<(u64, Receipt)>>,
    planned: usize,
    parts: Vec<(u32, Vec<NativeId>)>,
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipts")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// The plan could not be stored, so nothing may be sent now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the plan could not be stored")]
pub struct PlanRefused;

impl Receipts {
    /// Receipts that go to `lane`, marked with `token`.
    ///
    /// The channel is unbounded because it is bounded by what is in it: one plan, the planned parts and one finish for each
    /// delivery of the lane's window.
    pub fn new(token: u64, lane: mpsc::UnboundedSender<(u64, Receipt)>) -> Self {
        Receipts {
            token,
            lane: Some(lane),
            planned: 1,
            parts: Vec::new(),
        }
    }

    /// Says how the delivery is split, before the first byte is sent. Durable when it returns. A delivery of one part
    /// needs no plan: then this returns at once. Call it not at all when the delivery came with a plan.
    pub async fn plan(&mut self, parts: &[String]) -> Result<(), PlanRefused> {
        self.planned = parts.len();
        if parts.len() <= 1 {
            return Ok(());
        }
        let (durable, answer) = oneshot::channel();
        self.tell(Receipt::Plan {
            parts: parts.to_vec(),
            durable,
        });
        answer.await.map_err(|_| PlanRefused)
    }

    /// Goes on with a plan of an earlier attempt.
    pub fn resume(&mut self, plan: &Plan) {
        self.planned = plan.parts.len();
    }

    /// Says that a part has landed, and what the network calls it (possibly nothing).
    pub fn part(&mut self, index: u32, ids: Vec<NativeId>) {
        if self.planned > 1 {
            self.tell(Receipt::Part { index, ids });
        } else {
            self.parts.push((index, ids));
        }
    }

    /// Ends the delivery.
    pub fn finish(mut self, outcome: Outcome) {
        let parts = std::mem::take(&mut self.parts);
        self.tell(Receipt::Finish { outcome, parts });
        self.lane = None;
    }

    fn tell(&self, receipt: Receipt) {
        if let Some(lane) = &self.lane {
            // A lane that is gone needs no receipts: it left the delivery in doubt.
            drop(lane.send((self.token, receipt)));
        }
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        if self.lane.is_some() {
            self.tell(Receipt::Dropped);
        }
    }
}
