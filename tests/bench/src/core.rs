//! The core alone: what one event with three deliveries costs, and how long it takes.
//!
//! One *event* is one inbound event with three deliveries and their outcomes recorded: one row of the room's log, three of native
//! ids, three lanes moved.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::figures::{Aim, Figures};
use crate::scripted::{Manner, Messages, Stage};
use crate::usage::{Span, file_system, sync_floor};

const TARGETS: usize = 3;

/// As fast as the journal commits.
pub(crate) async fn throughput(
    dir: &Path,
    events: u64,
    batch: usize,
    text: usize,
) -> Result<Figures> {
    let data = tempfile::tempdir_in(dir).context("the data directory cannot be made")?;
    let floor = sync_floor(data.path())?;
    let stage = Stage::start(data.path(), messages(text), &[Manner::Works; TARGETS]).await?;
    let span = Span::begin()?;
    stage.flood(events, batch);
    for target in 0..TARGETS {
        stage.shown(target, events).await?;
    }
    let (took, used) = (span.took(), span.used()?);
    let others = span.others(used.cpu)?;
    let resident = crate::usage::resident(std::process::id())?;
    let commits = stage.counter("comity_journal_commit_seconds_count");
    let mut behind = crate::pace::histogram();
    for target in 0..TARGETS {
        behind.add(stage.target(target).latencies())?;
    }
    let disorder: u64 = (0..TARGETS).map(|t| stage.target(t).disorder()).sum();
    ensure!(
        disorder == 0,
        "{disorder} deliveries were lost, doubled or swapped"
    );
    stage.stop().await;
    check_rows(data.path(), events)?;

    let mut figures = Figures::of("core");
    let per_event = |total: Duration| total.as_secs_f64() * 1e6 / events as f64;
    figures.aim(
        "events a second, three targets",
        events as f64 / took.as_secs_f64(),
        "/s",
        Aim::AtLeast(50_000.0),
    );
    figures.say("CPU an event", per_event(used.cpu), "us");
    figures.spread(
        "reported to delivered, which says how far lanes fall behind",
        &behind,
    );
    figures.say("events a commit", events as f64 / commits as f64, "");
    figures.say(
        "written an event",
        used.written as f64 / events as f64,
        "bytes",
    );
    figures.say("resident at the end", resident, "MB");
    figures.say("a write and fdatasync", floor.as_secs_f64() * 1e3, "ms");
    figures.say("processors that others used", others, "");
    figures.note(format!(
        "{events} events of {text} bytes in reports of {batch}, on {}; the networks' own work is in the CPU",
        file_system(dir)?
    ));
    Ok(figures)
}

/// At a steady rate, open loop.
pub(crate) async fn latency(dir: &Path, rate: u64, seconds: u64, text: usize) -> Result<Figures> {
    let data = tempfile::tempdir_in(dir).context("the data directory cannot be made")?;
    let stage = Stage::start(data.path(), messages(text), &[Manner::Works; TARGETS]).await?;
    // What happens once, at the beginning, is not what a message waits for.
    for count in 1..=20 {
        stage.say();
        stage.shown(0, count).await?;
    }
    for target in 0..TARGETS {
        stage.shown(target, 20).await?;
        stage.target(target).forget();
    }
    let before = sync_floor(data.path())?;
    let commits = |stage: &Stage| stage.counter("comity_journal_commit_seconds_count");
    let earlier = commits(&stage);
    let span = Span::begin()?;
    let count = rate * seconds;
    let generator = stage.stream(rate, count);
    for target in 0..TARGETS {
        stage.shown(target, 20 + count).await?;
    }
    let used = span.used()?;
    let others = span.others(used.cpu)?;
    let after = sync_floor(data.path())?;
    let commits = commits(&stage) - earlier;
    let late = generator.join().expect("the generator does not panic");
    let mut latencies = crate::pace::histogram();
    for target in 0..TARGETS {
        latencies.add(stage.target(target).latencies())?;
    }
    stage.stop().await;

    let mut figures = Figures::of("latency");
    let floor = (before + after).as_secs_f64() * 1e3 / 2.0;
    let spread = figures.spread("due to delivered", &latencies);
    figures.spread("the generator's own lateness, included above", &late);
    figures.aim(
        &format!("p50 at {rate}/s, beyond one write and fdatasync"),
        spread.p50 - floor,
        "ms",
        Aim::AtMost(0.5),
    );
    figures.aim(
        &format!("p99 at {rate}/s"),
        spread.p99,
        "ms",
        Aim::AtMost(10.0),
    );
    figures.say("a write and fdatasync, before and after", floor, "ms");
    figures.say(
        "CPU an event",
        used.cpu.as_secs_f64() * 1e6 / count as f64,
        "us",
    );
    figures.say("commits an event", commits as f64 / count as f64, "");
    figures.say("processors that others used", others, "");
    Ok(figures)
}

pub(crate) fn messages(text: usize) -> Messages {
    Messages {
        first: 0,
        text: "x".repeat(text),
    }
}

/// Everything that was shown is also on the disk.
fn check_rows(data: &Path, events: u64) -> Result<()> {
    let connection = rusqlite::Connection::open(data.join("journal.sqlite"))?;
    let stored: u64 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
    ensure!(
        stored == events,
        "the journal holds {stored} of {events} events"
    );
    Ok(())
}
