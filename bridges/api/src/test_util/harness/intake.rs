//! The harness as the journal: what a bridge reports comes here.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::seen::{Taken, Told};
use super::{Shared, State, lock};
use crate::capabilities::Capabilities;
use crate::event::{Channel, NetworkName};
use crate::report::{
    Answer, Batch, ChannelState, Incoming, Intake, NetworkStatus, Refusal, Remembered, Skip,
    Verdict,
};

#[async_trait]
impl Intake for Shared {
    async fn commit(&self, _network: &NetworkName, batch: Batch) -> Answer {
        self.hang_while_frozen().await;
        self.change(|state| {
            if state.busy > 0 {
                state.busy -= 1;
                state.seen.busy_answers += 1;
                return Answer::Busy;
            }
            state.commit(batch)
        })
    }

    fn skip(&self, _network: &NetworkName, skip: Skip) {
        self.change(|state| state.seen.skips.push(skip));
    }

    fn network(&self, _network: &NetworkName, status: NetworkStatus) {
        self.change(|state| {
            state.seen.online = status == NetworkStatus::Online;
            if !state.seen.online {
                state.seen.joined.clear();
            }
            state.seen.told.push(Told::Network(status));
        });
    }

    fn channel(&self, channel: &Channel, status: ChannelState) {
        self.change(|state| {
            if status == ChannelState::Joined {
                state.seen.joined.insert(channel.clone());
            } else {
                state.seen.joined.remove(channel);
            }
            state.seen.told.push(Told::Channel(channel.clone(), status));
        });
    }

    fn capabilities(&self, _network: &NetworkName, capabilities: Capabilities) {
        self.change(|state| {
            state.seen.capabilities = Some(capabilities.clone());
            state.seen.told.push(Told::Capabilities(capabilities));
        });
    }

    async fn remembered(&self, _network: &NetworkName) -> Remembered {
        lock(&self.state).seen.remembered.clone()
    }
}

impl Shared {
    /// Returns when the journal is not frozen. A bridge may also give up waiting: the count must not keep it.
    async fn hang_while_frozen(&self) {
        if !lock(&self.state).frozen {
            return;
        }
        self.change(|state| state.seen.hanging_commits += 1);
        let _count = OneLess(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !lock(&self.state).frozen {
                return;
            }
            changed.await;
        }
    }
}

struct OneLess<'a>(&'a Shared);

impl Drop for OneLess<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.seen.hanging_commits -= 1);
    }
}

impl State {
    fn commit(&mut self, batch: Batch) -> Answer {
        let verdicts = batch
            .incoming
            .iter()
            .map(|incoming| self.take(incoming))
            .collect();
        if let Some(cursor) = &batch.cursor {
            self.seen.remembered.cursor = Some(cursor.clone());
        }
        write(&mut self.seen.remembered.writes, &batch.writes);
        self.seen.batches.push(batch);
        Answer::Committed(verdicts)
    }

    fn take(&mut self, incoming: &Incoming) -> Verdict {
        if incoming.own.is_some() {
            self.seen.echoes.push(incoming.clone());
            return Verdict::Receipt;
        }
        if incoming.content.is_ephemeral() {
            return Verdict::Refused(Refusal::Ephemeral);
        }
        let known = self.seen.events.iter().find(|taken| {
            taken.incoming.channel == incoming.channel
                && taken.incoming.source_id == incoming.source_id
        });
        if let Some(known) = known {
            let event = known.event;
            self.seen.duplicates.push(incoming.clone());
            return Verdict::Duplicate(event);
        }
        let event = super::deliveries::next_event_id();
        self.seen.events.push(Taken {
            event,
            incoming: incoming.clone(),
        });
        Verdict::Accepted(event)
    }
}

fn write(kept: &mut BTreeMap<String, String>, writes: &[(String, String)]) {
    for (key, value) in writes {
        if value.is_empty() {
            kept.remove(key);
        } else {
            kept.insert(key.clone(), value.clone());
        }
    }
}
