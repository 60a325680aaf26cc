//! The deliveries that this network has in hand: from the request to the last receipt, in order.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    time::Duration,
};

use comity_bridge::{Delivery, DeliveryError, DeliveryKey, Outcome, Plan, Receipts};
use futures_util::{StreamExt, stream::FuturesOrdered};

use crate::{
    ident::ChannelName,
    outbound::{self, Limits},
    session::{Fate, SendEvent, SendId, Session, Submission, Verb},
};

/// How long to leave a journal alone that could not store a plan.
const PLAN_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait with the rest of a message whose first part is shown.
const REST_PAUSE: Duration = Duration::from_millis(500);

type Planning = Pin<Box<dyn Future<Output = Planned> + Send>>;

#[derive(Default)]
pub(crate) struct Deliveries {
    last: u64,
    /// Waiting for their plans to be durable. All at once, but handed on in order.
    planning: FuturesOrdered<Planning>,
    /// Up to these, what comes out of `planning` is given back: something before it failed.
    barriers: HashMap<ChannelName, SendId>,
    cancelled: HashSet<DeliveryKey>,
    sent: HashMap<SendId, Sent>,
}

struct Sent {
    key: DeliveryKey,
    channel: ChannelName,
    receipts: Receipts,
    /// What to say in place of "shown".
    instead: Option<Outcome>,
}

/// A delivery whose parts are known.
pub(crate) struct Planned {
    id: SendId,
    pub(crate) channel: ChannelName,
    delivery: Delivery,
    plan: Result<Plan, Outcome>,
}

impl Planned {
    pub(crate) fn verb(&self) -> Verb {
        outbound::verb(&self.delivery.event)
    }
}

impl Deliveries {
    /// Takes a delivery for a channel that we are in.
    pub(crate) fn take(&mut self, delivery: Delivery, channel: ChannelName, limits: Limits) {
        self.last += 1;
        let id = SendId(self.last);
        self.planning
            .push_back(Box::pin(plan(id, channel, delivery, limits)));
    }

    pub(crate) fn is_planning(&self) -> bool {
        !self.planning.is_empty()
    }

    /// Waits for the next delivery that may go out. For ever, if there is none.
    pub(crate) async fn planned(&mut self) -> Planned {
        match self.planning.next().await {
            Some(planned) => planned,
            None => std::future::pending().await,
        }
    }

    /// Hands a delivery to the session, or back.
    pub(crate) fn send(&mut self, planned: Planned, limits: Limits, session: &mut Session) {
        let Planned {
            id,
            channel,
            delivery,
            plan,
        } = planned;
        let Delivery {
            key,
            event,
            mut receipts,
            ..
        } = delivery;
        let cancelled = self.cancelled.remove(&key);
        if self.is_barred(id, &channel) || cancelled {
            return receipts.finish(Outcome::NotAttempted);
        }
        let lines = plan.and_then(|plan| {
            receipts.resume(&plan);
            let lines = outbound::lines(&event, &plan.parts, &plan.done, &channel, limits);
            lines.map_err(Outcome::GiveUp)
        });
        if matches!(lines, Err(Outcome::Retry { .. })) {
            // Its successors must not overtake it.
            self.bar(&channel);
        }
        // One that will not be sent still waits for those before it.
        let (lines, instead) = match lines {
            Ok(lines) => (lines, None),
            Err(outcome) => (Vec::new(), Some(outcome)),
        };
        self.sent.insert(
            id,
            Sent {
                key,
                channel: channel.clone(),
                receipts,
                instead,
            },
        );
        session.submit(Submission { id, channel, lines });
    }

    /// Hands back a delivery while there is no connection.
    pub(crate) fn give_back(&mut self, planned: Planned) {
        planned.delivery.receipts.finish(Outcome::NotAttempted);
    }

    /// Everything of this channel that has not reached the session goes back.
    pub(crate) fn bar(&mut self, channel: &ChannelName) {
        if self.is_planning() {
            self.barriers.insert(channel.clone(), SendId(self.last));
        }
    }

    /// The connection is gone, and with it everything that waited for it.
    pub(crate) fn bar_all<'a>(&mut self, channels: impl Iterator<Item = &'a ChannelName>) {
        for channel in channels {
            self.bar(channel);
        }
    }

    pub(crate) fn cancel(&mut self, key: DeliveryKey, session: Option<&mut Session>) {
        let found = self
            .sent
            .iter()
            .find(|(_, sent)| sent.key == key)
            .map(|(id, _)| *id);
        match (found, session) {
            (Some(id), Some(session)) => session.cancel(id),
            _ if self.is_planning() => drop(self.cancelled.insert(key)),
            _ => {}
        }
    }

    /// Passes on what the session says about a delivery.
    pub(crate) fn handle_event(&mut self, event: SendEvent) {
        match event {
            SendEvent::Part(id, part) => {
                if let Some(sent) = self.sent.get_mut(&id) {
                    // Plain IRC has no ids to tell.
                    sent.receipts.part(part, Vec::new());
                }
            }
            SendEvent::Done(id, fate) => {
                if let Some(sent) = self.sent.remove(&id) {
                    let outcome = match (fate, sent.instead) {
                        (Fate::Shown, Some(instead)) => instead,
                        (fate, _) => outcome(fate, &sent.channel),
                    };
                    sent.receipts.finish(outcome);
                }
            }
        }
    }

    fn is_barred(&mut self, id: SendId, channel: &ChannelName) -> bool {
        let barred = self.barriers.get(channel).is_some_and(|last| id <= *last);
        if !self.is_planning() {
            self.barriers.clear();
            self.cancelled
                .retain(|key| key.channel.native() == channel.as_str());
        }
        barred
    }
}

async fn plan(id: SendId, channel: ChannelName, mut delivery: Delivery, limits: Limits) -> Planned {
    let plan = match delivery.plan.take() {
        // An earlier attempt's parts may be on the network already: they stay as they are.
        Some(plan) => Ok(plan),
        None => match outbound::parts(&delivery.event, limits) {
            Ok(parts) => match delivery.receipts.plan(&parts).await {
                Ok(()) => Ok(Plan {
                    parts,
                    ..Plan::default()
                }),
                Err(refused) => Err(Outcome::Retry {
                    after: PLAN_PAUSE,
                    why: DeliveryError::Rejected(refused.to_string()),
                }),
            },
            Err(error) => Err(Outcome::GiveUp(error)),
        },
    };
    Planned {
        id,
        channel,
        delivery,
        plan,
    }
}

fn outcome(fate: Fate, channel: &ChannelName) -> Outcome {
    match fate {
        Fate::Shown => Outcome::Shown,
        Fate::NotAttempted => Outcome::NotAttempted,
        Fate::Interrupted => Outcome::Retry {
            after: REST_PAUSE,
            why: DeliveryError::NotJoined(format!("lost {channel} between two parts")),
        },
        Fate::Ambiguous => Outcome::Ambiguous {
            why: DeliveryError::ConnectionLost("the server had not confirmed it".to_owned()),
        },
        Fate::Refused(words) => Outcome::GiveUp(DeliveryError::Forbidden(words)),
    }
}
