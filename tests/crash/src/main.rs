//! The gateway's core between scripted networks, run to be killed.
//!
//! | command | what |
//! |---|---|
//! | `comity-crash numbers DIR LAST` | one network says numbers, two show them: [`numbers`] |
//! | `comity-crash changes DIR ACTS` | people on four channels say, edit, take back and react: [`changes`] |
//!
//! `DIR` holds the gateway's data and what its networks have seen. They are files, so that they outlive the kill as networks do.
//! When everything has been said and shown, the program ends by itself.

mod changes;
mod numbers;
mod stage;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().context("numbers or changes?")?;
    let dir = PathBuf::from(args.next().context("a directory is missing")?);
    let count: u64 = args.next().context("a number is missing")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match &*what {
        "numbers" => runtime.block_on(numbers::run(&dir, count)),
        "changes" => runtime.block_on(changes::run(&dir, count)),
        other => bail!("neither numbers nor changes: {other}"),
    }
}
