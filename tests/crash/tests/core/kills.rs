//! Killed at random moments.

use std::time::{Duration, Instant};

use comity_people::history::report;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::life::{Core, DOUBT, LAST};

/// Kills. `COMITY_KILLS` asks for more.
const KILLS: usize = 25;

/// Kills of one core; then everything must come through, and the next one begins.
const KILLS_OF_A_CORE: usize = 25;

#[test]
fn a_gateway_killed_at_any_moment_loses_nothing_that_it_had_acknowledged_and_doubles_nothing() {
    let seed = number("COMITY_SEED").unwrap_or(0x00c0_317b);
    let kills = number("COMITY_KILLS").map_or(KILLS, |kills| kills as usize);
    println!("COMITY_SEED={seed}, {kills} kills");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut killed, mut cycles, mut copies) = (0, 0, 0);
    let begun = Instant::now();
    while killed < kills {
        let core = Core::new();
        let mut here = 0;
        let mut lives = 0;
        while here < KILLS_OF_A_CORE.min(kills - killed) {
            here += usize::from(kill(&core, None, &mut random));
            lives += 1;
            assert!(
                lives < 4 * KILLS_OF_A_CORE,
                "it is through too early: say more numbers"
            );
        }
        killed += here;
        cycles += 1;
        let status = core.finish();
        assert!(status.success(), "{status}");
        let verdict = core.verdict();
        assert!(verdict.faults.is_empty(), "{}", report(&verdict.faults));
        assert!(
            verdict.cursors_behind.is_empty(),
            "{:?}",
            verdict.cursors_behind
        );
        assert!(
            verdict.copies <= DOUBT * here,
            "{} copies where nothing can be asked, over {here} kills",
            verdict.copies
        );
        assert!(
            core.told() <= core.refused(),
            "told more than once of one dead letter"
        );
        copies += verdict.copies;
    }
    println!(
        "{killed} kills in {cycles} cycles, {} tokens, {copies} copies where nothing can be asked, {:?}",
        cycles * LAST,
        begun.elapsed()
    );
}

/// The checker must be able to say no: a build that acknowledges before it has committed loses
/// lines when it is killed, and it is found out.
#[cfg(feature = "failpoints")]
#[test]
fn a_gateway_that_acknowledges_before_the_commit_is_found_out() {
    use comity_people::history::Fault;

    let seed = number("COMITY_SEED").unwrap_or(0x00c0_317b);
    println!("COMITY_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let core = Core::new();
        for _ in 0..KILLS_OF_A_CORE {
            kill(&core, Some("journal.ack_early"), &mut random);
        }
        assert!(core.finish().success());
        let verdict = core.verdict();
        let is_lost = |fault: &Fault| matches!(fault, Fault::Lost { .. });
        if verdict.faults.iter().any(is_lost) {
            println!("{}", report(&verdict.faults));
            assert!(!verdict.cursors_behind.is_empty());
            return;
        }
    }
    panic!("acknowledged before the commit and killed 500 times, and nothing was lost");
}

/// One life, ended after a moment; false when it had ended by itself.
fn kill(core: &Core, failpoint: Option<&str>, random: &mut StdRng) -> bool {
    let mut child = core.start(failpoint);
    // The moment is the test's subject, not a wait for something: nothing follows from how long it is.
    std::thread::sleep(Duration::from_micros(random.random_range(500..150_000)));
    let running = child.try_wait().expect("the child can be asked").is_none();
    if running {
        child.kill().expect("the child can be killed");
    }
    child.wait().expect("the child ends");
    running
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
