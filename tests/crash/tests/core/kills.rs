//! Killed at random moments.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::life::{Core, Talk, Verdict};

/// Kills. `COMITY_KILLS` asks for more.
const KILLS: usize = 25;

/// Kills of one core; then everything must come through, and the next one begins.
const KILLS_OF_A_CORE: usize = 25;

#[test]
fn a_gateway_killed_at_any_moment_loses_nothing_that_it_had_acknowledged_and_doubles_nothing() {
    killed_again_and_again(Talk::Numbers);
}

#[test]
fn edits_redactions_and_reactions_find_their_messages_through_kills_at_any_moment() {
    killed_again_and_again(Talk::Changes);
}

fn killed_again_and_again(talk: Talk) {
    let seed = number("COMITY_SEED").unwrap_or(0x00c0_317b);
    let kills = number("COMITY_KILLS").map_or(KILLS, |kills| kills as usize);
    println!("COMITY_SEED={seed}, {kills} kills");
    let cycles = kills.div_ceil(KILLS_OF_A_CORE);
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let sum = Mutex::new([0; 3]);
    // A core waits for its disk and its killer half of the time.
    let at_once = std::thread::available_parallelism().map_or(1, |n| n.get() + 1);
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(cycles) {
            scope.spawn(|| {
                loop {
                    let cycle = next.fetch_add(1, Ordering::Relaxed);
                    if cycle >= cycles {
                        return;
                    }
                    let here = KILLS_OF_A_CORE.min(kills - cycle * KILLS_OF_A_CORE);
                    let verdict = life_of_a_core(talk, here, seed + cycle as u64);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum[0] += here;
                    sum[1] += verdict.count;
                    sum[2] += verdict.copies;
                    println!("{} kills of {kills}: {}", sum[0], verdict.done);
                }
            });
        }
    });
    let [killed, count, copies] = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{killed} kills in {cycles} cycles, {count} tokens, {copies} copies where nothing can be asked, {:?}",
        begun.elapsed()
    );
}

/// Kills, and the judgement when everything has come through.
fn life_of_a_core(talk: Talk, kills: usize, seed: u64) -> Verdict {
    let mut random = StdRng::seed_from_u64(seed);
    let core = Core::new(talk, random.random());
    let mut killed = 0;
    let mut lives = 0;
    while killed < kills {
        killed += usize::from(kill(&core, None, &mut random));
        lives += 1;
        assert!(
            lives < 4 * KILLS_OF_A_CORE,
            "it is through too early: let people say more"
        );
    }
    let finished = core.finish();
    assert_eq!(finished, Ok(()), "COMITY_SEED={seed}: {}", core.kept());
    let verdict = core.verdict();
    let wrong = verdict.wrong(killed);
    assert_eq!(wrong, None, "COMITY_SEED={seed}: {}", core.kept());
    verdict
}

/// The checker must be able to say no: a build that acknowledges before it has committed loses
/// lines when it is killed, and it is found out.
#[cfg(feature = "failpoints")]
#[test]
fn a_gateway_that_acknowledges_before_the_commit_is_found_out() {
    use comity_people::history::{Fault, report};

    let seed = number("COMITY_SEED").unwrap_or(0x00c0_317b);
    println!("COMITY_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let core = Core::new(Talk::Numbers, 0);
        for _ in 0..KILLS_OF_A_CORE {
            kill(&core, Some("journal.ack_early"), &mut random);
        }
        core.finish().expect("it ends by itself");
        let verdict = core.verdict();
        let is_lost = |fault: &Fault| matches!(fault, Fault::Lost { .. });
        if verdict.faults.iter().any(is_lost) {
            println!("{}", report(&verdict.faults));
            assert!(!verdict.others.is_empty(), "no cursor was behind");
            return;
        }
    }
    panic!("acknowledged before the commit and killed 500 times, and nothing was lost");
}

/// One life, ended after a moment; false when it had ended by itself.
fn kill(core: &Core, failpoint: Option<&str>, random: &mut StdRng) -> bool {
    let mut life = core.start(failpoint);
    // The moment is the test's subject, not a wait for something: nothing follows from how long it is.
    std::thread::sleep(Duration::from_micros(random.random_range(500..150_000)));
    life.kill()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
