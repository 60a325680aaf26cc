//! The lines that were written and are not proved yet, oldest first.

use std::collections::{BTreeMap, VecDeque};

use super::{Complaint, SendId};
use crate::ident::ChannelName;

#[derive(Debug, Default)]
pub(super) struct Window {
    written: VecDeque<Written>,
    /// The number of the oldest. Numbers are the lines' labels.
    first: u64,
    /// Ids of lines that do not complete their part.
    ids: BTreeMap<SendId, Vec<String>>,
    /// Submissions whose last line is still in here, and of which a part is shown.
    shown: Vec<SendId>,
}

#[derive(Debug)]
pub(super) struct Written {
    pub(super) id: SendId,
    pub(super) channel: ChannelName,
    /// False for a submission without lines, which only waits for those before it.
    pub(super) line: bool,
    /// Its submission is over already: an earlier line was refused.
    pub(super) void: bool,
    pub(super) completes: Option<u32>,
    pub(super) last: bool,
    pub(super) verdict: Option<Verdict>,
}

/// The server's own answer to a line.
#[derive(Debug)]
pub(super) enum Verdict {
    Shown(Option<String>),
    Refused(Complaint),
}

impl Window {
    /// Adds a line and returns its number.
    pub(super) fn push(&mut self, written: Written) -> u64 {
        self.written.push_back(written);
        self.end() - 1
    }

    /// The number that the next line will get.
    pub(super) fn end(&self) -> u64 {
        self.first + self.written.len() as u64
    }

    pub(super) fn pop(&mut self) -> Option<Written> {
        let written = self.written.pop_front()?;
        self.first += 1;
        Some(written)
    }

    pub(super) fn pop_before(&mut self, number: u64) -> Option<Written> {
        (self.first < number).then(|| self.pop()).flatten()
    }

    /// Takes out the oldest, if there is nothing left to learn about it.
    pub(super) fn pop_decided(&mut self) -> Option<Written> {
        let front = self.written.front()?;
        (front.verdict.is_some() || front.void || !front.line)
            .then(|| self.pop())
            .flatten()
    }

    /// Notes the answer to the line with this number. The first answer counts.
    pub(super) fn decide(&mut self, number: u64, verdict: Verdict) {
        let at = number
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(written) = at.and_then(|at| self.written.get_mut(at))
            && written.verdict.is_none()
        {
            written.verdict = Some(verdict);
        }
    }

    pub(super) fn has_id(&self, id: SendId) -> bool {
        self.written.iter().any(|written| written.id == id)
    }

    pub(super) fn has_channel(&self, channel: &ChannelName) -> bool {
        self.written
            .iter()
            .any(|written| written.channel == *channel)
    }

    pub(super) fn lines_of(&self, channel: &ChannelName) -> usize {
        self.lines_before(channel, u64::MAX)
    }

    pub(super) fn lines_before(&self, channel: &ChannelName, number: u64) -> usize {
        let count = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let lines = self.written.iter().take(count);
        lines
            .filter(|written| written.line && written.channel == *channel)
            .count()
    }

    /// Gathers the ids of a part's lines, until the last of them.
    pub(super) fn collect_ids(
        &mut self,
        id: SendId,
        native: Option<String>,
        complete: bool,
    ) -> Vec<String> {
        if !complete {
            self.ids.entry(id).or_default().extend(native);
            return Vec::new();
        }
        let mut ids = match self.ids.is_empty() {
            true => Vec::new(),
            false => self.ids.remove(&id).unwrap_or_default(),
        };
        ids.extend(native);
        ids
    }

    pub(super) fn note_shown(&mut self, id: SendId) {
        if !self.shown.contains(&id) {
            self.shown.push(id);
        }
        let written = &self.written;
        self.shown
            .retain(|shown| written.iter().any(|written| written.id == *shown));
    }

    /// Its submission is over. Tells whether a part of it is shown.
    pub(super) fn make_void(&mut self, id: SendId) -> bool {
        self.ids.remove(&id);
        for written in self.written.iter_mut().filter(|written| written.id == id) {
            written.void = true;
        }
        self.shown.contains(&id)
    }
}
