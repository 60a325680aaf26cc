//! Deliveries of which nobody knows whether they were shown: before one is sent, the channel's history is looked through, where
//! the server has one. What comes after it waits, so that nothing is overtaken.

use std::collections::{BTreeMap, VecDeque};

use comity_bridge::{Event, NativeId};

use super::Planned;
use crate::{
    ident::ChannelName,
    outbound::{Landed, Limits},
    session::{OwnLine, SendLine, Session},
};

#[derive(Default)]
pub(super) struct Doubts {
    /// By channel, for as long as deliveries in doubt come: they all come first.
    channels: BTreeMap<ChannelName, Doubt>,
}

enum Doubt {
    /// The server is asked.
    Asked(VecDeque<Planned>),
    Known(Landed),
    /// It could not say.
    Unknown,
}

/// What can be said about a delivery before it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// It is not in doubt.
    Sure,
    /// What of ours is in the channel is known.
    Found,
    /// It is in doubt, and nothing tells.
    Blind,
}

impl Doubts {
    /// Returns the delivery with what is known, or keeps it until the server has been asked.
    pub(super) fn look(
        &mut self,
        planned: Planned,
        session: &mut Session,
    ) -> Option<(Planned, Look)> {
        if self.channels.is_empty() && !planned.delivery.doubt {
            return Some((planned, Look::Sure));
        }
        let channel = planned.channel.clone();
        match self.channels.get_mut(&channel) {
            Some(Doubt::Asked(waiting)) => {
                waiting.push_back(planned);
                None
            }
            _ if !planned.delivery.doubt => {
                self.channels.remove(&channel);
                Some((planned, Look::Sure))
            }
            Some(Doubt::Known(_)) => Some((planned, Look::Found)),
            Some(Doubt::Unknown) => Some((planned, Look::Blind)),
            None if session.has_history() => {
                session.look_back(&channel, Landed::earliest(&planned.delivery.event));
                let waiting = VecDeque::from([planned]);
                self.channels.insert(channel, Doubt::Asked(waiting));
                None
            }
            None => Some((planned, Look::Blind)),
        }
    }

    /// Takes the answer, and returns what waited for it.
    pub(super) fn handle_answer(
        &mut self,
        channel: &ChannelName,
        found: Option<Vec<OwnLine>>,
    ) -> VecDeque<Planned> {
        let doubt = match found {
            Some(found) => Doubt::Known(Landed::new(found)),
            None => Doubt::Unknown,
        };
        match self.channels.get_mut(channel) {
            Some(asked @ Doubt::Asked(_)) => match std::mem::replace(asked, doubt) {
                Doubt::Asked(waiting) => waiting,
                _ => VecDeque::new(),
            },
            _ => VecDeque::new(),
        }
    }

    /// Takes the lines out that are shown already, and returns the parts that they complete.
    pub(super) fn take_landed(
        &mut self,
        channel: &ChannelName,
        event: &Event,
        lines: &mut Vec<SendLine>,
        limits: Limits,
    ) -> Vec<(u32, Vec<NativeId>)> {
        let Some(Doubt::Known(landed)) = self.channels.get_mut(channel) else {
            return Vec::new();
        };
        let mut parts = Vec::new();
        lines.retain(|line| match landed.take(event, line, limits) {
            Some(ids) => {
                parts.extend(line.completes.map(|part| (part, ids)));
                false
            }
            None => true,
        });
        parts
    }

    /// What is known may no longer be so.
    pub(super) fn stale(&mut self, channel: &ChannelName) {
        if let Some(Doubt::Known(_) | Doubt::Unknown) = self.channels.get(channel) {
            self.channels.remove(channel);
        }
    }

    /// Returns what waited for this channel, which is lost.
    pub(super) fn forget(&mut self, channel: &ChannelName) -> VecDeque<Planned> {
        match self.channels.remove(channel) {
            Some(Doubt::Asked(waiting)) => waiting,
            _ => VecDeque::new(),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.channels
            .values()
            .any(|doubt| matches!(doubt, Doubt::Asked(_)))
    }
}
