//! Whose fault it is.

use std::time::Duration;

use thiserror::Error;

/// The network is lost, as far as the bridge can tell.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum BridgeError {
    /// The connection ended. Usual causes: the network's server or the path to it.
    #[error("disconnected: {0}")]
    Disconnected(String),
    /// The network does not let us in: a wrong secret, a ban, a name that is taken for good.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side broke its protocol's rules.
    #[error("the other side broke the protocol: {0}")]
    PeerMisbehaved(String),
    /// The other side follows rules, but none that we share.
    #[error("nothing in common with the other side: {0}")]
    Incompatible(String),
    /// This machine failed: disk, descriptors, memory.
    #[error("this machine failed: {0}")]
    Local(String),
}

impl BridgeError {
    /// True when trying again may help. Errs towards true: permanent only when a configuration change is certainly needed.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, BridgeError::Incompatible(_))
    }
}

/// One event could not be shown in one channel.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DeliveryError {
    /// We are not in the channel.
    #[error("not in the channel: {0}")]
    NotJoined(String),
    /// Longer than the channel can take, even in parts.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The channel does not let us speak.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// What it refers to is not there.
    #[error("the message that it refers to is gone")]
    TargetGone,
    /// The network asks us to wait.
    #[error("rate limited for {0:?}")]
    RateLimited(Duration),
    /// The connection ended or did not answer in time.
    #[error("connection lost: {0}")]
    ConnectionLost(String),
    /// The other side refuses it for a reason of its own.
    #[error("rejected: {0}")]
    Rejected(String),
    /// This bridge does not carry it.
    #[error("not carried by this bridge: {0}")]
    Unsupported(String),
    /// The bridge died with it in hand, too often.
    #[error("the bridge died with it in hand {0} times")]
    Poison(u32),
    /// It was tried for as long as the configuration allows; with what went wrong last.
    #[error("held too long: {0}")]
    HeldTooLong(String),
    /// When its turn came it was older than what the configuration allows.
    #[error("too old to show")]
    TooOld,
    /// What it needs in the journal, or in the bridge's own store, cannot be read any more.
    #[error("damaged in this gateway's store: {0}")]
    Damaged(String),
}

impl DeliveryError {
    /// A word for counters.
    pub fn reason(&self) -> &'static str {
        match self {
            DeliveryError::NotJoined(_) => "not_joined",
            DeliveryError::TooLarge(_) => "too_large",
            DeliveryError::Forbidden(_) => "forbidden",
            DeliveryError::TargetGone => "target_gone",
            DeliveryError::RateLimited(_) => "rate_limited",
            DeliveryError::ConnectionLost(_) => "connection_lost",
            DeliveryError::Rejected(_) => "rejected",
            DeliveryError::Unsupported(_) => "unsupported",
            DeliveryError::Poison(_) => "poison",
            DeliveryError::HeldTooLong(_) => "held_too_long",
            DeliveryError::TooOld => "too_old",
            DeliveryError::Damaged(_) => "damaged",
        }
    }
}
