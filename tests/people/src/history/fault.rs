//! What must not happen to a conversation, in words that can be read without a debugger.

use std::{collections::BTreeMap, fmt};

/// Something that must not happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A line never arrived.
    Lost { observer: String, token: String },
    /// A line arrived more than once.
    Doubled {
        observer: String,
        token: String,
        times: usize,
    },
    /// Two lines of one speaker arrived the wrong way round.
    Reordered {
        observer: String,
        first: String,
        second: String,
    },
    /// Two people saw the lines of a room in different orders.
    Diverged {
        observers: [String; 2],
        first: String,
        second: String,
    },
    /// A line with this run's mark that nobody said, or whose words were changed.
    Phantom { observer: String, text: String },
    /// A speaker's own line came back to them.
    Echoed { speaker: String, token: String },
    /// A line arrived without its speaker's name.
    Nameless { observer: String, shown: String },
    /// A `/me` arrived as words, or words as a `/me`.
    Kind { observer: String, shown: String },
    /// A line went round: there are copies too many on several networks, or it came back to its
    /// own more than once.
    Looped {
        token: String,
        networks: Vec<String>,
    },
    /// An edit, or another change, arrived before the line that it changes.
    EarlyEdit {
        observer: String,
        edit: String,
        of: String,
    },
    /// A change is on a line that nobody changed so.
    Misplaced {
        observer: String,
        change: String,
        on: String,
    },
    /// A line has a newer text than the one that is shown in the end.
    Stale {
        observer: String,
        token: String,
        shown: String,
    },
    /// A line was taken back and is there in the end.
    Visible { observer: String, token: String },
    /// A reaction is there in the end and should not be, or the other way round.
    Reaction {
        observer: String,
        token: String,
        reaction: String,
        wanted: bool,
    },
}

impl Fault {
    /// One word for counting and for tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "lost",
            Self::Doubled { .. } => "doubled",
            Self::Reordered { .. } => "reordered",
            Self::Diverged { .. } => "diverged",
            Self::Phantom { .. } => "phantom",
            Self::Echoed { .. } => "echoed",
            Self::Nameless { .. } => "nameless",
            Self::Kind { .. } => "kind",
            Self::Looped { .. } => "looped",
            Self::EarlyEdit { .. } => "early edit",
            Self::Misplaced { .. } => "misplaced",
            Self::Stale { .. } => "stale",
            Self::Visible { .. } => "visible",
            Self::Reaction { .. } => "reaction",
        }
    }
}

/// The faults in a few lines: how many of each kind, and the first ones in words.
pub fn report(faults: &[Fault]) -> String {
    const SHOWN: usize = 12;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.kind()).or_default() += 1;
    }
    let mut text = String::new();
    for (kind, count) in counts {
        text.push_str(&format!("{count} {kind}, "));
    }
    text.push_str(&format!("{} in all", faults.len()));
    for fault in faults.iter().take(SHOWN) {
        text.push_str(&format!("\n    {fault}"));
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { observer, token } => write!(f, "{observer} never saw {token}"),
            Self::Doubled {
                observer,
                token,
                times,
            } => write!(f, "{observer} saw {token} {times} times"),
            Self::Reordered {
                observer,
                first,
                second,
            } => write!(f, "{observer} saw {second} before {first}"),
            Self::Diverged {
                observers: [one, other],
                first,
                second,
            } => {
                write!(f, "{one} saw {first} before {second}, {other} after it")
            }
            Self::Phantom { observer, text } => {
                write!(f, "{observer} saw what nobody said: {text}")
            }
            Self::Echoed { speaker, token } => write!(f, "{speaker} got {token} back"),
            Self::Nameless { observer, shown } => {
                write!(f, "{observer} cannot tell who said it: {shown}")
            }
            Self::Kind { observer, shown } => {
                write!(
                    f,
                    "{observer} saw a /me as words or words as a /me: {shown}"
                )
            }
            Self::Looped { token, networks } => {
                write!(f, "{token} went round through {}", networks.join(", "))
            }
            Self::EarlyEdit { observer, edit, of } => {
                write!(f, "{observer} saw {edit} before {of}, which it edits")
            }
            Self::Misplaced {
                observer,
                change,
                on,
            } => write!(f, "{observer} sees {change} on {on}, and nobody did that"),
            Self::Stale {
                observer,
                token,
                shown,
            } => write!(
                f,
                "{observer} is left with {shown} of {token}, which has a newer text"
            ),
            Self::Visible { observer, token } => {
                write!(f, "{observer} still sees {token}, which was taken back")
            }
            Self::Reaction {
                observer,
                token,
                reaction,
                wanted: true,
            } => write!(f, "{observer} does not see {reaction} on {token}"),
            Self::Reaction {
                observer,
                token,
                reaction,
                wanted: false,
            } => write!(
                f,
                "{observer} still sees {reaction} on {token}, which was taken off"
            ),
        }
    }
}
