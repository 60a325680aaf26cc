//! Which places there are: the crash matrix as data.
//!
//! The exceptions of the contract are the same at each place, since they follow from what the networks keep, and whoever dies for the sake of one
//! network dies on all: an IRC server cannot be asked what has arrived, so lines that were under way to it may be shown again; a plain one
//! keeps nothing either, so lines said there while the gateway is away may be lost. Everything else arrives once, in order.
//!
//! The core's own steps (3, 10, 12, 13, 16) are in `tests/core/places.rs`.

use Victim::{Guest, Host, Inspircd, Ngircd, Prosody, Synapse};

/// Whose gateway dies, and for which of its networks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Victim {
    /// The first gateway, for its plain IRC network.
    Ngircd,
    /// The second gateway, for its IRC network with labels, echoes and a history.
    Inspircd,
    /// The first gateway, for its XMPP network.
    Prosody,
    /// The first gateway, for its Matrix network.
    Synapse,
    /// The first gateway, for the peer that sits in its room.
    Host,
    /// The second gateway, for the peer that hosts the room.
    Guest,
}

impl Victim {
    /// Whether it is the first gateway of the world that dies.
    pub(crate) fn is_first(self) -> bool {
        !matches!(self, Inspircd | Guest)
    }

    fn protocol(self) -> &'static str {
        match self {
            Ngircd | Inspircd => "irc",
            Prosody => "xmpp",
            Synapse => "matrix",
            Host | Guest => "federation",
        }
    }
}

/// What people do until the process dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Talk {
    /// They say lines.
    Lines,
    /// One of them says something that the network shows in several parts.
    Long,
    /// Somebody new enters, whom the networks have not seen yet.
    Newcomer,
    /// Nothing: it happens when the gateway starts for the first time.
    FirstStart,
}

/// One row of the matrix on one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) step: u8,
    pub(crate) victim: Victim,
    place: &'static str,
    pub(crate) talk: Talk,
}

impl Row {
    /// The place's name in the code.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.victim.protocol(), self.place)
    }

    /// Whether it dies while it enters its channels, and nothing has been sent yet.
    pub(crate) fn is_before_sending(&self) -> bool {
        self.step == 15 && matches!(self.victim, Ngircd | Inspircd)
    }
}

/// A step, the place's name behind that of the protocol, the talk, and the networks to which the step applies.
type Step = (u8, &'static str, Talk, &'static [Victim]);

const ALL: &[Victim] = &[Ngircd, Inspircd, Prosody, Synapse, Host, Guest];

const STEPS: &[Step] = &[
    (1, "read", Talk::Lines, ALL),
    (2, "parsed", Talk::Lines, ALL),
    (4, "committed", Talk::Lines, ALL),
    // IRC and XMPP components acknowledge nothing.
    (5, "acked", Talk::Lines, &[Synapse, Host, Guest]),
    (6, "handed", Talk::Lines, ALL),
    (7, "half", Talk::Lines, ALL),
    (8, "written", Talk::Lines, ALL),
    (9, "receipt", Talk::Lines, ALL),
    // What goes to a peer is one event, however long.
    (
        11,
        "between_parts",
        Talk::Long,
        &[Ngircd, Inspircd, Prosody, Synapse],
    ),
    (14, "key", Talk::FirstStart, &[Host, Guest]),
    (15, "joining", Talk::Lines, &[Ngircd, Inspircd, Prosody]),
    (15, "joining", Talk::Newcomer, &[Synapse]),
    (15, "joining", Talk::FirstStart, &[Guest]),
];

/// The rows of one victim.
pub(crate) fn rows(victim: Victim) -> Vec<Row> {
    STEPS
        .iter()
        .filter(|(_, _, _, victims)| victims.contains(&victim))
        .map(|(step, place, talk, _)| Row {
            step: *step,
            victim,
            place,
            talk: *talk,
        })
        .collect()
}
