//! What each bridge's test brings: the other end of its wire.

use std::time::Duration;

use async_trait::async_trait;

use super::record::Record;
use crate::bridge::{Bridge, GatewayInfo};
use crate::event::RoomAddress;
use crate::link::{Access, Directory, JoinOptions};
use crate::test_util::harness::{DOMAIN, HttpCaller};

/// What is true of a network. A rule about something that the network does not have passes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The network learns that we have a line (the answer to a push, a counter).
    pub acknowledges: bool,
    /// The network can show the same line twice, and says that it is the same. Then [`FarSide::repeat`] does so.
    pub repeats: bool,
    /// The network shows us our own lines. Then [`FarSide::reflect`] does so.
    pub reflects: bool,
    /// The network recognises a repeated send, or lets us look before we send again.
    pub idempotent: bool,
    /// There is a standing connection, so that a cut is noticed at once. Otherwise it is noticed when something is sent.
    pub standing: bool,
}

/// What a far side may need to make its bridge.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The gateway that the bridge belongs to.
    pub gateway: GatewayInfo,
    /// Calls into the bridge's own endpoints, for this run of the bridge.
    pub http: HttpCaller,
}

/// A scripted server that speaks a bridge's wire. Started, and listening on loopback, before the suite gets it.
#[async_trait]
pub trait FarSide: Send {
    /// What is true of this network.
    fn facts(&self) -> Facts;

    /// Where the server's tasks note what people see.
    fn record(&self) -> &Record;

    /// The network's configured name.
    fn network(&self) -> &str {
        "far"
    }

    /// The native name of the channel that everything happens in.
    fn channel(&self) -> String;

    /// How the channel is joined.
    fn join_options(&self) -> JoinOptions {
        JoinOptions {
            room: RoomAddress::new("rust", DOMAIN).expect("a room name"),
            hosted: false,
            access: Access::Off,
        }
    }

    /// What the bridge can look up.
    fn directory(&self) -> Directory {
        Directory::default()
    }

    /// A bridge that is configured for this server. Called again when a rule starts the bridge a second time: from then
    /// on the new opening counts.
    async fn bridge(&mut self, opening: &Opening) -> Box<dyn Bridge>;

    /// A stranger says a line in the channel, or a text with line breaks where the network has those. Returns when the
    /// network has it, not when the bridge has. A network that keeps what was not acknowledged sends it again by itself.
    async fn say(&mut self, author: &str, text: &str);

    /// The network shows the last said line once more, as the same line. Only if [`Facts::repeats`].
    async fn repeat(&mut self) {}

    /// Sees to it that all lines of ours which people have seen have been shown to us, too. Only if [`Facts::reflects`];
    /// a network that does so by itself has nothing to do here.
    async fn reflect(&mut self) {}

    /// A round trip on the wire: whatever the bridge has sent before it answers has been noted, and whatever was said
    /// has been read by the bridge. Does not count as an acknowledgement.
    async fn settle(&mut self);

    /// Sends what no honest server would: broken syntax, wrong types, huge, truncated, not for us. Returns when the bridge
    /// is past it: after a round trip, or when it has reconnected where the protocol asks for a new connection.
    async fn garbage(&mut self);

    /// Drops every connection, without a farewell. New ones are welcome.
    async fn cut(&mut self);

    /// From now on the server reads nothing and answers nothing, with its connections open.
    async fn hold(&mut self);

    /// Reads and answers again, also what came in meanwhile.
    async fn release(&mut self);

    /// Texts that would make the network show a line `says` of its own if a text could break out of the place that the
    /// wire has for it: end the line, the element, the string. The more, the better.
    fn injections(&self, says: &str) -> Vec<String> {
        vec![format!("\r\n{says}")]
    }

    /// How long a rule waits for one thing.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}
