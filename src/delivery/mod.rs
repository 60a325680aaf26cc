//! Shows events: one lane per channel, each a cursor over its room's log.
//!
//! `lane` decides, without clock or disk; `driver` is the task around it; `degrade` fits an event to what its channel
//! can show. Lanes wait for nobody but their own channel: a slow network delays only itself, and a backlog
//! costs nothing but the log.

mod degrade;
mod driver;
mod lane;

pub use driver::{Drain, LaneTask, RequestSlot, WINDOW_LIMIT};
