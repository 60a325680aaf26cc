//! What is to be said in one room, in order, and what has become of it.
//!
//! A job is sent only when every job before it has been: a delivery never overtakes one that
//! waits for its speaker to be let in. Outcomes leave as a prefix of that order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use comity_bridge::{DeliveryError, Outcome};

/// How long the room may take to show us our own message.
pub(super) const REFLECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Who speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Speaker {
    /// Stable and unique: the ghost's address is made of it.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Where the speaker is from, for two of the same name.
    pub(crate) label: String,
}

/// One delivery for one room.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The driver's own number.
    pub(crate) id: u64,
    /// The event's id: the stanzas' ids are made of it.
    pub(crate) event: String,
    pub(crate) speaker: Speaker,
    pub(crate) emote: bool,
    /// The parts that have not landed yet, with their index in the plan.
    pub(crate) parts: Vec<(u32, String)>,
    /// An earlier attempt may have landed: look before sending.
    pub(crate) doubt: bool,
    /// When the gateway got the event: nothing of it can have landed before.
    pub(crate) since_ms: i64,
    /// False while the plan is not durable yet.
    pub(crate) ready: bool,
    /// When it was written, if it comes late.
    pub(crate) late: Option<Late>,
}

/// How a late message says when it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Late {
    /// For a delay stamp (XEP-0203).
    pub(crate) stamp: String,
    /// For people.
    pub(crate) spoken: String,
}

/// Where a job stands.
#[derive(Debug)]
pub(super) enum Stage {
    Waiting,
    /// Handed to the stream: these parts have not come back yet.
    Sent {
        nick: String,
        jid: String,
        left: Vec<u32>,
        until: Instant,
    },
    Over(Outcome),
}

/// A job that is over, and what the room calls its last part.
#[derive(Debug)]
pub(super) struct End {
    pub(super) job: u64,
    pub(super) outcome: Outcome,
    pub(super) place: Option<String>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// How often it has been sent again within this attempt.
    pub(super) resent: u32,
    /// What the room calls the last part that came back.
    pub(super) place: Option<String>,
}

/// The jobs of one room.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: VecDeque<Entry>,
}

impl Queue {
    pub(super) fn push(&mut self, job: Job) {
        self.entries.push_back(Entry {
            job,
            stage: Stage::Waiting,
            resent: 0,
            place: None,
        });
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.job.id == id)
    }

    /// The first job that has not been sent; everything before it has been.
    pub(super) fn next_waiting(&self) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(entry.stage, Stage::Waiting))
    }

    /// The job that this part of an event belongs to, if it is under way.
    pub(super) fn find_sent(&self, (event, part): (&str, u32)) -> Option<(usize, u32)> {
        let index = self.entries.iter().position(|entry| match &entry.stage {
            Stage::Sent { left, .. } => entry.job.event == event && left.contains(&part),
            _ => false,
        })?;
        Some((index, part))
    }

    /// The job in doubt that this part of an event belongs to, if it waits.
    pub(super) fn find_doubtful(&self, (event, part): (&str, u32)) -> Option<usize> {
        self.entries.iter().position(|entry| {
            let job = &entry.job;
            let waits = matches!(entry.stage, Stage::Waiting) && job.doubt && job.ready;
            waits && job.event == event && job.parts.iter().any(|(waiting, _)| *waiting == part)
        })
    }

    /// Ends the jobs that can end: from the front, up to the first that is still under way.
    ///
    /// After a failure the rest comes back too. What of it was written may have landed, so it
    /// comes back as doubtful, even when we know better: what we know is remembered as landed and
    /// is found when the delivery is handed over again, in its order.
    pub(super) fn settle(&mut self, out: &mut Vec<End>) {
        while let Some(Entry {
            stage: Stage::Over(_),
            ..
        }) = self.entries.front()
        {
            let Some(Entry {
                job,
                stage: Stage::Over(outcome),
                place,
                ..
            }) = self.entries.pop_front()
            else {
                return;
            };
            let is_failure = !goes_on(&outcome);
            out.push(End {
                job: job.id,
                outcome,
                place,
            });
            if is_failure {
                self.give_back("a message before it failed", true, out);
            }
        }
    }

    /// Gives every job back: what was not written untouched, the rest in doubt. `failed` when a
    /// job before them has failed already.
    pub(super) fn give_back(&mut self, why: &str, mut failed: bool, out: &mut Vec<End>) {
        for Entry {
            job, stage, resent, ..
        } in self.entries.drain(..)
        {
            let outcome = match stage {
                Stage::Over(outcome) if !failed => outcome,
                Stage::Waiting if !job.doubt && resent == 0 => Outcome::NotAttempted,
                _ => Outcome::Ambiguous {
                    why: DeliveryError::ConnectionLost(why.to_owned()),
                },
            };
            failed |= !goes_on(&outcome);
            out.push(End {
                job: job.id,
                outcome,
                place: None,
            });
        }
    }
}

/// Whether what comes after may have been shown too.
fn goes_on(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Shown | Outcome::Park(_) | Outcome::GiveUp(_)
    )
}
