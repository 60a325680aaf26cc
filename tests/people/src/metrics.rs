//! Reads the daemon's metrics page, as Prometheus would.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One line of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `comity_events_total`.
    pub name: String,
    /// `network` -> `ngircd`.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Parses a page; lines that are not samples are passed over.
    pub fn parse(page: &str) -> Self {
        let samples = page.lines().filter_map(sample).collect();
        Self { samples }
    }

    /// The sum of all samples called `name` that carry these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// Whether there is any sample called `name` with these labels.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// The names of all samples.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|sample| sample.name.as_str())
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        })
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.trim().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let labels = labels
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect();
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let page = Metrics::parse(
            "# HELP x y\n# TYPE x counter\n\
             x_total{network=\"a\",reason=\"not, joined\"} 2\n\
             x_total{network=\"a\",reason=\"other\"} 3\nx_total{network=\"b\"} 5\nplain 7.5\n# EOF\n",
        );
        assert_eq!(page.sum("x_total", &[]), 10.0);
        assert_eq!(page.sum("x_total", &[("network", "a")]), 5.0);
        assert_eq!(page.sum("x_total", &[("reason", "not, joined")]), 2.0);
        assert_eq!(page.sum("plain", &[]), 7.5);
        assert!(!page.has("x_total", &[("network", "c")]));
    }
}
