//! What several bridges need of the network: dialling, TLS, names, and the guard against being sent to places where a
//! stranger must not send us.
//!
//! One TLS stack (rustls on aws-lc-rs) and one resolver (hickory) for whatever is looked up by the protocols
//! themselves. Host names that an operator wrote down are resolved as the machine does it.

pub mod backoff;
pub mod dial;
pub mod guard;
pub mod resolver;
pub mod srv;
pub mod tls;

pub use backoff::Backoff;
pub use dial::dial;
