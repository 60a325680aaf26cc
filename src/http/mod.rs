//! Owns the listeners.

pub mod tls;
