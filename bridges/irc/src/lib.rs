//! The IRC bridge of Comity.

mod ident;
mod session;
mod wire;
