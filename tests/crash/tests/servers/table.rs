//! Which places there are, and what may happen at each: the crash matrix as data.
//!
//! The core's own steps (3, 10, 12, 13, 16) are in `tests/core/places.rs`.

use Victim::{Guest, Host, Inspircd, Ngircd, Prosody, Synapse};

/// Whose gateway dies, and for which of its networks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Victim {
    /// The first gateway, for its plain IRC network.
    Ngircd,
    /// The second gateway, for its IRC network with labels and echoes.
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

/// Whether the people behind the dead gateway may see lines again that were under way on this network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Copies {
    Never,
    /// An IRC server remembers nothing: written and not known to be read, or known and not yet on the disk.
    OfWhatWasUnderWay,
}

/// One row of the matrix on one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) step: u8,
    pub(crate) victim: Victim,
    place: &'static str,
    pub(crate) talk: Talk,
    pub(crate) copies: Copies,
}

impl Row {
    /// The place's name in the code.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.victim.protocol(), self.place)
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
    let is_irc = matches!(victim, Ngircd | Inspircd);
    STEPS
        .iter()
        .filter(|(_, _, _, victims)| victims.contains(&victim))
        .map(|(step, place, talk, _)| Row {
            step: *step,
            victim,
            place,
            talk: *talk,
            copies: if is_irc && matches!(step, 7 | 8 | 9 | 11) {
                Copies::OfWhatWasUnderWay
            } else {
                Copies::Never
            },
        })
        .collect()
}
