//! What lanes promise, through whole gateways with scripted networks.

use std::time::Duration;

use comity_bridge::event::{Edit, Message, MessageKind, Redact};
use comity_bridge::test_util::scripted::Reaction;
use comity_bridge::{
    Author, Clock, Content, DeliveryError, EventId, NativeRef, SourceId, Text, Timestamp, Verdict,
};
use ulid::Ulid;

use super::tests::{ROOM, World, config};
use super::*;
use crate::journal::{Append, Draft, Entry};

async fn gateway(world: &World, change: impl FnOnce(&mut Config)) -> Gateway {
    let mut config = config(world.kind, world.dir.path());
    change(&mut config);
    Gateway::start(config).await.expect("the gateway starts")
}

fn draft(room: &str, source_id: &str, content: Content<NativeRef>) -> Draft {
    let now = Clock::System.now();
    Draft {
        id: EventId::from_ulid(Ulid::from_parts(1, rand::random())),
        room: room.parse().expect("a room"),
        channel: format!("one/{}", room.split('@').next().expect("a name"))
            .parse()
            .expect("a channel"),
        source_id: SourceId::from(source_id),
        author: Author {
            id: "one/alice".to_owned(),
            address: "alice@one.gw1.example".parse().expect("an address"),
            name: "alice".to_owned(),
            avatar: None,
            bot: false,
            unknown: Default::default(),
        },
        time: now,
        received: now,
        content,
        via: vec!["gw1.example".to_owned()],
        ext: Default::default(),
    }
}

fn message(text: &str) -> Content<NativeRef> {
    Content::Message(Message::of(MessageKind::Text, Text::plain(text)))
}

fn edit(target: &str, text: &str) -> Content<NativeRef> {
    Content::Edit(Edit {
        target: NativeRef::from(target),
        text: Text::plain(text),
        unknown: Default::default(),
    })
}

fn redact(target: &str) -> Content<NativeRef> {
    Content::Redact(Redact {
        target: NativeRef::from(target),
        reason: None,
        unknown: Default::default(),
    })
}

const MAIN: &str = "#room@gw1.example";

async fn commit(gateway: &Gateway, drafts: Vec<Draft>) -> Vec<EventId> {
    let append = Append {
        network: "one".parse().expect("a name"),
        entries: drafts
            .into_iter()
            .map(|draft| Entry::Event(Box::new(draft)))
            .collect(),
        cursor: None,
        writes: Vec::new(),
    };
    let verdicts = gateway.journal.append(append).await.expect("committed");
    let id = |verdict: &Verdict| match verdict {
        Verdict::Accepted(id) => *id,
        other => panic!("{other:?}"),
    };
    verdicts.iter().map(id).collect()
}

async fn say(gateway: &Gateway, source_id: &str, content: Content<NativeRef>) -> EventId {
    commit(gateway, vec![draft(MAIN, source_id, content)]).await[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_in_the_log_already_is_shown_within_its_message() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = gateway(&world, |_| {}).await;
    say(&gateway, "m1", message("hello")).await;
    say(&gateway, "e1", edit("m1", "helo")).await;
    say(&gateway, "e2", edit("m1", "hello there")).await;
    say(&gateway, "m2", message("more")).await;
    world.network("two").come_up();
    let shown = world.network("two").wait_shown(ROOM, 2).await;
    assert_eq!(shown, ["<alice> hello there", "<alice> more"]);
    world.network("three").wait_attempts(2).await;
    gateway.stop().await;
    let shown = world.network("two").shown(ROOM);
    assert_eq!(shown, ["<alice> hello there", "<alice> more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_what_was_shown_is_shown_as_new_where_there_are_no_edits() {
    let world = World::new();
    let gateway = gateway(&world, |_| {}).await;
    say(&gateway, "m1", message("hello")).await;
    world.network("two").wait_shown(ROOM, 1).await;
    say(&gateway, "e1", edit("m1", "hello there")).await;
    world.network("two").wait_shown(ROOM, 2).await;
    say(&gateway, "r1", redact("m1")).await;
    say(&gateway, "m2", message("more")).await;
    assert_eq!(
        world.network("two").wait_shown(ROOM, 3).await,
        [
            "<alice> hello",
            "<alice> (edited) hello there",
            "<alice> more"
        ]
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_before_it_was_shown_is_not_shown() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = gateway(&world, |_| {}).await;
    say(&gateway, "m1", message("oops")).await;
    say(&gateway, "e1", edit("m1", "ooops")).await;
    say(&gateway, "r1", redact("m1")).await;
    say(&gateway, "m2", message("more")).await;
    world.network("two").come_up();
    world.network("two").wait_shown(ROOM, 1).await;
    gateway.stop().await;
    assert_eq!(world.network("two").shown(ROOM), ["<alice> more"]);
    assert_eq!(world.network("two").attempts().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_what_was_taken_back_is_shown_nowhere() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = gateway(&world, |_| {}).await;
    say(&gateway, "m1", message("oops")).await;
    world.network("three").wait_shown(ROOM, 1).await;
    say(&gateway, "r1", redact("m1")).await;
    say(&gateway, "m2", message("more")).await;
    world.network("two").come_up();
    world.network("two").wait_shown(ROOM, 1).await;
    say(&gateway, "e1", edit("m1", "ooops")).await;
    say(&gateway, "m3", message("and more")).await;
    world.network("two").wait_shown(ROOM, 2).await;
    world.network("three").wait_shown(ROOM, 3).await;
    gateway.stop().await;
    let said = ["<alice> more", "<alice> and more"];
    assert_eq!(world.network("two").shown(ROOM), said);
    assert_eq!(world.network("three").shown(ROOM)[1..], said);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_is_told_once_and_alone_what_was_not_shown() {
    let world = World::new();
    let why = DeliveryError::TooLarge("9 MB".to_owned());
    world.network("two").next(Reaction::GiveUp(why));
    let gateway = gateway(&world, |_| {}).await;
    say(&gateway, "m1", message("a long story")).await;
    say(&gateway, "m2", message("more")).await;
    assert_eq!(
        world.network("one").wait_shown(ROOM, 1).await,
        [
            "<comity> alice: your message “a long story” could not be shown in two/#room: it is too long."
        ]
    );
    world.network("three").wait_shown(ROOM, 2).await;
    gateway.stop().await;
    assert_eq!(world.network("two").shown(ROOM), ["<alice> more"]);
    assert_eq!(world.network("one").shown(ROOM).len(), 1);
    assert_eq!(
        world.network("three").shown(ROOM),
        ["<alice> a long story", "<alice> more"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_when_it_is_tried_again_with_its_newest_text() {
    let world = World::new();
    let two = world.network("two");
    two.next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    let gateway = gateway(&world, |config| {
        for network in &mut config.networks {
            network.delivery.tell_authors = false;
        }
    })
    .await;
    let id = say(&gateway, "m1", message("hello")).await;
    say(&gateway, "m2", message("more")).await;
    two.wait_shown(ROOM, 1).await;
    say(&gateway, "e1", edit("m1", "hello there")).await;
    say(&gateway, "m3", message("and more")).await;
    two.wait_shown(ROOM, 2).await;
    // Refused once more, it is a dead letter again.
    let channel = "two/#room".parse().expect("a channel");
    two.next(Reaction::GiveUp(DeliveryError::Forbidden("+m".to_owned())));
    for attempts in [4, 5] {
        while !gateway
            .journal
            .dead_retry(&channel, id)
            .await
            .expect("asked")
        {
            tokio::task::yield_now().await;
        }
        two.wait_attempts(attempts).await;
        let again = |letters: &Vec<crate::journal::DeadEntry>| letters.iter().any(|l| l.again);
        loop {
            let letters = gateway
                .journal
                .dead_list(Default::default(), Default::default(), 10)
                .await
                .expect("read");
            if !again(&letters) {
                break;
            }
        }
    }
    assert_eq!(
        two.shown(ROOM),
        ["<alice> more", "<alice> and more", "<alice> hello there"]
    );
    let letters = gateway
        .journal
        .dead_list(Default::default(), Default::default(), 10)
        .await
        .expect("read");
    assert!(letters.is_empty(), "{letters:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_for_too_long_becomes_a_dead_letter() {
    let world = World::new();
    world.network("two").go_down();
    let gateway = gateway(&world, |config| {
        for network in &mut config.networks {
            network.delivery.hold = Duration::from_millis(100);
        }
    })
    .await;
    say(&gateway, "m1", message("hello")).await;
    assert_eq!(
        world.network("one").wait_shown(ROOM, 1).await,
        [
            "<comity> alice: your message “hello” could not be shown in two/#room: the network could not be reached for too long."
        ]
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_not_shown_and_what_is_late_says_so() {
    let world = World::new();
    let gateway = gateway(&world, |config| {
        for network in &mut config.networks {
            network.delivery.stale_after = Some(Duration::from_secs(3600));
        }
    })
    .await;
    let mut stale = draft(MAIN, "m1", message("old"));
    stale.received.0 -= 2 * 3600 * 1000;
    let mut late = draft(MAIN, "m2", message("late"));
    late.time.0 -= 2 * 3600 * 1000;
    let written = late.time;
    let fresh = draft(MAIN, "m3", message("fresh"));
    commit(&gateway, vec![stale, late, fresh]).await;
    assert_eq!(
        world.network("two").wait_shown(ROOM, 2).await,
        ["<alice> late", "<alice> fresh"]
    );
    let late: Vec<Option<Timestamp>> = world
        .network("two")
        .attempts()
        .iter()
        .map(|attempt| attempt.late)
        .collect();
    assert_eq!(late, [Some(written), None]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_of_one_room_does_not_keep_another_waiting() {
    const BACKLOG: usize = 10_000;
    let world = World::new();
    let two = world.network("two");
    two.go_down();
    let gateway = gateway(&world, |config| {
        let mut other = config.rooms[0].clone();
        other.address = "#other@gw1.example".parse().expect("a room");
        other.channels = ["one/#other", "two/#other"]
            .map(|channel| channel.parse().expect("a channel"))
            .to_vec();
        config.rooms.push(other);
        for network in &mut config.networks {
            network.delivery.messages_per_second = Some(500);
        }
    })
    .await;
    for page in 0..BACKLOG / 500 {
        let drafts = (0..500).map(|n| {
            let id = (page * 500 + n).to_string();
            draft(MAIN, &id, message(&id))
        });
        commit(&gateway, drafts.collect()).await;
    }
    two.come_up();
    two.wait_shown(ROOM, 10).await;
    let before = two.shown(ROOM).len();
    commit(
        &gateway,
        vec![draft("#other@gw1.example", "x", message("hi"))],
    )
    .await;
    two.wait_shown("#other", 1).await;
    let between = two.shown(ROOM).len() - before;
    assert!(between < 250, "{between} others were shown before");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_channel_is_shown_nothing_until_it_is_let_go() {
    let world = World::new();
    let gateway = gateway(&world, |_| {}).await;
    let channel = "two/#room".parse().expect("a channel");
    let board = Arc::clone(gateway.board().channel(&channel).expect("on the board"));
    say(&gateway, "m1", message("hello")).await;
    world.network("two").wait_shown(ROOM, 1).await;
    board.paused.send_replace(Some(Timestamp(1)));
    say(&gateway, "m2", message("held")).await;
    world.network("three").wait_shown(ROOM, 2).await;
    assert_eq!(world.network("two").attempts().len(), 1);
    board.paused.send_replace(None);
    let shown = world.network("two").wait_shown(ROOM, 2).await;
    assert_eq!(shown, ["<alice> hello", "<alice> held"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_kills_its_bridge_is_found_also_across_a_restart() {
    let world = World::new();
    let two = world.network("two");
    let quiet = |config: &mut Config| {
        for network in &mut config.networks {
            network.delivery.tell_authors = false;
        }
    };
    for _ in 0..3 {
        two.next(Reaction::Panic);
    }
    let first = gateway(&world, quiet).await;
    say(&first, "m1", message("poison")).await;
    two.wait_attempts(2).await;
    first.stop().await;
    let second = gateway(&world, quiet).await;
    say(&second, "m2", message("good")).await;
    assert_eq!(two.wait_shown(ROOM, 1).await, ["<alice> good"]);
    let letters = second
        .journal
        .dead_list(Default::default(), Default::default(), 10)
        .await
        .expect("read");
    let reasons: Vec<&str> = letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(reasons, ["the bridge died with it in hand 3 times"]);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_delivery_are_remembered() {
    let world = World::new();
    world.network("two").next(Reaction::Retry(Duration::ZERO));
    let gateway = gateway(&world, |_| {}).await;
    let channel = "two/#room".parse().expect("a channel");
    let board = Arc::clone(gateway.board().channel(&channel).expect("on the board"));
    say(&gateway, "m1", message("hello")).await;
    world.network("two").wait_shown(ROOM, 1).await;
    gateway.stop().await;
    let steps = serde_json::to_value(board.steps.of(1)).expect("JSON");
    let words: Vec<&str> = steps
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(words, ["handed_over", "retry", "handed_over", "shown"]);
}
