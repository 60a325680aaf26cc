//! The seams between the gateway and its bridges: the event model and the contract.
//!
//! Nothing in this crate opens a socket, and nothing in it names a protocol. It reads one kind of file, the secrets that
//! a network's table names ([`config_table`]), and runs one program, `kill`, where a test has set a [`failpoint`]. A bridge
//! depends on this crate (and on `comity-net` for dialling) and on nothing else of the gateway, so that
//! everything a bridge may do is visible in its [`Link`].
//!
//! # Inbound
//!
//! A bridge reports what happened on its network as a [`Batch`]: [`Incoming`] items, a cursor, and
//! the bridge's own small writes. Events, cursor and writes commit in one transaction; only then
//! comes [`Answer::Committed`], and only then may the bridge acknowledge upstream.
//! [`Answer::Busy`] means: keep it, ask again, and let upstream wait in its own way.
//!
//! # Outbound
//!
//! The gateway hands over a [`Delivery`]: one event for one channel, already fitted to the
//! channel's [`Capabilities`]. The bridge splits it into parts, says so with
//! [`Receipts::plan`] before the first byte, reports each part as it lands, and ends with one
//! [`Outcome`]. Deliveries of one channel complete as a prefix of the order in which they were handed over.
//!
//! # Modules
//!
//! | module | what |
//! |---|---|
//! | [`event`] | the event model, version 1 |
//! | [`bridge`] | what a protocol and a network are: [`BridgeKind`], [`Bridge`] |
//! | [`link`] | what a running bridge may touch: [`Link`], [`Request`], [`Env`] |
//! | [`report`] | inbound: [`Batch`], [`Incoming`], [`Reports`] |
//! | [`delivery`] | outbound: [`Delivery`], [`Receipts`], [`Outcome`] |
//! | [`capabilities`] | what a channel can show |
//! | [`config_table`] | one network's configuration, read with every problem collected |
//! | [`error`] | why a network is lost, why an event cannot be shown |
//! | [`failpoint`] | places where a test harms the process |
//! | [`http_inbox`] | HTTP that a bridge answers, on listeners which the gateway owns |
//! | `test_util` | a scripted bridge and the conformance suite (feature `test-util`) |

#![warn(missing_docs)]

pub mod bridge;
pub mod capabilities;
pub mod config_table;
pub mod delivery;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod http_inbox;
pub mod link;
pub mod report;
#[cfg(feature = "test-util")]
pub mod test_util;

pub use bridge::{Bridge, BridgeKind, GatewayInfo, Verb};
pub use capabilities::Capabilities;
pub use config_table::{ConfigProblem, ConfigTable};
pub use delivery::{Delivery, Outcome, Plan, Receipts, Refs};
pub use error::{BridgeError, DeliveryError};
pub use event::{
    Author, Channel, Content, DeliveryKey, Event, EventId, NativeId, NativeRef, NetworkName,
    Origin, RoomAddress, SourceId, Text, Timestamp, UserAddress,
};
pub use http_inbox::{Endpoint, HttpExchange, Listener};
pub use link::{Access, Clock, Directory, Env, JoinOptions, Link, Request};
pub use report::{
    Answer, Batch, ChannelState, Cursor, Gap, Incoming, Intake, NativeAuthor, NetworkStatus,
    Refusal, Remembered, Reports, Skip, Verdict,
};
