//! From the network into the journal.

use super::{Checked, FarSide, Stage, ensure};

pub(in super::super) async fn no_acknowledgement_leaves_before_the_commit<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    let record = stage.far.record().clone();
    stage.hear("before the frost").await?;
    if stage.far.facts().acknowledges {
        stage
            .in_time(
                "the first acknowledgement",
                record.wait_until(|_, acked| acked >= 1),
            )
            .await?;
    }
    let before = record.acknowledged();
    stage.harness.freeze();
    stage.far.say("ann", "in the frost").await;
    stage
        .harness
        .try_wait_for("a commit of the line", |seen| {
            (seen.hanging_commits > 0).then_some(())
        })
        .await?;
    // Also the proof that a journal which hangs does not stop the bridge from reading and answering.
    stage.settle().await?;
    ensure(record.acknowledged() == before, || {
        "the network was told that we have a line which the journal had not committed".to_owned()
    })?;
    stage.harness.thaw();
    stage.heard("in the frost").await?;
    if stage.far.facts().acknowledges {
        stage
            .in_time(
                "the acknowledgement after the thaw",
                record.wait_until(|_, acked| acked > before),
            )
            .await?;
    }
    Ok(())
}

pub(in super::super) async fn equal_lines_are_two_events<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    stage.far.say("ann", "yes").await;
    stage.far.say("ann", "yes").await;
    stage
        .harness
        .try_wait_for(
            "two events that say \"yes\", with a source id each",
            |seen| (seen.saying("yes").count() == 2).then_some(()),
        )
        .await?;
    Ok(())
}

pub(in super::super) async fn a_line_shown_twice_is_one_event<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    if !stage.far.facts().repeats {
        return stage.does_not_apply("the network shows no line twice");
    }
    stage.hear("said once").await?;
    stage.far.repeat().await;
    stage.hear("said after it").await?;
    stage.settle().await?;
    let count = stage.harness.seen(|seen| seen.saying("said once").count());
    ensure(count == 1, || {
        format!("a line that the network showed twice became {count} events")
    })
}

pub(in super::super) async fn a_busy_answer_is_asked_again<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    let lines = ["busy one", "busy two", "busy three", "busy four"];
    stage.harness.busy(2);
    for line in lines {
        stage.far.say("ann", line).await;
    }
    for line in lines {
        stage.heard(line).await?;
    }
    let order: Vec<String> = stage.harness.seen(|seen| {
        seen.events
            .iter()
            .filter_map(|taken| taken.text().map(str::to_owned))
            .filter(|text| text.starts_with("busy"))
            .collect()
    });
    ensure(order == lines, || {
        format!("after two busy answers the lines came as {order:?}")
    })
}

pub(in super::super) async fn our_own_message_is_no_new_event<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    if !stage.far.facts().reflects {
        return stage.does_not_apply("the network does not show us our own lines");
    }
    stage.show("an own line").await?;
    stage.show("an own line").await?;
    stage.far.reflect().await;
    stage.hear("said after the echo").await?;
    stage.settle().await?;
    let echoed = stage.harness.seen(|seen| {
        seen.events
            .iter()
            .find(|taken| {
                taken
                    .text()
                    .is_some_and(|text| text.contains("an own line"))
            })
            .cloned()
    });
    ensure(echoed.is_none(), || {
        format!("our own line came back as a new event: {echoed:?}")
    })
}
