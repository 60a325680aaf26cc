//! One core over several lives, and what its networks have seen.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use comity_people::history::{Fault, report};
use tempfile::TempDir;

use crate::{changes, numbers};

/// How long anything may take that takes milliseconds when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the networks' people do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Talk {
    /// One says numbers.
    Numbers,
    /// All say things, edit them, take them back and react.
    Changes,
}

/// The directory of one core: all that outlives it.
pub(crate) struct Core {
    talk: Talk,
    seed: u64,
    dir: TempDir,
}

/// What is wrong with what was shown so far, as if it were the end.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Everything but copies where nothing can be asked.
    pub(crate) faults: Vec<Fault>,
    /// What is wrong besides.
    pub(crate) others: Vec<String>,
    /// Copies too many where nothing can be asked.
    pub(crate) copies: usize,
    /// How many may be in doubt there after each death: two windows.
    pub(crate) doubt: usize,
    /// What was done, in words.
    pub(crate) done: String,
    /// The same in one number.
    pub(crate) count: usize,
}

impl Verdict {
    /// All of it in words, if anything is wrong after so many deaths.
    pub(crate) fn wrong(&self, deaths: usize) -> Option<String> {
        let mut wrong = self.others.clone();
        if !self.faults.is_empty() {
            wrong.push(report(&self.faults));
        }
        if self.copies > self.doubt * deaths {
            wrong.push(format!(
                "{} copies where nothing can be asked, over {deaths} deaths",
                self.copies
            ));
        }
        (!wrong.is_empty()).then(|| wrong.join("\n"))
    }
}

impl Core {
    /// A new one. `seed` decides what people do.
    pub(crate) fn new(talk: Talk, seed: u64) -> Core {
        let dir = tempfile::tempdir().expect("a directory");
        Core { talk, seed, dir }
    }

    /// Begins a life, to end at `failpoint` if there is one.
    pub(crate) fn start(&self, failpoint: Option<&str>) -> Life {
        let (word, count) = match self.talk {
            Talk::Numbers => ("numbers", numbers::LAST),
            Talk::Changes => ("changes", changes::ACTS),
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_comity-crash"))
            .arg(word)
            .arg(self.dir.path())
            .arg(count.to_string())
            .env("COMITY_SEED", self.seed.to_string())
            .envs(failpoint.map(|place| ("COMITY_FAILPOINT", place)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the core starts");
        let errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let (tell, told) = channel();
        let reader = std::thread::spawn(move || {
            let mut printed = String::new();
            for line in errors.lines().map_while(Result::ok) {
                printed.push_str(&line);
                printed.push('\n');
                // Whoever does not listen any more has heard enough.
                drop(tell.send(line));
            }
            printed
        });
        Life {
            child,
            told,
            reader: Some(reader),
        }
    }

    /// Lets the core live until everything is through; what it printed if it ends badly.
    pub(crate) fn finish(&self) -> Result<(), String> {
        // Of what was held until its message is known, another life's good nights are behind.
        for _ in 0..5 {
            let (status, printed) = self.start(None).ended();
            if !status.success() {
                return Err(format!("{status}\n{printed}"));
            }
            if self.talk == Talk::Numbers || changes::is_settled(self.dir.path()) {
                return Ok(());
            }
        }
        Err("five lives were not enough to finish".to_owned())
    }

    /// Where the journal is.
    #[cfg(feature = "failpoints")]
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Copies everything to where it outlives the test; says where.
    pub(crate) fn kept(&self) -> String {
        let kept = std::env::temp_dir().join(format!("comity-failed-core-{}", self.seed));
        let copied = Command::new("cp")
            .arg("-r")
            .arg(self.dir.path())
            .arg(&kept)
            .status();
        format!("kept in {} ({copied:?})", kept.display())
    }

    /// Judges everything that was shown so far, as if it were the end.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.talk {
            Talk::Numbers => numbers::verdict(self.dir.path()),
            Talk::Changes => changes::verdict(self.dir.path()),
        }
    }
}

/// A core that runs.
pub(crate) struct Life {
    child: Child,
    told: Receiver<String>,
    reader: Option<JoinHandle<String>>,
}

impl Life {
    /// Kills it; false when it had ended by itself.
    pub(crate) fn kill(&mut self) -> bool {
        let running = self.child.try_wait().expect("it can be asked").is_none();
        if running {
            self.child.kill().expect("it can be killed");
        }
        self.child.wait().expect("it ends");
        running
    }

    /// Waits for the end, and kills it when that does not come. Returns what it printed as well.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(_) => {}
                // Nobody can say anything any more.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.child.kill().expect("it can be killed");
                    break;
                }
            }
        }
        let status = self.child.wait().expect("it ends");
        (status, self.printed())
    }

    /// Waits until it says that it has reached a place and stands still there. It stops itself: a stop of ours could come first, and its
    /// own after we have let it go on.
    #[cfg(feature = "failpoints")]
    pub(crate) fn stopped(&self) -> Result<(), String> {
        loop {
            match self.told.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with("failpoint ") => break,
                Ok(_) => {}
                Err(why) => return Err(format!("never reached: {why}")),
            }
        }
        let stat = format!("/proc/{}/stat", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            if stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
            {
                return Ok(());
            }
            // Nobody is told of a stop but a parent that may call waitpid.
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("it did not stop".to_owned())
    }

    #[cfg(feature = "failpoints")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn printed(&mut self) -> String {
        let reader = self.reader.take().map(JoinHandle::join);
        reader
            .transpose()
            .expect("lines can be read")
            .unwrap_or_default()
    }
}

/// Lets a process that stands still go on.
#[cfg(feature = "failpoints")]
pub(crate) fn continued(id: u32) {
    let sent = Command::new("kill")
        .args(["-CONT", &id.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -CONT {id}");
}

/// The lines of one of the files.
pub(crate) fn lines(dir: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
