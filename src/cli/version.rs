//! `comity version`.

use std::process::ExitCode;

use super::answer;
use crate::registry;

/// Prints the version and what this build can speak.
pub(super) fn version() -> ExitCode {
    let protocols: Vec<&str> = registry::kinds()
        .iter()
        .map(|kind| kind.protocol())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    answer(&format!("comity {version} ({})\n", protocols.join(", ")))
}
