//! People with clients of their own, for the black box tests and the demo.
//!
//! Nothing here shares code with the bridges: what a person sees is what any user of a stock
//! client would see. [`Irc`], [`Xmpp`] and [`Matrix`] are the people; [`Lab`] knows the real
//! servers, [`Gateway`] runs the daemon under test, [`world`] puts two gateways and four people
//! together, [`history`] judges what everyone saw.

pub mod disk;
pub mod gate;
pub mod gateway;
pub mod history;
pub mod lab;
pub mod metrics;
pub mod person;
pub mod ports;
pub mod slots;
pub mod talk;
pub mod transcript;
pub mod world;

mod irc;
mod matrix;
mod xmpp;

pub use reqwest;
pub use tokio_xmpp::minidom;

pub use gate::{Direction, Gate, Weather};
pub use gateway::{Gateway, GatewayPlan, Room};
pub use irc::Irc;
pub use lab::Lab;
pub use matrix::{Matrix, MatrixAccount};
pub use person::{Line, Person};
pub use talk::Talk;
pub use transcript::{Heard, Transcript};
pub use world::{World, WorldPlan};
pub use xmpp::{Xmpp, XmppAccount};
