//! placeholder
pub mod ident;
pub mod wire;
