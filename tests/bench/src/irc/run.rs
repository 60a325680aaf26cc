//! One stretch of lines, from the clients that send to the one that listens.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use super::Plan;
use super::client::{Client, Heard, Listener};
use super::daemon::Daemon;
use super::lab::Lab;
use crate::pace::Schedule;
use crate::usage::Usage;

/// A listener that hears nothing for so long has heard what there is.
const SILENCE: Duration = Duration::from_secs(6);

/// A stream is carried when its last line is heard so soon after it was due.
const BEHIND: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// So many lines as fast as the server takes them.
    Burst(u64),
    /// So many a second, for so many seconds, whatever becomes of them.
    Rate(u64, u64),
}

/// What came of it.
pub(super) struct Run {
    sent: u64,
    heard: u64,
    /// Lines that did not follow the last one of their sender.
    pub(super) disorder: u64,
    /// From when a line was due to when it was heard.
    pub(super) latencies: Histogram<u64>,
    /// From the first that was due to the last that was heard.
    took: Duration,
    /// How long sending should have taken.
    span: Duration,
    daemon: Duration,
    server: Duration,
}

impl Run {
    pub(super) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.heard)
    }

    /// Nothing lost, nothing doubled, nothing out of place, and no queue left behind.
    pub(super) fn is_whole(&self) -> bool {
        self.sent == self.heard && self.disorder == 0 && self.took <= self.span + BEHIND
    }

    /// Lines a second that were heard.
    pub(super) fn rate(&self) -> f64 {
        self.heard as f64 / self.took.as_secs_f64()
    }

    /// The daemon's CPU a line.
    pub(super) fn daemon_ms(&self) -> f64 {
        self.daemon.as_secs_f64() * 1e3 / self.heard.max(1) as f64
    }

    /// The server's CPU a line.
    pub(super) fn server_ms(&self) -> f64 {
        self.server.as_secs_f64() * 1e3 / self.heard.max(1) as f64
    }
}

/// A daemon that carries lines from one channel to another.
pub(super) struct Bridge {
    daemon: Daemon,
    folder: std::path::PathBuf,
    channels: [String; 2],
}

impl Bridge {
    /// Starts it, and waits until something crosses.
    pub(super) fn open(lab: &Lab, plan: &Plan, folder: &Path) -> Result<Bridge> {
        let folder = folder.canonicalize()?;
        let [one, two] = [unique("#one"), unique("#two")];
        let daemon = Daemon::start(&plan.binary, &folder, lab.server, [&one, &two])?;
        let bridge = Bridge {
            daemon,
            folder,
            channels: [one, two],
        };
        bridge.wait(lab)?;
        Ok(bridge)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was heard and could not be taken.
    pub(super) fn refused(&self) -> String {
        self.daemon.refused()
    }

    /// Sends into one channel and listens in the other.
    pub(super) fn carry(&mut self, lab: &Lab, plan: &Plan, load: Load) -> Result<Run> {
        let [one, two] = &self.channels;
        let before = Usage::of(self.daemon.process())?;
        let mut run = stretch(lab, plan, [one, two], load)?;
        run.daemon = Usage::of(self.daemon.process())?.since(before).cpu;
        Ok(run)
    }

    /// A steady stream of plain clients and one through the bridge, at the same time, half a step apart.
    pub(super) fn beside(&self, lab: &Lab, plan: &Plan) -> Result<[Run; 2]> {
        let plain = unique("#plain");
        let [one, two] = &self.channels;
        let load = Load::Rate(plan.rate, plan.seconds);
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                std::thread::sleep(Duration::from_secs_f64(0.5 / plan.rate as f64));
                stretch(lab, plan, [&plain, &plain], load)
            });
            let bridged = stretch(lab, plan, [one, two], load)?;
            let plain = beside.join().expect("the clients do not panic")?;
            Ok([plain, bridged])
        })
    }

    fn wait(&self, lab: &Lab) -> Result<()> {
        let [one, two] = &self.channels;
        let words = "is anybody there";
        let ear = Client::join(lab.server, &unique("w"), two)?;
        let mut ear = Listener::new(ear, 0, Instant::now());
        let mut sender = Client::join(lab.server, &unique("v"), one)?;
        for _ in 0..100 {
            sender.say(words)?;
            if ear.wait_for(words, Duration::from_millis(200))? {
                // What was said before the first answer may still be on its way.
                while ear.wait_for(words, Duration::from_millis(300))? {}
                return Ok(());
            }
        }
        bail!("nothing crosses the bridge:\n{}", self.daemon.log())
    }
}

/// Clients alone, in one channel.
pub(super) fn plain(lab: &Lab, plan: &Plan, load: Load) -> Result<Run> {
    let channel = unique("#plain");
    stretch(lab, plan, [&channel, &channel], load)
}

fn stretch(lab: &Lab, plan: &Plan, [from, to]: [&str; 2], load: Load) -> Result<Run> {
    let epoch = Instant::now();
    let count = plan.senders as u64;
    let ear = Client::join(lab.server, &unique("ear"), to)?;
    let senders = (0..count)
        .map(|_| Client::join(lab.server, &unique("s"), from))
        .collect::<Result<Vec<_>>>()?;
    let (each, span) = match load {
        Load::Burst(lines) => (lines / count, Duration::MAX / 2),
        Load::Rate(rate, seconds) => (rate * seconds / count, Duration::from_secs(seconds)),
    };
    let ear = Listener::new(ear, plan.senders, epoch).listen(each * count, SILENCE);
    let server = lab.used()?;
    let begun = Instant::now() + Duration::from_millis(50);
    let mut sending = Vec::new();
    for (number, sender) in senders.into_iter().enumerate() {
        match load {
            Load::Burst(_) => sending.push(sender.flood(number, each, epoch, plan.text)?),
            Load::Rate(rate, _) => {
                // In turn: lines that are all due at the same moment are no steady stream.
                let turn = Duration::from_secs_f64(number as f64 / rate as f64);
                let schedule = Schedule {
                    start: begun + turn,
                    rate: rate as f64 / count as f64,
                    count: each,
                };
                sending.push(sender.stream(number, schedule, epoch, plan.text)?);
            }
        }
    }
    let heard: Heard = ear.join().expect("the listener does not panic")?;
    let server = lab.used()?.since(server).cpu;
    for thread in sending {
        drop(thread.join().expect("a sender does not panic")?);
    }
    Ok(Run {
        sent: each * count,
        heard: heard.lines,
        disorder: heard.disorder,
        latencies: heard.latencies,
        took: heard.last.saturating_sub(begun - epoch),
        span,
        daemon: Duration::ZERO,
        server,
    })
}

/// A name that nobody has had: the server may not have noticed that its last owner is gone.
fn unique(name: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}", std::process::id())
}
