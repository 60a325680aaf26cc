//! Deliveries, one at a time in each channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Running;
use crate::delivery::{Delivery, Outcome, PlanRefused};
use crate::error::DeliveryError;
use crate::event::{Channel, Content, DeliveryKey, Event, MessageKind, NativeId, Text};
use crate::test_util::scripted::fault::Fault;
use crate::test_util::scripted::network::{Attempt, Reaction};
use crate::test_util::scripted::wire::ToNetwork;

/// The deliveries of one channel that the bridge has in hand.
#[derive(Default)]
pub(super) struct Lane {
    waiting: VecDeque<Delivery>,
    current: Current,
}

#[derive(Default)]
enum Current {
    #[default]
    Nothing,
    /// Its plan is being stored.
    Planning,
    /// Sent, and not yet seen by the network in all parts.
    Sent {
        delivery: Delivery,
        unseen: BTreeMap<String, u32>,
        ambiguous: bool,
    },
    Hanging(Delivery),
}

pub(super) struct Planned {
    delivery: Delivery,
    parts: Vec<String>,
    stored: Result<(), PlanRefused>,
}

impl Lane {
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !matches!(self.current, Current::Nothing)
    }
}

impl Running {
    pub(super) fn take(&mut self, delivery: Delivery) {
        self.network.handed(Attempt {
            key: delivery.key.clone(),
            attempt: delivery.attempt,
            doubt: delivery.doubt,
            plan: delivery.plan.clone(),
            author: delivery.event.author.name.clone(),
            late: delivery.late,
        });
        let lane = self.lanes.entry(delivery.key.channel.clone()).or_default();
        lane.waiting.push_back(delivery);
    }

    pub(super) fn cancel(&mut self, key: &DeliveryKey) {
        let Some(lane) = self.lanes.get_mut(&key.channel) else {
            return;
        };
        if let Some(index) = lane.waiting.iter().position(|d| d.key == *key)
            && let Some(delivery) = lane.waiting.remove(index)
        {
            delivery.receipts.finish(Outcome::NotAttempted);
        }
    }

    /// Takes up the next deliveries of a channel, as far as they can be taken up.
    pub(super) fn go_on(&mut self, channel: &Channel) {
        loop {
            let latest_first = self.has(Fault::LatestFirst);
            let Some(lane) = self.lanes.get_mut(channel) else {
                return;
            };
            if !matches!(lane.current, Current::Nothing) {
                return;
            }
            let next = if latest_first {
                lane.waiting.pop_back()
            } else {
                lane.waiting.pop_front()
            };
            let Some(delivery) = next else { return };
            self.begin(delivery);
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let channel = delivery.key.channel.clone();
        if !self.joined.contains(&channel) && !self.has(Fault::JoinedTooEarly) {
            delivery.receipts.finish(Outcome::NotAttempted);
            return;
        }
        match self.network.reaction() {
            Reaction::Show => self.split(delivery),
            Reaction::Ambiguous { shown: true } => {
                let parts = self.parts(&delivery.event).unwrap_or_default();
                self.transmit(delivery, &parts, true);
            }
            Reaction::Ambiguous { shown: false } => {
                let why = DeliveryError::ConnectionLost("no answer".to_owned());
                self.fail(delivery, Outcome::Ambiguous { why });
            }
            Reaction::NotAttempted => self.fail(delivery, Outcome::NotAttempted),
            Reaction::Retry(after) => {
                let why = DeliveryError::RateLimited(after);
                self.fail(delivery, Outcome::Retry { after, why });
            }
            Reaction::Park(why) => delivery.receipts.finish(Outcome::Park(why)),
            Reaction::GiveUp(why) => delivery.receipts.finish(Outcome::GiveUp(why)),
            Reaction::Hang => {
                self.hanging = true;
                self.set_current(&channel, Current::Hanging(delivery));
            }
            Reaction::Panic => panic!("the scripted bridge was told to panic"),
        }
    }

    /// Ends a delivery that may be tried again; what came after it in its channel has to wait for it.
    fn fail(&mut self, delivery: Delivery, outcome: Outcome) {
        let channel = delivery.key.channel.clone();
        delivery.receipts.finish(outcome);
        if let Some(lane) = self.lanes.get_mut(&channel) {
            for later in lane.waiting.drain(..) {
                later.receipts.finish(Outcome::NotAttempted);
            }
        }
    }

    fn split(&mut self, mut delivery: Delivery) {
        let parts = match (&delivery.plan, self.parts(&delivery.event)) {
            (Some(plan), _) if !plan.parts.is_empty() && !self.has(Fault::IgnoresTheStoredPlan) => {
                delivery.receipts.resume(plan);
                let parts = plan.parts.clone();
                self.transmit(delivery, &parts, false);
                return;
            }
            (_, Some(parts)) => parts,
            (_, None) if self.has(Fault::DropsWhatItCannotShow) => return,
            (_, None) => {
                let why = DeliveryError::Unsupported(delivery.event.content.type_name().to_owned());
                delivery.receipts.finish(Outcome::GiveUp(why));
                return;
            }
        };
        if self.has(Fault::IgnoresTheStoredPlan) {
            delivery.plan = None;
        }
        if parts.len() == 1 {
            self.transmit(delivery, &parts, false);
            return;
        }
        if self.has(Fault::SendsBeforeThePlan) {
            self.write(&delivery, &parts);
        }
        self.set_current(&delivery.key.channel.clone(), Current::Planning);
        self.planning.spawn(async move {
            let stored = delivery.receipts.plan(&parts).await;
            Planned {
                delivery,
                parts,
                stored,
            }
        });
    }

    pub(super) fn planned(&mut self, planned: Planned) {
        let channel = planned.delivery.key.channel.clone();
        self.set_current(&channel, Current::Nothing);
        if planned.stored.is_err() {
            let after = Duration::from_millis(10);
            let why = DeliveryError::Rejected("the plan could not be stored".to_owned());
            self.fail(planned.delivery, Outcome::Retry { after, why });
        } else if self.joined.contains(&channel) || self.has(Fault::JoinedTooEarly) {
            self.transmit(planned.delivery, &planned.parts, false);
        } else {
            // The connection went while the plan was being stored.
            self.fail(planned.delivery, Outcome::NotAttempted);
        }
        self.go_on(&channel);
    }

    fn transmit(&mut self, delivery: Delivery, parts: &[String], ambiguous: bool) {
        let unseen = self.write(&delivery, parts);
        let channel = delivery.key.channel.clone();
        let sent = Current::Sent {
            delivery,
            unseen,
            ambiguous,
        };
        self.set_current(&channel, sent);
    }

    /// Writes the parts that have not landed, and returns their keys.
    fn write(&self, delivery: &Delivery, parts: &[String]) -> BTreeMap<String, u32> {
        let landed: BTreeSet<u32> = delivery
            .plan
            .iter()
            .flat_map(|plan| plan.done.keys().copied())
            .collect();
        let mut keys = BTreeMap::new();
        for (index, text) in (0..).zip(parts) {
            if landed.contains(&index) {
                continue;
            }
            let mut key = format!("{}/{index}", delivery.key);
            if self.has(Fault::NewKeyEachAttempt) {
                key = format!("{key}.{}", delivery.attempt);
            }
            self.send(&ToNetwork::Show {
                key: key.clone(),
                channel: delivery.key.channel.native().to_owned(),
                text: text.clone(),
            });
            keys.insert(key, index);
        }
        keys
    }

    /// The network has a part of ours.
    pub(super) fn seen(&mut self, key: &str, id: u64) {
        let Some(channel) = key
            .rsplit_once('/')
            .and_then(|(delivery, _)| delivery.parse::<DeliveryKey>().ok())
            .map(|delivery| delivery.channel)
        else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(&channel) else {
            return;
        };
        let Current::Sent {
            delivery, unseen, ..
        } = &mut lane.current
        else {
            return;
        };
        let Some(index) = unseen.remove(key) else {
            return;
        };
        delivery
            .receipts
            .part(index, vec![NativeId(id.to_string())]);
        if !unseen.is_empty() {
            return;
        }
        if let Current::Sent {
            delivery,
            ambiguous,
            ..
        } = std::mem::take(&mut lane.current)
        {
            if ambiguous {
                let why = DeliveryError::ConnectionLost("no answer".to_owned());
                self.fail(delivery, Outcome::Ambiguous { why });
            } else {
                delivery.receipts.finish(Outcome::Shown);
            }
        }
        self.go_on(&channel);
    }

    pub(super) fn unhang(&mut self) {
        self.hanging = false;
        let channels: Vec<Channel> = self.lanes.keys().cloned().collect();
        for channel in channels {
            let Some(lane) = self.lanes.get_mut(&channel) else {
                continue;
            };
            match std::mem::take(&mut lane.current) {
                Current::Hanging(delivery) => self.split(delivery),
                current => lane.current = current,
            }
            self.go_on(&channel);
        }
    }

    /// The connection is lost: nobody knows what became of what was sent; the rest was not sent.
    pub(super) fn lose_what_is_in_hand(&mut self) {
        for lane in self.lanes.values_mut() {
            match std::mem::take(&mut lane.current) {
                Current::Sent { delivery, .. } => {
                    let why = DeliveryError::ConnectionLost("cut".to_owned());
                    delivery.receipts.finish(Outcome::Ambiguous { why });
                }
                Current::Hanging(delivery) => delivery.receipts.finish(Outcome::NotAttempted),
                current @ (Current::Planning | Current::Nothing) => lane.current = current,
            }
            for later in lane.waiting.drain(..) {
                later.receipts.finish(Outcome::NotAttempted);
            }
        }
    }

    fn set_current(&mut self, channel: &Channel, current: Current) {
        self.lanes.entry(channel.clone()).or_default().current = current;
    }

    /// The lines that show an event, each with its author; none when it cannot be shown.
    fn parts(&self, event: &Event) -> Option<Vec<String>> {
        let Content::Message(message) = &event.content else {
            return None;
        };
        let said = &message.text.plain;
        let lines: Vec<String> = if self.has(Fault::ForgetsCarriageReturns) {
            let kept = |c: char| c == '\r' || !c.is_control();
            said.split(['\n', '\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}'])
                .map(|line| line.chars().filter(|c| kept(*c)).collect())
                .collect()
        } else {
            Text::plain(said).plain.lines().map(str::to_owned).collect()
        };
        let name = Text::plain(&event.author.name)
            .plain
            .replace(['\n', '\t'], " ");
        let name = if name.trim().is_empty() { "?" } else { &name };
        let parts: Vec<String> = lines
            .iter()
            .filter(|line| !line.trim().is_empty())
            .enumerate()
            .map(|(index, line)| match message.kind {
                _ if index > 0 && self.has(Fault::NamesTheAuthorOnce) => line.clone(),
                MessageKind::Emote => format!("* {name} {line}"),
                MessageKind::Text | MessageKind::Notice => format!("<{name}> {line}"),
            })
            .collect();
        (!parts.is_empty()).then_some(parts)
    }
}
