//! The gateway: everything but the protocols.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the whole configuration, parsed into types, every problem reported at once |
//! | [`registry`] | the one list of compiled-in bridges |
//! | [`supervisor`] | one task per network |
//! | [`router`] | makes events of reports |
//! | [`journal`] | the rooms' logs: the only part that may say "we have it" |
//! | [`delivery`] | one lane per channel |
//! | [`board`] | what is going on right now |
//! | [`gateway`] | puts these together, starts and stops them in order |
//! | [`http`] | the admin API and the listeners |
//! | [`metrics`] | counters |
//! | `notice` | what the gateway itself says in a room |
//! | `utc` | times as people write them |
//! | [`cli`] | one file per command |

pub mod board;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod gateway;
mod grumbles;
pub mod http;
pub mod journal;
pub mod metrics;
mod notice;
pub mod registry;
pub mod router;
pub mod supervisor;
mod utc;
