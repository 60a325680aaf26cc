//! The gateway's core is killed at random moments, and started again, until everything is through.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Numbers said. More than are through in the longest life.
const LAST: u64 = 8_000;

/// Kills. `COMITY_KILLS` asks for more.
const KILLS: u32 = 25;

#[test]
fn a_gateway_killed_at_any_moment_loses_nothing_that_it_had_acknowledged_and_doubles_nothing() {
    let seed: u64 = std::env::var("COMITY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x00c0_317b);
    let kills: u32 = std::env::var("COMITY_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(KILLS);
    println!("seed {seed}, {kills} kills, {LAST} numbers");
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = StdRng::seed_from_u64(seed);
    let mut killed = 0;
    for _ in 0..kills {
        let mut child = start(dir.path());
        // The moment is the test's subject, not a wait for something: nothing follows from how long it is.
        std::thread::sleep(Duration::from_micros(random.random_range(500..150_000)));
        if child.try_wait().expect("the child can be asked").is_none() {
            child.kill().expect("the child can be killed");
            killed += 1;
        }
        child.wait().expect("the child ends");
        check_acknowledged(dir.path());
    }
    assert!(
        killed > kills / 2,
        "only {killed} of {kills} were killed: say more numbers"
    );
    let begun = Instant::now();
    let mut child = start(dir.path());
    let status = child.wait().expect("the child ends");
    assert!(status.success(), "{status}");
    println!(
        "killed {killed} times; the last life took {:?}",
        begun.elapsed()
    );

    check_acknowledged(dir.path());
    let fenced = numbers(dir.path(), "fenced");
    assert_eq!(first_wrong(&fenced), None, "each once, in order");
    let plain = numbers(dir.path(), "plain");
    let mut once = plain.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(
        first_wrong(&once),
        None,
        "nothing is lost where nothing can be asked either"
    );
    // Twice the window of 8 may be in doubt at each kill.
    let doubled = plain.len() - once.len();
    assert!(
        doubled <= 16 * kills as usize,
        "{doubled} doubled over {killed} kills"
    );
}

fn start(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_comity-crash"))
        .arg(dir)
        .arg(LAST.to_string())
        .spawn()
        .expect("the gateway starts")
}

/// A number that was acknowledged and then said again was not in the journal: the source's cursor, committed with it, went back.
fn check_acknowledged(dir: &Path) {
    let acknowledged = numbers(dir, "acknowledged");
    let again: Vec<_> = acknowledged
        .windows(2)
        .filter(|pair| pair[0] >= pair[1])
        .collect();
    assert!(again.is_empty(), "acknowledged, and lost: {again:?}");
}

/// The first place at which the numbers are not 1, 2, 3, ... up to LAST, and what is there.
fn first_wrong(found: &[u64]) -> Option<(u64, Option<u64>)> {
    let found = found
        .iter()
        .copied()
        .map(Some)
        .chain(std::iter::repeat(None));
    (1..=LAST)
        .zip(found)
        .find(|(wanted, found)| *found != Some(*wanted))
}

fn numbers(dir: &Path, file: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}
