use comity_bridge::event::{Author, EventId, Origin, Text};
use unicode_segmentation::UnicodeSegmentation;

use super::*;

const LIMITS: Limits = Limits {
    line_bytes: 400,
    lines: 20,
};

fn event(name: &str, kind: MessageKind, text: &str) -> Event {
    Event {
        id: EventId::from_bytes([1; 16]),
        room: "#rust@gw1.example".parse().expect("a room"),
        origin: Origin {
            network: "home".parse().expect("a network"),
            channel: "#rust:hs.example".to_owned(),
            native_id: "$1".into(),
            unknown: BTreeMap::new(),
        },
        author: Author {
            id: "home/al".to_owned(),
            address: "al@home.gw1.example".parse().expect("an address"),
            name: name.to_owned(),
            avatar: None,
            bot: false,
            unknown: BTreeMap::new(),
        },
        seq: 1,
        time: Default::default(),
        received: Default::default(),
        content: Content::Message(Message::of(
            kind,
            Text {
                plain: text.to_owned(),
                ..Text::default()
            },
        )),
        via: Vec::new(),
        ext: BTreeMap::new(),
        unknown: BTreeMap::new(),
    }
}

fn parts(event: &Event, limits: Limits) -> Result<Vec<String>, DeliveryError> {
    super::parts(event, limits, Notes::default())
}

fn lines(
    event: &Event,
    parts: &[String],
    done: &BTreeMap<u32, Vec<NativeId>>,
    channel: &ChannelName,
    limits: Limits,
) -> Result<Vec<SendLine>, DeliveryError> {
    super::lines(event, parts, done, channel, limits, Notes::default())
}

fn shown(name: &str, kind: MessageKind, text: &str) -> Vec<String> {
    parts(&event(name, kind, text), LIMITS).expect("parts")
}

fn said(name: &str, text: &str) -> Vec<String> {
    shown(name, MessageKind::Text, text)
}

fn channel() -> ChannelName {
    ChannelName::parse("#rust").expect("a channel")
}

#[test]
fn the_author_stands_on_every_line() {
    assert_eq!(
        said("Al", "one\r\ntwo\n\n  three"),
        ["<Al> one", "<Al> two", "<Al>   three"]
    );
    assert_eq!(
        shown("Al", MessageKind::Emote, "waves\nsmiles"),
        ["* Al waves", "* Al smiles"]
    );
    assert_eq!(shown("Al", MessageKind::Notice, "beep"), ["<Al> beep"]);
    let long = said("Al", &"word ".repeat(200));
    assert!(
        long.len() > 2 && long.iter().all(|line| line.starts_with("<Al> word")),
        "{long:?}"
    );
}

#[test]
fn notices_are_sent_as_notices() {
    assert_eq!(verb(&event("Al", MessageKind::Notice, "x")), Verb::Notice);
    assert_eq!(verb(&event("Al", MessageKind::Emote, "x")), Verb::Privmsg);
}

#[test]
fn b1_every_kind_of_line_end_in_the_text_starts_a_line_with_the_author() {
    let text = "a\rQUIT\nb\u{2028}c\u{2029}d\u{85}e\u{b}f\u{c}g\0h";
    let lines = said("Al", text);
    assert_eq!(
        lines,
        [
            "<Al> a",
            "<Al> QUIT",
            "<Al> b",
            "<Al> c",
            "<Al> d",
            "<Al> e",
            "<Al> f",
            "<Al> gh"
        ]
    );
}

#[test]
fn b1_no_name_can_end_the_line() {
    assert_eq!(
        said("Al\r\nQUIT :\0x\u{2028}y\u{85}z", "hi"),
        ["<Al QUIT :x y z> hi"]
    );
}

#[test]
fn b3_text_is_never_a_command_or_ctcp() {
    assert_eq!(said("Al", "/quote QUIT"), ["<Al> /quote QUIT"]);
    assert_eq!(said("Al", "\x01VERSION\x01"), ["<Al> VERSION"]);
    assert_eq!(said("\x01ACTION Al", "!op"), ["<ACTION Al> !op"]);
    assert_eq!(shown("Al", MessageKind::Emote, "\x01DCC\x01"), ["* Al DCC"]);
    assert_eq!(
        said("Al", "\x0304red \x02bold\x1b[31m"),
        ["<Al> 04red bold[31m"]
    );
}

#[test]
fn b6_no_name_can_look_like_a_name_and_words_of_another() {
    assert_eq!(said("Bob> I quit <Al", "hi"), ["<Bob) I quit (Al> hi"]);
    assert_eq!(said("Bob＞ x", "hi"), ["<Bob) x> hi"]);
    assert_eq!(
        shown("Bob says", MessageKind::Emote, "hi"),
        ["* <Bob says> hi"]
    );
}

#[test]
fn b6_direction_marks_and_invisible_characters_are_taken_out_of_names() {
    assert_eq!(said("\u{202e}lA\u{202c}", "hi"), ["<lA> hi"]);
    assert_eq!(said("A\u{200b}l\u{feff}\u{2066}", "hi"), ["<Al> hi"]);
    assert_eq!(said("A\u{a0}\u{2003}l", "hi"), ["<A l> hi"]);
}

#[test]
fn b6_a_name_of_nothing_visible_becomes_the_address() {
    for nothing in ["", " ", "\u{200b}\u{202e}", "\u{3164}", "\x02\x03"] {
        assert_eq!(said(nothing, "hi"), ["<al> hi"], "{nothing:?}");
    }
}

#[test]
fn b6_long_names_and_stacks_of_marks_are_cut() {
    let long = said(&"n".repeat(10_000), "hi");
    assert_eq!(long, [format!("<{}> hi", "n".repeat(64))]);
    let stack = format!("a{}", "\u{301}".repeat(5000));
    assert_eq!(said(&stack, "hi"), ["<a> hi"]);
    let wide = said(&"👩🏽‍🚀".repeat(100), &"x".repeat(300));
    assert!(wide.iter().all(|line| line.len() <= LIMITS.line_bytes));
}

#[test]
fn i3_split_never_cuts_a_grapheme_and_loses_nothing() {
    let words = [
        "e\u{301}",
        "👩‍👩‍👧‍👦",
        "日本語",
        "word",
        "a",
        "🇩🇪",
        "нет",
        " ",
        "  ",
        "-",
    ];
    let mut seed = 1u64;
    for _ in 0..300 {
        let mut text = String::new();
        while text.len() < 1500 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(words[usize::try_from(seed >> 40).expect("24 bits") % words.len()]);
        }
        let line_bytes = 60 + usize::try_from(seed >> 50).expect("14 bits") % 340;
        let parts = parts(
            &event("Al", MessageKind::Text, &text),
            Limits {
                line_bytes,
                lines: 1000,
            },
        )
        .expect("parts");
        let mut rest = text.trim_end();
        for part in &parts {
            assert!(part.len() <= line_bytes, "{} of {line_bytes}", part.len());
            let piece = part.strip_prefix("<Al> ").expect("the author");
            rest = rest
                .strip_prefix(piece)
                .unwrap_or_else(|| panic!("{piece:?} is not the start of {rest:?}"));
            // The cut is on a grapheme's edge of the original: each grapheme is in one piece.
            let edge = text.trim_end().len() - rest.len();
            assert!(
                edge == text.trim_end().len()
                    || text.grapheme_indices(true).any(|(at, _)| at == edge)
            );
            rest = rest.trim_start_matches(' ');
        }
        assert_eq!(rest, "");
    }
}

#[test]
fn i3_words_stay_whole_where_that_wastes_little() {
    let limits = Limits {
        line_bytes: 50,
        lines: 20,
    };
    let text = "the quick brown fox jumps over the lazy dog and runs away";
    let lines = parts(&event("Al", MessageKind::Text, text), limits).expect("parts");
    assert_eq!(
        lines,
        [
            "<Al> the quick brown fox jumps over the lazy dog",
            "<Al> and runs away"
        ]
    );
    let lines = parts(&event("Al", MessageKind::Text, &"x".repeat(80)), limits).expect("parts");
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [50, 40]);
}

#[test]
fn i3_a_stack_of_marks_longer_than_a_line_is_cut_between_characters() {
    let stack = format!("a{}", "\u{301}".repeat(600));
    let lines = said("Al", &stack);
    assert!(lines.len() >= 3 && lines.iter().all(|line| line.len() <= LIMITS.line_bytes));
}

#[test]
fn too_many_lines_are_left_out_and_said_to_be() {
    let text: String = (1..=30).map(|n| format!("line {n}\n")).collect();
    let lines = said("Al", &text);
    assert_eq!(lines.len(), 20);
    assert_eq!(lines[18], "<Al> line 19");
    assert_eq!(lines[19], "<Al> [11 more lines not shown]");
    assert_eq!(
        said("Al", &"x\n".repeat(20)).last().map(String::as_str),
        Some("<Al> x")
    );
}

#[test]
fn what_cannot_be_shown_is_refused_with_a_reason() {
    let blank = parts(&event("Al", MessageKind::Text, " \n\t\u{1}"), LIMITS);
    assert!(
        matches!(blank, Err(DeliveryError::Unsupported(_))),
        "{blank:?}"
    );
    let tiny = parts(
        &event("Al", MessageKind::Text, "hi"),
        Limits {
            line_bytes: 20,
            lines: 1,
        },
    );
    assert!(matches!(tiny, Err(DeliveryError::TooLarge(_))), "{tiny:?}");
}

#[test]
fn a_retry_sends_only_the_parts_that_are_missing() {
    let event = event("Al", MessageKind::Text, "one\ntwo\nthree");
    let parts = parts(&event, LIMITS).expect("parts");
    let done = BTreeMap::from([(0, Vec::new()), (1, Vec::new())]);
    let lines = lines(&event, &parts, &done, &channel(), LIMITS).expect("lines");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].completes, Some(2));
}

#[test]
fn a_stored_part_that_no_longer_fits_is_cut_again_with_its_author() {
    let event = event("Al", MessageKind::Text, &"word ".repeat(70));
    let parts = parts(&event, LIMITS).expect("parts");
    assert_eq!(parts.len(), 1);
    let narrow = Limits {
        line_bytes: 200,
        lines: 20,
    };
    let lines = lines(&event, &parts, &BTreeMap::new(), &channel(), narrow).expect("lines");
    assert_eq!(
        lines.iter().map(|line| line.completes).collect::<Vec<_>>(),
        [None, Some(0)]
    );
    let frame = "PRIVMSG #rust :\r\n".len();
    assert!(lines.iter().all(|line| line.command.len() <= frame + 200));
}

#[test]
fn a_late_message_says_when_it_was_written() {
    let event = event("Al", MessageKind::Text, "one\ntwo");
    let late = |now| Notes {
        late: Some((Timestamp(1_709_251_140_000), Timestamp(now))),
        ..Notes::default()
    };
    let said = |notes| super::parts(&event, LIMITS, notes).expect("parts");
    assert_eq!(
        said(late(1_709_251_199_999)),
        ["<Al> [23:59] one", "<Al> [23:59] two"]
    );
    assert_eq!(
        said(late(1_709_251_200_000))[0],
        "<Al> [2024-02-29 23:59] one"
    );
}

#[test]
fn a_line_that_may_be_there_already_says_so_if_it_shall() {
    let event = event("Al", MessageKind::Text, "one\ntwo");
    let again = Notes {
        again: true,
        ..Notes::default()
    };
    let parts = parts(&event, LIMITS).expect("parts");
    let done = BTreeMap::from([(0, Vec::new())]);
    let lines = super::lines(&event, &parts, &done, &channel(), LIMITS, again).expect("lines");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].command.text(), "<Al> [again?] two");
    assert_eq!(lines[0].completes, Some(1));
}

fn own(text: &str, key: Option<String>) -> crate::session::OwnLine {
    crate::session::OwnLine {
        text: text.to_owned(),
        key,
        msgid: Some("m1".to_owned()),
        time: None,
    }
}

#[test]
fn each_line_that_is_there_counts_for_one_line_of_ours() {
    let event = event("Al", MessageKind::Text, "yes\nyes\nyes");
    let parts = parts(&event, LIMITS).expect("parts");
    let lines = lines(&event, &parts, &BTreeMap::new(), &channel(), LIMITS).expect("lines");
    let mut landed = Landed::new(vec![
        own("<Al> [again?] [2024-02-29 23:59] yes", None),
        own("<Al> yes", None),
        own("<Bo> yes", None),
    ]);
    let found: Vec<bool> = lines
        .iter()
        .map(|line| landed.take(&event, line, LIMITS).is_some())
        .collect();
    assert_eq!(found, [true, true, false]);
}

#[test]
fn where_lines_have_keys_the_text_says_nothing() {
    let event = event("Al", MessageKind::Text, "yes\nyes");
    let parts = parts(&event, LIMITS).expect("parts");
    let lines = lines(&event, &parts, &BTreeMap::new(), &channel(), LIMITS).expect("lines");
    let mut landed = Landed::new(vec![
        own("<Al> yes", Some("other.0".to_owned())),
        own("whatever", Some(lines[1].key.to_string())),
    ]);
    assert_eq!(landed.take(&event, &lines[0], LIMITS), None);
    assert_eq!(
        landed.take(&event, &lines[1], LIMITS),
        Some(vec![NativeId::from("m1")])
    );
}
