//! The `comity` program: arguments, logging, signals, exit code. The rest is in the library.

mod logging;
mod signals;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use comity::cli::{self, Task};
use comity::config;
use comity::gateway::{self, StartError};
use sd_notify::NotifyState;
use tracing::{error, warn};

/// An event is made by one thread and freed by another; the system's allocator pays for that with a fifth of all CPU.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything else: rustls looks for one when the first connection is made, and there must be no doubt which.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("another cryptography provider is installed already");
        return ExitCode::from(cli::FAILED);
    }
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => error.exit(),
    };
    let is_daemon = invocation.command == Task::Run;
    if let Err(problem) = logging::start(if is_daemon { "info" } else { "warn" }) {
        eprintln!("{problem}");
        return ExitCode::from(cli::WRONG);
    }
    if !is_daemon {
        return cli::execute(&invocation);
    }
    run(&invocation.config).unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::from(cli::FAILED)
    })
}

fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => return Ok(cli::print_problems(&problems)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let shutdown = signals::listen().context("cannot listen for signals")?;
        let stopping = shutdown.clone();
        tokio::spawn(async move {
            stopping.cancelled().await;
            tell_systemd(NotifyState::Stopping);
        });
        let ready = || tell_systemd(NotifyState::Ready);
        match gateway::run(config, shutdown, ready).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(StartError::Config(problems)) => Ok(cli::print_problems(&problems)),
            Err(error) => Err(error.into()),
        }
    })
}

/// Does nothing where systemd does not listen.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "cannot tell systemd");
    }
}
