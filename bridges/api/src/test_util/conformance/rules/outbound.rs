//! From the gateway to the network's people.

use std::collections::BTreeMap;

use super::super::Shown;
use super::{Broken, Checked, FarSide, Stage, ensure};
use crate::delivery::{Outcome, Plan};
use crate::event::{
    Content, Edit, Event, MessageKind, React, ReactAction, Redact, Text, Topic, UnknownContent,
};
use crate::link::Request;
use crate::test_util::harness::{DeliveryHandle, Line, event, message};

pub(in super::super) async fn every_delivery_has_one_outcome<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    for kind in [MessageKind::Text, MessageKind::Emote, MessageKind::Notice] {
        let text = format!("said as {kind:?}");
        let handle = deliver(stage, event("bea", message(&text, kind))).await?;
        ensure(outcome(&handle).await? == Outcome::Shown, || {
            format!("{text:?} was not shown: {:?}", handle.record().outcomes)
        })?;
        stage.is_shown(&text).await?;
    }
    // The gateway fits events to what the channel can show, but the bridge has the last word on each.
    for content in contents_that_few_bridges_show() {
        let what = content.type_name().to_owned();
        let handle = deliver(stage, event("bea", content)).await?;
        outcome(&handle)
            .await
            .map_err(|Broken(why)| Broken(format!("content of type {what:?}: {why}")))?;
    }
    let handle = deliver(
        stage,
        event("bea", message("taken back", MessageKind::Text)),
    )
    .await?;
    stage
        .harness
        .try_ask(Request::Cancel(handle.key().clone()))
        .await?;
    outcome(&handle).await?;
    stage.settle().await?;
    let twice = stage.harness.seen(|seen| {
        seen.handed
            .iter()
            .find(|handed| handed.outcomes.len() != 1 || handed.dropped)
            .cloned()
    });
    ensure(twice.is_none(), || {
        format!("a delivery without exactly one outcome: {twice:?}")
    })
}

fn contents_that_few_bridges_show() -> Vec<Content<crate::event::EventId>> {
    let target = event("bea", message("", MessageKind::Text)).id;
    let unknown = BTreeMap::new;
    vec![
        message("", MessageKind::Text),
        Content::Edit(Edit {
            target,
            text: Text::plain("new words"),
            unknown: unknown(),
        }),
        Content::Redact(Redact {
            target,
            reason: None,
            unknown: unknown(),
        }),
        Content::React(React {
            target,
            action: ReactAction::Add,
            emoji: "👍".to_owned(),
            unknown: unknown(),
        }),
        Content::Topic(Topic {
            text: Text::plain("a topic"),
            unknown: unknown(),
        }),
        Content::Unknown(UnknownContent {
            type_name: "poll".to_owned(),
            fields: unknown(),
        }),
    ]
}

pub(in super::super) async fn a_plan_is_durable_before_the_first_byte<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    stage.harness.freeze_plans();
    let handle = deliver(stage, long_event("frost")).await?;
    let planned = asks_for_a_plan(stage, &handle).await?;
    stage.settle().await?;
    if !planned {
        stage.is_shown("frost-0").await?;
        let lines = stage.shown_with("frost-").len();
        let unplanned = handle.record().unplanned_parts;
        return ensure(lines <= 1 && unplanned == 0, || {
            format!("people saw {lines} lines of a delivery that was never planned")
        });
    }
    ensure(stage.shown_with("frost-").is_empty(), || {
        "people saw a part before the plan was stored".to_owned()
    })?;
    stage.harness.thaw();
    ensure(outcome(&handle).await? == Outcome::Shown, || {
        format!("not shown after the thaw: {:?}", handle.record().outcomes)
    })?;
    stage.is_shown("frost-5").await?;

    stage.harness.refuse_plans(1);
    let handle = deliver(stage, long_event("refused")).await?;
    let refused = outcome(&handle).await?;
    ensure(refused != Outcome::Shown, || {
        "shown without a stored plan".to_owned()
    })?;
    stage.settle().await?;
    ensure(stage.shown_with("refused-").is_empty(), || {
        "people saw a part although the plan was refused".to_owned()
    })
}

pub(in super::super) async fn a_stored_plan_goes_on_where_it_stopped<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    stage.harness.refuse_plans(1);
    let handle = deliver(stage, long_event("resumed")).await?;
    outcome(&handle).await?;
    let Some(parts) = handle.record().plan_asked else {
        return stage.does_not_apply("the bridge shows long texts in one part");
    };
    stage.settle().await?;
    let before = stage.shown_with("resumed-0").len();
    let plan = Plan {
        parts,
        done: BTreeMap::from([(0, Vec::new())]),
    };
    let again = stage
        .harness
        .try_deliver_again(&handle, false, Some(plan))
        .await?;
    ensure(outcome(&again).await? == Outcome::Shown, || {
        format!("not shown: {:?}", again.record().outcomes)
    })?;
    stage.is_shown("resumed-5").await?;
    ensure(stage.shown_with("resumed-0").len() == before, || {
        "people saw a part that had landed before".to_owned()
    })
}

pub(in super::super) async fn order_is_kept<F: FarSide>(stage: &mut Stage<F>) -> Checked {
    let count = (stage.harness.window() * 2).clamp(8, 100);
    let texts: Vec<String> = (0..count).map(|n| format!("order-{n:03}")).collect();
    let lines = texts.iter().map(|text| Line::new("bea", text)).collect();
    stage.harness.show(&stage.channel, lines).await?;
    for text in &texts {
        stage.is_shown(text).await?;
    }
    let shown: Vec<String> = stage
        .shown_with("order-")
        .into_iter()
        .filter_map(|shown| {
            Some(
                shown
                    .text
                    .get(shown.text.find("order-")?..)?
                    .get(..9)?
                    .to_owned(),
            )
        })
        .collect();
    ensure(shown == texts, || {
        format!("handed over as {texts:?}, people saw {shown:?}")
    })?;
    let (handed, finished) = stage.harness.seen(|seen| {
        let handed: Vec<u64> = seen.handed.iter().map(|handed| handed.token).collect();
        (handed, seen.finished.clone())
    });
    ensure(handed == finished, || {
        format!("attempts handed over as {handed:?} came to their outcomes as {finished:?}")
    })
}

pub(in super::super) async fn every_line_names_its_author<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    let name = "alicia";
    let mark = stage.far.record().shown().len();
    let long = format!("named-2 {}", "word ".repeat(300));
    let mut emote = Line::new(name, "named-3 waves");
    emote.kind = MessageKind::Emote;
    let lines = vec![
        Line::new(name, "named-0"),
        Line::new(name, "named-1\nsecond line\nthird line"),
        Line::new(name, long.trim_end()),
        emote,
    ];
    stage.harness.show(&stage.channel, lines).await?;
    stage.is_shown("named-3").await?;
    stage.settle().await?;
    for shown in stage.far.record().shown().split_off(mark) {
        let Shown { author, text } = &shown;
        ensure(
            author.contains(name) || text.lines().all(|line| line.contains(name)),
            || format!("a line does not name its author: {shown:?}"),
        )?;
    }
    Ok(())
}

pub(in super::super) async fn what_a_person_writes_is_no_command<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    let mark = stage.far.record().shown().len();
    let mut texts: Vec<String> = [
        "lone\rreturn",
        "return\r\nfeed",
        "line\nfeed",
        "nul\0byte",
        "separator\u{2028}paragraph\u{2029}next\u{85}end",
        "tab\u{b}form\u{c}feed",
        "\u{1}VERSION\u{1}",
        "\u{1}ACTION dances\u{1}",
        "five < six & seven > six",
        "<b>bold</b> &amp; <!-- comment --> ]]> <script>alert(1)</script>",
        "quotes \" and ' and \\ backslash",
        "/quit now",
        "!help me",
        ": colon first",
        "@everyone look",
        "%s %n {0} ${HOME} $(reboot)",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(stage.far.injections("smuggled"));
    let mut authors = vec!["mallory".to_owned(); texts.len()];
    for author in [
        "mal\r\nlory",
        "mal\0lory",
        "mal\u{1}lory",
        "<b>mal</b>",
        "mal & lory",
        "mal\u{2028}lory",
        "m/a@l",
        "\" onload=\"x",
        " ",
    ] {
        texts.push(format!("said under a strange name, number {}", texts.len()));
        authors.push(author.to_owned());
    }
    for text in stage.far.injections("smuggled") {
        texts.push(format!(
            "said under a stranger name, number {}",
            texts.len()
        ));
        authors.push(text);
    }
    let lines = texts
        .iter()
        .zip(authors)
        .map(|(text, author)| Line::new(author, text))
        .collect();
    stage.harness.show(&stage.channel, lines).await?;
    stage.show("the end of the commands").await?;
    stage.settle().await?;

    let surprises = stage.far.record().surprises();
    ensure(surprises.is_empty(), || {
        format!("the bridge sent what nobody asked for: {surprises:?}")
    })?;
    let pieces: Vec<&str> = texts.iter().flat_map(|text| pieces(text)).collect();
    let shown = stage.far.record().shown().split_off(mark);
    for line in &shown {
        let from_somewhere = pieces.iter().any(|piece| line.text.contains(piece));
        ensure(
            from_somewhere || line.text.contains("the end of the commands"),
            || format!("people saw a line that nobody said: {line:?}"),
        )?;
        ensure(
            line.text.trim() != "smuggled" || line.author.contains("mal"),
            || format!("a text broke out of its place: {line:?}"),
        )?;
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        ensure(
            !line.text.contains(control) && !line.author.contains(char::is_control),
            || format!("people saw a control character: {line:?}"),
        )?;
    }
    for piece in pieces {
        ensure(shown.iter().any(|line| line.text.contains(piece)), || {
            format!("{piece:?} was not shown as it was said; people saw {shown:#?}")
        })?;
    }
    Ok(())
}

/// What must be seen of a text as it is: all but control characters and line breaks.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}')
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
}

pub(in super::super) async fn a_delivery_in_doubt_is_shown_once<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    if !stage.far.facts().idempotent {
        return stage.does_not_apply("the network cannot tell a repeated send");
    }
    for event in [
        event("bea", message("doubt-0", MessageKind::Text)),
        long_event("doubt"),
    ] {
        let first = deliver(stage, event).await?;
        ensure(outcome(&first).await? == Outcome::Shown, || {
            format!("not shown: {:?}", first.record().outcomes)
        })?;
        // As after a crash: the plan is stored, but no part of it was recorded as landed.
        let plan = first
            .plan()
            .filter(|plan| plan.parts.len() > 1)
            .map(|plan| Plan {
                parts: plan.parts,
                done: BTreeMap::new(),
            });
        let second = stage.harness.try_deliver_again(&first, true, plan).await?;
        ensure(outcome(&second).await? == Outcome::Shown, || {
            format!("in doubt, and then: {:?}", second.record().outcomes)
        })?;
    }
    stage.show("after the doubt").await?;
    stage.settle().await?;
    for (text, expected) in [("doubt-0", 2), ("doubt-5", 1)] {
        // `doubt-0` is said twice, as a line of its own and as the first of the long text.
        let seen = stage.shown_with(text).len();
        ensure(seen == expected, || {
            format!("{text:?} was said {expected} times and shown {seen} times")
        })?;
    }
    Ok(())
}

async fn deliver<F: FarSide>(stage: &mut Stage<F>, event: Event) -> Result<DeliveryHandle, Broken> {
    stage.ready().await?;
    Ok(stage
        .harness
        .try_deliver_event(&stage.channel, event)
        .await?)
}

async fn outcome(handle: &DeliveryHandle) -> Result<Outcome, Broken> {
    handle.try_outcome().await?.ok_or_else(|| {
        Broken(format!(
            "delivery {} was dropped without a word",
            handle.key()
        ))
    })
}

/// A text of six lines, 1,700 bytes in all, that most line protocols have to split.
fn long_event(token: &str) -> Event {
    let lines: Vec<String> = (0..6)
        .map(|n| format!("{token}-{n} {}", "lorem ipsum ".repeat(23).trim_end()))
        .collect();
    event("bea", message(&lines.join("\n"), MessageKind::Text))
}

/// Waits until the bridge asks for a plan (true) or has shown the delivery without one (false).
async fn asks_for_a_plan<F: FarSide>(
    stage: &Stage<F>,
    handle: &DeliveryHandle,
) -> Result<bool, Broken> {
    let token = handle.token();
    Ok(stage
        .harness
        .try_wait_for("a plan, or an outcome without one", |seen| {
            let handed = seen.attempt(token)?;
            (handed.plan_asked.is_some() || handed.is_over()).then(|| handed.plan_asked.is_some())
        })
        .await?)
}
