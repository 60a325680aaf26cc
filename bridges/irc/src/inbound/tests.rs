use comity_bridge::event::{Style, Text};

use super::*;
use crate::ident::ChannelName;

fn heard(verb: Verb, text: &str) -> Heard {
    Heard {
        channel: ChannelName::parse("#a").expect("a channel"),
        verb,
        nick: "al".to_owned(),
        account: None,
        names_accounts: false,
        bot: false,
        msgid: None,
        time: None,
        number: 42,
        text: text.to_owned(),
    }
}

fn reported(heard: &Heard) -> Result<Incoming, &'static str> {
    report(heard, "libera/#a".parse().expect("a channel"), "01EPOCH")
}

fn said(verb: Verb, text: &str) -> Result<(MessageKind, Text), &'static str> {
    match reported(&heard(verb, text))?.content {
        Content::Message(message) => Ok((message.kind, message.text)),
        other => panic!("no message: {other:?}"),
    }
}

fn plain(text: &str) -> String {
    said(Verb::Privmsg, text).expect("a message").1.plain
}

#[test]
fn kinds_of_messages() {
    assert_eq!(
        said(Verb::Privmsg, "hi"),
        Ok((MessageKind::Text, Text::plain("hi")))
    );
    assert_eq!(
        said(Verb::Notice, "hi"),
        Ok((MessageKind::Notice, Text::plain("hi")))
    );
    assert_eq!(
        said(Verb::Privmsg, "\x01ACTION waves\x01"),
        Ok((MessageKind::Emote, Text::plain("waves")))
    );
    assert_eq!(
        said(Verb::Privmsg, "\x01action waves"),
        Ok((MessageKind::Emote, Text::plain("waves")))
    );
}

#[test]
fn i8_ctcp_and_dcc_are_dropped() {
    for ctcp in [
        "\x01VERSION\x01",
        "\x01DCC SEND \"x\" 1 2 3\x01",
        "\x01PING 1",
        "\x01",
        "\x01ACTION\x01",
        "\x01ACTIONX y\x01",
    ] {
        assert_eq!(said(Verb::Privmsg, ctcp), Err("unsupported"), "{ctcp:?}");
    }
    assert_eq!(
        said(Verb::Notice, "\x01ACTION waves\x01"),
        Err("unsupported")
    );
}

#[test]
fn what_shows_nothing_is_no_message() {
    for empty in ["", " ", "\x02\x03", "\x0304,05", "\x01ACTION  \x01"] {
        assert!(said(Verb::Privmsg, empty).is_err(), "{empty:?}");
    }
}

#[test]
fn b8_no_control_code_gets_into_the_text() {
    assert_eq!(
        plain("\x0304red\x03 \x0399x \x034,5y \x03,z \x034,z"),
        "red x y ,z ,z"
    );
    assert_eq!(plain("\x04ff0000red\x04 \x04ff0000,00ff00x"), "red x");
    assert_eq!(
        plain("a\x16b\x07c\x1b[31md\x00e\u{85}f\tg\u{2028}h\x01i"),
        "abc[31mdef g hi"
    );
    assert_eq!(plain("\x031234"), "34");
}

#[test]
fn formatting_becomes_spans() {
    let (_, text) =
        said(Verb::Privmsg, "é \x02bold \x1dboth\x02 it\x0f no \x11code").expect("a message");
    assert_eq!(text.plain, "é bold both it no code");
    let spans: Vec<_> = text
        .spans
        .iter()
        .map(|span| (span.start, span.end, span.style.clone()))
        .collect();
    assert_eq!(
        spans,
        [
            (2, 11, Style::Bold),
            (7, 14, Style::Italic),
            (18, 22, Style::Code)
        ]
    );
}

#[test]
fn two_equal_lines_are_two_messages() {
    let first = heard(Verb::Privmsg, "yes");
    let second = Heard {
        number: 43,
        ..first.clone()
    };
    let ids = [reported(&first), reported(&second)].map(|r| r.expect("a message").source_id.0);
    assert_eq!(ids, ["01EPOCH-42", "01EPOCH-43"]);
}

#[test]
fn the_networks_own_id_account_and_time_are_used() {
    let heard = Heard {
        account: Some("alice".to_owned()),
        bot: true,
        msgid: Some("k3j2".to_owned()),
        time: Some("1970-01-01T00:00:01.000Z".to_owned()),
        ..heard(Verb::Privmsg, "hi")
    };
    let incoming = reported(&heard).expect("a message");
    assert_eq!(incoming.source_id.0, "k3j2");
    assert_eq!(
        (incoming.author.id.as_str(), incoming.author.name.as_str()),
        ("alice", "al")
    );
    assert!(incoming.author.bot && incoming.author.account.as_deref() == Some("alice"));
    assert_eq!(incoming.claimed.map(|t| t.0), Some(1000));
}
