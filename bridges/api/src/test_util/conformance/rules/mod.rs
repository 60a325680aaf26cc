//! One function for each rule. Each gets a stage with the bridge online and joined, and leaves it as it likes.

pub(super) mod inbound;
pub(super) mod life;
pub(super) mod outbound;

use super::{Broken, FarSide, Stage};

type Checked = Result<(), Broken>;

fn ensure(kept: bool, why: impl FnOnce() -> String) -> Checked {
    if kept { Ok(()) } else { Err(Broken(why())) }
}
