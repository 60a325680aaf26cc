//! The harness as a whole lane: several lines within the window, retried as the gateway would.

use std::collections::VecDeque;
use std::time::Duration;

use thiserror::Error;

use super::deliveries::{event, message};
use super::{DeliveryHandle, Harness, TimedOut};
use crate::delivery::Outcome;
use crate::event::{Channel, Event, MessageKind};

/// How often one line is tried, with the channel joined each time.
const ATTEMPTS: u32 = 20;

/// Longer pauses that a bridge asks for are cut to this, since tests have no time.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The gateway pauses between attempts as well; a bridge that is still losing its connection has time to say so.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// Something that someone elsewhere says.
#[derive(Clone, Debug)]
pub struct Line {
    /// Who.
    pub author: String,
    /// What.
    pub text: String,
    /// How.
    pub kind: MessageKind,
}

impl Line {
    /// A plain line.
    pub fn new(author: impl Into<String>, text: impl Into<String>) -> Self {
        Line {
            author: author.into(),
            text: text.into(),
            kind: MessageKind::Text,
        }
    }
}

/// Why a line was not shown.
#[derive(Clone, Debug, Error)]
pub enum NotShown {
    /// The bridge took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The bridge parked it or gave it up.
    #[error("{text:?} was not shown: {outcome:?}")]
    Refused {
        /// What should have been shown.
        text: String,
        /// What the bridge said.
        outcome: Outcome,
    },
    /// The bridge dropped the delivery.
    #[error("the delivery of {0:?} was dropped")]
    Dropped(String),
    /// It was tried too often.
    #[error("{text:?} was not shown after {ATTEMPTS} attempts, the last outcome was {outcome:?}")]
    TooOften {
        /// What should have been shown.
        text: String,
        /// What the bridge said last.
        outcome: Outcome,
    },
}

struct Queued {
    event: Event,
    text: String,
    attempt: u32,
    before: Option<(DeliveryHandle, bool)>,
}

impl Harness {
    /// Has these lines shown in a channel as a lane does: in order, within the bridge's window, only while the channel
    /// is joined, and again after `Retry`, `Ambiguous` (with doubt) and `NotAttempted`.
    pub async fn show(&self, channel: &Channel, lines: Vec<Line>) -> Result<(), NotShown> {
        let mut waiting: VecDeque<Queued> = lines
            .into_iter()
            .map(|line| Queued {
                event: event(&line.author, message(&line.text, line.kind)),
                text: line.text,
                attempt: 0,
                before: None,
            })
            .collect();
        let mut handed: VecDeque<(Queued, DeliveryHandle)> = VecDeque::new();
        loop {
            while handed.len() < self.window()
                && let Some(mut next) = waiting.pop_front()
            {
                self.try_wait_for(&format!("{channel} to be joined"), |seen| {
                    (seen.online && seen.joined.contains(channel)).then_some(())
                })
                .await?;
                next.attempt += 1;
                let handle = match &next.before {
                    None => self.try_deliver_event(channel, next.event.clone()).await?,
                    Some((before, doubt)) => {
                        self.try_deliver_again(before, *doubt, before.plan())
                            .await?
                    }
                };
                handed.push_back((next, handle));
            }
            let Some((first, handle)) = handed.pop_front() else {
                return Ok(());
            };
            let outcome = handle
                .try_outcome()
                .await?
                .ok_or_else(|| NotShown::Dropped(first.text.clone()))?;
            let (doubt, pause) = match outcome {
                Outcome::Shown => continue,
                Outcome::Park(_) | Outcome::GiveUp(_) => {
                    return Err(NotShown::Refused {
                        text: first.text,
                        outcome,
                    });
                }
                _ if first.attempt >= ATTEMPTS => {
                    return Err(NotShown::TooOften {
                        text: first.text,
                        outcome,
                    });
                }
                Outcome::NotAttempted => (false, SHORT_PAUSE),
                Outcome::Retry { after, .. } => (false, after.max(SHORT_PAUSE)),
                Outcome::Ambiguous { .. } => (true, SHORT_PAUSE),
            };
            // The rest of the window has come back too, or is about to: all of it again, in order.
            let mut again = vec![requeue(first, handle, doubt)];
            for (later, handle) in handed.drain(..) {
                match handle.try_outcome().await? {
                    Some(Outcome::Shown) => {}
                    Some(Outcome::Ambiguous { .. }) => again.push(requeue(later, handle, true)),
                    Some(Outcome::NotAttempted | Outcome::Retry { .. }) => {
                        again.push(requeue(later, handle, false));
                    }
                    Some(outcome) => {
                        return Err(NotShown::Refused {
                            text: later.text,
                            outcome,
                        });
                    }
                    None => return Err(NotShown::Dropped(later.text)),
                }
            }
            for queued in again.into_iter().rev() {
                waiting.push_front(queued);
            }
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        }
    }

    /// How many deliveries of one channel the bridge takes at once.
    pub fn window(&self) -> usize {
        self.seen(|seen| seen.capabilities.as_ref().map_or(1, |c| c.window.max(1)))
    }
}

fn requeue(mut queued: Queued, handle: DeliveryHandle, doubt: bool) -> Queued {
    // Once in doubt, always in doubt: a later attempt that was not made has cleared nothing up.
    let doubt = doubt || queued.before.is_some_and(|(_, doubt)| doubt);
    queued.before = Some((handle, doubt));
    queued
}
