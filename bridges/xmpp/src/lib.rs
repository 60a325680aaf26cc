//! The XMPP bridge: a component (XEP-0114) whose occupants are in multi-user chats (XEP-0045).
//!
//! | module | what |
//! |---|---|
//! | `config` | this network's table, typed |
//! | `bridge` | the task: the gateway's link, the connection and the time around the session |
//! | `connection` | one TCP connection: bytes in and out, and whether it is alive |
//! | `deliveries` | deliveries to jobs and back to receipts |
//! | `intake` | what was said, on its way into the journal |
//! | `session` | the protocol as a state machine: rooms, observer, ghosts, queue, archive, catching up; no socket, no clock |
//! | `inbound` | a room's message to what was said |
//! | `outbound` | an event to bodies and stanzas |
//! | `stamp` | times, as stanzas and as people write them |
//! | `ident` | JIDs, nicks, stanza ids |
//! | `wire` | the stream's grammar: a reader that no stranger's stanza can end, and a writer |

mod bridge;
mod config;
mod connection;
mod deliveries;
mod ident;
mod inbound;
mod intake;
mod outbound;
mod session;
mod stamp;
mod wire;

pub use bridge::Xmpp;
