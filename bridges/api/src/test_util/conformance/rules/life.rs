//! Connections, restarts and the end.

use super::{Checked, FarSide, Stage, ensure};
use crate::event::{DeliveryKey, MessageKind};
use crate::link::Request;
use crate::report::{ChannelState, NetworkStatus};
use crate::test_util::harness::{REQUEST_CAPACITY, Told, event, message};

pub(in super::super) async fn garbage_is_survived<F: FarSide>(stage: &mut Stage<F>) -> Checked {
    let garbage = tokio::time::timeout(stage.far.patience(), stage.far.garbage()).await;
    ensure(garbage.is_ok(), || {
        "the bridge did not come past the garbage".to_owned()
    })?;
    stage.ready().await?;
    stage.hear("said after the garbage").await?;
    stage.show("shown after the garbage").await
}

pub(in super::super) async fn a_cut_is_mended<F: FarSide>(stage: &mut Stage<F>) -> Checked {
    stage.hear("said before the cut").await?;
    stage.show("shown before the cut").await?;
    let mark = stage.mark();
    stage.far.cut().await;
    if stage.far.facts().standing {
        stage.joined_after(mark).await?;
    }
    stage.show("shown after the cut").await?;
    stage.hear("said after the cut").await?;
    let twice = stage
        .harness
        .seen(|seen| seen.saying("said before the cut").count());
    ensure(twice == 1, || {
        format!("a line from before the cut became {twice} events")
    })
}

pub(in super::super) async fn requests_are_drained_while_the_network_hangs<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    stage.far.hold().await;
    let mut handles = Vec::new();
    for n in 0..stage.harness.window() {
        let event = event("bea", message(&format!("held-{n:03}"), MessageKind::Text));
        let handle = stage
            .harness
            .try_deliver_event(&stage.channel, event)
            .await?;
        handles.push(handle);
    }
    for _ in 0..3 * REQUEST_CAPACITY {
        // Of deliveries that nobody has: to be read and forgotten.
        let key = DeliveryKey {
            event: event("bea", message("", MessageKind::Text)).id,
            channel: stage.channel.clone(),
        };
        stage.harness.try_ask(Request::Cancel(key)).await?;
    }
    stage.harness.try_wait_for_drained().await?;
    stage.far.release().await;
    for handle in &handles {
        let outcome = handle.try_outcome().await?;
        ensure(outcome.is_some(), || {
            format!("delivery {} was dropped without a word", handle.key())
        })?;
    }
    stage.show("shown after the release").await
}

pub(in super::super) async fn statuses_are_true<F: FarSide>(stage: &mut Stage<F>) -> Checked {
    let joined = Told::Channel(stage.channel.clone(), ChannelState::Joined);
    let order = stage.harness.seen(|seen| {
        let first = |wanted: &Told| seen.told.iter().position(|told| told == wanted);
        (first(&Told::Network(NetworkStatus::Online)), first(&joined))
    });
    ensure(order.0 < order.1, || {
        "the channel was joined before the network was online".to_owned()
    })?;
    let first = stage
        .harness
        .try_deliver_event(
            &stage.channel,
            event("bea", message("at once", MessageKind::Text)),
        )
        .await?;
    let outcome = first.try_outcome().await?;
    ensure(outcome == Some(crate::delivery::Outcome::Shown), || {
        format!("joined, said the bridge, and then: {outcome:?}")
    })?;
    if !stage.far.facts().standing {
        return Ok(());
    }
    let mark = stage.mark();
    stage.far.cut().await;
    stage
        .harness
        .try_wait_for("the network to be reported offline after a cut", |seen| {
            seen.told[mark..]
                .iter()
                .any(|told| matches!(told, Told::Network(NetworkStatus::Offline { .. })))
                .then_some(())
        })
        .await?;
    Ok(())
}

pub(in super::super) async fn a_restart_loses_and_doubles_nothing<F: FarSide>(
    stage: &mut Stage<F>,
) -> Checked {
    let record = stage.far.record().clone();
    stage.hear("said before the restart").await?;
    if stage.far.facts().acknowledges {
        stage
            .in_time(
                "the acknowledgement",
                record.wait_until(|_, acked| acked >= 1),
            )
            .await?;
    }
    stage.show("shown before the restart").await?;
    stage.stop().await?;
    stage.start_again().await?;
    for text in ["said after the restart", "and once more"] {
        stage.hear(text).await?;
    }
    stage.show("shown after the restart").await?;
    stage.settle().await?;
    let said = stage
        .harness
        .seen(|seen| seen.saying("said before the restart").count());
    ensure(said == 1, || {
        format!("a line from before the restart became {said} events")
    })?;
    let shown = stage.shown_with("shown before the restart").len();
    ensure(shown == 1, || {
        format!("a line from before the restart was shown {shown} times")
    })
}

pub(in super::super) async fn shutdown_ends_the_run<F: FarSide>(stage: &mut Stage<F>) -> Checked {
    stage.stop().await?;
    stage.start_again().await?;
    stage.far.hold().await;
    stage
        .harness
        .try_deliver_event(
            &stage.channel,
            event("bea", message("said at the end", MessageKind::Text)),
        )
        .await?;
    stage.harness.try_wait_for_drained().await?;
    let stopped = stage.stop().await;
    stage.far.release().await;
    stopped
}
