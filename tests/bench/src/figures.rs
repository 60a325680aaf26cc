//! What a bench says: figures with their aims, distributions, and what they were measured on. As text, or as one line of JSON.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Everything that one bench has to say.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Figures {
    /// The bench.
    pub(crate) bench: String,
    /// In the order of the text.
    pub(crate) figures: Vec<Figure>,
    /// Where time went, each as percentiles.
    pub(crate) distributions: Vec<Distribution>,
    /// What a reader should know beside.
    pub(crate) notes: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// What it should be.
    pub(crate) aim: Option<Aim>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

/// Percentiles, in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Distribution {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Figures {
    pub(crate) fn of(bench: &str) -> Self {
        Figures {
            bench: bench.to_owned(),
            ..Figures::default()
        }
    }

    pub(crate) fn say(&mut self, name: &str, value: f64, unit: &str) {
        self.push(name, value, unit, None);
    }

    pub(crate) fn aim(&mut self, name: &str, value: f64, unit: &str, aim: Aim) {
        self.push(name, value, unit, Some(aim));
    }

    fn push(&mut self, name: &str, value: f64, unit: &str, aim: Option<Aim>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            aim,
        });
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a distribution of microseconds and returns it.
    pub(crate) fn spread(&mut self, name: &str, micros: &Histogram<u64>) -> Distribution {
        let distribution = Distribution::of(name, micros);
        self.distributions.push(distribution.clone());
        distribution
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!("{}", self.bench);
        for figure in &self.figures {
            println!("  {figure}");
        }
        for distribution in &self.distributions {
            println!("  {distribution}");
        }
        for note in &self.notes {
            println!("  ({note})");
        }
        Ok(())
    }
}

impl Aim {
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Aim::AtLeast(least) => value >= least,
            Aim::AtMost(most) => value <= most,
        }
    }
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Aim::AtLeast(least) => write!(f, "at least {}", number(*least)),
            Aim::AtMost(most) => write!(f, "at most {}", number(*most)),
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<44} {:>10} {}",
            self.name,
            number(self.value),
            self.unit
        )?;
        match self.aim {
            Some(aim) if aim.is_met_by(self.value) => write!(f, " (aim: {aim}; met)"),
            Some(aim) => write!(f, " (aim: {aim}; MISSED)"),
            None => Ok(()),
        }
    }
}

impl Distribution {
    fn of(name: &str, micros: &Histogram<u64>) -> Self {
        let ms = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
        Distribution {
            name: name.to_owned(),
            count: micros.len(),
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: micros.max() as f64 / 1e3,
        }
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, ms: p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}  of {}",
            self.name, self.p50, self.p90, self.p99, self.p999, self.max, self.count
        )
    }
}

/// Three digits that mean something, and no more behind the point than two.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
