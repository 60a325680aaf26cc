//! What came of what people on four channels said, edited, took back and reacted with.

use std::path::Path;

use comity_people::history::Fault;
use comity_people::history::changes::{Appeared, Deed, Deeds, Screen, What};
use rusqlite::{Connection, OpenFlags};

use crate::life::{Verdict, lines};

/// What each person does. More than is through in the longest life.
pub(crate) const ACTS: u64 = 600;

/// As in the program: `wide/#a` refuses texts with these numbers.
const REFUSED_EVERY: usize = 37;

/// Channels, their files, and whether messages can be changed there.
const CHANNELS: [(&str, &str, bool); 4] = [
    ("native/#room", "native-room", true),
    ("plain/#room", "plain-room", false),
    ("wide/#a", "wide-a", true),
    ("wide/#b", "wide-b", true),
];

/// Judges what the four channels show.
pub(crate) fn verdict(dir: &Path) -> Verdict {
    let screens = screens(dir);
    let deeds = Deeds::of("core", &screens);
    let is_exempt = |channel: &str, deed: &Deed| {
        channel == "wide/#a" && deed.tokens.iter().any(|token| is_refused(token))
    };
    let (copies, faults): (Vec<Fault>, Vec<Fault>) =
        deeds.check(&screens, is_exempt).into_iter().partition(
            |fault| matches!(fault, Fault::Doubled { observer, .. } if observer == "plain/#room"),
        );
    let copies = copies.iter().map(|fault| match fault {
        Fault::Doubled { times, .. } => times - 1,
        _ => 0,
    });
    let mut others = Vec::new();
    let notices = screens.iter().flat_map(|screen| &screen.lines);
    let told = notices.filter(|line| matches!(line.what, What::Notice { .. }));
    let (told, refused) = (told.count(), refused(&deeds));
    if told > refused {
        others.push(format!("told of {told} dead letters, {refused} there are"));
    }
    Verdict {
        faults,
        others,
        copies: copies.sum(),
        doubt: 8,
        done: format!("{}, {told} dead letters told of", deeds.counted()),
        count: deeds.count(),
    }
}

/// Whether everything has been shown: no lane is behind, and nothing is held until its message is known.
pub(crate) fn is_settled(dir: &Path) -> bool {
    let path = dir.join("data/journal.sqlite");
    let journal = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let journal = journal.expect("the journal is there");
    let left: u64 = journal
        .query_row(
            "SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM lanes WHERE done <
                 (SELECT coalesce(max(place), 0) & 0xffffffffff FROM events WHERE place >> 40 = room))",
            [],
            |row| row.get(0),
        )
        .expect("the journal can be read");
    left == 0
}

fn screens(dir: &Path) -> Vec<Screen> {
    let screen = |(channel, file, changes): (&str, &str, bool)| Screen {
        channel: channel.to_owned(),
        changes,
        lines: lines(dir, file).iter().map(|line| appeared(line)).collect(),
    };
    CHANNELS.into_iter().map(screen).collect()
}

fn appeared(line: &str) -> Appeared {
    serde_json::from_str(line).expect("whole lines are written")
}

/// How many texts `wide/#a` may have refused, of people elsewhere.
fn refused(deeds: &Deeds) -> usize {
    let elsewhere = deeds.messages().iter().filter(|d| d.channel != "wide/#a");
    let tokens = elsewhere.flat_map(|deed| &deed.tokens);
    tokens.filter(|token| is_refused(token)).count()
}

fn is_refused(token: &str) -> bool {
    let number = token
        .split('-')
        .nth(2)
        .and_then(|n| n.parse::<usize>().ok());
    number.is_some_and(|number| number % REFUSED_EVERY == 5)
}
