//! Where the log goes and how much of it there is.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Starts logging to the standard error. `COMITY_LOG`, else `RUST_LOG`, says how much; `COMITY_LOG_FORMAT` is `text` or `json`.
pub(crate) fn start(default: &str) -> Result<(), String> {
    let (name, wanted) = ["COMITY_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| {
            Some((
                name,
                std::env::var(name).ok().filter(|text| !text.is_empty())?,
            ))
        })
        .unwrap_or_else(|| ("COMITY_LOG", default.to_owned()));
    let filter = EnvFilter::builder()
        .parse(&wanted)
        .map_err(|error: ParseError| {
            format!(
                "environment ({name}): found {wanted:?}: {error}; write e.g. \"info\" or \"debug\""
            )
        })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match std::env::var("COMITY_LOG_FORMAT").as_deref() {
        Err(_) | Ok("text") => log.with_ansi(has_colours()).init(),
        Ok("json") => log.json().flatten_event(true).init(),
        Ok(other) => {
            return Err(format!(
                "environment (COMITY_LOG_FORMAT): found {other:?}; write \"text\" or \"json\""
            ));
        }
    }
    Ok(())
}

fn has_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}
