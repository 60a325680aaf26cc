//! Places where a test kills the process: `failpoint::reached("irc.read")`.
//!
//! Without the feature `failpoints` this is nothing at all. With it, the variable `COMITY_FAILPOINT` names one place and what happens there:
//!
//! | value | the process |
//! |---|---|
//! | `irc.read` | aborts when it first gets there |
//! | `irc.read@7` | aborts when it gets there for the seventh time |
//! | `irc.read@7=stop` | stops (SIGSTOP), until it is continued |
//!
//! It says so on standard error first, as `failpoint irc.read@7`, so that a test knows that the place was reached.
//! [`is_set`] asks for faults that are not a death, such as acknowledging too early.

/// The process gets to the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &str) {}

/// True when `COMITY_FAILPOINT` names this place. Never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn is_set(_name: &str) -> bool {
    false
}

#[cfg(feature = "failpoints")]
pub use armed::{is_set, reached};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        /// It happens at this visit, counted from 1.
        at: u64,
        stop: bool,
        visits: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let value = std::env::var("COMITY_FAILPOINT").ok()?;
        let (place, action) = value.split_once('=').unwrap_or((&value, "abort"));
        let (name, at) = place.split_once('@').unwrap_or((place, "1"));
        Some(Armed {
            name: name.to_owned(),
            at: at.parse().ok()?,
            stop: action == "stop",
            visits: AtomicU64::new(0),
        })
    });

    /// The process gets to the place `name`.
    pub fn reached(name: &str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else {
            return;
        };
        if armed.visits.fetch_add(1, Ordering::Relaxed) + 1 != armed.at {
            return;
        }
        eprintln!("failpoint {name}@{}", armed.at);
        if !armed.stop {
            std::process::abort();
        }
        // There is no safe call in the standard library that sends oneself a signal.
        let stopped = std::process::Command::new("kill")
            .args(["-STOP", &std::process::id().to_string()])
            .status();
        if stopped.is_err() {
            std::process::abort();
        }
    }

    /// True when `COMITY_FAILPOINT` names this place.
    pub fn is_set(name: &str) -> bool {
        ARMED.as_ref().is_some_and(|armed| armed.name == name)
    }
}
