//! Places where a test harms the process: `failpoint::reached("irc.read")`.
//!
//! Without the feature `failpoints` this is nothing at all. With it, the variable `COMITY_FAILPOINT` names one place and what happens there:
//!
//! | value | the process |
//! |---|---|
//! | `irc.read` | aborts when it first gets there |
//! | `irc.read@7` | aborts when it gets there for the seventh time |
//! | `irc.read@7=stop` | stops (SIGSTOP), until it is continued |
//! | `irc.handed=panic:word` | panics there, each time with something in hand that has the word ([`handed`]) |
//!
//! It says so on standard error first, as `failpoint irc.read@7`, so that a test knows that the place was reached.
//! [`is_set`] asks for faults that are not a death, such as acknowledging too early.
//!
//! `COMITY_CLOCK` names a file with a number of seconds, by which this process takes the machine's clock to be wrong from now on. A test that changes
//! the number makes the clock jump, and harms nobody else on the machine.

use crate::event::Event;

/// The process gets to the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &str) {}

/// The process gets to the place `name` with this event in hand.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn handed(_name: &str, _event: &Event) {}

/// True when `COMITY_FAILPOINT` names this place. Never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn is_set(_name: &str) -> bool {
    false
}

/// By how many milliseconds the machine's clock is taken to be wrong. Never without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn clock_offset() -> i64 {
    0
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::clock_offset;
#[cfg(feature = "failpoints")]
pub use armed::{handed, is_set, reached};

#[cfg(feature = "failpoints")]
mod armed {
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Event;

    enum Action {
        Abort,
        Stop,
        /// Whenever this word is in hand.
        Panic(String),
    }

    struct Armed {
        name: String,
        /// It happens at this visit, counted from 1.
        at: u64,
        action: Action,
        visits: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let value = std::env::var("COMITY_FAILPOINT").ok()?;
        let (place, action) = value.split_once('=').unwrap_or((&value, "abort"));
        let (name, at) = place.split_once('@').unwrap_or((place, "1"));
        Some(Armed {
            name: name.to_owned(),
            at: at.parse().ok()?,
            action: match action.split_once(':') {
                Some(("panic", word)) => Action::Panic(word.to_owned()),
                _ if action == "stop" => Action::Stop,
                _ => Action::Abort,
            },
            visits: AtomicU64::new(0),
        })
    });

    fn armed(name: &str) -> Option<&'static Armed> {
        ARMED.as_ref().filter(|armed| armed.name == name)
    }

    /// The process gets to the place `name`.
    pub fn reached(name: &str) {
        let Some(armed) = armed(name) else {
            return;
        };
        if matches!(armed.action, Action::Panic(_))
            || armed.visits.fetch_add(1, Ordering::Relaxed) + 1 != armed.at
        {
            return;
        }
        eprintln!("failpoint {name}@{}", armed.at);
        if !matches!(armed.action, Action::Stop) {
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

    /// The process gets to the place `name` with this event in hand.
    pub fn handed(name: &str, event: &Event) {
        reached(name);
        if let Some(Action::Panic(word)) = armed(name).map(|armed| &armed.action)
            && serde_json::to_string(event).is_ok_and(|event| event.contains(word))
        {
            panic!("failpoint {name}: {word} is in hand");
        }
    }

    /// True when `COMITY_FAILPOINT` names this place.
    pub fn is_set(name: &str) -> bool {
        armed(name).is_some()
    }

    /// By how many milliseconds the machine's clock is taken to be wrong.
    pub(crate) fn clock_offset() -> i64 {
        static FILE: LazyLock<Option<PathBuf>> =
            LazyLock::new(|| std::env::var_os("COMITY_CLOCK").map(PathBuf::from));
        let seconds = |file: &PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
        let seconds: i64 = FILE.as_ref().and_then(seconds).unwrap_or_default();
        seconds.saturating_mul(1000)
    }
}
