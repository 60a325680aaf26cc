//! IRC to IRC: the real daemon between two channels of a real ngircd, and plain clients through the same server without it.
//!
//! IRC cannot be told to wait, so what the bridge carries is a rate at which nothing is lost, offered open loop. Each rate gets
//! a daemon of its own.

mod client;
mod daemon;
mod lab;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::figures::{Aim, Figures};
use crate::usage::{Span, sync_floor};
use lab::Lab;
use run::{Bridge, Load, Run};

/// What the bridge shall carry, lines a second.
const AIM: u64 = 30_000;

/// Tried when it carries that, and when it does not.
const MORE: [u64; 4] = [40_000, 50_000, 60_000, 80_000];
const LESS: [u64; 4] = [20_000, 15_000, 10_000, 5_000];

/// Lines of a burst that comes as fast as the server takes them.
const BURST: u64 = 50_000;

/// What is to be measured.
pub(crate) struct Plan {
    /// The daemon.
    pub(crate) binary: PathBuf,
    /// Clients that send.
    pub(crate) senders: usize,
    /// Lines a second, for the latency.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// Bytes of text in a line.
    pub(crate) text: usize,
}

pub(crate) fn irc(dir: &Path, plan: &Plan) -> Result<Figures> {
    let lab = Lab::up()?;
    let span = Span::begin()?;
    let mut figures = Figures::of("irc");
    let folder = |name: &str| -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix(name).tempdir_in(dir);
        made.context("the daemon's directory cannot be made")
    };

    let plain = run::plain(&lab, plan, Load::Burst(BURST))?;
    let most = throughput(&lab, plan, &mut figures, &folder)?;
    figures.say(
        "lines a second, plain clients and the server",
        plain.rate(),
        "/s",
    );
    figures.say("the server's CPU a line, plain", plain.server_ms(), "ms");

    let home = folder("steady")?;
    let mut bridge = Bridge::open(&lab, plan, home.path())?;
    steady(&lab, plan, &mut bridge, &mut figures)?;
    drop(bridge);

    let home = folder("burst")?;
    let mut bridge = Bridge::open(&lab, plan, home.path())?;
    let burst = bridge.carry(&lab, plan, Load::Burst(BURST))?;
    figures.say(
        &format!("lost of {BURST} lines as fast as the server takes them"),
        burst.lost() as f64,
        "",
    );
    let refused = bridge.refused();
    if !refused.is_empty() {
        figures.note(format!(
            "of that burst the daemon could not take: {refused}"
        ));
    }
    figures.note(format!(
        "{} bytes of text in a line, {} senders, one ngircd for both channels, highest rate tried without loss: {most}; \
         CPU of other processes, server included: {:.2} processors",
        plan.text,
        plan.senders,
        span.others(span.used()?.cpu)?
    ));
    Ok(figures)
}

/// Looks for the highest rate that is carried whole.
fn throughput(
    lab: &Lab,
    plan: &Plan,
    figures: &mut Figures,
    folder: &impl Fn(&str) -> Result<tempfile::TempDir>,
) -> Result<u64> {
    let at = |rate: u64| -> Result<Run> {
        let home = folder("rate")?;
        let mut bridge = Bridge::open(lab, plan, home.path())?;
        let run = bridge.carry(lab, plan, Load::Rate(rate, 5))?;
        eprintln!(
            "  {rate}/s: lost {}, out of place {}, {:.0}/s carried, {:.4} ms",
            run.lost(),
            run.disorder,
            run.rate(),
            run.daemon_ms()
        );
        Ok(run)
    };
    let aimed = at(AIM)?;
    let mut most = 0.0;
    let mut tried = 0;
    if aimed.is_whole() {
        (most, tried) = (aimed.rate(), AIM);
        for rate in MORE {
            let run = at(rate)?;
            if !run.is_whole() {
                break;
            }
            (most, tried) = (run.rate(), rate);
        }
    } else {
        for rate in LESS {
            let run = at(rate)?;
            if run.is_whole() {
                (most, tried) = (run.rate(), rate);
                break;
            }
        }
    }
    let wanted = AIM as f64;
    // A stream of so many a second ends when its last line has come, which is a little later than it was due.
    figures.aim(
        "lines a second, bridged, whole and in order",
        most,
        "/s",
        Aim::AtLeast(wanted * 0.99),
    );
    let offered = |what: &str| format!("{what} at {AIM} lines a second");
    figures.aim(&offered("lost"), aimed.lost() as f64, "", Aim::AtMost(0.0));
    figures.aim(
        &offered("out of place"),
        aimed.disorder as f64,
        "",
        Aim::AtMost(0.0),
    );
    figures.aim(
        &offered("the daemon's CPU a line"),
        aimed.daemon_ms(),
        "ms",
        Aim::AtMost(0.03),
    );
    figures.say(&offered("the server's CPU a line"), aimed.server_ms(), "ms");
    figures.spread(&offered("due to heard"), &aimed.latencies);
    Ok(tried)
}

/// A steady stream through the bridge and another beside it, at the same time.
fn steady(lab: &Lab, plan: &Plan, bridge: &mut Bridge, figures: &mut Figures) -> Result<()> {
    let before = sync_floor(bridge.folder())?;
    let [plain, bridged] = bridge.beside(lab, plan)?;
    let floor = (before + sync_floor(bridge.folder())?).as_secs_f64() * 1e3 / 2.0;
    let alone = figures.spread(
        &format!("plain, {} lines a second", plan.rate),
        &plain.latencies,
    );
    let with = figures.spread(
        &format!("bridged, {} lines a second", plan.rate),
        &bridged.latencies,
    );
    figures.aim(
        &format!(
            "p50 at {}/s that the bridge adds, beyond one write and fdatasync",
            plan.rate
        ),
        with.p50 - alone.p50 - floor,
        "ms",
        Aim::AtMost(0.5),
    );
    figures.aim(
        &format!("p99 at {}/s that the bridge adds", plan.rate),
        with.p99 - alone.p99,
        "ms",
        Aim::AtMost(10.0),
    );
    let lost = bridged.lost() + bridged.disorder;
    figures.aim(
        "steady lines lost or out of place",
        lost as f64,
        "",
        Aim::AtMost(0.0),
    );
    figures.say("a write and fdatasync", floor, "ms");
    Ok(())
}
