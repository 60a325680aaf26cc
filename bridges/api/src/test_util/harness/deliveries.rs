//! The harness as a lane: hands over deliveries one attempt at a time and records their receipts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use ulid::Ulid;

use super::seen::Handed;
use super::{DOMAIN, Harness, Shared, TimedOut, lock};
use crate::delivery::{Delivery, Outcome, Plan, Receipt, Receipts, Refs};
use crate::event::{
    Author, Channel, Content, DeliveryKey, Event, EventId, Message, MessageKind, NativeId, Origin,
    RoomAddress, SourceId, Text, UserAddress,
};
use crate::link::{Clock, Request};

/// What the next attempt of a delivery needs.
pub(super) struct Kept {
    channel: Channel,
    event: Arc<Event>,
}

/// One attempt of a delivery, as the lane sees it.
#[derive(Clone)]
pub struct DeliveryHandle {
    shared: Arc<Shared>,
    token: u64,
    key: DeliveryKey,
    attempt: u32,
}

impl Harness {
    /// Hands over a message of someone elsewhere. `text` goes in as it is, control characters and all.
    pub async fn deliver(
        &self,
        channel: &Channel,
        author: &str,
        text: &str,
        kind: MessageKind,
    ) -> DeliveryHandle {
        self.deliver_content(channel, author, message(text, kind))
            .await
    }

    /// Hands over any content of someone elsewhere.
    pub async fn deliver_content(
        &self,
        channel: &Channel,
        author: &str,
        content: Content<EventId>,
    ) -> DeliveryHandle {
        self.deliver_event(channel, event(author, content)).await
    }

    /// Hands over an event.
    pub async fn deliver_event(&self, channel: &Channel, event: Event) -> DeliveryHandle {
        match self.try_deliver_event(channel, event).await {
            Ok(handle) => handle,
            Err(timed_out) => panic!("{timed_out}"),
        }
    }

    /// As [`Harness::deliver_event`], with an error when the bridge does not drain its requests.
    pub async fn try_deliver_event(
        &self,
        channel: &Channel,
        event: Event,
    ) -> Result<DeliveryHandle, TimedOut> {
        let kept = Kept {
            channel: channel.clone(),
            event: Arc::new(event),
        };
        self.hand_over(kept, 1, false, None).await
    }

    /// Hands the same delivery over once more: the same key, the next attempt. With `doubt` the bridge is told that the
    /// attempt before may have reached the network.
    pub async fn deliver_again(
        &self,
        before: &DeliveryHandle,
        doubt: bool,
        plan: Option<Plan>,
    ) -> DeliveryHandle {
        match self.try_deliver_again(before, doubt, plan).await {
            Ok(handle) => handle,
            Err(timed_out) => panic!("{timed_out}"),
        }
    }

    /// As [`Harness::deliver_again`], with an error when the bridge does not drain its requests.
    pub async fn try_deliver_again(
        &self,
        before: &DeliveryHandle,
        doubt: bool,
        plan: Option<Plan>,
    ) -> Result<DeliveryHandle, TimedOut> {
        let kept = {
            let state = lock(&self.shared.state);
            let kept = &state.handles[&before.token];
            Kept {
                channel: kept.channel.clone(),
                event: kept.event.clone(),
            }
        };
        self.hand_over(kept, before.attempt + 1, doubt, plan).await
    }

    /// Takes a delivery back, if it has not begun.
    pub async fn cancel(&self, delivery: &DeliveryHandle) {
        self.ask(Request::Cancel(delivery.key.clone())).await;
    }

    async fn hand_over(
        &self,
        kept: Kept,
        attempt: u32,
        doubt: bool,
        plan: Option<Plan>,
    ) -> Result<DeliveryHandle, TimedOut> {
        let token = next_number();
        let key = DeliveryKey {
            event: kept.event.id,
            channel: kept.channel.clone(),
        };
        let delivery = Delivery {
            key: key.clone(),
            event: kept.event.clone(),
            refs: Refs::default(),
            late: None,
            attempt,
            doubt,
            plan: plan.clone(),
            receipts: Receipts::new(token, self.lane.clone()),
        };
        self.shared.change(|state| {
            state.handles.insert(token, kept);
            state.seen.handed.push(Handed {
                token,
                key: key.clone(),
                attempt,
                plan_asked: None,
                plan,
                unplanned_parts: 0,
                outcomes: Vec::new(),
                dropped: false,
            });
        });
        self.try_ask(Request::Deliver(delivery)).await?;
        Ok(DeliveryHandle {
            shared: self.shared.clone(),
            token,
            key,
            attempt,
        })
    }
}

impl DeliveryHandle {
    /// The same for every attempt.
    pub fn key(&self) -> &DeliveryKey {
        &self.key
    }

    /// Marks this attempt among all that was handed over.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Waits for the outcome. Panics when the bridge drops the delivery or takes too long.
    pub async fn outcome(&self) -> Outcome {
        match self.try_outcome().await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => panic!("the bridge has dropped delivery {}", self.key),
            Err(timed_out) => panic!("{timed_out}"),
        }
    }

    /// Waits for the outcome; none when the bridge has dropped the delivery.
    pub async fn try_outcome(&self) -> Result<Option<Outcome>, TimedOut> {
        self.shared
            .wait_for(&format!("the outcome of {}", self.key), |seen| {
                let handed = seen.attempt(self.token)?;
                handed.is_over().then(|| handed.outcomes.first().cloned())
            })
            .await
    }

    /// What was recorded of this attempt until now.
    pub fn record(&self) -> Handed {
        lock(&self.shared.state)
            .seen
            .attempt(self.token)
            .expect("recorded before it was handed over")
            .clone()
    }

    /// The durable plan, with the parts that have landed.
    pub fn plan(&self) -> Option<Plan> {
        self.record().plan
    }

    /// The native ids of the parts that have landed, in order.
    pub fn parts(&self) -> Vec<Vec<NativeId>> {
        self.plan()
            .map(|plan| plan.done.into_values().collect())
            .unwrap_or_default()
    }

    /// Waits until the bridge has asked for a plan that the frozen journal does not answer.
    pub async fn plan_asked(&self) -> Vec<String> {
        self.shared
            .wait_for(&format!("a plan of {}", self.key), |seen| {
                seen.attempt(self.token)?.plan_asked.clone()
            })
            .await
            .unwrap_or_else(|timed_out| panic!("{timed_out}"))
    }
}

impl Shared {
    pub(super) fn thaw(&self) {
        let held = self.change(|state| {
            state.frozen = false;
            state.plans_frozen = false;
            let held = std::mem::take(&mut state.held_plans);
            for (token, parts, _) in &held {
                state.seen.plan_is_durable(*token, parts);
            }
            held
        });
        for (_, _, durable) in held {
            // A bridge that gave up waiting has its reasons.
            durable.send(()).ok();
        }
    }
}

/// Records the receipts of all attempts, in the order in which the bridge gave them.
pub(super) async fn record(
    shared: Arc<Shared>,
    mut receipts: mpsc::UnboundedReceiver<(u64, Receipt)>,
) {
    while let Some((token, receipt)) = receipts.recv().await {
        let durable = shared.change(|state| match receipt {
            Receipt::Plan { parts, durable } => {
                if state.plans_to_refuse > 0 {
                    state.plans_to_refuse -= 1;
                    if let Some(handed) = state.seen.attempt_mut(token) {
                        handed.plan_asked = Some(parts);
                    }
                    return None;
                }
                if state.plans_frozen {
                    if let Some(handed) = state.seen.attempt_mut(token) {
                        handed.plan_asked = Some(parts.clone());
                    }
                    state.held_plans.push((token, parts, durable));
                    return None;
                }
                state.seen.plan_is_durable(token, &parts);
                Some(durable)
            }
            Receipt::Part { index, ids } => {
                if let Some(handed) = state.seen.attempt_mut(token) {
                    handed.part(index, ids);
                }
                None
            }
            Receipt::Finish { outcome, parts } => {
                if let Some(handed) = state.seen.attempt_mut(token) {
                    for (index, ids) in parts {
                        handed.part(index, ids);
                    }
                    handed.outcomes.push(outcome);
                }
                state.seen.finished.push(token);
                None
            }
            Receipt::Dropped => {
                if let Some(handed) = state.seen.attempt_mut(token) {
                    handed.dropped = true;
                }
                state.seen.finished.push(token);
                None
            }
        });
        if let Some(durable) = durable {
            durable.send(()).ok();
        }
    }
}

impl super::Seen {
    fn plan_is_durable(&mut self, token: u64, parts: &[String]) {
        if let Some(handed) = self.attempt_mut(token) {
            handed.plan_asked = None;
            handed.plan = Some(Plan {
                parts: parts.to_vec(),
                done: BTreeMap::new(),
            });
        }
    }
}

impl Handed {
    fn part(&mut self, index: u32, ids: Vec<NativeId>) {
        let plan = self.plan.get_or_insert_default();
        if index > 0 && plan.parts.len() <= index as usize {
            self.unplanned_parts += 1;
        }
        plan.done.insert(index, ids);
    }
}

/// A message without any span.
pub(crate) fn message(text: &str, kind: MessageKind) -> Content<EventId> {
    let text = Text {
        plain: text.to_owned(),
        ..Text::default()
    };
    Content::Message(Message::of(kind, text))
}

/// An event of someone on a network that the bridge knows nothing about.
pub(crate) fn event(author: &str, content: Content<EventId>) -> Event {
    let number = next_number();
    let now = Clock::System.now();
    Event {
        id: next_event_id(),
        room: RoomAddress::new("rust", DOMAIN).expect("a room name"),
        origin: Origin {
            network: "elsewhere".parse().expect("a network name"),
            channel: "#elsewhere".to_owned(),
            native_id: SourceId(format!("elsewhere-{number}")),
            unknown: BTreeMap::new(),
        },
        author: Author {
            id: format!("elsewhere/{author}"),
            address: UserAddress::of(author, &format!("elsewhere.{DOMAIN}")),
            name: author.to_owned(),
            avatar: None,
            bot: false,
            unknown: BTreeMap::new(),
        },
        seq: number,
        time: now,
        received: now,
        content,
        via: vec![DOMAIN.to_owned()],
        ext: BTreeMap::new(),
        unknown: BTreeMap::new(),
    }
}

/// Unique over all harnesses of all test processes, as far as the clock is.
pub(super) fn next_event_id() -> EventId {
    let now = u64::try_from(Clock::System.now().0).unwrap_or_default();
    let process = u128::from(std::process::id());
    EventId::from_ulid(Ulid::from_parts(
        now,
        (process << 48) | u128::from(next_number()),
    ))
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
