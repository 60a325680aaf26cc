//! What tests of bridges and of the gateway share. Compiled with the feature `test-util` only; never part of a
//! daemon.
//!
//! | module | what |
//! |---|---|
//! | [`harness`] | the gateway's side of one [`Link`](crate::Link), in memory |
//! | [`conformance`] | the rules of the contract, for every bridge over its wire |
//! | [`scripted`] | a network in memory and a bridge to it, with one fault on purpose or none |

pub mod conformance;
pub mod harness;
pub mod scripted;

pub use harness::{DeliveryHandle, Harness, HttpCaller, Told};
