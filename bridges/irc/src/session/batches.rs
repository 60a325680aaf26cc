//! Batches that the server has open (IRCv3 batch): which lines are history, and which are the answer to what.

use std::collections::BTreeMap;

use crate::wire::{Label, Line};

/// More than this at a time is no server's habit; further ones are read as if there were none.
const MAX_OPEN: usize = 64;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Batch {
    /// It replays what was said earlier in this channel.
    pub(super) history_of: Option<String>,
    /// It answers what we sent under this label.
    pub(super) label: Option<Label>,
}

#[derive(Debug, Default)]
pub(super) struct Batches {
    open: BTreeMap<String, Batch>,
}

impl Batches {
    /// Takes a `BATCH` line. Returns the batch that it ends.
    pub(super) fn handle_line(&mut self, line: &Line<'_>) -> Option<Batch> {
        let reference = line.param(0);
        if let Some(ended) = reference.strip_prefix('-') {
            return self.open.remove(ended);
        }
        let (Some(name), true) = (reference.strip_prefix('+'), self.open.len() < MAX_OPEN) else {
            return None;
        };
        // A batch within a batch is what the outer one is, too.
        let outer = self.of(line).cloned();
        let history = matches!(
            line.param(1),
            "chathistory" | "draft/chathistory" | "znc.in/playback"
        );
        let batch = Batch {
            history_of: history
                .then(|| line.param(2).to_owned())
                .or_else(|| outer.as_ref().and_then(|outer| outer.history_of.clone())),
            label: own_label(line).or_else(|| outer.and_then(|outer| outer.label)),
        };
        self.open.insert(name.to_owned(), batch);
        None
    }

    /// Returns the batch that a line is in.
    pub(super) fn of(&self, line: &Line<'_>) -> Option<&Batch> {
        if self.open.is_empty() {
            return None;
        }
        self.open.get(line.tags.get("batch")?)
    }

    /// Returns what a line answers, by its own label or its batch's.
    pub(super) fn label(&self, line: &Line<'_>) -> Option<Label> {
        own_label(line).or_else(|| self.of(line)?.label)
    }
}

fn own_label(line: &Line<'_>) -> Option<Label> {
    line.tags.get("label").and_then(Label::parse)
}
