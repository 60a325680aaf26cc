//! What processes, the disk and the rest of the machine do meanwhile.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) written: u64,
}

impl Usage {
    pub(crate) fn mine() -> Result<Usage> {
        Usage::of(std::process::id())
    }

    pub(crate) fn of(process: u32) -> Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name, in brackets, may hold anything.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        // proc(5): utime and stime are fields 14 and 15; the state, field 3, is the first here.
        let used = [11, 12]
            .iter()
            .filter_map(|at| fields.get(*at)?.parse::<u64>().ok());
        Ok(Usage {
            cpu: ticks(used.sum()),
            written: number(&format!("/proc/{process}/io"), "write_bytes:")?,
        })
    }

    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written - before.written,
        }
    }
}

/// Megabytes of a process that are in memory now.
pub(crate) fn resident(process: u32) -> Result<f64> {
    Ok(number(&format!("/proc/{process}/status"), "VmRSS:")? as f64 * 1024.0 / 1e6)
}

/// What all processes have used together.
pub(crate) fn machine() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let all: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|n| n.parse().ok())
        .collect();
    let idle: u64 = all.iter().skip(3).take(2).sum();
    Ok(ticks(all.iter().sum::<u64>() - idle))
}

/// A part of a run, and what everything used in it.
pub(crate) struct Span {
    begun: Instant,
    mine: Usage,
    machine: Duration,
}

impl Span {
    pub(crate) fn begin() -> Result<Span> {
        Ok(Span {
            begun: Instant::now(),
            mine: Usage::mine()?,
            machine: machine()?,
        })
    }

    pub(crate) fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn used(&self) -> Result<Usage> {
        Ok(Usage::mine()?.since(self.mine))
    }

    /// Processors that were busy with something else than `ours`, of all that there are: how much a figure is worth.
    pub(crate) fn others(&self, ours: Duration) -> Result<f64> {
        let busy = machine()?.saturating_sub(self.machine).saturating_sub(ours);
        Ok(busy.as_secs_f64() / self.begun.elapsed().as_secs_f64())
    }
}

/// What one appended block and its fdatasync cost on this disk, in the middle of a hundred: the least that a commit can cost.
pub(crate) fn sync_floor(dir: &Path) -> Result<Duration> {
    let path = dir.join("floor");
    let mut file = std::fs::File::create(&path)?;
    let mut taken = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    taken.sort();
    taken.get(50).copied().context("a hundred were measured")
}

/// The type of the file system that holds `path`.
pub(crate) fn file_system(path: &Path) -> Result<String> {
    let path = path.canonicalize()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            path.starts_with(point).then_some((point.len(), kind))
        })
        .max();
    Ok(best.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned()))
}

/// Linux counts in hundredths of a second, whatever its own clock does.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}

fn number(file: &str, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .with_context(|| format!("{file} has no {key}"))?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0))
}
