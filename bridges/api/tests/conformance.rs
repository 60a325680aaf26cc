//! The suite itself on trial: a bridge without fault keeps every rule, and each fault breaks its own rule and no other.

#![cfg(feature = "test-util")]

use std::thread;
use std::time::Duration;

use comity_bridge::test_util::conformance::{Rule, check_all};
use comity_bridge::test_util::scripted::{Fault, ScriptedFarSide};

mod a_bridge_without_fault {
    use super::ScriptedFarSide;

    comity_bridge::conformance_tests!(ScriptedFarSide::start());
}

#[test]
fn each_fault_breaks_its_rule_and_no_other() {
    let wrong: Vec<String> = thread::scope(|scope| {
        let trials: Vec<_> = Fault::ALL
            .iter()
            .map(|fault| scope.spawn(|| (*fault, broken_by(*fault))))
            .collect();
        trials
            .into_iter()
            .map(|trial| trial.join().expect("a trial does not panic"))
            .filter(|(fault, broken)| broken.iter().map(|(rule, _)| *rule).ne([fault.breaks()]))
            .map(|(fault, broken)| {
                format!(
                    "{fault:?} should break {} alone, but broke {broken:#?}",
                    fault.breaks()
                )
            })
            .collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_fault_that_breaks_it() {
    for rule in Rule::ALL {
        assert!(
            Fault::ALL.iter().any(|fault| fault.breaks() == *rule),
            "no fault breaks {rule}"
        );
    }
}

/// On a runtime of one thread: what the gateway's side does between two waits, the bridge sees as done.
fn broken_by(fault: Fault) -> Vec<(Rule, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let violations = runtime.block_on(check_all(|| async {
        ScriptedFarSide::with(Some(fault), Duration::from_secs(3))
    }));
    violations
        .into_iter()
        .map(|violation| (violation.rule, violation.why))
        .collect()
}
