//! What a room can do, as its disco#info says (XEP-0045 §6.4).

use crate::wire::{Element, child, ns};

/// Features that decide what may be believed and asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Features {
    /// The room strips forged stanza ids and puts its own (XEP-0359 §4): only then they mean anything.
    pub(crate) stanza_ids: bool,
    /// The room strips forged occupant ids and puts its own (XEP-0421 §3).
    pub(crate) occupant_ids: bool,
    /// The room keeps an archive (XEP-0313).
    pub(crate) archive: bool,
}

impl Features {
    pub(super) fn read(iq: &Element) -> Self {
        let mut features = Self::default();
        let query = child(iq, "query", ns::DISCO_INFO);
        for feature in query
            .iter()
            .flat_map(|query| query.children())
            .filter(|child| child.name() == "feature")
        {
            match feature.attr("var") {
                Some(ns::SID) => features.stanza_ids = true,
                Some(ns::OCCUPANT_ID) => features.occupant_ids = true,
                Some(ns::MAM) => {
                    features.archive = true;
                    // XEP-0313 §3.1: an archive of version 2 puts its ids on what it passes on.
                    features.stanza_ids = true;
                }
                _ => {}
            }
        }
        features
    }
}
