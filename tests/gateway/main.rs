//! Does a message cross? The daemon as an operator runs it, between real servers, seen by
//! independent clients.
//!
//! One file for each promise: [`directions`], [`kills`], [`stops`], [`links`], [`stranded`], [`doubt`], [`disk`],
//! [`refusals`], [`operation`].
//! Every test makes its own rooms, nicks and domains; the servers are those of `tests/lab`, and a
//! server that does not start is a failure. `COMITY_TEST_LOG` sets the daemons' log filter,
//! `COMITY_SEED` repeats the random moments of an earlier run.

mod directions;
mod disk;
mod doubt;
mod kills;
mod links;
mod operation;
mod refusals;
mod stops;
mod stranded;

use std::{path::PathBuf, time::Duration};

use comity_people::{World, talk::dice};

/// How long anything may take that takes milliseconds when all is well. Generous: the machine may
/// be building something else.
const PATIENCE: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_comity").into()
}

/// Two gateways and four people on the shared lab, all hearing each other.
async fn world() -> World {
    let world = World::unique(binary()).await;
    world.expect("four people hear each other")
}
