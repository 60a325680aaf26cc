use comity_bridge::Timestamp;

use super::*;

/// A room in two channels, and a clock.
struct World {
    watch: Watch,
    now: Instant,
    said: u64,
}

impl World {
    fn new() -> Self {
        World {
            watch: Watch::default(),
            now: Instant::now(),
            said: 0,
        }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    /// `network/name` says something, `seconds` after what was said last.
    fn says(&mut self, seconds: u64, author: &str, text: &str) -> Finding {
        self.hears(seconds, author, text, false)
    }

    fn bot_says(&mut self, seconds: u64, author: &str, text: &str) -> Finding {
        self.hears(seconds, author, text, true)
    }

    fn hears(&mut self, seconds: u64, author: &str, text: &str, bot: bool) -> Finding {
        self.after(seconds);
        self.said += 1;
        let (network, name) = author.split_once('/').expect("network/name");
        let channel: Channel = format!("{network}/#r").parse().expect("a channel");
        let id = self.said.to_string();
        let heard = Heard {
            author,
            name,
            text,
            source: (network, channel.native(), &id),
            time: Timestamp(0),
            now: self.now,
        };
        self.watch.hear(&heard, &channel, bot)
    }

    fn is_open(&self, channel: &str) -> bool {
        let channel = channel.parse().expect("a channel");
        self.watch.is_open(&channel, self.now)
    }
}

const FIRST: Finding = Finding::Open(Duration::from_secs(300));

#[test]
fn a_circle_is_cut_when_a_copy_comes_back_to_who_made_it() {
    let mut world = World::new();
    assert_eq!(world.says(0, "one/alice", "hi"), Finding::Pass);
    // What the foreign bridge makes of alice's line, of ours, and of what we make of those.
    assert_eq!(world.says(0, "two/fb", "<alice> hi"), Finding::Pass);
    assert_eq!(
        world.says(0, "one/fb", "<comity> <alice> hi"),
        Finding::Pass
    );
    assert_eq!(world.says(0, "two/fb", "<comity> <fb> <alice> hi"), FIRST);
    let longer = "<comity> <fb> <comity> <alice> hi";
    assert_eq!(world.says(0, "one/fb", longer), FIRST);
    assert!(world.is_open("one/#r") && world.is_open("two/#r"));
}

#[test]
fn a_slow_circle_is_cut_as_well() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    assert_eq!(world.says(120, "two/fb", "<alice> hi"), Finding::Pass);
    let again = "<comity> <fb> <alice> hi";
    assert_eq!(world.says(120, "two/fb", again), FIRST);
}

#[test]
fn a_circle_of_ghosts_whose_names_grow_is_cut_at_the_third_copy() {
    let mut world = World::new();
    world.says(0, "one/alice", "hello");
    assert_eq!(world.says(1, "one/alice[m]", "hello"), Finding::Pass);
    assert_eq!(world.says(1, "one/alice[m]2", "hello"), Finding::Pass);
    assert_eq!(world.says(1, "one/alice[m]23", "hello"), FIRST);
}

#[test]
fn what_a_bridge_repeats_in_one_direction_is_cut_at_its_second_line() {
    let mut world = World::new();
    world.says(0, "one/alice", "has anybody seen my keys");
    let copy = "<alice> has anybody seen my keys";
    assert_eq!(world.says(1, "two/fb", copy), Finding::Pass);
    world.says(5, "one/bob", "they are on the table");
    let copy = "<bob> they are on the table";
    assert_eq!(world.says(1, "two/fb", copy), FIRST);
    assert_eq!(
        world.says(1, "two/fb", "anything"),
        Finding::Refuse,
        "nothing more from it"
    );
    assert_eq!(
        world.says(1, "two/carol", "what is going on?"),
        Finding::Pass,
        "people go on"
    );
}

#[test]
fn the_other_end_of_a_bridge_that_was_found_is_given_no_more_copies() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    world.says(0, "two/fb", "<alice> hi");
    world.says(0, "one/fb", "<comity> <alice> hi");
    world.says(0, "one/fb", "<comity> <fb> <comity> <alice> hi");
    assert!(world.is_open("one/#r") && !world.is_open("two/#r"));
    world.says(60, "one/alice", "huh");
    assert_eq!(world.says(0, "two/fb", "<alice> huh"), FIRST);
}

#[test]
fn a_program_is_given_one_copy_however_short_and_slow() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    assert_eq!(world.bot_says(20, "two/fb", "<alice> hi"), Finding::Pass);
    world.says(5, "one/bob", "hey");
    assert_eq!(world.bot_says(20, "two/fb", "<bob> hey"), FIRST);
}

#[test]
fn people_who_say_the_same_never_open_it() {
    let mut world = World::new();
    for round in 0..20 {
        for author in ["one/alice", "two/bob", "two/alice", "one/carol"] {
            assert_eq!(world.says(0, author, "yes"), Finding::Pass, "{round}");
        }
    }
}

#[test]
fn one_person_who_tries_all_networks_with_the_same_word_never_opens_it() {
    let mut world = World::new();
    for network in ["one", "two", "three", "four", "five"] {
        let author = format!("{network}/alice");
        assert_eq!(world.says(2, &author, "test"), Finding::Pass);
    }
}

#[test]
fn people_who_greet_each_other_by_name_never_open_it() {
    let mut world = World::new();
    for guest in ["alice", "carol", "dave", "erin"] {
        world.says(5, &format!("one/{guest}"), "hi");
        let greeting = format!("{guest}: hi");
        assert_eq!(world.says(2, "two/bob", &greeting), Finding::Pass);
    }
}

#[test]
fn people_who_quote_two_others_in_full_never_open_it() {
    let mut world = World::new();
    world.says(0, "one/alice", "has anybody seen my keys");
    let quote = "<alice> has anybody seen my keys";
    assert_eq!(world.says(8, "two/bob", quote), Finding::Pass);
    world.says(10, "one/carol", "they are on the table");
    let quote = "<carol> they are on the table";
    assert_eq!(world.says(6, "two/bob", quote), Finding::Pass);
    assert!(!world.is_open("two/#r"));
}

#[test]
fn a_quick_quoter_who_says_something_as_well_does_not_open_it() {
    let mut world = World::new();
    for number in 0..5 {
        let line = format!("a line worth quoting, number {number}");
        world.says(1, "one/alice", &line);
        let quote = format!("<alice> {line}");
        assert_eq!(world.says(2, "two/bob", &quote), Finding::Pass);
        assert_eq!(
            world.says(4, "two/bob", &format!("nice {number}")),
            Finding::Pass
        );
    }
}

#[test]
fn people_who_quote_a_quote_do_not_open_it() {
    let mut world = World::new();
    world.says(0, "one/alice", "I am never wrong");
    world.says(9, "one/bob", "<alice> I am never wrong");
    let pyramid = "<bob> <alice> I am never wrong";
    assert_eq!(world.says(9, "two/carol", pyramid), Finding::Pass);
}

#[test]
fn it_closes_by_itself_and_opens_for_twice_as_long_when_nothing_was_done() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    world.says(0, "two/fb", "<alice> hi");
    assert_eq!(world.says(0, "two/fb", "<x> <fb> <alice> hi"), FIRST);
    for minutes in [10, 20, 40, 60, 60] {
        world.after(3600);
        assert!(!world.is_open("two/#r"));
        world.says(0, "one/alice", "still here");
        let wait = Duration::from_secs(minutes * 60);
        assert_eq!(
            world.says(1, "two/fb", "<alice> still here"),
            Finding::Open(wait),
            "no more free copies"
        );
    }
    let mut calm = World::new();
    calm.says(0, "one/alice", "hi");
    calm.says(0, "two/fb", "<alice> hi");
    assert_eq!(calm.says(0, "two/fb", "<x> <fb> <alice> hi"), FIRST);
    calm.after(3 * 3600);
    calm.says(0, "one/alice", "hi again");
    assert_eq!(
        calm.says(0, "two/fb", "<alice> hi again"),
        Finding::Pass,
        "after a long peace everything is forgotten"
    );
}

#[test]
fn the_operator_can_close_it() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    world.says(0, "two/fb", "<alice> hi");
    world.says(0, "two/fb", "<x> <fb> <alice> hi");
    world.watch.forget(&"two/#r".parse().expect("a channel"));
    assert!(!world.is_open("two/#r"));
    assert_eq!(world.says(1, "two/fb", "sorry, that was me"), Finding::Pass);
}

#[test]
fn a_message_reported_again_is_not_a_second_copy() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    for _ in 0..3 {
        world.said = 10;
        assert_eq!(world.says(0, "two/fb", "<fb> <alice> hi"), Finding::Pass);
    }
}

#[test]
fn many_copiers_cost_bounded_memory() {
    let mut world = World::new();
    world.says(0, "one/alice", "hi");
    for number in 0..1000 {
        world.says(0, &format!("two/fb{number}"), "<alice> hi");
    }
    assert!(world.watch.copiers.len() <= COPIERS);
}
