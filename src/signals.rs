//! SIGTERM and SIGINT stop the daemon in order, a second one at once. SIGHUP will read the configuration again.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Listens from now on; the token fires at the first signal to stop.
pub(crate) fn listen() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let shutdown = CancellationToken::new();
    let fired = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                Some(()) = hangup.recv() => {
                    warn!("reading the configuration again is not built yet; nothing changes until a restart");
                    continue;
                }
                else => return,
            };
            if fired.is_cancelled() {
                warn!(signal = name, "stopping at once");
                std::process::exit(i32::from(comity::cli::FAILED));
            }
            info!(signal = name, "stopping");
            fired.cancel();
        }
    });
    Ok(shutdown)
}
