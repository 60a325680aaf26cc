//! A network that has frozen, seen from the others: they must not notice.

use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::core::messages;
use crate::figures::{Aim, Figures};
use crate::pace::histogram;
use crate::scripted::{Manner, Stage};
use crate::usage::{Span, sync_floor};

const WITHOUT: [Manner; 2] = [Manner::Works; 2];
const WITH: [Manner; 4] = [
    Manner::Works,
    Manner::Works,
    Manner::NeverAnswers,
    Manner::NeverReads,
];

/// Turns with and without, one after the other, so that both see the same machine.
pub(crate) async fn frozen(dir: &Path, rate: u64, seconds: u64, text: usize) -> Result<Figures> {
    let span = Span::begin()?;
    let (mut without, mut with) = (histogram(), histogram());
    const TURNS: u64 = 6;
    for _ in 0..TURNS {
        let count = rate * seconds / (2 * TURNS);
        without.add(turn(dir, &WITHOUT, rate, count, text).await?)?;
        with.add(turn(dir, &WITH, rate, count, text).await?)?;
    }
    let others = span.others(span.used()?.cpu)?;
    let mut figures = Figures::of("frozen");
    let alone = figures.spread("two networks", &without);
    let beside = figures.spread("the same two beside two frozen ones", &with);
    figures.aim(
        &format!("p50 at {rate}/s that two frozen networks add"),
        beside.p50 - alone.p50,
        "ms",
        Aim::AtMost(0.1),
    );
    figures.aim(
        &format!("p99 at {rate}/s that two frozen networks add"),
        beside.p99 - alone.p99,
        "ms",
        Aim::AtMost(1.0),
    );
    figures.say("processors that others used", others, "");
    figures.note("one takes deliveries and never answers, one never reads");
    Ok(figures)
}

async fn turn(
    dir: &Path,
    manners: &[Manner],
    rate: u64,
    count: u64,
    text: usize,
) -> Result<Histogram<u64>> {
    let data = tempfile::tempdir_in(dir).context("the data directory cannot be made")?;
    sync_floor(data.path())?;
    let stage = Stage::start(data.path(), messages(text), manners).await?;
    // More than what the frozen ones take: they stand still before anything is measured.
    let before = 2000;
    stage.flood(before, 64);
    let working = 0..WITHOUT.len();
    for target in working.clone() {
        stage.shown(target, before).await?;
        stage.target(target).forget();
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let generator = stage.stream(rate, count);
    let mut latencies = histogram();
    for target in working {
        stage.shown(target, before + count).await?;
        latencies.add(stage.target(target).latencies())?;
    }
    generator.join().expect("the generator does not panic");
    stage.stop().await;
    Ok(latencies)
}
