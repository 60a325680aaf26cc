//! What the rooms themselves say, while transactions cannot be trusted.

use super::*;

const PLACE: (&str, &str) = ("place/!r:hs.test", "10000000 $have");
const ROOM: (&str, &str) = ("room/#rust:hs.test", "!r:hs.test");

fn id(n: usize) -> String {
    format!("$n{n}")
}

/// Some messages, newest first.
fn newest(ids: &[&str]) -> Vec<RoomEvent> {
    ids.iter().map(|id| said(id, "x")).collect()
}

/// Messages by number, oldest first, and the one who says them.
fn numbered(from: usize, count: usize) -> Vec<RoomEvent> {
    let messages = (from..from + count).map(|n| said(&id(n), "x"));
    [member("@bob:hs.test", "join")]
        .into_iter()
        .chain(messages)
        .collect()
}

fn page(events: Vec<RoomEvent>, next: Option<&str>) -> Result<Answer, Fault> {
    let next = next.map(str::to_owned);
    Ok(Answer::Page { events, next })
}

fn old(mut event: RoomEvent) -> RoomEvent {
    event.remarks.age = Some(2_010);
    event
}

/// Said after what we have.
fn later(id: &str) -> RoomEvent {
    let mut event = said(id, "x");
    event.origin_server_ts = Some(10_000_001);
    event
}

fn joining() -> RoomEvent {
    let content = json!({"membership": "join"});
    let bot = "@bot:hs.test";
    event("$us", "m.room.member", bot, Some(bot), content)
}

impl Bench {
    /// A session that has come up again, after it had the event `$have` of its room.
    fn again() -> Self {
        let mut bench = Self::new(Users::Ghosts, &[ROOM, PLACE]);
        bench.join(ALIAS);
        bench.come_up();
        bench.answer("Join", Ok(Answer::Done));
        bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
        bench.answer_names();
        bench.heard.clear();
        bench
    }

    fn answer_names(&mut self) {
        while self.kinds().contains(&"Member".to_owned()) {
            self.answer("Member", Ok(Answer::Member(MemberState::default())));
        }
    }

    fn asks(&self, kind: &str) -> bool {
        self.kinds().iter().any(|it| it == kind)
    }

    fn gaps(&mut self) -> usize {
        let heard = self.heard();
        heard.iter().filter(|it| it.starts_with("gap")).count()
    }
}

#[test]
fn what_a_room_has_before_a_transaction_goes_before_it_and_is_not_taken_again() {
    let mut bench = Bench::again();
    bench.push(1, newest(&["$3"]));
    assert!(bench.commits.is_empty());
    bench.answer("History", page(newest(&["$4", "$3", "$2", "$have"]), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$2", "$3", "$4"]);
    assert_eq!(bench.heard(), ["answer 1 true"]);
    // All of it comes again, and nothing has to be asked for.
    bench.push(2, newest(&["$4"]));
    bench.push(3, newest(&["$2"]));
    assert_eq!(bench.heard(), ["answer 2 true", "answer 3 true"]);
    assert!(bench.commits.is_empty());
    assert!(!bench.asks("History"));
}

#[test]
fn what_overtakes_a_transaction_that_we_refused_waits_for_it() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![said("$1", "x")]);
    bench.answer_names();
    bench.commit();
    bench.session.handle_turned_away(bench.now);
    bench.drain();
    bench.push(3, vec![said("$3", "x")]);
    bench.answer("History", page(newest(&["$3", "$2", "$1"]), None));
    assert_eq!(bench.commit(), ["$2", "$3"]);
}

#[test]
fn a_transaction_that_was_kept_back_arouses_suspicion() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![said("$1", "x")]);
    bench.answer_names();
    bench.commit();
    // Left behind at the end of a recovery that nobody told us of.
    bench.push(3, vec![old(said("$3", "x"))]);
    bench.answer("History", page(newest(&["$3", "$2", "$1"]), None));
    assert_eq!(bench.commit(), ["$2", "$3"]);
}

/// The newest page of a room in which so many things were said.
fn newest_of(count: usize) -> Result<Answer, Fault> {
    let ids: Vec<String> = (1..=count).rev().map(|n| format!("${n}")).collect();
    let ids = ids.iter().map(String::as_str).chain(["$have"]);
    page(newest(&ids.collect::<Vec<_>>()), None)
}

#[test]
fn what_is_left_behind_by_a_recovery_that_brought_only_news_is_found() {
    let mut bench = Bench::again();
    for number in 1..=4 {
        bench.push(number, newest(&[&format!("${number}")]));
        bench.answer("History", newest_of(number as usize));
        bench.answer_names();
        bench.commit();
        bench.wait(1);
    }
    // Said at the end of the recovery, and nothing follows.
    bench.wait(2);
    bench.answer("History", newest_of(5));
    assert_eq!(bench.commit(), ["$5"]);
}

#[test]
fn a_room_that_is_never_quiet_is_trusted_all_the_same() {
    let mut bench = Bench::again();
    for number in 1..=25 {
        bench.push(number, newest(&[&format!("${number}")]));
        while bench.asks("History") {
            bench.answer("History", newest_of(number as usize));
        }
        bench.answer_names();
        bench.commit();
        bench.wait(1);
    }
    while bench.asks("History") {
        bench.answer("History", newest_of(25));
    }
    bench.push(26, newest(&["$26"]));
    assert!(!bench.asks("History"));
    assert_eq!(bench.commit(), ["$26"]);
}

#[test]
fn a_message_that_was_long_on_its_way_between_two_homeservers_arouses_none() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut far = old(said("$1", "x"));
    far.sender = owned_user_id!("@zoe:elsewhere.test");
    bench.push(1, vec![far]);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
    assert!(!bench.asks("History"));
}

#[test]
fn once_the_rooms_are_whole_nothing_is_asked() {
    let mut bench = Bench::joined(Users::Ghosts);
    for n in 0..50 {
        bench.push(n, vec![said(&format!("${n}"), "x")]);
        bench.answer_names();
        bench.commit();
        bench.wait(1);
    }
    assert!(bench.calls.is_empty(), "{:?}", bench.kinds());
}

#[test]
fn a_quiet_room_is_looked_at_once_when_it_is_calm() {
    let mut bench = Bench::again();
    bench.settle(newest(&["$left", "$have"]));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$left"]);
    for _ in 0..100 {
        bench.wait(10);
    }
    assert_eq!(bench.kinds(), ["Ping"], "and that is not about the room");
}

#[test]
fn it_is_not_calm_while_the_homeserver_sends_what_it_kept() {
    let mut bench = Bench::again();
    bench.push(0, vec![old(said("$0", "x"))]);
    let all: Vec<RoomEvent> = numbered(1, 30).into_iter().rev().collect();
    let all = [all, newest(&["$0", "$have"])].concat();
    bench.answer("History", page(all, None));
    bench.answer_names();
    bench.commit();
    for n in 1..=30 {
        bench.now += Duration::from_secs(1);
        bench.push(n, vec![old(said(&id(n as usize), "x"))]);
        bench.session.handle_timeout(bench.now);
        bench.drain();
        assert!(!bench.asks("History"), "looked after {n} s");
    }
    bench.wait(3);
    assert!(bench.asks("History"));
}

#[test]
fn it_is_not_calm_before_the_homeserver_reaches_us() {
    let mut bench = Bench::new(Users::Ghosts, &[ROOM, PLACE]);
    bench.join(ALIAS);
    bench.answer("Versions", Ok(Answer::Done));
    bench.answer("Register", Ok(Answer::Done));
    bench.answer("Whoami", Ok(Answer::User(owned_user_id!("@bot:hs.test"))));
    bench.answer("SetName", Ok(Answer::Done));
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    bench.answer("Ping", Ok(Answer::NotReached("refused".into())));
    bench.wait(4);
    bench.answer("Ping", Ok(Answer::Done));
    assert!(!bench.asks("History"));
    bench.wait(3);
    assert!(bench.asks("History"));
}

#[test]
fn a_room_that_was_missed_for_long_is_read_forwards_a_page_at_a_time() {
    let mut bench = Bench::again();
    bench.push(1, vec![said(&id(2_000), "x")]);
    // What we have is not on the newest page.
    bench.answer("History", page(newest(&["$n2000", "$n1999"]), Some("back")));
    bench.answer("After", page(numbered(0, 1), Some("t1")));
    assert!(!bench.asks("Onward"), "before the page is committed");
    assert_eq!(bench.commit(), [id(0)]);
    for n in 0..20 {
        let from = 1 + n * 100;
        let call = bench.answer("Onward", page(numbered(from, 100), Some(&format!("u{n}"))));
        let Call::Onward { from: token, .. } = call else {
            panic!("{call:?}")
        };
        let before = n
            .checked_sub(1)
            .map_or_else(|| "t1".into(), |n| format!("u{n}"));
        assert_eq!(token, before);
        assert!(bench.heard().is_empty(), "the transaction waits");
        let ids: Vec<String> = (from..from + 100).map(id).collect();
        assert_eq!(bench.commit(), ids);
        assert_eq!(bench.kept[0].0, "place/!r:hs.test");
        assert!(bench.kept[0].1.ends_with(&format!(" {}", id(from + 99))));
    }
    bench.answer("Onward", page(vec![], None));
    assert_eq!(bench.heard(), ["answer 1 true"]);
    assert!(bench.commits.is_empty());
    assert_eq!(bench.gaps(), 0);
}

#[test]
fn a_transaction_waits_while_pages_come_and_not_for_ever() {
    for pages in [4, 8] {
        let mut bench = Bench::again();
        bench.push(1, vec![said("$last", "x")]);
        bench.answer("History", page(newest(&["$last"]), Some("back")));
        bench.answer("After", page(numbered(0, 1), Some("t0")));
        bench.commit();
        for n in 1..=pages {
            bench.wait(2);
            let next = format!("t{n}");
            bench.answer("Onward", page(numbered(n, 1), Some(&next)));
            if n < 8 {
                assert_eq!(bench.commit(), [id(n)]);
            }
        }
        let is_let_go = bench
            .commits
            .iter()
            .any(|(_, incoming)| incoming.iter().any(|it| it.source_id.0 == "$last"));
        assert_eq!(is_let_go, pages == 8, "after {pages} pages");
    }
}

#[test]
fn what_claims_to_be_much_older_than_what_we_have_is_no_news() {
    let mut bench = Bench::again();
    let aged = |id: &str, hours: u64| {
        let mut event = said(id, "x");
        event.origin_server_ts = Some(10_000_000 + 1_000_000_000 - hours * 3_600_000);
        event
    };
    // The wall is a thousand million milliseconds on, and so is what we have.
    bench.session = Session::new(
        bench.now,
        Timestamp(1_010_000_000),
        settings(Users::Ghosts),
        [
            ("room/#rust:hs.test", "!r:hs.test"),
            ("place/!r:hs.test", "1010000000 $have"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    bench.calls.clear();
    bench.drain();
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    let events = vec![aged("$new", 0), aged("$late", 23), aged("$history", 25)];
    let events = [events, newest(&["$have"])].concat();
    bench.settle(events);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$late", "$new"]);
    assert!(bench.gaps() > 0);
    // What a transaction brings is not judged by its time.
    bench.push(1, vec![aged("$history", 25)]);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$history"]);
}

#[test]
fn what_the_homeserver_shows_to_nobody_is_not_shown() {
    let mut bench = Bench::joined(Users::Ghosts);
    let mut smuggled = said("$2", "x");
    smuggled.remarks.soft_failed = true;
    bench.push(1, vec![said("$1", "x"), smuggled]);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
    assert!(bench.kept[0].1.ends_with(" $1"), "{:?}", bench.kept);
    assert_eq!(bench.heard(), ["skip forbidden", "answer 1 true"]);
}

#[test]
fn how_far_a_room_is_known_is_kept_with_each_commit() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(0, vec![said("$1", "x")]);
    bench.answer_names();
    let kept = ("place/!r:hs.test".to_owned(), "10003000 $1".to_owned());
    assert_eq!(bench.kept, [kept]);
}

#[test]
fn while_a_room_is_not_known_to_be_whole_a_transaction_does_not_say_how_far_it_is_known() {
    let mut bench = Bench::again();
    bench.push(1, vec![said("$branch", "x")]);
    // Sorted in somewhere before what we have.
    bench.answer("History", page(newest(&["$2", "$have"]), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$2"]);
    assert_eq!(bench.commit(), ["$branch"]);
    assert!(bench.kept[0].1.ends_with(" $2"), "{:?}", bench.kept);
}

#[test]
fn a_room_of_which_nothing_is_known_begins_with_our_joining() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.enter();
    let events = [newest(&["$2", "$1"]), vec![joining()], newest(&["$0"])].concat();
    bench.settle(events);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1", "$2"]);
}

#[test]
fn a_new_name_of_the_bot_is_no_joining() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.enter();
    let mut renamed = joining();
    renamed.remarks.was_in = true;
    let events = [
        newest(&["$2"]),
        vec![renamed],
        newest(&["$1"]),
        vec![joining()],
    ]
    .concat();
    bench.settle(events);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1", "$2"]);
}

#[test]
fn how_far_a_quiet_room_is_known_is_kept_as_soon_as_it_is_entered() {
    let mut bench = Bench::new(Users::Ghosts, &[]);
    bench.join(ALIAS);
    bench.come_up();
    bench.enter();
    bench.answer("History", page(newest(&["$2", "$1"]), Some("back")));
    let heard = bench.heard();
    assert!(
        heard.contains(&"keep place/!r:hs.test=10000000 $2".to_owned()),
        "{heard:?}"
    );
    assert!(bench.commits.is_empty(), "it was said before we came");
}

#[test]
fn what_is_sorted_in_before_what_we_have_is_found_when_it_is_calm() {
    let mut bench = Bench::again();
    bench.push(1, newest(&["$3"]));
    bench.answer("History", page(newest(&["$3", "$1", "$have"]), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1", "$3"]);
    bench.push(2, newest(&["$4"]));
    bench.answer("History", page(newest(&["$4", "$3", "$1", "$have"]), None));
    assert_eq!(bench.commit(), ["$4"]);
    // Said at the same time as the third, by its own branch of the room; no transaction brings it.
    bench.wait(3);
    let all = newest(&["$4", "$3", "$2", "$1", "$have", "$before"]);
    bench.answer("History", page(all, None));
    assert_eq!(bench.commit(), ["$2"]);
    assert!(bench.kept[0].1.ends_with(" $4"), "{:?}", bench.kept);
    assert!(bench.commits.is_empty());
}

#[test]
fn events_of_another_room_on_a_page_are_nothing_to_go_by() {
    let mut bench = Bench::again();
    let mut other = said("$other", "x");
    other.room_id = owned_room_id!("!other:hs.test");
    bench.push(1, newest(&["$1"]));
    let events = [vec![other], newest(&["$1", "$have"])].concat();
    bench.answer("History", page(events, None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
    assert!(bench.kept[0].1.ends_with(" $1"), "{:?}", bench.kept);
}

#[test]
fn a_homeserver_that_hangs_up_while_it_waits_arouses_suspicion() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![said("$1", "x")]);
    bench.answer_names();
    bench.commit();
    bench.session.handle_hung_up(bench.now);
    bench.wait(3);
    bench.answer("History", page(newest(&["$2", "$1"]), None));
    assert_eq!(bench.commit(), ["$2"]);
}

#[test]
fn a_room_that_could_not_be_read_is_tried_again_when_it_is_calm() {
    let mut bench = Bench::again();
    bench.push(1, vec![said("$2", "x")]);
    for kind in ["History", "After", "After", "After", "After"] {
        bench.answer(kind, Err(Fault::Unreadable("not json".into())));
        // It is not calm.
        bench.session.timeline.postpone(bench.now);
        bench.wait(1);
    }
    bench.answer_names();
    assert_eq!(bench.commit(), ["$2"]);
    assert_eq!(bench.gaps(), 0);
    bench.wait(3);
    bench.answer("History", page(newest(&["$2", "$1", "$have"]), None));
    assert_eq!(bench.commit(), ["$1"]);
    assert_eq!(bench.gaps(), 0);
}

#[test]
fn what_comes_while_the_homeserver_is_away_does_not_say_how_far_a_room_is_known() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![said("$1", "x")]);
    bench.answer_names();
    bench.commit();
    bench.deliver(job(1, "hi"));
    bench.make_ghost();
    bench.answer("Send", Err(Fault::Unreachable("refused".into())));
    // It has ended with two messages that it had for us, and is back before we have noticed.
    bench.push(2, vec![said("$4", "x")]);
    bench.wait(5);
    assert_eq!(bench.commit(), ["$4"]);
    assert!(bench.kept[0].1.ends_with(" $1"), "{:?}", bench.kept);
    bench.come_up();
    bench.answer("History", page(newest(&["$4", "$3", "$2", "$1"]), None));
    assert_eq!(bench.commit(), ["$2", "$3"]);
}

#[test]
fn a_connection_that_breaks_arouses_suspicion() {
    let mut bench = Bench::joined(Users::Relay);
    bench.deliver(job(1, "hi"));
    bench.answer("Send", Err(Fault::Broken("reset".into())));
    bench.answer("Versions", Ok(Answer::Done));
    bench.wait(3);
    assert!(bench.asks("History"));
}

#[test]
fn a_room_that_lets_us_in_late_is_read_from_what_we_have() {
    let mut bench = Bench::new(Users::Ghosts, &[ROOM, PLACE]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Err(Fault::Limited(Duration::from_secs(100))));
    for _ in 0..99 {
        bench.wait(1);
    }
    assert!(!bench.asks("History"));
    bench.wait(1);
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    bench.answer("History", page(newest(&["$1", "$have"]), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
}

#[test]
fn before_a_room_was_read_a_transaction_does_not_say_how_far_it_is_known() {
    let mut bench = Bench::new(Users::Ghosts, &[ROOM, PLACE]);
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Err(Fault::Limited(Duration::from_secs(100))));
    for _ in 0..10 {
        bench.wait(1);
    }
    bench.push(1, vec![said("$2", "x")]);
    bench.answer("History", page(newest(&["$2", "$1", "$have"]), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1", "$2"]);
    assert!(bench.commits.is_empty());
    bench.push(2, vec![said("$3", "x")]);
    assert_eq!(bench.commit(), ["$3"]);
    assert!(bench.kept[0].1.ends_with(" $2"), "{:?}", bench.kept);
}

#[test]
fn what_a_homeserver_forgot_when_nobody_saw_it_end_is_found_by_and_by() {
    let mut bench = Bench::joined(Users::Ghosts);
    bench.push(1, vec![said("$1", "x")]);
    bench.answer_names();
    bench.commit();
    // It ended with "$2" and was back before anybody noticed.
    bench.push(2, vec![said("$3", "x")]);
    assert_eq!(bench.commit(), ["$3"]);
    assert!(bench.kept[0].1.ends_with(" $1"), "{:?}", bench.kept);
    bench.wait(599);
    assert!(!bench.asks("History"));
    bench.wait(1);
    bench.answer("History", page(newest(&["$3", "$2", "$1"]), None));
    assert_eq!(bench.commit(), ["$2"]);
    // A room in which nothing is said costs nothing.
    bench.wait(1_200);
    assert!(!bench.asks("History"));
}

#[test]
fn a_busy_room_is_compared_with_its_timeline_after_two_hundred_messages() {
    let mut bench = Bench::joined(Users::Ghosts);
    for number in 0..200 {
        assert!(!bench.asks("History"), "after {number}");
        bench.push(number, vec![said(&format!("${number}"), "x")]);
        bench.answer_names();
        bench.commit();
    }
    assert!(bench.asks("History"));
}

#[test]
fn what_was_read_of_a_room_that_was_left_meanwhile_can_come_again() {
    let mut bench = Bench::again();
    bench.push(1, newest(&["$1"]));
    bench.answer("History", page(newest(&["$1", "$have"]), None));
    bench
        .session
        .handle_leave(bench.now, &ALIAS.parse().expect("a channel"));
    bench.drain();
    bench.wait(2);
    assert!(bench.commits.is_empty());
    bench.join(ALIAS);
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    let events = [newest(&["$1"]), vec![joining()]].concat();
    bench.answer("History", page(events, None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
}

#[test]
fn a_room_that_we_have_been_in_for_long_begins_now() {
    let mut bench = Bench::new(Users::Ghosts, &[ROOM]);
    bench.join(ALIAS);
    bench.come_up();
    bench.push(1, vec![said("$2", "x")]);
    bench.answer("History", page(newest(&["$2", "$1", "$0"]), Some("back")));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$2"]);
    assert_eq!(bench.gaps(), 0);
}

#[test]
fn what_was_said_while_the_bot_was_out_of_the_room_is_not_taken() {
    let mut bench = Bench::again();
    let left = member("@bot:hs.test", "leave");
    let events = [
        newest(&["$4"]),
        vec![joining()],
        newest(&["$3", "$2"]),
        vec![left],
        newest(&["$1", "$have"]),
    ];
    bench.settle(events.concat());
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1", "$4"]);
}

#[test]
fn while_the_bot_is_out_of_the_room_it_is_known_as_far_as_its_leaving() {
    let mut bench = Bench::again();
    let left = member("@bot:hs.test", "leave");
    let out = [newest(&["$3", "$2"]), vec![left], newest(&["$1", "$have"])].concat();
    bench.push(1, newest(&["$1"]));
    bench.answer("History", page(out.clone(), None));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$1"]);
    assert!(bench.kept[0].1.ends_with(" $1"), "{:?}", bench.kept);
    let back = [newest(&["$5"]), vec![joining()], newest(&["$4"]), out].concat();
    bench.push(2, newest(&["$5"]));
    bench.answer("History", page(back, None));
    assert_eq!(bench.commit(), ["$5"]);
}

#[test]
fn what_was_taken_back_is_not_brought_back() {
    let mut bench = Bench::again();
    let mut gone = said("$2", "");
    gone.content.clear();
    gone.remarks.redacted = true;
    let events = vec![said("$3", "x"), gone, said("$have", "x")];
    bench.settle(events);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$3"]);
    assert!(bench.heard().iter().all(|it| !it.starts_with("skip")));
}

#[test]
fn where_a_room_cannot_be_read_transactions_are_taken_and_a_gap_is_told() {
    let mut bench = Bench::again();
    bench.push(1, vec![said("$3", "x")]);
    bench.answer("History", Err(refused(403, "M_FORBIDDEN")));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$3"]);
    bench.push(2, vec![said("$4", "x")]);
    assert_eq!(bench.commit(), ["$4"], "it is not asked again");
    bench.wait(10);
    assert!(!bench.asks("History"), "also not when it is calm");
    assert_eq!(bench.gaps(), 1);
}

#[test]
fn where_the_homeserver_has_forgotten_what_we_have_a_gap_is_told_and_the_room_goes_on() {
    let mut bench = Bench::again();
    bench.push(1, vec![later("$8")]);
    // What is as old as what we had may be known, and is not told again; what is later is not.
    let found = [vec![later("$8"), later("$7")], newest(&["$old"])].concat();
    bench.answer("History", page(found, Some("back")));
    bench.answer("After", Err(refused(404, "M_NOT_FOUND")));
    bench.answer_names();
    assert_eq!(bench.commit(), ["$7", "$8"]);
    assert!(bench.kept[0].1.ends_with(" $8"));
    assert_eq!(bench.gaps(), 1);
    bench.push(2, vec![said("$10", "x")]);
    bench.answer("History", page(newest(&["$10", "$9", "$8"]), Some("back")));
    assert_eq!(bench.commit(), ["$9", "$10"]);
    assert_eq!(bench.gaps(), 0);
}

#[test]
fn a_room_that_is_not_read_in_time_holds_up_one_transaction() {
    let mut bench = Bench::again();
    bench.push(1, vec![said("$2", "x")]);
    bench.wait(4);
    assert!(bench.commits.is_empty());
    bench.wait(1);
    bench.answer_names();
    assert_eq!(bench.commit(), ["$2"]);
    bench.push(2, vec![said("$3", "x")]);
    assert_eq!(bench.commit(), ["$3"]);
    // What it brings late is late, but not lost.
    bench.answer("History", page(newest(&["$3", "$2", "$1", "$have"]), None));
    assert_eq!(bench.commit(), ["$1"]);
}

#[test]
fn a_homeserver_that_fails_or_limits_is_asked_again_and_not_for_ever() {
    for fault in [
        Fault::Limited(Duration::ZERO),
        Fault::Unreadable("not json".into()),
    ] {
        let mut bench = Bench::again();
        bench.wait(3);
        let mut tries = 0;
        for _ in 0..100 {
            // After a failure it is asked for what follows that which we have.
            for kind in ["History", "After"] {
                if bench.asks(kind) {
                    tries += 1;
                    bench.answer(kind, Err(fault.clone()));
                    assert!(
                        !bench.asks("History") && !bench.asks("After"),
                        "not at once"
                    );
                }
            }
            bench.wait(10);
        }
        assert_eq!(tries, 5, "{fault}");
        assert_eq!(bench.gaps(), 1);
    }
}

#[test]
fn a_homeserver_that_leads_in_circles_is_not_followed() {
    // The same token, and two that lead to each other.
    for tokens in [["a", "a"], ["a", "b"]] {
        let mut bench = Bench::again();
        bench.push(1, vec![said("$8", "x")]);
        bench.answer("History", page(newest(&["$8"]), Some("back")));
        bench.answer("After", page(vec![], Some("b")));
        let mut pages = 0;
        while bench.asks("Onward") {
            bench.answer("Onward", page(numbered(0, 3), Some(tokens[pages % 2])));
            pages += 1;
            assert!(pages < 10, "round and round");
            if !bench.commits.is_empty() {
                bench.commit();
            }
        }
        assert!(bench.heard().contains(&"answer 1 true".to_owned()) || bench.commit() == ["$8"]);
    }
}

#[test]
fn a_room_that_never_ends_is_cut_off() {
    let mut bench = Bench::again();
    bench.wait(3);
    bench.answer("History", page(newest(&["$end"]), Some("back")));
    bench.answer("After", page(vec![], Some("0")));
    let mut pages = 0;
    while bench.asks("Onward") {
        pages += 1;
        let token = pages.to_string();
        bench.answer("Onward", page(numbered(pages, 1), Some(&token)));
        bench.commit();
        assert!(pages < 2_000, "without end");
    }
    assert_eq!(bench.gaps(), 1);
}

#[test]
fn the_place_of_a_room_that_no_channel_shows_is_forgotten() {
    let mut bench = Bench::new(
        Users::Ghosts,
        &[ROOM, PLACE, ("place/!other:hs.test", "1 $x")],
    );
    bench.join(ALIAS);
    bench.come_up();
    bench.answer("Join", Ok(Answer::Done));
    bench.answer("Encryption", Err(refused(404, "M_NOT_FOUND")));
    bench.settle(newest(&["$have"]));
    let heard = bench.heard();
    let forgotten: Vec<&String> = heard.iter().filter(|it| it.starts_with("keep")).collect();
    assert_eq!(forgotten, ["keep place/!other:hs.test="]);
}
