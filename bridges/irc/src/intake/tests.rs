use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use comity_bridge::{
    Capabilities, ChannelState, NetworkName, NetworkStatus, Remembered, Skip, Verdict,
    report::{self, Refusal},
};

use super::*;
use crate::{ident::ChannelName, session::Verb};

/// A journal that keeps what it is given, and says that it is busy at first.
#[derive(Default)]
struct Journal {
    busy: Mutex<usize>,
    taken: Mutex<Vec<Batch>>,
}

#[async_trait]
impl report::Intake for Journal {
    async fn commit(&self, _network: &NetworkName, batch: Batch) -> Answer {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(less) = busy.checked_sub(1) {
            *busy = less;
            return Answer::Busy;
        }
        let verdicts = vec![Verdict::Refused(Refusal::Loop); batch.incoming.len()];
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(batch);
        Answer::Committed(verdicts)
    }

    fn skip(&self, _network: &NetworkName, _skip: Skip) {}
    fn network(&self, _network: &NetworkName, _status: NetworkStatus) {}
    fn channel(&self, _channel: &Channel, _state: ChannelState) {}
    fn capabilities(&self, _network: &NetworkName, _capabilities: Capabilities) {}

    async fn remembered(&self, _network: &NetworkName) -> Remembered {
        Remembered::default()
    }
}

impl Journal {
    fn texts(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let incoming = taken.iter().flat_map(|batch| &batch.incoming);
        let texts = incoming.map(|incoming| match &incoming.content {
            comity_bridge::event::Content::Message(message) => message.text.plain.clone(),
            other => panic!("no message: {other:?}"),
        });
        texts.collect()
    }
}

fn intake(busy: usize, max_waiting: usize) -> (Arc<Journal>, Intake) {
    let journal = Arc::new(Journal {
        busy: Mutex::new(busy),
        ..Journal::default()
    });
    let network = "libera".parse().expect("a network name");
    let reports = Reports::new(network, journal.clone());
    (journal, Intake::new(reports, max_waiting))
}

fn say(intake: &mut Intake, number: u64, text: String) {
    let heard = Heard {
        channel: ChannelName::parse("#rust").expect("a name"),
        verb: Verb::Privmsg,
        nick: "ann".to_owned(),
        account: None,
        names_accounts: false,
        bot: false,
        msgid: None,
        time: None,
        number,
        text,
    };
    let channel = "libera/#rust".parse().expect("a channel");
    intake.add(Box::new(heard), channel, &"epoch".into(), Timestamp(1));
}

async fn drain(intake: &mut Intake) {
    let mut memory = Memory::default();
    while !intake.is_idle() {
        intake.begin(&mut memory);
        intake.progress().await;
    }
}

#[tokio::test]
async fn a_burst_of_fifty_thousand_lines_waits_for_a_busy_journal_and_is_taken_whole_and_in_order()
{
    let (journal, mut intake) = intake(1, 65_536);
    let lines: Vec<String> = (0..50_000).map(|n| format!("line-{n}")).collect();
    for (number, line) in (0..).zip(&lines) {
        assert!(!intake.is_full(), "at {number}");
        say(&mut intake, number, line.clone());
    }
    drain(&mut intake).await;
    assert!(journal.texts() == lines);
    assert_eq!(intake.bytes, 0);
    assert!(intake.waiting.capacity() <= 2 * MAX_BATCH, "memory is kept");
}

#[test]
fn long_lines_are_bounded_by_their_bytes() {
    let (_journal, mut intake) = intake(0, usize::MAX);
    let mut number = 0;
    while !intake.is_full() {
        say(&mut intake, number, "x".repeat(8000));
        number += 1;
    }
    assert!((3500..=4200).contains(&number), "{number}");
}

#[tokio::test]
async fn what_is_no_message_takes_no_room_afterwards() {
    let (journal, mut intake) = intake(0, 100);
    say(&mut intake, 1, "\x01VERSION\x01".to_owned());
    say(&mut intake, 2, "hi".to_owned());
    drain(&mut intake).await;
    assert_eq!(journal.texts(), ["hi"]);
    assert_eq!(intake.bytes, 0);
}

#[tokio::test]
async fn a_line_is_committed_at_once_and_a_floods_after_a_moment() {
    let (journal, mut intake) = intake(0, 65_536);
    let mut memory = Memory::default();
    for number in 0..2 {
        say(&mut intake, number, "hi".to_owned());
        intake.begin(&mut memory);
        assert!(intake.committing.is_some(), "line {number} waits");
        intake.progress().await;
    }
    let flood = |intake: &mut Intake, count| {
        for number in 0..count {
            say(intake, number, "flood".to_owned());
        }
    };
    flood(&mut intake, FLOOD as u64);
    intake.begin(&mut memory);
    intake.progress().await;
    flood(&mut intake, 1);
    intake.begin(&mut memory);
    assert!(intake.committing.is_none(), "the next does not gather");
    // The moment is over.
    intake.progress().await;
    intake.begin(&mut memory);
    assert!(intake.committing.is_some(), "the moment has no end");
    intake.progress().await;
    flood(&mut intake, FLOOD as u64);
    intake.begin(&mut memory);
    intake.progress().await;
    flood(&mut intake, GATHERED as u64);
    intake.begin(&mut memory);
    assert!(intake.committing.is_some(), "enough have come");
    drain(&mut intake).await;
    assert_eq!(journal.texts().len(), 2 + FLOOD + 1 + FLOOD + GATHERED);
}
