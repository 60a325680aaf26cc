//! Every bench, some of them several times, each run in a process of its own: one table of medians.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::figures::{Distribution, Figure, Figures, number};

/// Which benches, and how often.
const RUNS: [(&str, usize); 5] = [
    ("core", 5),
    ("latency", 3),
    ("frozen", 1),
    ("irc", 3),
    ("backlog", 1),
];

/// Runs everything; `arguments` are for each of them.
pub(crate) fn all(arguments: &[String], json: bool) -> Result<()> {
    let mut table = Vec::new();
    for (bench, runs) in RUNS {
        let mut results = Vec::new();
        for run in 1..=runs {
            eprintln!("{bench}, run {run} of {runs}");
            let output = Command::new(std::env::current_exe()?)
                .arg("--json")
                .args(arguments)
                .arg(bench)
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()?;
            ensure!(output.status.success(), "{bench}: {}", output.status);
            results.push(serde_json::from_slice::<Figures>(&output.stdout)?);
        }
        table.push(results);
    }
    if json {
        println!("{}", serde_json::to_string(&table)?);
        return Ok(());
    }
    println!("| | aim | median | runs | |");
    println!("|---|---|---|---|---|");
    for results in &table {
        let Some(first) = results.first() else {
            continue;
        };
        for (at, figure) in first.figures.iter().enumerate() {
            println!(
                "{}",
                row(
                    &first.bench,
                    figure,
                    &column(results, |f| Some(f.figures.get(at)?.value))
                )
            );
        }
    }
    println!();
    println!("| ms | p50 | p90 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|");
    for results in &table {
        let Some(first) = results.first() else {
            continue;
        };
        for (at, distribution) in first.distributions.iter().enumerate() {
            let median = |part: fn(&Distribution) -> f64| {
                let values = column(results, |f| f.distributions.get(at).map(part));
                format!("{:.2}", middle(&values))
            };
            println!(
                "| {}: {} | {} | {} | {} | {} | {} |",
                first.bench,
                distribution.name,
                median(|d| d.p50),
                median(|d| d.p90),
                median(|d| d.p99),
                median(|d| d.p999),
                median(|d| d.max)
            );
        }
    }
    println!();
    for note in table
        .iter()
        .filter_map(|results| results.first())
        .flat_map(|first| &first.notes)
    {
        println!("- {note}");
    }
    Ok(())
}

fn row(bench: &str, figure: &Figure, values: &[f64]) -> String {
    let median = middle(values);
    let (aim, met) = match figure.aim {
        Some(aim) if aim.is_met_by(median) => (aim.to_string(), "met"),
        Some(aim) => (aim.to_string(), "MISSED"),
        None => (String::new(), ""),
    };
    let span = match (values.first(), values.last()) {
        (Some(least), Some(most)) if values.len() > 1 => {
            format!("{}: {} to {}", values.len(), number(*least), number(*most))
        }
        _ => "1".to_owned(),
    };
    format!(
        "| {bench}: {} | {aim} | {} {} | {span} | {met} |",
        figure.name,
        number(median),
        figure.unit
    )
}

/// One figure of all runs, least first.
fn column(results: &[Figures], value: impl Fn(&Figures) -> Option<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = results.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
