//! The gateway's core between scripted networks, killed and started again until everything is
//! through; then the checker of `comity-people` says what was lost, doubled or out of order.
//!
//! [`kills`] kills at random moments; [`places`] at chosen places of the code, which needs the
//! feature `failpoints`. `COMITY_SEED` and `COMITY_KILLS` set the seed and the number of kills.

mod changes;
#[cfg(feature = "failpoints")]
mod harms;
mod kills;
mod life;
mod numbers;
#[cfg(feature = "failpoints")]
mod places;
