//! The IRC bridge of Comity: one connection per network that speaks for everybody and names each
//! author on every line.
//!
//! | module | what |
//! |---|---|
//! | `config` | a network's table, typed |
//! | `bridge` | the task of a network: connect, reconnect, answer the gateway |
//! | `connection` | socket, timers and requests around one session |
//! | `session` | the protocol as a state machine: registration, nick, channels, fences |
//! | `inbound`, `intake` | what was heard, as reports; their way into the journal |
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
mod outbound;
mod session;
mod wire;

pub use bridge::Irc;
