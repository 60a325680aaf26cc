//! Every row of the table of stanzas that end other bridges' links, and the attacks on the stream.

use super::super::ns;
use super::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
    xmlns:stream='http://etherx.jabber.org/streams' from='bridge.example' id='s1'>";
const HELLO: &str =
    "<message from='room@muc.example/alice' type='groupchat'><body>hello</body></message>";

#[test]
fn the_stream_opens_with_its_id() {
    assert_eq!(
        read(""),
        vec![Read::Open {
            id: Some("s1".to_owned())
        }]
    );
}

#[test]
fn unexpected_values_are_the_stanzas_own_business() {
    for stanza in [
        "<message type='bogus' from='a@b'><body>x</body></message>",
        "<message type='' from='a@b'/>",
        "<presence from='a@b'><priority>high</priority></presence>",
        "<presence from='a@b'><show>online</show></presence>",
        "<iq type='get' from='a@b'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<message from='a@b'>loose text<body>x</body>more</message>",
        "<message xmlns='urn:elsewhere' from='a@b'/>",
        "<foo xmlns='urn:x'/>",
        "<presence from='room@muc.example/\u{1f600}'/>",
        "<presence from='room@muc.example/\u{1fae0}'/>",
        "<presence from='@@@//'/>",
        "<message from='a@b'><body>one</body><body>two</body></message>",
        "<message from='a@b'><delay xmlns='urn:xmpp:delay' stamp='yesterday'/></message>",
        "<message from='a@b'><stream:stream to='x'><body>in</body></stream:stream></message>",
    ] {
        let events = read(&format!("{stanza}{HELLO}"));
        assert_eq!(events.len(), 3, "{stanza}");
        assert!(matches!(events[1], Read::Stanza(_)), "{stanza}");
        assert!(is_hello(&events[2]), "{stanza}");
    }
}

#[test]
fn a_forbidden_character_reference_costs_one_character() {
    let events = read(&format!("<message><body>a&#x1;b</body></message>{HELLO}"));
    let Read::Stanza(message) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(
        message.get_child("body", ns::CLIENT).expect("body").text(),
        "a\u{fffd}b"
    );
    assert!(is_hello(&events[2]));
}

#[test]
fn a_long_attribute_passes() {
    let long = "x".repeat(9_000);
    let events = read(&format!("<message id='{long}'/>{HELLO}"));
    let Read::Stanza(message) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(message.attr("id").map(str::len), Some(9_000));
    assert!(is_hello(&events[2]));
}

#[test]
fn a_huge_attribute_or_body_costs_its_stanza_only() {
    let huge = "x".repeat(1_000_000);
    for stanza in [
        format!("<message from='a@b' id='{huge}'/>"),
        format!("<message from='a@b'><body>{huge}</body><x xmlns='u'><y/></x></message>"),
        format!("<message from='a@b'><body a='{huge}'/></message>"),
    ] {
        let events = read(&format!("{stanza}{HELLO}"));
        assert_eq!(
            events[1],
            Read::Skipped(Skipped {
                why: "stanza too large",
                name: "message".into(),
                from: Some("a@b".into()),
                to: None,
            })
        );
        assert!(is_hello(&events[2]));
    }
}

#[test]
fn deep_nesting_costs_its_stanza_only() {
    for depth in [65, 3_000, 100_000] {
        let stanza = format!(
            "<message from='a@b'>{}{}</message>",
            "<d>".repeat(depth),
            "</d>".repeat(depth)
        );
        let events = read(&format!("{stanza}{HELLO}"));
        let Read::Skipped(skipped) = &events[1] else {
            panic!("depth {depth}")
        };
        assert_eq!(skipped.name, "message");
        assert!(is_hello(&events[2]), "depth {depth}");
    }
}

#[test]
fn sixty_four_levels_are_read() {
    let stanza = format!(
        "<message>{}{}</message>",
        "<d>".repeat(63),
        "</d>".repeat(63)
    );
    assert!(matches!(read(&stanza)[1], Read::Stanza(_)));
}

#[test]
fn an_undeclared_prefix_or_a_double_attribute_costs_its_stanza_only() {
    for stanza in [
        "<p:message/>",
        "<message><p:x/></message>",
        "<message p:a='1'/>",
        "<message a='1' a='2'/>",
    ] {
        let events = read(&format!("{stanza}{HELLO}"));
        assert!(matches!(events[1], Read::Skipped(_)), "{stanza}");
        assert!(is_hello(&events[2]), "{stanza}");
    }
}

#[test]
fn a_stanza_of_half_a_megabyte_nested_to_the_end_is_skipped_in_linear_time() {
    let stanza = format!(
        "<message>{}{}</message>",
        "<d>".repeat(75_000),
        "</d>".repeat(75_000)
    );
    let started = std::time::Instant::now();
    read(&stanza);
    // The square of this depth would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn too_many_attributes_cost_their_stanza_only() {
    let many: String = (0..1_000).map(|n| format!(" a{n}='1'")).collect();
    let events = read(&format!(
        "<message><body{many}/></message><message{many}/>{HELLO}"
    ));
    assert!(matches!(&events[1], Read::Skipped(skipped) if skipped.why == "too many attributes"));
    assert!(matches!(&events[2], Read::Skipped(skipped) if skipped.why == "too many attributes"));
    assert!(is_hello(&events[3]));
}

#[test]
fn x1_document_types_entities_instructions_and_comments_end_the_stream() {
    for attack in [
        "<!DOCTYPE lolz [<!ENTITY lol 'lol'>]>",
        "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
        "<message><body>&lol;</body></message>",
        "<?php x ?>",
        "<!-- hidden -->",
    ] {
        let mut out = Vec::new();
        let mut reader = Reader::new();
        reader
            .feed(HEADER.as_bytes(), &mut out)
            .expect("the header is fine");
        let error = reader.feed(attack.as_bytes(), &mut out).expect_err(attack);
        assert!(
            matches!(error, ParseError::NotWellFormed { .. }),
            "{attack}"
        );
    }
}

#[test]
fn x2_a_stanza_that_never_ends_ends_the_stream_in_bounded_memory() {
    let mut out = Vec::new();
    let mut reader = Reader::new();
    reader
        .feed(HEADER.as_bytes(), &mut out)
        .expect("the header is fine");
    reader
        .feed(b"<message><body>", &mut out)
        .expect("well-formed so far");
    let chunk = vec![b'x'; 1024 * 1024];
    let ended = (0..100).find_map(|_| reader.feed(&chunk, &mut out).err());
    assert!(matches!(ended, Some(ParseError::Endless(_))));
    assert!(reader.stack.is_empty());
}

#[test]
fn x2_endless_white_space_between_stanzas_is_nothing() {
    let events = read(&format!("{}{HELLO}", " \n".repeat(500_000)));
    assert_eq!(events.len(), 2);
}

#[test]
fn x4_a_stream_end_inside_a_stanza_is_not_the_end_of_the_stream() {
    let mut out = Vec::new();
    let mut reader = Reader::new();
    reader
        .feed(HEADER.as_bytes(), &mut out)
        .expect("the header is fine");
    assert!(
        reader
            .feed(b"<message></stream:stream><stream:stream>", &mut out)
            .is_err()
    );
    assert_eq!(out.len(), 1);
}

#[test]
fn x4_markup_in_cdata_stays_text() {
    let events =
        read("<message><body><![CDATA[</body></message><iq type='set'/>]]></body></message>");
    let Read::Stanza(message) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!(
        message.get_child("body", ns::CLIENT).expect("body").text(),
        "</body></message><iq type='set'/>"
    );
    assert_eq!(events.len(), 2);
}

#[test]
fn a_prefix_for_the_component_namespace_is_the_same_namespace() {
    let events =
        read("<c:message xmlns:c='jabber:component:accept'><c:body>x</c:body></c:message>");
    let Read::Stanza(message) = &events[1] else {
        panic!("{events:?}")
    };
    assert!(message.is("message", ns::CLIENT) && message.has_child("body", ns::CLIENT));
}

#[test]
fn the_end_of_the_stream_is_seen() {
    assert_eq!(read("</stream:stream>").last(), Some(&Read::Close));
}

#[test]
fn another_document_is_refused() {
    let error = Reader::new().feed(
        b"<html xmlns='http://www.w3.org/1999/xhtml'>",
        &mut Vec::new(),
    );
    assert!(matches!(error, Err(ParseError::NotAStream { .. })));
}

#[test]
fn any_bytes_give_stanzas_skips_or_an_error_but_no_panic() {
    let pieces = [
        "<message",
        " from='a'",
        ">",
        "</message>",
        "<body>",
        "</body>",
        "<x xmlns='y'>",
        "</x>",
        "&#x1;",
        "&amp;",
        "<![CDATA[",
        "]]>",
        "\u{0}",
        "/>",
        "'",
        "\"",
        "<",
        "&",
        "xmlns:p='q'",
        "<p:z>",
        "text",
        " ",
        "</stream:stream>",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..5_000 {
        let mut out = Vec::new();
        let mut reader = Reader::new();
        reader
            .feed(HEADER.as_bytes(), &mut out)
            .expect("the header is fine");
        for _ in 0..12 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let piece = pieces[(seed % pieces.len() as u64) as usize];
            if reader.feed(piece.as_bytes(), &mut out).is_err() {
                break;
            }
        }
    }
}

fn read(stanzas: &str) -> Vec<Read> {
    let bytes = format!("{HEADER}{stanzas}");
    let mut reader = Reader::new();
    let mut out = Vec::new();
    // In uneven pieces, as a socket gives them.
    for piece in bytes.as_bytes().chunks(4_093) {
        reader.feed(piece, &mut out).expect("the stream goes on");
    }
    out
}

fn is_hello(event: &Read) -> bool {
    matches!(event, Read::Stanza(message)
        if message.get_child("body", ns::CLIENT).is_some_and(|body| body.text() == "hello"))
}
