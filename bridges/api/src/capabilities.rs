//! What a channel can show. Data, so that the gateway degrades events in one place.

/// What the channels of a network can show, and how deliveries are handed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// How many deliveries of one channel may be in the bridge's hands at once; at least 1.
    pub window: usize,
    /// True when files travel as such; otherwise the gateway puts a line of text in their place.
    pub files: bool,
    /// True when the network shows edits as edits.
    pub edits: bool,
    /// True when the network can take messages back.
    pub redactions: bool,
    /// True when the network shows reactions.
    pub reactions: bool,
    /// True when opaque payloads are passed on (never opened, never shown in clear).
    pub encrypted: bool,
    /// True when every content type is carried as it is, also unknown ones (another gateway).
    pub everything: bool,
}

impl Default for Capabilities {
    /// One text message at a time.
    fn default() -> Self {
        Capabilities {
            window: 1,
            files: false,
            edits: false,
            redactions: false,
            reactions: false,
            encrypted: false,
            everything: false,
        }
    }
}
