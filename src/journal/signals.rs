//! Wakes lanes when somebody asked for something out of turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::LaneId;

/// One signal for each lane that was ever asked about. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Signals(Arc<Mutex<HashMap<LaneId, Arc<Notify>>>>);

impl Signals {
    /// The lane's own.
    pub(super) fn of(&self, lane: LaneId) -> Arc<Notify> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane).or_default())
    }
}
