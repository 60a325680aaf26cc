//! Shows events: one lane per channel, each a cursor over its room's log.
//!
//! | module | what |
//! |---|---|
//! | `lane` | decides, without clock or disk |
//! | `driver` | the task around it |
//! | `folding` | what edits and redactions do to a message that is still to be shown |
//! | `degrade` | fits an event to what its channel can show |
//! | `budget` | what the lanes of one network share |
//! | `age` | how old things are, whatever the clock does |
//! | `notice` | tells authors what could not be shown |
//!
//! Lanes wait for nobody but their own channel: a slow network delays only itself, and a backlog costs nothing but the log. Lanes of one
//! network take turns while something of theirs is short.
//!
//! # Changes
//!
//! When a message is handed over and the log has edits of it already, it gets the newest text; when it was taken back, it is not shown at
//! all. Those changes are finished with together with the message. A message that may have been shown already is looked for as it was, and its
//! changes follow. What a lane cannot fold it shows by itself, when the message is shown and its native ids are durable, never before. An
//! edit is shown as a new message where the network has no edits or never had the message; redactions and reactions are passed over there, and counted.
//!
//! # Time
//!
//! A delivery that does not succeed for `hold` becomes a dead letter, if the channel has taken nothing at all for an hour, too: only so a clock that was wrong
//! before a restart does no harm. Jumps while the gateway runs change no age. What is older than `stale_after` when its turn comes is not shown; what was
//! written more than `late_after` ago says when.

mod age;
mod budget;
mod degrade;
mod driver;
mod folding;
mod handed;
mod lane;
mod notice;
#[cfg(test)]
mod samples;

pub use budget::Budget;
pub use driver::{Drain, LaneTask, RequestSlot, WINDOW_LIMIT};
pub use notice::Courtesy;
