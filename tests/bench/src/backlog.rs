//! A million events that wait for a stopped network: what they cost in memory, and how soon the gateway relays again
//! when it is restarted with them.
//!
//! Each life of the gateway is a process of its own, so that its memory is its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::core::messages;
use crate::figures::{Aim, Figures};
use crate::scripted::{Manner, Messages, Stage};
use crate::usage::{Span, resident};

/// One network works, one is stopped.
const MANNERS: [Manner; 2] = [Manner::Works, Manner::Away];

const STOPPED: usize = 1;

/// The two lives of the gateway.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Life {
    Fill,
    Drain,
}

/// Runs both lives on one journal and puts their figures together.
pub(crate) async fn backlog(dir: &Path, events: u64, text: usize) -> Result<Figures> {
    let data = tempfile::tempdir_in(dir).context("the data directory cannot be made")?;
    let filled = live(Life::Fill, data.path(), events, text).await?;
    let drained = live(Life::Drain, data.path(), events, text).await?;
    let journal = std::fs::metadata(data.path().join("journal.sqlite"))?.len();
    let value = |figures: &Figures, name: &str| {
        let figure = figures.figures.iter().find(|figure| figure.name == name);
        figure
            .map(|figure| figure.value)
            .with_context(|| name.to_owned())
    };
    let idle = value(&filled, "idle")?;
    let mut figures = Figures::of("backlog");
    figures.say("resident, idle", idle, "MB");
    for (figure, of, name) in [
        ("resident beyond idle, most while it grows", &filled, "most"),
        (
            "resident beyond idle, with all of it waiting",
            &filled,
            "settled",
        ),
        ("resident beyond idle, restarted with it", &drained, "idle"),
        (
            "resident beyond idle, most while it drains",
            &drained,
            "most",
        ),
    ] {
        figures.aim(figure, value(of, name)? - idle, "MB", Aim::AtMost(20.0));
    }
    figures.aim(
        "from start to a new message relayed",
        value(&drained, "relays")?,
        "s",
        Aim::AtMost(2.0),
    );
    figures.say("taken in, one network live", value(&filled, "rate")?, "/s");
    figures.say("drained, in order", value(&drained, "rate")?, "/s");
    figures.say("journal", journal as f64 / 1e6, "MB");
    figures.say(
        "processors that others used",
        value(&drained, "others")?,
        "",
    );
    figures.note(format!("{events} events of {text} bytes"));
    Ok(figures)
}

async fn live(life: Life, data: &Path, events: u64, text: usize) -> Result<Figures> {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--json", "--text", &text.to_string(), "backlog-life"])
        .arg(format!("{life:?}").to_lowercase())
        .arg(data)
        .args([events.to_string(), begun.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "the {life:?} life: {}",
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One life, in its own process. `begun` is when that was asked for, in microseconds since 1970.
pub(crate) async fn life(
    life: Life,
    data: PathBuf,
    events: u64,
    begun: u64,
    text: usize,
) -> Result<Figures> {
    match life {
        Life::Fill => fill(&data, events, text).await,
        Life::Drain => drain(&data, events, begun, text).await,
    }
}

async fn fill(data: &Path, events: u64, text: usize) -> Result<Figures> {
    let mut figures = Figures::of("fill");
    let stage = Stage::start(data, messages(text), &MANNERS).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    figures.say("idle", resident(std::process::id())?, "MB");
    let span = Span::begin()?;
    stage.flood(events, 64);
    let most = most_resident(stage.shown(0, events)).await?;
    figures.say("rate", events as f64 / span.took().as_secs_f64(), "/s");
    figures.say("most", most, "MB");
    tokio::time::sleep(Duration::from_secs(1)).await;
    figures.say("settled", resident(std::process::id())?, "MB");
    stage.stop().await;
    Ok(figures)
}

async fn drain(data: &Path, events: u64, begun: u64, text: usize) -> Result<Figures> {
    let mut figures = Figures::of("drain");
    let new = Messages {
        first: events,
        text: "x".repeat(text),
    };
    let stage = Stage::start(data, new, &MANNERS).await?;
    stage.say();
    stage.shown(0, 1).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    figures.say("relays", now.saturating_sub(begun.into()) as f64 / 1e6, "s");
    tokio::time::sleep(Duration::from_secs(1)).await;
    figures.say("idle", resident(std::process::id())?, "MB");
    let span = Span::begin()?;
    stage.target(STOPPED).come_back();
    let most = most_resident(stage.shown(STOPPED, events + 1)).await?;
    figures.say("rate", events as f64 / span.took().as_secs_f64(), "/s");
    figures.say("most", most, "MB");
    figures.say("others", span.others(span.used()?.cpu)?, "");
    let stopped = stage.target(STOPPED);
    if stopped.disorder() > 0 || stopped.next() != events + 1 {
        bail!(
            "{} deliveries were lost, doubled or swapped",
            stopped.disorder()
        );
    }
    stage.stop().await;
    Ok(figures)
}

/// The most megabytes in memory until `work` is done.
async fn most_resident(work: impl Future<Output = Result<()>>) -> Result<f64> {
    tokio::pin!(work);
    let mut most = 0.0_f64;
    let mut every = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            done = &mut work => return done.map(|()| most),
            _ = every.tick() => most = most.max(resident(std::process::id())?),
        }
    }
}
