//! What came of the numbers.

use std::path::Path;
use std::time::SystemTime;

use comity_people::Heard;
use comity_people::history::{Account, Fault, Said, Script, View};

use crate::life::{Verdict, lines};

/// Numbers said. More than are through in the longest life.
pub(crate) const LAST: u64 = 8_000;

/// As in the program: one number in this many is refused by `fenced`.
const REFUSED_EVERY: u64 = 500;

/// Judges what the two targets have shown, and where the source's cursor stood.
pub(crate) fn verdict(dir: &Path) -> Verdict {
    let mut script = Script::of("core", "alice", "source");
    let said: Vec<Said> = (0..LAST).map(|_| script.text()).collect();
    let view = |name: &str| View {
        observer: name.to_owned(),
        network: name.to_owned(),
        lines: lines(dir, name)
            .iter()
            .map(|line| heard(line, &said))
            .collect(),
    };
    let (fenced, plain) = (view("fenced"), view("plain"));
    let mut asked = Account::new("core");
    asked.add(
        said.iter()
            .zip(1..)
            .filter(|(_, number)| !is_refused(*number))
            .map(|(said, _)| said.clone()),
    );
    let mut everything = Account::new("core");
    everything.add(said.iter().cloned());
    let mut faults = asked.check(&[fenced]);
    let (copies, rest): (Vec<Fault>, Vec<Fault>) = everything
        .check(&[plain])
        .into_iter()
        .partition(|fault| matches!(fault, Fault::Doubled { .. }));
    faults.extend(rest);
    let copies = copies.iter().map(|fault| match fault {
        Fault::Doubled { times, .. } => times - 1,
        _ => 0,
    });
    let mut others = cursors_behind(dir);
    let refused = (1..=LAST).filter(|number| is_refused(*number)).count();
    let told = lines(dir, "told").len();
    if told > refused {
        others.push(format!("told of {told} dead letters, {refused} there are"));
    }
    let acknowledged = lines(dir, "acknowledged").len();
    Verdict {
        faults,
        others,
        copies: copies.sum(),
        doubt: 16,
        done: format!("{acknowledged} tokens"),
        count: acknowledged,
    }
}

/// Starts at which the gateway's cursor stood before what it had acknowledged.
fn cursors_behind(dir: &Path) -> Vec<String> {
    let is_behind = |line: &String| {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>());
        !matches!((numbers.next(), numbers.next()), (Some(Ok(cursor)), Some(Ok(next))) if cursor >= next)
    };
    lines(dir, "cursors")
        .into_iter()
        .filter(is_behind)
        .map(|line| format!("the cursor was behind what had been acknowledged: {line}"))
        .collect()
}

fn is_refused(number: u64) -> bool {
    number % REFUSED_EVERY == REFUSED_EVERY / 2
}

/// The line that people at a target see for a number.
fn heard(line: &str, said: &[Said]) -> Heard {
    let number: usize = line.parse().expect("a number");
    Heard {
        author: "alice".to_owned(),
        author_id: "alice".to_owned(),
        text: said[number - 1].line.text.clone(),
        emote: false,
        own: false,
        at: SystemTime::now(),
    }
}
