//! The servers of `tests/lab`, started when they do not run.

use std::{collections::BTreeMap, process::Command, sync::LazyLock};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lab/lab");

static VALUES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    run(&["up", "ngircd", "inspircd"]);
    let lines = run(&["env"]);
    let values = lines.lines().filter_map(|line| line.split_once('='));
    values
        .map(|(key, value)| (key.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
});

/// The address of a server, by the name that the lab has for its port.
pub(crate) fn address(port: &str) -> String {
    format!("{}:{}", VALUES["LAB_IP"], VALUES[port])
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(SCRIPT)
        .args(arguments)
        .output()
        .expect("the lab's script");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lab {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
