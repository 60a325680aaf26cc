//! The journal against a model of it that fits on a page: any sequence of reports, lane writes, restarts and passing days.
//!
//! `PROPTEST_CASES=5000 cargo test -p comity --lib journal::tests::model` asks for more than the few seconds of the ordinary run. What failed once is kept
//! in `proptest-regressions` and tried first.

use std::collections::BTreeSet;

use comity_bridge::report::Refusal;
use proptest::prelude::*;

use super::*;

/// Two rooms with two channels each.
const CHANNELS: [&str; 4] = ["a/#0", "b/#0", "a/#1", "b/#1"];

#[derive(Clone, Debug)]
enum Step {
    /// New messages.
    Say {
        channel: usize,
        many: u8,
    },
    /// An edit, redaction or reaction of the message with this number, or of what a lane has called so; numbers that nobody has used are ahead.
    Change {
        channel: usize,
        kind: u8,
        target: u64,
        shown: bool,
    },
    /// What was reported before is reported again.
    Repeat {
        channel: usize,
        number: u64,
    },
    /// A lane goes on, names what it shows, and gives some up.
    Lane {
        channel: usize,
        by: u8,
        dead: Option<u8>,
    },
    /// The reports that wait have waited for too long.
    LosePatience,
    /// Days pass.
    Age,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..CHANNELS.len();
    prop_oneof![
        4 => (channel.clone(), 1..90_u8).prop_map(|(channel, many)| Step::Say { channel, many }),
        4 => (channel.clone(), 0..3_u8, 0..250_u64, any::<bool>())
            .prop_map(|(channel, kind, target, shown)| Step::Change { channel, kind, target, shown }),
        1 => (channel.clone(), 0..250_u64).prop_map(|(channel, number)| Step::Repeat { channel, number }),
        4 => (channel, 1..=200_u8, proptest::option::weighted(0.3, 0..200_u8))
            .prop_map(|(channel, by, dead)| Step::Lane { channel, by, dead }),
        1 => Just(Step::LosePatience),
        1 => Just(Step::Age),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Said {
    id: EventId,
    channel: usize,
    source: String,
    /// The place that it changes, and how.
    change: Option<(u64, u8)>,
    here: bool,
}

#[derive(Debug, Default)]
struct Model {
    rooms: [Vec<Said>; 2],
    /// What was reported; false while it waits.
    sources: BTreeMap<(usize, String), (EventId, bool)>,
    /// Reports that wait: id, channel, source, target, kind.
    waiting: Vec<(EventId, usize, String, String, u8)>,
    /// What lanes call what they show.
    natives: BTreeMap<(usize, String), u64>,
    done: [u64; 4],
    dead: BTreeSet<(usize, u64)>,
    dropped: BTreeSet<(usize, u64)>,
    minted: u64,
}

fn room_of(channel: usize) -> usize {
    channel / 2
}

impl Model {
    fn mint(&mut self) -> EventId {
        self.minted += 1;
        id(self.minted)
    }

    /// The place of what a channel calls so.
    fn find(&self, channel: usize, native: &str) -> Option<u64> {
        let log = &self.rooms[room_of(channel)];
        let born = log
            .iter()
            .position(|said| said.here && said.channel == channel && said.source == native);
        let shown = self.natives.get(&(channel, native.to_owned())).copied();
        let shown = shown.filter(|seq| log[*seq as usize - 1].here);
        born.map(|index| index as u64 + 1).or(shown)
    }

    fn report(
        &mut self,
        id: EventId,
        channel: usize,
        source: String,
        change: Option<(String, u8)>,
    ) -> Verdict {
        if let Some((first, _)) = self.sources.get(&(channel, source.clone())) {
            return Verdict::Duplicate(*first);
        }
        let target = match &change {
            None => None,
            Some((target, kind)) => match self.find(channel, target) {
                Some(seq) => Some((seq, *kind)),
                None => {
                    self.sources.insert((channel, source.clone()), (id, false));
                    self.waiting
                        .push((id, channel, source, target.clone(), *kind));
                    return Verdict::Accepted(id);
                }
            },
        };
        self.sources.insert((channel, source.clone()), (id, true));
        self.commit(id, channel, source, target);
        Verdict::Accepted(id)
    }

    fn commit(&mut self, id: EventId, channel: usize, source: String, change: Option<(u64, u8)>) {
        if let Some((target, 1)) = change {
            for lane in 0..CHANNELS.len() {
                if room_of(lane) == room_of(channel) && self.dead.remove(&(lane, target)) {
                    self.dropped.insert((lane, target));
                }
            }
        }
        self.rooms[room_of(channel)].push(Said {
            id,
            channel,
            source: source.clone(),
            change,
            here: true,
        });
        self.release(channel, &source);
    }

    fn release(&mut self, channel: usize, native: &str) {
        let (ready, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, c, _, target, _)| *c == channel && target == native);
        self.waiting = rest;
        for (id, channel, source, target, kind) in ready {
            let seq = self.find(channel, &target).expect("it has just come");
            self.sources.insert((channel, source.clone()), (id, true));
            self.commit(id, channel, source, Some((seq, kind)));
        }
    }

    fn changes(&self, room: usize) -> Vec<(u64, u64)> {
        let log = self.rooms[room].iter().enumerate();
        let mut changes: Vec<(u64, u64)> = log
            .filter_map(|(index, said)| Some((said.change?.0, index as u64 + 1)))
            .filter(|(target, _)| self.rooms[room][*target as usize - 1].here)
            .collect();
        changes.sort();
        changes
    }

    /// What may not be let go of.
    fn needed(&self, room: usize) -> BTreeSet<u64> {
        let lanes = [room * 2, room * 2 + 1];
        let finished = lanes
            .map(|lane| self.done[lane])
            .into_iter()
            .min()
            .unwrap_or(0);
        let mut needed: BTreeSet<u64> = (finished + 1..=self.rooms[room].len() as u64).collect();
        for (target, seq) in self.changes(room) {
            if seq > finished {
                needed.insert(target);
            }
        }
        needed.extend(
            self.dead
                .iter()
                .filter(|(lane, _)| room_of(*lane) == room)
                .map(|(_, seq)| *seq),
        );
        needed
    }
}

/// The journal beside the model.
struct Both {
    fixture: Fixture,
    journal: Journal,
    threads: JournalThreads,
    lanes: Vec<LaneId>,
    model: Model,
}

fn fixture() -> Fixture {
    let rooms = [0, 1].map(|room| {
        let address = format!("#{room}@gw1.example").parse().expect("a room");
        let channels = CHANNELS[room * 2..room * 2 + 2].iter();
        (address, channels.map(|name| channel(name)).collect())
    });
    Fixture {
        dir: tempfile::tempdir().expect("a directory"),
        rooms: rooms.to_vec(),
    }
}

fn draft_in(channel: usize, source: &str, id: EventId, content: Content<NativeRef>) -> Entry {
    let Entry::Event(mut entry) = draft(1, content) else {
        panic!("a draft")
    };
    entry.id = id;
    entry.channel = super::channel(CHANNELS[channel]);
    entry.room = format!("#{}@gw1.example", room_of(channel))
        .parse()
        .expect("a room");
    entry.source_id = SourceId(source.to_owned());
    Entry::Event(entry)
}

impl Both {
    async fn new() -> Both {
        let fixture = fixture();
        let (journal, threads) = fixture.open();
        let lanes = lanes(&fixture, &journal).await;
        Both {
            fixture,
            journal,
            threads,
            lanes,
            model: Model::default(),
        }
    }

    async fn step(self, step: Step) -> Both {
        let mut both = self;
        match step {
            Step::Say { channel, many } => {
                let mut entries = Vec::new();
                let mut expected = Vec::new();
                for _ in 0..many {
                    let id = both.model.mint();
                    let source = format!("s{}", both.model.minted);
                    let text = Text::plain(source.as_str());
                    let content = Content::Message(Message::of(MessageKind::Text, text));
                    entries.push(draft_in(channel, &source, id, content));
                    expected.push(both.model.report(id, channel, source, None));
                }
                both.append(channel, entries, expected).await;
            }
            Step::Repeat { channel, number } => {
                let id = both.model.mint();
                let source = format!("s{number}");
                let content =
                    Content::Message(Message::of(MessageKind::Text, Text::plain("again")));
                let entry = draft_in(channel, &source, id, content);
                let expected = both.model.report(id, channel, source, None);
                both.append(channel, vec![entry], vec![expected]).await;
            }
            Step::Change {
                channel,
                kind,
                target,
                shown,
            } => {
                let id = both.model.mint();
                let source = format!("s{}", both.model.minted);
                let target = if shown {
                    format!("n{target}")
                } else {
                    format!("s{target}")
                };
                let entry = match kind {
                    0 => edit(1, &target, "x"),
                    1 => redact(1, &target),
                    _ => react(1, &target),
                };
                let Entry::Event(made) = entry else {
                    panic!("a draft")
                };
                let entry = draft_in(channel, &source, id, made.content);
                let expected = both.model.report(id, channel, source, Some((target, kind)));
                both.append(channel, vec![entry], vec![expected]).await;
            }
            Step::Lane { channel, by, dead } => both.lane(channel, by, dead).await,
            Step::LosePatience => {
                let lost = both.journal.in_store(|store| store.lose_patience()).await;
                assert_eq!(lost, both.model.waiting.len(), "what waited in vain");
                for (_, channel, source, _, _) in std::mem::take(&mut both.model.waiting) {
                    both.model.sources.remove(&(channel, source));
                }
            }
            Step::Age => both.age().await,
            Step::Reopen => {
                let Both {
                    fixture,
                    journal,
                    threads,
                    model,
                    ..
                } = both;
                drop(journal);
                threads.join();
                let (journal, threads) = fixture.open();
                let lanes = lanes(&fixture, &journal).await;
                both = Both {
                    fixture,
                    journal,
                    threads,
                    lanes,
                    model,
                };
            }
        }
        both
    }

    async fn append(&self, channel: usize, entries: Vec<Entry>, expected: Vec<Verdict>) {
        let report = Append {
            network: super::channel(CHANNELS[channel]).network().clone(),
            entries,
            cursor: None,
            writes: Vec::new(),
        };
        let refused = Verdict::Refused(Refusal::UnknownTarget);
        assert!(!expected.contains(&refused));
        assert_eq!(self.journal.append(report).await, Some(expected));
    }

    async fn lane(&mut self, channel: usize, by: u8, dead: Option<u8>) {
        let model = &mut self.model;
        let room = room_of(channel);
        let before = model.done[channel];
        let done = (before + u64::from(by)).min(model.rooms[room].len() as u64);
        let mut progress = LaneWrite {
            done,
            tried: done,
            ..LaneWrite::default()
        };
        let mut named = Vec::new();
        for seq in before + 1..=done {
            let said = &model.rooms[room][seq as usize - 1];
            if said.channel == channel {
                continue;
            }
            if dead == Some((seq % 200) as u8) {
                progress.dead.push(DeadLetter {
                    seq,
                    parked: false,
                    reason: "no".to_owned(),
                    // Never old enough to go by itself.
                    at: Timestamp(i64::MAX),
                });
                if !model.dropped.contains(&(channel, seq)) {
                    model.dead.insert((channel, seq));
                }
            } else {
                let native = format!("n{seq}");
                progress
                    .parts
                    .push((seq, 0, vec![NativeId(native.clone())]));
                named.push((native, seq));
            }
        }
        model.done[channel] = done;
        for (native, seq) in named {
            model.natives.insert((channel, native.clone()), seq);
            model.release(channel, &native);
        }
        write(&self.journal, self.lanes[channel], progress).await;
    }

    async fn age(&mut self) {
        let places: BTreeSet<(i64, u64)> = self
            .journal
            .in_store(|store| {
                let year = Duration::from_secs(365 * 24 * 3600);
                store.pass(year);
                store.pass(year);
                let mut query = store
                    .connection()
                    .prepare("SELECT place >> 40, place & 0xffffffffff FROM events")
                    .expect("a query");
                let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
                rows.expect("rows").collect::<Result<_, _>>().expect("read")
            })
            .await;
        for room in [0, 1] {
            let number = self.lanes[room * 2].room;
            for seq in self.model.needed(room) {
                assert!(
                    places.contains(&(number, seq)),
                    "room {room}: {seq} is needed and gone"
                );
            }
            for (index, said) in self.model.rooms[room].iter_mut().enumerate() {
                said.here = places.contains(&(number, index as u64 + 1));
            }
        }
    }

    async fn compare(&self) {
        for (index, lane) in self.lanes.iter().enumerate() {
            let room = room_of(index);
            let log = &self.model.rooms[room];
            let tail = self
                .journal
                .tail(&self.fixture.rooms[room].0)
                .expect("a tail");
            assert_eq!(*tail.head().borrow(), log.len() as u64);
            let mut after = 0;
            let mut found = Vec::new();
            while after < log.len() as u64 {
                let page = self.journal.events(*lane, after).await.expect("read");
                assert!(
                    page.iter().all(|logged| logged.event().is_some()),
                    "{page:?}"
                );
                found.extend(seqs_and_ids(&page));
                // A page whose events are all gone is empty; the next one need not be.
                after = page.last().map_or(after - after % 128 + 128, Logged::seq);
            }
            let expected = log.iter().enumerate().filter(|(_, said)| said.here);
            let expected: Vec<_> = expected.map(|(i, said)| (i as u64 + 1, said.id)).collect();
            assert_eq!(found, expected);
            let changes = self
                .journal
                .changes(*lane, 0..=u64::MAX >> 24)
                .await
                .expect("read");
            let changes: Vec<_> = changes.iter().map(|c| (c.target_seq, c.seq)).collect();
            assert_eq!(changes, self.model.changes(room));
            let filter = DeadFilter {
                channel: Some(channel(CHANNELS[index])),
                ..DeadFilter::default()
            };
            let dead = self.journal.dead_list(filter, DeadPlace::default(), 1000);
            let dead: BTreeSet<_> = dead
                .await
                .expect("read")
                .iter()
                .map(|letter| (index, letter.seq))
                .collect();
            let expected = self.model.dead.iter().filter(|(lane, _)| *lane == index);
            assert_eq!(dead, expected.copied().collect());
        }
    }
}

async fn lanes(fixture: &Fixture, journal: &Journal) -> Vec<LaneId> {
    let mut lanes = Vec::new();
    for (index, name) in CHANNELS.iter().enumerate() {
        let room = &fixture.rooms[room_of(index)].0;
        lanes.push(journal.lane(room, &channel(name)).await.expect("a lane").0);
    }
    lanes
}

fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_journal_has_what_the_model_has(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut both = Both::new().await;
            for step in steps {
                both = both.step(step).await;
                both.compare().await;
            }
            both.step(Step::Reopen).await.compare().await;
        });
    }
}
