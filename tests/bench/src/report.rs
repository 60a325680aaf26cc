//! Prints what was measured, and on what.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// One measurement.
pub(crate) struct Run {
    pub(crate) events: u64,
    pub(crate) rate: u64,
    pub(crate) took: Duration,
    pub(crate) used: Usage,
    pub(crate) latencies: Histogram<u64>,
    pub(crate) reports: u64,
    pub(crate) commits: u64,
    pub(crate) floor: Duration,
    pub(crate) journal: PathBuf,
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

/// What the process has used.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    cpu: Duration,
    written: u64,
    resident_kb: u64,
}

impl Usage {
    pub(crate) fn now() -> Result<Usage> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|f| f.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Ok(Usage {
            // proc(5): utime and stime are fields 14 and 15, in hundredths of a second on Linux.
            cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
            written: number("/proc/self/io", "write_bytes:")?,
            resident_kb: number("/proc/self/status", "VmRSS:")?,
        })
    }

    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu - before.cpu,
            written: self.written - before.written,
            resident_kb: self.resident_kb,
        }
    }
}

fn number(file: &str, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
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

pub(crate) fn print(run: &Run) -> Result<()> {
    let rows = Rows::of(&run.journal)?;
    let seconds = run.took.as_secs_f64();
    println!("file system            {}", file_system(&run.journal)?);
    println!(
        "a write and fdatasync  {:.2} ms in the middle",
        run.floor.as_secs_f64() * 1e3
    );
    println!("synchronous            FULL (journal_mode {})", rows.mode);
    println!(
        "events sent            {}{}",
        run.events,
        if run.rate > 0 {
            format!(" at {}/s", run.rate)
        } else {
            String::new()
        }
    );
    println!(
        "rows stored            {} events, {} parts",
        rows.events, rows.parts
    );
    println!("reports answered       {}", run.reports);
    println!("commits = fsyncs       {}", run.commits);
    println!(
        "took                   {seconds:.2} s: {:.0} events/s with three deliveries each",
        run.events as f64 / seconds
    );
    println!(
        "CPU                    {:.2} s, {:.1} us an event",
        run.used.cpu.as_secs_f64(),
        run.used.cpu.as_secs_f64() * 1e6 / run.events as f64
    );
    println!(
        "written                {:.1} MB",
        run.used.written as f64 / 1e6
    );
    println!(
        "resident at the end    {:.1} MB",
        run.used.resident_kb as f64 / 1e3
    );
    let ms = |quantile: f64| run.latencies.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "due to delivered, ms   p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        run.latencies.max() as f64 / 1e3
    );
    Ok(())
}

struct Rows {
    events: u64,
    parts: u64,
    mode: String,
}

impl Rows {
    fn of(journal: &Path) -> Result<Rows> {
        let connection = rusqlite::Connection::open(journal)?;
        Ok(Rows {
            events: connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?,
            parts: connection.query_row("SELECT count(*) FROM natives", [], |row| row.get(0))?,
            mode: connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
        })
    }
}

/// The type of the file system that holds `path`.
fn file_system(path: &Path) -> Result<String> {
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
