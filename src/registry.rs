//! The one list of compiled-in bridges.
//!
//! A protocol is here or it does not exist for this build; nothing registers itself from elsewhere.

use comity_bridge::BridgeKind;

/// The bridges of this build.
pub fn kinds() -> &'static [&'static dyn BridgeKind] {
    &[
        #[cfg(feature = "irc")]
        &comity_irc::Irc,
        #[cfg(feature = "xmpp")]
        &comity_xmpp::Xmpp,
        #[cfg(feature = "matrix")]
        &comity_matrix::Matrix,
        #[cfg(feature = "federation")]
        &comity_federation::Federation,
    ]
}

/// Every protocol that there is a bridge for, compiled in or not. Each has a cargo feature of the same name.
pub const PROTOCOLS: &[&str] = &["irc", "xmpp", "matrix", "federation"];
