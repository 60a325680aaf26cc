//! The whole daemon, killed between real servers while real clients talk; then the checker of
//! `comity-people` says what was lost, doubled, reordered, echoed or went round.
//!
//! [`places`] kills at each step of the crash matrix on each network to which the step applies;
//! [`blind`] at random moments. Both need the servers of `tests/lab` and the feature `failpoints`.
//!
//! | variable | what |
//! |---|---|
//! | `COMITY_SEED` | repeats the random moments of an earlier run |
//! | `COMITY_KILLS` | blind kills, 10000 for the long form |
//! | `COMITY_PLACES` | only places with this in their name |
//! | `COMITY_VISITS` | dies at the first, second, ... visit of each place, up to this |

mod blind;
mod harms;
mod odd;
mod places;
mod run;
mod scene;
mod table;

use std::path::PathBuf;

use comity_people::{Lab, World, WorldPlan, talk::dice};

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_comity-failpoints").into()
}

/// Two gateways that do not run yet, and four people in their rooms.
async fn prepared() -> World {
    let lab = Lab::up().await.expect("the lab runs");
    let plan = WorldPlan::unique(&lab, binary());
    World::prepare(lab, plan)
        .await
        .expect("four people are in their rooms")
}

/// Two gateways and four people who hear each other.
async fn world() -> World {
    let world = World::unique(binary()).await;
    world.expect("four people hear each other")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
