//! The lane against a model: any order of outcomes, deaths, crashes, changing windows and retries of dead letters.
//!
//! The model knows what truly happened: what may have reached the network, what the disk holds. It asks of each hand-over
//! whether it was allowed, and in the end whether everything has come to one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Message,
    Foreign,
    /// Changes the message so many messages before it.
    Change(usize),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Shown,
    NotAttempted,
    Retry,
    Ambiguous,
    GiveUp,
}

#[derive(Clone, Debug)]
enum Op {
    /// Hands over what may be handed over, folding the changes of messages or not.
    Fill {
        fold: bool,
        cancel: bool,
    },
    Finish(usize, End),
    Part(usize),
    /// The bridge dies with all that it has.
    Death,
    BeginWrite,
    Durable,
    /// The process dies; a write under way has reached the disk or not.
    Crash {
        written: bool,
    },
    Restart,
    Window(usize),
    Again(usize),
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![
        5 => Just(Kind::Message),
        1 => Just(Kind::Foreign),
        2 => (1_usize..4).prop_map(Kind::Change),
    ];
    prop::collection::vec(kind, 1..40)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = prop_oneof![
        6 => Just(End::Shown),
        1 => Just(End::NotAttempted),
        1 => Just(End::Retry),
        1 => Just(End::Ambiguous),
        1 => Just(End::GiveUp),
    ];
    let op = prop_oneof![
        8 => any::<(bool, bool)>().prop_map(|(fold, cancel)| Op::Fill { fold, cancel: fold && cancel }),
        8 => (any::<usize>(), end).prop_map(|(index, end)| Op::Finish(index, end)),
        1 => any::<usize>().prop_map(Op::Part),
        1 => Just(Op::Death),
        6 => Just(Op::BeginWrite),
        6 => Just(Op::Durable),
        1 => any::<bool>().prop_map(|written| Op::Crash { written }),
        1 => Just(Op::Restart),
        1 => (1_usize..6).prop_map(Op::Window),
        1 => any::<usize>().prop_map(Op::Again),
    ];
    prop::collection::vec(op, 1..200)
}

/// What the journal would hold.
#[derive(Clone, Default)]
struct Disk {
    done: u64,
    tried: u64,
    exceptions: BTreeSet<u64>,
    troubles: BTreeMap<u64, Trouble>,
    dead: BTreeMap<u64, DeadLetter>,
    again: BTreeSet<u64>,
}

impl Disk {
    fn commit(&mut self, write: &LaneWrite) {
        assert!(write.done >= self.done, "done goes forward only");
        for trouble in &write.troubles {
            self.troubles.insert(trouble.seq, trouble.clone());
        }
        self.done = write.done;
        self.tried = write.tried;
        self.exceptions.extend(&write.folded);
        for seq in &write.revived {
            self.dead.remove(seq);
            self.again.remove(seq);
        }
        for letter in &write.dead {
            self.dead.insert(letter.seq, letter.clone());
            self.again.remove(&letter.seq);
            self.troubles.remove(&letter.seq);
        }
        let done = self.done;
        self.troubles.retain(|seq, _| *seq > done);
    }

    fn is_finished(&self, seq: u64) -> bool {
        seq <= self.done || self.exceptions.contains(&seq)
    }
}

struct World {
    log: Vec<Kind>,
    lane: Lane,
    window: usize,
    disk: Disk,
    writing: Option<Write>,
    /// In the bridge's hands, in the order of hand-over.
    out: Vec<u64>,
    /// Something of it may have been seen by people, since it was last known that it had not.
    reached: BTreeSet<u64>,
    /// Finished as far as the lane has been told.
    finished: BTreeSet<u64>,
    folds: BTreeMap<u64, Vec<u64>>,
}

impl World {
    fn new(log: Vec<Kind>) -> Self {
        let mut world = World {
            log,
            lane: Lane::new(LaneStart::default()),
            window: 1,
            disk: Disk::default(),
            writing: None,
            out: Vec::new(),
            reached: BTreeSet::new(),
            finished: BTreeSet::new(),
            folds: BTreeMap::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let disk = &self.disk;
        self.lane = Lane::new(LaneStart {
            done: disk.done,
            tried: disk.tried,
            head: self.log.len() as u64,
            folded: disk.exceptions.iter().copied().collect(),
            troubles: disk.troubles.values().cloned().collect(),
            again: disk
                .again
                .iter()
                .map(|seq| disk.dead[seq].clone())
                .collect(),
        });
        self.lane.set_window(self.window);
        self.finished = (1..=self.log.len() as u64)
            .filter(|seq| disk.is_finished(*seq))
            .collect();
    }

    fn kind(&self, seq: u64) -> Kind {
        self.log[usize::try_from(seq).expect("small") - 1]
    }

    /// The message that a change is about; none when there is none so far back.
    fn target(&self, seq: u64) -> Option<u64> {
        let Kind::Change(back) = self.kind(seq) else {
            return None;
        };
        (1..seq)
            .rev()
            .filter(|seq| matches!(self.kind(*seq), Kind::Message))
            .nth(back - 1)
    }

    fn changes_of(&self, message: u64) -> Vec<u64> {
        (message + 1..=self.log.len() as u64)
            .filter(|seq| self.target(*seq) == Some(message))
            .collect()
    }

    fn fill(&mut self, fold: bool, cancel: bool) {
        if let Some(seq) = self.lane.next_again() {
            let folded = if fold && !self.lane.is_again_in_doubt(seq) {
                self.changes_of(seq)
            } else {
                Vec::new()
            };
            let attempt = self.lane.hand_over_again(seq, folded.clone());
            assert!(self.disk.dead.contains_key(&seq), "{seq} is not dead");
            assert!(attempt.doubt || !self.reached.contains(&seq), "again {seq}");
            self.folds.insert(seq, folded);
            self.out.push(seq);
        }
        loop {
            while self.lane.step_over_finished() {}
            let seq = self.lane.next();
            if seq > self.log.len() as u64 || self.lane.is_full() {
                return;
            }
            if let Kind::Foreign = self.kind(seq) {
                self.lane.pass();
                self.finished.insert(seq);
                continue;
            }
            if !self.lane.may_hand_over() {
                return;
            }
            let mut folded = Vec::new();
            match self.target(seq) {
                Some(target) if !self.lane.is_settled(target) => return,
                Some(_) => {}
                None if matches!(self.kind(seq), Kind::Change(_)) => {
                    self.lane.pass();
                    self.finished.insert(seq);
                    continue;
                }
                None if fold && !self.lane.is_in_doubt(seq) => folded = self.changes_of(seq),
                None => {}
            }
            if cancel && !folded.is_empty() {
                self.lane.cancel(&folded);
                self.finished.insert(seq);
                self.finished.extend(&folded);
                continue;
            }
            let attempt = self.lane.hand_over(folded.clone());
            self.check(seq, attempt);
            self.folds.insert(seq, folded);
            self.out.push(seq);
        }
    }

    fn check(&self, seq: u64, attempt: Attempt) {
        assert!(
            attempt.doubt || !self.reached.contains(&seq),
            "{seq} may have been seen, and is handed over without doubt"
        );
        assert!(!self.finished.contains(&seq), "{seq} was finished");
        assert!(!self.disk.is_finished(seq), "{seq} was finished on disk");
        assert!(
            self.disk.tried >= seq,
            "{seq} may be in doubt after a crash"
        );
        for earlier in 1..seq {
            assert!(
                self.finished.contains(&earlier) || self.out.contains(&earlier),
                "{seq} before {earlier}"
            );
        }
        if let Some(target) = self.target(seq) {
            assert!(
                self.finished.contains(&target) && !self.out.contains(&target),
                "the change {seq} before its message {target}"
            );
        }
        let normal = self
            .out
            .iter()
            .filter(|out| !self.disk.dead.contains_key(out));
        assert!(normal.count() < self.window.max(6), "the window");
    }

    fn finish(&mut self, index: usize, end: End) {
        if self.out.is_empty() {
            return;
        }
        let seq = self.out.remove(index % self.out.len());
        let outcome = match end {
            End::Shown => Outcome::Shown,
            End::NotAttempted => Outcome::NotAttempted,
            End::Retry => Outcome::Retry {
                after: Duration::ZERO,
                why: why(),
            },
            End::Ambiguous => Outcome::Ambiguous { why: why() },
            End::GiveUp => Outcome::GiveUp(why()),
        };
        let parts = match end {
            End::Shown => vec![(0, vec!["id".into()])],
            _ => Vec::new(),
        };
        if matches!(end, End::Shown | End::Ambiguous) {
            self.reached.insert(seq);
        }
        if matches!(end, End::Shown | End::GiveUp) {
            self.finished.insert(seq);
        }
        if matches!(end, End::Shown) {
            // One that is in the bridge's hands itself when its message is tried again goes its own way.
            let out = &self.out;
            let folded = self.folds[&seq].iter().filter(|seq| !out.contains(seq));
            self.finished.extend(folded);
        }
        let receipt = Receipt::Finish { outcome, parts };
        self.lane.receipt(seq, receipt, NOW);
        self.lane.settle();
    }

    fn death(&mut self) {
        for seq in std::mem::take(&mut self.out) {
            self.reached.insert(seq);
            if let Some(Note::Dead(seq, _)) = self.lane.receipt(seq, Receipt::Dropped, NOW) {
                self.finished.insert(seq);
            }
        }
        self.lane.settle();
    }

    fn begin_write(&mut self) {
        if self.writing.is_none() {
            self.writing = self.lane.take_write();
        }
    }

    fn durable(&mut self) {
        if let Some(Write { write, .. }) = self.writing.take() {
            self.disk.commit(&write);
            self.lane.written(write.done, write.tried);
        }
    }

    fn crash(&mut self, written: bool) {
        if let Some(Write { write, .. }) = self.writing.take()
            && written
        {
            self.disk.commit(&write);
        }
        self.reached.extend(self.out.drain(..));
        self.start();
    }

    /// An orderly end: all comes back, the last is written.
    fn restart(&mut self) {
        for seq in std::mem::take(&mut self.out) {
            let receipt = Receipt::Finish {
                outcome: Outcome::NotAttempted,
                parts: Vec::new(),
            };
            self.lane.receipt(seq, receipt, NOW);
        }
        self.lane.settle();
        self.durable();
        self.begin_write();
        self.durable();
        self.writing = self.lane.take_farewell();
        self.durable();
        self.start();
    }

    fn again(&mut self, index: usize) {
        let letters: Vec<DeadLetter> = self.disk.dead.values().cloned().collect();
        if !letters.is_empty() {
            let letter = &letters[index % letters.len()];
            self.disk.again.insert(letter.seq);
            self.lane.try_again(std::slice::from_ref(letter));
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Fill { fold, cancel } => self.fill(fold, cancel),
            Op::Finish(index, end) => self.finish(index, end),
            Op::Part(index) => {
                if !self.out.is_empty() {
                    let seq = self.out[index % self.out.len()];
                    let ids = vec!["id".into()];
                    self.lane.receipt(seq, Receipt::Part { index: 0, ids }, NOW);
                }
            }
            Op::Death => self.death(),
            Op::BeginWrite => self.begin_write(),
            Op::Durable => self.durable(),
            Op::Crash { written } => self.crash(written),
            Op::Restart => self.restart(),
            Op::Window(window) => {
                self.window = window;
                self.lane.set_window(window);
            }
            Op::Again(index) => self.again(index),
        }
        for seq in 1..=self.lane.done() {
            assert!(self.finished.contains(&seq), "done passes {seq}");
        }
    }
}

fn why() -> DeliveryError {
    DeliveryError::ConnectionLost("test".to_owned())
}

const NOW: Timestamp = Timestamp(1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_is_lost_doubled_or_overtaken(log in kinds(), ops in ops()) {
        let mut world = World::new(log);
        for op in ops {
            world.run(op);
        }
        // The network is well from now on.
        for _ in 0..1000 {
            world.run(Op::Fill { fold: true, cancel: false });
            world.run(Op::Finish(0, End::Shown));
            world.run(Op::BeginWrite);
            world.run(Op::Durable);
        }
        prop_assert_eq!(world.lane.done(), world.log.len() as u64);
        world.restart();
        prop_assert_eq!(world.disk.done, world.log.len() as u64);
        prop_assert!(world.disk.again.is_empty());
        let stale: Vec<u64> = world
            .disk
            .troubles
            .keys()
            .copied()
            .filter(|seq| !world.disk.dead.contains_key(seq))
            .collect();
        prop_assert!(stale.is_empty(), "troubles of what is finished: {:?}", stale);
    }
}
