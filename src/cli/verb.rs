//! The verbs of the protocols: `comity VERB NETWORK`, without the daemon.

use std::path::Path;
use std::process::ExitCode;

use super::{WRONG, answer, complain, print_problems};
use crate::config;

/// Runs a verb of the network's protocol and prints what it says.
pub(super) fn verb(path: &Path, verb: &str, network: &str) -> ExitCode {
    let found = config::with_network(path, network, |gateway, config| {
        let known = config.kind.verbs().iter().find(|known| known.name == verb);
        match known {
            Some(known) => (known.run)(gateway, &config.name, config.table.clone()).map(Ok),
            None => Ok(Err(config.kind.protocol())),
        }
    });
    match found {
        Ok(Ok(text)) => answer(&text),
        Ok(Err(protocol)) => {
            complain(&format!(
                "network {network:?} speaks {protocol}, which has no {verb:?}\n"
            ));
            ExitCode::from(WRONG)
        }
        Err(problems) => print_problems(&problems),
    }
}
