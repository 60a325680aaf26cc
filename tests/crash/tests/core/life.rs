//! One core over several lives, and what its networks have seen.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::SystemTime;

use comity_people::Heard;
use comity_people::history::{Account, Fault, Said, Script, View};
use tempfile::TempDir;

/// Numbers said. More than are through in the longest life.
pub(crate) const LAST: u64 = 8_000;

/// As in the program: one number in this many is refused by `fenced`.
const REFUSED_EVERY: u64 = 500;

/// How many deliveries of a lane may be in doubt after a death: two windows of 8.
pub(crate) const DOUBT: usize = 16;

/// The directory of one core: all that outlives it.
pub(crate) struct Core {
    dir: TempDir,
}

/// What the checker says about the targets, and about the source's cursor.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Everything but copies at `plain`.
    pub(crate) faults: Vec<Fault>,
    /// Copies too many at `plain`, which cannot be asked.
    pub(crate) copies: usize,
    /// Starts at which the gateway's cursor stood before what it had acknowledged.
    pub(crate) cursors_behind: Vec<String>,
}

impl Core {
    pub(crate) fn new() -> Core {
        Core {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Starts the core, to die at `failpoint` if there is one. What it prints goes to `DIR/printed`.
    pub(crate) fn start(&self, failpoint: Option<&str>) -> Child {
        let printed = std::fs::File::create(self.dir.path().join("printed")).expect("a file");
        Command::new(env!("CARGO_BIN_EXE_comity-crash"))
            .arg(self.dir.path())
            .arg(LAST.to_string())
            .envs(failpoint.map(|place| ("COMITY_FAILPOINT", place)))
            .stdin(Stdio::null())
            .stderr(printed)
            .spawn()
            .expect("the core starts")
    }

    /// Where the journal is.
    #[cfg(feature = "failpoints")]
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// What the last life printed.
    #[cfg(feature = "failpoints")]
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("printed")).unwrap_or_default()
    }

    /// Lets the core live until everything is through.
    pub(crate) fn finish(&self) -> ExitStatus {
        self.start(None).wait().expect("the core ends")
    }

    /// How many numbers were acknowledged so far.
    #[cfg(feature = "failpoints")]
    pub(crate) fn acknowledged(&self) -> usize {
        lines(self.dir.path(), "acknowledged").len()
    }

    /// How many different dead letters the source was told about.
    pub(crate) fn told(&self) -> usize {
        lines(self.dir.path(), "told").len()
    }

    /// How many numbers `fenced` refuses of all.
    pub(crate) fn refused(&self) -> usize {
        (1..=LAST).filter(|number| is_refused(*number)).count()
    }

    /// Judges everything that was shown so far, as if it were the end.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut script = Script::of("core", "alice", "source");
        let said: Vec<Said> = (0..LAST).map(|_| script.text()).collect();
        let view = |name: &str| View {
            observer: name.to_owned(),
            network: name.to_owned(),
            lines: lines(self.dir.path(), name)
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
        let (copies, others): (Vec<Fault>, Vec<Fault>) = everything
            .check(&[plain])
            .into_iter()
            .partition(|fault| matches!(fault, Fault::Doubled { .. }));
        faults.extend(others);
        let copies = copies.iter().map(|fault| match fault {
            Fault::Doubled { times, .. } => times - 1,
            _ => 0,
        });
        Verdict {
            faults,
            copies: copies.sum(),
            cursors_behind: self.cursors_behind(),
        }
    }

    fn cursors_behind(&self) -> Vec<String> {
        let is_behind = |line: &String| {
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>());
            !matches!((numbers.next(), numbers.next()), (Some(Ok(cursor)), Some(Ok(next))) if cursor >= next)
        };
        lines(self.dir.path(), "cursors")
            .into_iter()
            .filter(is_behind)
            .collect()
    }
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

fn lines(dir: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
