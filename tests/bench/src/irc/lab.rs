//! The real server: where it is, and what it uses.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::usage::Usage;

/// The real server.
pub(super) struct Lab {
    pub(super) server: SocketAddr,
    process: u32,
}

impl Lab {
    pub(super) fn up() -> Result<Lab> {
        const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/lab");
        let run = |arguments: &[&str]| -> Result<String> {
            let output = Command::new(SCRIPT).args(arguments).output()?;
            ensure!(
                output.status.success(),
                "lab {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(String::from_utf8(output.stdout)?)
        };
        run(&["up", "ngircd"])?;
        let settings = run(&["env"])?;
        let value = |key: &str| {
            let line = settings
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|quoted| quoted.trim_matches('\''))
                .with_context(|| key.to_owned())
        };
        let server = format!("{}:{}", value("LAB_IP")?, value("NGIRCD_PORT")?).parse()?;
        let record = Path::new(value("LAB_DIR")?).join("run/ngircd.pid");
        let record =
            std::fs::read_to_string(&record).with_context(|| record.display().to_string())?;
        let process = record
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        Ok(Lab {
            server,
            process: process.context("the server's process")?,
        })
    }

    pub(super) fn used(&self) -> Result<Usage> {
        Usage::of(self.process)
    }
}
