//! The deliveries in the bridge's hands: from the gateway's form to the session's jobs, and back to receipts.

use std::collections::HashMap;

use comity_bridge::delivery::PlanRefused;
use comity_bridge::event::MessageKind;
use comity_bridge::{
    Content, Delivery, DeliveryError, DeliveryKey, Event, NativeId, Outcome, Receipts, Timestamp,
};
use tokio::task::JoinSet;

use crate::session::{Job, Late, Speaker};
use crate::{outbound, stamp};

/// Deliveries by the job's number.
#[derive(Default)]
pub(crate) struct Deliveries {
    held: HashMap<u64, Held>,
    plans: JoinSet<(u64, Receipts, Result<(), PlanRefused>)>,
    next: u64,
}

struct Held {
    key: DeliveryKey,
    /// Away while its plan is being stored.
    receipts: Option<Receipts>,
    /// What became of it in the meantime.
    outcome: Option<Outcome>,
}

impl Deliveries {
    /// Takes a delivery. Gives the job to submit; none when there is nothing that could be said.
    pub(crate) fn take(&mut self, delivery: Delivery, now: Timestamp) -> Option<Job> {
        let Delivery {
            key,
            event,
            late,
            doubt,
            plan,
            mut receipts,
            ..
        } = delivery;
        let (text, emote) = match said(&event) {
            Ok(said) => said,
            Err(why) => {
                receipts.finish(Outcome::GiveUp(why));
                return None;
            }
        };
        self.next += 1;
        let id = self.next;
        let mut ready = true;
        let numbered = |parts: Vec<String>| (0..).zip(parts);
        let parts: Vec<(u32, String)> = match plan {
            Some(plan) => {
                receipts.resume(&plan);
                numbered(plan.parts)
                    .filter(|(part, _)| !plan.done.contains_key(part))
                    .collect()
            }
            None => {
                let parts = outbound::split(text, &event.author.name);
                ready = parts.len() == 1;
                numbered(parts).collect()
            }
        };
        let kept = if ready {
            Some(receipts)
        } else {
            let texts: Vec<String> = parts.iter().map(|(_, text)| text.clone()).collect();
            self.plans.spawn(async move {
                let stored = receipts.plan(&texts).await;
                (id, receipts, stored)
            });
            None
        };
        let event_id = key.event.to_string();
        self.held.insert(
            id,
            Held {
                key,
                receipts: kept,
                outcome: None,
            },
        );
        let speaker = speaker(&event);
        Some(Job {
            id,
            event: event_id,
            speaker,
            emote,
            parts,
            doubt,
            since_ms: event.received.0,
            ready,
            late: late.map(|at| Late {
                stamp: stamp::write(at.0),
                spoken: stamp::spoken(at, now),
            }),
        })
    }

    /// Waits until a plan is stored, or is not: the job and whether it may be sent. Never, while there is none to store.
    pub(crate) async fn plan_stored(&mut self) -> (u64, bool) {
        loop {
            match self.plans.join_next().await {
                Some(Ok((id, receipts, stored))) => {
                    if let Some(outcome) =
                        self.held.get_mut(&id).and_then(|held| held.outcome.take())
                    {
                        self.held.remove(&id);
                        receipts.finish(outcome);
                        continue;
                    }
                    if let Some(held) = self.held.get_mut(&id) {
                        held.receipts = Some(receipts);
                    }
                    return (id, stored.is_ok());
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) fn job_of(&self, key: &DeliveryKey) -> Option<u64> {
        self.held
            .iter()
            .find(|(_, held)| held.key == *key)
            .map(|(id, _)| *id)
    }

    /// A part has landed.
    pub(crate) fn landed(&mut self, job: u64, part: u32, ids: Vec<NativeId>) {
        if let Some(receipts) = self
            .held
            .get_mut(&job)
            .and_then(|held| held.receipts.as_mut())
        {
            receipts.part(part, ids);
        }
    }

    /// A job is over.
    pub(crate) fn over(&mut self, job: u64, outcome: Outcome) {
        let Some(mut held) = self.held.remove(&job) else {
            return;
        };
        match held.receipts.take() {
            Some(receipts) => receipts.finish(outcome),
            None => {
                held.outcome = Some(outcome);
                self.held.insert(job, held);
            }
        }
    }
}

fn said(event: &Event) -> Result<(&str, bool), DeliveryError> {
    match &event.content {
        Content::Message(message) if message.text.is_blank() => Err(DeliveryError::Unsupported(
            "a message without text".to_owned(),
        )),
        Content::Message(message) => Ok((&message.text.plain, message.kind == MessageKind::Emote)),
        other => Err(DeliveryError::Unsupported(format!(
            "{} is not built yet for XMPP",
            other.type_name()
        ))),
    }
}

fn speaker(event: &Event) -> Speaker {
    let author = &event.author;
    let label = author
        .address
        .host()
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    Speaker {
        id: author.id.clone(),
        name: author.name.clone(),
        label,
    }
}
