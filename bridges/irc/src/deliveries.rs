//! The deliveries that this network has in hand: from the request to the last receipt, in order.

mod doubt;

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    time::Duration,
};

use comity_bridge::{
    Delivery, DeliveryError, DeliveryKey, NativeId, Outcome, Plan, Receipts, failpoint,
};
use futures_util::{StreamExt, stream::FuturesOrdered};

use crate::{
    config::Ambiguous,
    ident::ChannelName,
    outbound::{self, Limits, Notes},
    session::{Fate, OwnLine, SendEvent, SendId, Session, Submission, Verb},
};

use doubt::{Doubts, Look};

/// How long to leave a journal alone that could not store a plan.
const PLAN_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait with the rest of a message whose first part is shown.
const REST_PAUSE: Duration = Duration::from_millis(500);

type Planning = Pin<Box<dyn Future<Output = Planned> + Send>>;

#[derive(Default)]
pub(crate) struct Deliveries {
    ambiguous: Ambiguous,
    last: u64,
    /// Waiting for their plans to be durable. All at once, but handed on in order.
    planning: FuturesOrdered<Planning>,
    /// Up to these, what comes out of `planning` is given back: something before it failed.
    barriers: HashMap<ChannelName, SendId>,
    cancelled: HashSet<DeliveryKey>,
    doubts: Doubts,
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
    /// The journal has the plan already.
    stored: bool,
}

impl Planned {
    pub(crate) fn verb(&self) -> Verb {
        outbound::verb(&self.delivery.event)
    }
}

impl Deliveries {
    pub(crate) fn new(ambiguous: Ambiguous) -> Self {
        Self {
            ambiguous,
            ..Self::default()
        }
    }

    /// Takes a delivery for a channel that we are in. Returns it at once when nothing has to be stored first.
    pub(crate) fn take(
        &mut self,
        delivery: Delivery,
        channel: ChannelName,
        limits: Limits,
        notes: Notes,
    ) -> Option<Planned> {
        failpoint::handed("irc.handed", &delivery.event);
        self.last += 1;
        let id = SendId(self.last);
        let mut planned = Planned {
            id,
            channel,
            delivery,
            plan: Ok(Plan::default()),
            stored: true,
        };
        if let Some(plan) = planned.delivery.plan.take() {
            // An earlier attempt's parts may be on the network already: they stay as they are.
            planned.plan = Ok(plan);
        } else {
            planned.plan = match outbound::parts(&planned.delivery.event, limits, notes) {
                Ok(parts) => {
                    planned.stored = parts.len() <= 1;
                    Ok(Plan {
                        parts,
                        ..Plan::default()
                    })
                }
                Err(error) => Err(Outcome::GiveUp(error)),
            };
        }
        if planned.stored && self.planning.is_empty() {
            return Some(planned);
        }
        self.planning.push_back(Box::pin(store(planned)));
        None
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
        let cancelled = !self.cancelled.is_empty() && self.cancelled.remove(&planned.delivery.key);
        if self.is_barred(planned.id, &planned.channel) || cancelled {
            return planned.delivery.receipts.finish(Outcome::NotAttempted);
        }
        let Some((planned, look)) = self.doubts.look(planned, session) else {
            // Its turn comes when the server has said what is there already.
            return;
        };
        self.submit(planned, look, limits, session);
    }

    /// The server has said what of ours is in a channel.
    pub(crate) fn handle_looked_back(
        &mut self,
        channel: &ChannelName,
        found: Option<Vec<OwnLine>>,
        limits: impl Fn(&Session, Verb) -> Limits,
        session: &mut Session,
    ) {
        for planned in self.doubts.handle_answer(channel, found) {
            let limits = limits(session, planned.verb());
            self.send(planned, limits, session);
        }
    }

    fn submit(&mut self, planned: Planned, look: Look, limits: Limits, session: &mut Session) {
        let Planned {
            id,
            channel,
            delivery,
            plan,
            ..
        } = planned;
        let Delivery {
            key,
            event,
            doubt,
            mut receipts,
            ..
        } = delivery;
        let notes = Notes {
            again: doubt && look == Look::Blind && self.ambiguous == Ambiguous::Mark,
            ..Notes::default()
        };
        let lines = plan.and_then(|plan| {
            receipts.resume(&plan);
            if doubt && look == Look::Blind && self.ambiguous == Ambiguous::Drop {
                let why = "it may have been shown or not, and `ambiguous` is \"drop\"";
                return Err(Outcome::GiveUp(DeliveryError::ConnectionLost(
                    why.to_owned(),
                )));
            }
            let lines = outbound::lines(&event, &plan.parts, &plan.done, &channel, limits, notes);
            lines.map_err(Outcome::GiveUp)
        });
        if matches!(lines, Err(Outcome::Retry { .. })) {
            // Its successors must not overtake it.
            self.bar(&channel);
        }
        // One that will not be sent still waits for those before it.
        let (mut lines, instead) = match lines {
            Ok(lines) => (lines, None),
            Err(outcome) => (Vec::new(), Some(outcome)),
        };
        if look == Look::Found {
            let landed = self
                .doubts
                .take_landed(&channel, &event, &mut lines, limits);
            for (part, ids) in landed {
                receipts.part(part, ids);
            }
        }
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
        for planned in self.doubts.forget(channel) {
            self.give_back(planned);
        }
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
            _ if self.is_planning() || self.doubts.is_waiting() => {
                self.cancelled.insert(key);
            }
            _ => {}
        }
    }

    /// Passes on what the session says about a delivery.
    pub(crate) fn handle_event(&mut self, event: SendEvent) {
        match event {
            SendEvent::Part(id, part, ids) => {
                if let Some(sent) = self.sent.get_mut(&id) {
                    sent.receipts
                        .part(part, ids.into_iter().map(NativeId::from).collect());
                    failpoint::reached("irc.between_parts");
                }
            }
            SendEvent::Done(id, fate) => {
                if let Some(sent) = self.sent.remove(&id) {
                    if fate != Fate::Shown {
                        // What was found there before may have changed by another attempt.
                        self.doubts.stale(&sent.channel);
                    }
                    let outcome = match (fate, sent.instead) {
                        (Fate::Shown, Some(instead)) => instead,
                        (fate, _) => outcome(fate, &sent.channel),
                    };
                    failpoint::reached("irc.receipt");
                    sent.receipts.finish(outcome);
                }
            }
        }
    }

    fn is_barred(&mut self, id: SendId, channel: &ChannelName) -> bool {
        let barred = self.barriers.get(channel).is_some_and(|last| id <= *last);
        if self.planning.is_empty() && !self.barriers.is_empty() {
            self.barriers.clear();
        }
        if self.planning.is_empty() && !self.doubts.is_waiting() && !self.cancelled.is_empty() {
            self.cancelled.clear();
        }
        barred
    }
}

/// Makes a plan of several parts durable. The others only keep their place behind those.
async fn store(mut planned: Planned) -> Planned {
    if !planned.stored
        && let Ok(plan) = &planned.plan
        && let Err(refused) = planned.delivery.receipts.plan(&plan.parts).await
    {
        planned.plan = Err(Outcome::Retry {
            after: PLAN_PAUSE,
            why: DeliveryError::Rejected(refused.to_string()),
        });
    }
    planned
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
