//! Edits, redactions and reactions: what they do to a message that is still to be shown, and what becomes of them when the
//! lane reaches them.

use std::sync::Arc;

use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{Capabilities, Content, Event, EventId, NativeId, Refs, Text};

use crate::journal::{ChangeKind, Journal, JournalError, LaneId, Standing};

/// Put before a new text where there are no edits.
const EDITED: &str = "(edited) ";

/// What the changes in the log do to a message.
#[derive(Debug)]
pub(super) enum Folded {
    /// It is shown so, and these changes with it.
    Show(Arc<Event>, Vec<u64>),
    /// It was taken back: neither it nor these changes are shown.
    Cancel(Vec<u64>),
}

/// The message with the newest text that its author gave to it.
pub(super) async fn fold(
    journal: &Journal,
    lane: LaneId,
    event: &Arc<Event>,
) -> Result<Folded, JournalError> {
    let unchanged = || Folded::Show(Arc::clone(event), Vec::new());
    let Content::Message(message) = &event.content else {
        return Ok(unchanged());
    };
    let changes = journal.changes(lane, event.seq..=event.seq).await?;
    if changes
        .iter()
        .any(|change| change.kind == ChangeKind::Redact)
    {
        return Ok(Folded::Cancel(
            changes.iter().map(|change| change.seq).collect(),
        ));
    }
    let edits: Vec<u64> = changes
        .iter()
        .filter(|change| change.kind == ChangeKind::Edit)
        .map(|change| change.seq)
        .collect();
    let Some(newest) = edits.iter().max() else {
        return Ok(unchanged());
    };
    let newest = journal.event_at(lane, *newest).await?;
    let Some(edit) = newest.as_ref().and_then(|logged| logged.event()) else {
        return Ok(unchanged());
    };
    match &edit.content {
        // Nobody gives a new text to what somebody else said.
        Content::Edit(content) if edit.author.id == event.author.id => {
            let mut folded = Event::clone(event);
            folded.content = Content::Message(Message {
                text: content.text.clone(),
                ..message.clone()
            });
            Ok(Folded::Show(Arc::new(folded), edits))
        }
        _ => Ok(unchanged()),
    }
}

/// What an event changes.
pub(super) fn target(content: &Content<EventId>) -> Option<EventId> {
    match content {
        Content::Edit(edit) => Some(edit.target),
        Content::Redact(redact) => Some(redact.target),
        Content::React(react) => Some(react.target),
        _ => None,
    }
}

/// What becomes of a change.
#[derive(Debug)]
pub(super) enum Change {
    Show(Arc<Event>, Refs),
    Pass(&'static str),
}

/// Decides about a change of which the lane knows all that it can know.
pub(super) async fn follow(
    journal: &Journal,
    lane: LaneId,
    event: &Arc<Event>,
    target: EventId,
    can: &Capabilities,
) -> Result<Change, JournalError> {
    // Nobody may see a new text of what nobody may see.
    if matches!(event.content, Content::Edit(_)) && journal.is_taken_back(target).await? {
        return Ok(Change::Pass("taken_back"));
    }
    let ids = match journal.standing(lane, target).await? {
        Standing::Dead => return Ok(of_dead(&event.content)),
        Standing::Origin(id) => vec![id],
        Standing::Shown(ids) => ids,
        // Finished before its turn, so that only its native ids tell.
        Standing::Waiting => journal.native_ids(lane, target).await?,
        Standing::NeverShown => Vec::new(),
    };
    Ok(shown(event, ids, can))
}

/// A retry of the dead letter takes the new text, and shows nothing of what was taken back.
fn of_dead(content: &Content<EventId>) -> Change {
    Change::Pass(match content {
        Content::Edit(_) => "edit_of_dead_letter",
        _ => "target_dead",
    })
}

fn shown(event: &Arc<Event>, ids: Vec<NativeId>, can: &Capabilities) -> Change {
    let able = match &event.content {
        Content::Edit(_) => can.edits,
        Content::Redact(_) => can.redactions,
        _ => can.reactions,
    };
    let known = !ids.is_empty();
    if known && (able || can.everything) {
        return Change::Show(Arc::clone(event), Refs { target: ids });
    }
    match &event.content {
        Content::Edit(edit) => {
            let mut rewritten = Event::clone(event);
            rewritten.content =
                Content::Message(Message::of(MessageKind::Text, edited(&edit.text)));
            Change::Show(Arc::new(rewritten), Refs::default())
        }
        _ if able || can.everything => Change::Pass("target_not_shown"),
        _ => Change::Pass("not_shown_here"),
    }
}

fn edited(text: &Text) -> Text {
    let mut marked = text.clone();
    marked.plain.insert_str(0, EDITED);
    let by = u32::try_from(EDITED.len()).unwrap_or(0);
    for span in &mut marked.spans {
        span.start = span.start.saturating_add(by);
        span.end = span.end.saturating_add(by);
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::samples::event as change;

    const EDIT: &str = r#"{"type":"edit","target":"01JD9V7R0M8Q4Z3W2T6YB5K1NC",
        "text":{"plain":"new","spans":[{"start":0,"end":3,"style":"bold"}]}}"#;
    const REDACT: &str = r#"{"type":"redact","target":"01JD9V7R0M8Q4Z3W2T6YB5K1NC","reason":null}"#;

    #[test]
    fn an_edit_is_shown_as_new_where_it_cannot_be_an_edit() {
        let can = Capabilities {
            edits: true,
            ..Capabilities::default()
        };
        let none = Capabilities::default();
        for (ids, can) in [(vec![], &can), (vec!["1".into()], &none)] {
            let Change::Show(event, refs) = shown(&change(EDIT), ids, can) else {
                panic!("passed over")
            };
            let Content::Message(message) = &event.content else {
                panic!("not a message")
            };
            assert_eq!(message.text.plain, "(edited) new");
            assert_eq!(
                (message.text.spans[0].start, message.text.spans[0].end),
                (9, 12)
            );
            assert_eq!(refs, Refs::default());
        }
        let Change::Show(event, refs) = shown(&change(EDIT), vec!["1".into()], &can) else {
            panic!("passed over")
        };
        assert!(matches!(event.content, Content::Edit(_)));
        assert_eq!(refs.target, ["1".into()]);
    }

    #[test]
    fn a_redaction_goes_only_where_there_is_something_to_take_back() {
        let can = Capabilities {
            redactions: true,
            ..Capabilities::default()
        };
        let show = shown(&change(REDACT), vec!["1".into()], &can);
        assert!(matches!(show, Change::Show(..)));
        let never = shown(&change(REDACT), Vec::new(), &can);
        assert!(matches!(never, Change::Pass("target_not_shown")));
        let unable = shown(&change(REDACT), vec!["1".into()], &Capabilities::default());
        assert!(matches!(unable, Change::Pass("not_shown_here")));
    }
}
