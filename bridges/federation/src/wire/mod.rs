//! The grammar of the federation: what its bytes mean, and nothing else.
//!
//! Nothing here knows a room, a peer or a clock. Whatever is parsed here came from a stranger:
//! no function panics, and each says with an error of its own what was wrong.

pub mod api;
pub mod event;
pub mod json;
pub mod keys;
pub mod requests;
pub mod sign;

#[cfg(test)]
mod fuzz;
