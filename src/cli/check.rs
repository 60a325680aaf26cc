//! `comity check`: everything that `run` looks at before it starts, and nothing else.

use std::path::Path;
use std::process::ExitCode;

use super::{answer, print_problems};
use crate::config;

/// Prints every problem, or how much there is.
pub(super) fn check(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(config) => answer(&format!(
            "{}: no problems; {}, {}\n",
            path.display(),
            count(config.networks.len(), "network"),
            count(config.rooms.len(), "room"),
        )),
        Err(problems) => print_problems(&problems),
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
