//! Measures what Comity costs. `tests/bench/README.md` says how to read the figures.

mod all;
mod backlog;
mod core;
mod figures;
mod frozen;
mod irc;
mod pace;
mod scripted;
mod usage;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The daemon's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    /// Where data directories are made; on the disk that is to be measured.
    #[arg(long, default_value = ".", global = true)]
    dir: PathBuf,
    /// Bytes of text in each message.
    #[arg(long, default_value_t = 80, global = true)]
    text: usize,
    /// One line of JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Events a second with three scripted targets.
    Core {
        #[arg(long, default_value_t = 200_000)]
        events: u64,
        /// Events in one report.
        #[arg(long, default_value_t = 64)]
        batch: usize,
    },
    /// Latency with three scripted targets at a steady rate, open loop.
    Latency {
        #[arg(long, default_value_t = 200)]
        rate: u64,
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// What two frozen networks add to the latency of two others.
    Frozen {
        #[arg(long, default_value_t = 500)]
        rate: u64,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// The daemon between two channels of a real ngircd.
    Irc {
        /// The daemon; by default beside this program.
        #[arg(long)]
        daemon: Option<PathBuf>,
        /// Clients that send.
        #[arg(long, default_value_t = 2)]
        senders: usize,
        /// Lines a second of the steady part.
        #[arg(long, default_value_t = 200)]
        rate: u64,
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// Memory and restart with events that wait for a stopped network.
    Backlog {
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
    },
    /// One life of the gateway in `backlog`.
    #[command(hide = true)]
    BacklogLife {
        life: backlog::Life,
        data: PathBuf,
        events: u64,
        begun: u64,
    },
    /// All of them, several times, as one table.
    All,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (dir, text) = (arguments.dir, arguments.text);
    let figures = match arguments.bench {
        Bench::All => {
            let dir = dir.to_str().context("the directory's name is no text")?;
            let same = [
                "--dir".to_owned(),
                dir.to_owned(),
                "--text".to_owned(),
                text.to_string(),
            ];
            return all::all(&same, arguments.json);
        }
        Bench::Irc {
            daemon,
            senders,
            rate,
            seconds,
        } => {
            let beside = std::env::current_exe()?.with_file_name("comity");
            let plan = irc::Plan {
                binary: daemon.unwrap_or(beside),
                senders: senders.max(1),
                rate,
                seconds,
                text,
            };
            irc::irc(&dir, &plan)
        }
        Bench::Core { events, batch } => run(core::throughput(&dir, events, batch, text)),
        Bench::Latency { rate, seconds } => run(core::latency(&dir, rate, seconds, text)),
        Bench::Frozen { rate, seconds } => run(frozen::frozen(&dir, rate, seconds, text)),
        Bench::Backlog { events } => run(backlog::backlog(&dir, events, text)),
        Bench::BacklogLife {
            life,
            data,
            events,
            begun,
        } => run(backlog::life(life, data, events, begun, text)),
    };
    figures?.print(arguments.json)
}

/// The daemon's own runtime: a thread for each processor.
fn run<T>(bench: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(bench)
}
