use std::sync::atomic::Ordering;

use comity_bridge::event::{Message, MessageKind};
use comity_bridge::test_util::scripted::ScriptedKind;
use comity_bridge::{Content, Cursor, DeliveryKey, Event, EventId, NativeAuthor, SourceId, Text};

use super::*;
use crate::config::sample;

struct Fixture {
    gate: Gate,
    board: Arc<Board>,
    metrics: Metrics,
    _dir: tempfile::TempDir,
}

async fn fixture(say_gaps: bool, waiting: u64) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let kind: &'static ScriptedKind = Box::leak(Box::default());
    let mut config = sample::scripted(kind, dir.path(), &["one", "two"]);
    config.journal.waiting_per_network = waiting;
    for network in &mut config.networks {
        network.delivery.say_gaps = say_gaps;
    }
    let names: Vec<NetworkName> = config.networks.iter().map(|n| n.name.clone()).collect();
    let rooms = vec![(room(), config.rooms[0].channels.clone())];
    let metrics = Metrics::new(&names);
    let networks = names.iter().map(|name| (name.clone(), "scripted"));
    let board = Arc::new(Board::new(networks.collect(), rooms.clone()));
    let (journal, _threads) = Journal::open(dir.path(), &rooms, &config.journal, metrics.clone())
        .expect("the journal opens");
    let gate = Gate::new(&config, journal, Arc::clone(&board), metrics.clone());
    gate.begin();
    Fixture {
        gate,
        board,
        metrics,
        _dir: dir,
    }
}

fn room() -> RoomAddress {
    "#room@gw1.example".parse().expect("a room")
}

fn channel(name: &str) -> Channel {
    name.parse().expect("a channel")
}

fn said(number: u64) -> Incoming {
    Incoming {
        channel: channel("one/#room"),
        source_id: SourceId(number.to_string()),
        author: NativeAuthor::named("alice", "alice"),
        claimed: None,
        own: None,
        content: Content::Message(Message::of(
            MessageKind::Text,
            Text::plain(format!("line {number}")),
        )),
        via: Vec::new(),
    }
}

fn gap(until: i64) -> Gap {
    Gap {
        channel: channel("one/#room"),
        from: Timestamp(1_732_276_800_000),
        until: Timestamp(until),
    }
}

impl Fixture {
    async fn commit(&self, batch: Batch) -> Answer {
        let network = "one".parse().expect("a name");
        self.gate.commit(&network, batch).await
    }

    async fn say(&self, number: u64) -> Answer {
        let incoming = vec![said(number)];
        self.commit(Batch {
            incoming,
            ..Batch::default()
        })
        .await
    }

    async fn events(&self) -> Vec<Arc<Event>> {
        let tail = self.gate.journal.tail(&room()).expect("a tail");
        tail.after(0, 100).unwrap_or_default()
    }

    /// Both lanes have finished with everything up to here.
    fn done(&self, seq: u64) {
        for name in ["one/#room", "two/#room"] {
            let board = self.board.channel(&channel(name)).expect("on the board");
            board.done.store(seq, Ordering::Relaxed);
        }
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|have| have == line)
    }
}

fn text(event: &Event) -> &str {
    match &event.content {
        Content::Message(message) => &message.text.plain,
        _ => "",
    }
}

#[tokio::test]
async fn a_gap_is_counted_and_said_once_before_what_comes_after_it() {
    let f = fixture(true, 100).await;
    let batch = Batch {
        incoming: vec![said(1)],
        gaps: vec![gap(1_732_277_100_000)],
        ..Batch::default()
    };
    let Answer::Committed(verdicts) = f.commit(batch.clone()).await else {
        panic!("busy")
    };
    assert!(
        matches!(verdicts[..], [Verdict::Accepted(_)]),
        "one verdict for each item of the report: {verdicts:?}"
    );
    f.commit(batch).await;
    let events = f.events().await;
    let texts: Vec<&str> = events.iter().map(|event| text(event)).collect();
    assert_eq!(
        texts,
        [
            "Messages in one/#room between 12:00 and 12:05 UTC may be missing: that network has not kept them.",
            "line 1"
        ]
    );
    assert_eq!(events[0].author.address.to_string(), "comity@gw1.example");
    assert!(events[0].author.bot);
    assert_eq!(events[0].origin.channel, "#room");
    assert!(
        f.counts("comity_gaps_total{network=\"one\"} 2"),
        "{}",
        f.metrics.render()
    );
}

#[tokio::test]
async fn a_gap_is_said_only_where_the_operator_wants_it() {
    let f = fixture(false, 100).await;
    let batch = Batch {
        gaps: vec![gap(1_732_277_100_000)],
        ..Batch::default()
    };
    assert_eq!(f.commit(batch).await, Answer::Committed(Vec::new()));
    assert!(f.events().await.is_empty());
    assert!(f.counts("comity_gaps_total{network=\"one\"} 1"));
}

#[tokio::test]
async fn a_network_over_its_quota_is_put_off_until_the_lanes_have_caught_up() {
    let f = fixture(false, 2).await;
    for number in 1..=2 {
        assert!(matches!(f.say(number).await, Answer::Committed(_)));
    }
    assert_eq!(f.say(3).await, Answer::Busy);
    assert!(f.counts("comity_quota_reached{network=\"one\"} 1"));
    assert!(f.counts("comity_busy_total{network=\"one\",reason=\"quota\"} 1"));
    f.gate.count_waiting();
    assert!(f.counts("comity_waiting_from{network=\"one\"} 2"));
    f.done(2);
    assert!(matches!(f.say(3).await, Answer::Committed(_)));
    assert!(f.counts("comity_quota_reached{network=\"one\"} 0"));
    assert_eq!(f.events().await.len(), 3, "nothing was lost or doubled");
}

#[tokio::test]
async fn a_network_over_its_quota_may_still_say_what_became_of_our_messages() {
    let f = fixture(false, 1).await;
    let Answer::Committed(verdicts) = f.say(1).await else {
        panic!("busy")
    };
    let Verdict::Accepted(event) = verdicts[0] else {
        panic!("{verdicts:?}")
    };
    let echo = |source: &str, event: EventId| Incoming {
        own: Some(DeliveryKey {
            event,
            channel: channel("one/#room"),
        }),
        source_id: SourceId(source.to_owned()),
        ..said(0)
    };
    let cursor = Batch {
        cursor: Some(Cursor("7".to_owned())),
        incoming: vec![echo("native", event)],
        ..Batch::default()
    };
    assert_eq!(
        f.commit(cursor).await,
        Answer::Committed(vec![Verdict::Receipt])
    );
    let both = Batch {
        incoming: vec![echo("again", event), said(2)],
        ..Batch::default()
    };
    assert_eq!(f.commit(both).await, Answer::Busy);
    assert_eq!(f.events().await.len(), 1);
}

#[tokio::test]
async fn a_bridge_does_not_begin_without_what_was_kept_for_it() {
    let fixture = fixture(false, 1000).await;
    let network: NetworkName = "one".parse().expect("a name");
    let journal = &fixture.gate.journal;
    let renamed = journal.in_store(|store| {
        let sql = "ALTER TABLE cursors RENAME TO away";
        store.connection().execute_batch(sql)
    });
    let renamed = renamed.await;
    renamed.expect("the file can be written");
    let asked = fixture.gate.remembered(&network);
    let answer = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert!(answer.is_err(), "{answer:?}");
    let board = fixture.board.network(&network).expect("on the board");
    assert!(matches!(
        &*board.status.borrow(),
        NetworkStatus::Offline { .. }
    ));
}
