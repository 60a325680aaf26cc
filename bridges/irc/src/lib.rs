//! The IRC bridge of Comity: one connection per network that speaks for everybody and names each
//! author on every line.
//!
//! | module | what |
//! |---|---|
//! | `config` | a network's table, typed |
//! | `bridge` | the task of a network: connect, reconnect, answer the gateway |
//! | `connection`, `writer` | socket, timers and requests around one session |
//! | `session` | the protocol as a state machine: registration, nick, channels, fences |
//! | `inbound`, `intake` | what was heard, as reports; their way into the journal |
//! | `memory` | how far each channel was heard, and when we were last there |
//! | `outbound`, `deliveries` | events as lines; deliveries from the request to the receipt |
//! | `ident` | channel names and case mappings |
//! | `wire` | the grammar |

mod bridge;
mod config;
mod connection;
mod deliveries;
mod ident;
mod inbound;
mod intake;
mod memory;
mod outbound;
mod session;
mod wire;
mod writer;

pub use bridge::Irc;
