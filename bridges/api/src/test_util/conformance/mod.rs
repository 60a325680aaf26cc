//! The rules of the contract, checked against a real bridge over its wire.
//!
//! # How to run it against your bridge
//!
//! Write `tests/conformance.rs` with a scripted server that speaks the wire and implements [`FarSide`], on a free
//! port of loopback. Its server tasks note in a [`Record`] what the network's people see. Then:
//!
//! ```ignore
//! use comity_bridge::test_util::conformance::{FarSide, Facts, Opening, Record};
//!
//! struct Server { record: Record, /* listener, switches */ }
//!
//! impl Server {
//!     async fn start() -> Server { /* bind to port 0, spawn the accept loop */ }
//! }
//!
//! #[async_trait::async_trait]
//! impl FarSide for Server { /* ... */ }
//!
//! comity_bridge::conformance_tests!(Server::start());
//! ```
//!
//! The macro makes one `#[tokio::test]` for each [`Rule`], each with a server of its own. The crate needs `tokio`
//! with `macros` and `rt-multi-thread`, and `comity-bridge` with `test-util`, as dev-dependencies.
//! To look at one rule: `cargo test -p comity-... --test conformance a_cut_is_mended`.
//!
//! How the four kinds of network fit:
//!
//! - *A line protocol or a stream that we dial*: the server accepts connections; [`FarSide::settle`] is a ping of its
//!   own; [`FarSide::cut`] closes the socket. `standing` is true.
//! - *A network that calls us*: [`FarSide::say`] spawns a task that calls [`Opening::http`] and notes an
//!   acknowledgement when the answer says that we have it; a refused call is made again. What the bridge sends goes to a
//!   real HTTP server. `acknowledges` is true, `standing` is false unless the bridge keeps a connection.
//! - *A peer of the same protocol*: both at once.
//!
//! Rules that a network cannot be asked about ([`Facts`]) say so on standard error and pass.
//! Nothing in a rule sleeps: a rule waits for what it wants to see, at most for [`FarSide::patience`], and a
//! broken rule's message ends with all that the gateway's side has seen.

mod far_side;
mod record;
mod rules;
mod stage;

use std::fmt;

use thiserror::Error;

use super::harness::{NotShown, TimedOut};

pub use far_side::{Facts, FarSide, Opening};
pub use record::{Record, Shown};
pub use stage::Stage;

/// Why a rule is broken, without its name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<TimedOut> for Broken {
    fn from(timed_out: TimedOut) -> Self {
        Broken(timed_out.to_string())
    }
}

impl From<NotShown> for Broken {
    fn from(not_shown: NotShown) -> Self {
        Broken(not_shown.to_string())
    }
}

/// A rule that a bridge does not keep.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{rule}: {why}")]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What was seen.
    pub why: String,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident => $module:ident :: $name:ident,)*) => {
        /// One rule of the contract. Its name is a sentence, and the name of its test.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Rule {
            $($(#[$doc])* $variant,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)*];

            /// The rule as a test's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$variant => stringify!($name),)*
                }
            }

            /// Checks the rule with a far side that has just been started.
            pub async fn check<F: FarSide>(self, far: F) -> Result<(), Violation> {
                let violation = |broken: Broken| Violation { rule: self, why: broken.0 };
                let mut stage = Stage::open(far).await.map_err(violation)?;
                let checked = match self {
                    $(Rule::$variant => rules::$module::$name(&mut stage).await,)*
                };
                let lives = stage.close(checked.is_ok()).await;
                match (checked, lives) {
                    (Ok(()), Ok(())) => Ok(()),
                    (Ok(()), Err(broken)) | (Err(broken), Ok(())) => Err(violation(broken)),
                    (Err(broken), Err(Broken(died))) => {
                        Err(violation(Broken(format!("{broken}\n  and {died}"))))
                    }
                }
            }
        }
    };
}

rules! {
    /// With the journal frozen no acknowledgement leaves, and the wire goes on being answered; after the thaw it leaves.
    AcknowledgesAfterCommit => inbound::no_acknowledgement_leaves_before_the_commit,
    /// Two people, or one person twice, may say the same in one second.
    EqualLinesAreTwo => inbound::equal_lines_are_two_events,
    /// What the network shows twice has the same source id both times.
    RepeatedLineIsOne => inbound::a_line_shown_twice_is_one_event,
    /// `Busy` means: keep it and ask again. Nothing is lost or overtaken.
    BusyIsAskedAgain => inbound::a_busy_answer_is_asked_again,
    /// An echo is a receipt, or nothing.
    OwnIsNoEvent => inbound::our_own_message_is_no_new_event,
    /// Also for what the bridge cannot show, and for what was taken back.
    OneOutcome => outbound::every_delivery_has_one_outcome,
    /// Several parts are planned, and nothing is sent before the plan is stored, or when it cannot be stored.
    PlanBeforeBytes => outbound::a_plan_is_durable_before_the_first_byte,
    /// A stored plan wins over a new splitting, and what has landed is not sent again.
    StoredPlanIsResumed => outbound::a_stored_plan_goes_on_where_it_stopped,
    /// Shown order and the order of outcomes are the order of handing over.
    OrderIsKept => outbound::order_is_kept,
    /// On each line that the network shows.
    AuthorIsNamed => outbound::every_line_names_its_author,
    /// Line breaks, control characters and markup, in text and name, are text or nothing.
    NothingIsACommand => outbound::what_a_person_writes_is_no_command,
    /// Where the network has a key against repetition.
    DoubtIsShownOnce => outbound::a_delivery_in_doubt_is_shown_once,
    /// It ends neither the bridge nor the lines after it.
    GarbageIsSurvived => life::garbage_is_survived,
    /// The bridge comes back by itself, joins again and delivers again.
    CutIsMended => life::a_cut_is_mended,
    /// A network that hangs does not make the gateway wait.
    RequestsAreDrained => life::requests_are_drained_while_the_network_hangs,
    /// Online, then joined, before anything is shown; offline after a cut.
    StatusesAreTrue => life::statuses_are_true,
    /// Nothing said before or after it is lost or doubled.
    RestartIsClean => life::a_restart_loses_and_doubles_nothing,
    /// Within two seconds, also while the network hangs.
    ShutdownEndsTheRun => life::shutdown_ends_the_run,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Checks one rule; panics when it is broken. What the tests of [`conformance_tests`](crate::conformance_tests) call.
pub async fn keep<F: FarSide>(rule: &str, far: F) {
    let rule = Rule::ALL
        .iter()
        .find(|known| known.name() == rule)
        .expect("the macro names rules that there are");
    if let Err(violation) = rule.check(far).await {
        panic!("{violation}");
    }
}

/// Checks every rule, each with a far side of its own, and returns what is broken.
pub async fn check_all<F, S, Fut>(mut start: S) -> Vec<Violation>
where
    F: FarSide,
    S: FnMut() -> Fut,
    Fut: Future<Output = F>,
{
    let mut violations = Vec::new();
    for rule in Rule::ALL {
        if let Err(violation) = rule.check(start().await).await {
            violations.push(violation);
        }
    }
    violations
}

/// Makes one `#[tokio::test]` for each rule. The argument is an expression with a future of a started
/// [`FarSide`](crate::test_util::conformance::FarSide), evaluated once for each test.
#[macro_export]
macro_rules! conformance_tests {
    (@names $callback:ident $($start:tt)*) => {
        $crate::conformance_tests! { @$callback { $($start)* }
            no_acknowledgement_leaves_before_the_commit
            equal_lines_are_two_events
            a_line_shown_twice_is_one_event
            a_busy_answer_is_asked_again
            our_own_message_is_no_new_event
            every_delivery_has_one_outcome
            a_plan_is_durable_before_the_first_byte
            a_stored_plan_goes_on_where_it_stopped
            order_is_kept
            every_line_names_its_author
            what_a_person_writes_is_no_command
            a_delivery_in_doubt_is_shown_once
            garbage_is_survived
            a_cut_is_mended
            requests_are_drained_while_the_network_hangs
            statuses_are_true
            a_restart_loses_and_doubles_nothing
            shutdown_ends_the_run
        }
    };
    (@list {} $($name:ident)*) => {
        [$(stringify!($name)),*]
    };
    (@tests { $start:expr } $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::test_util::conformance::keep(stringify!($name), $start.await).await;
            }
        )*
    };
    ($start:expr) => {
        $crate::conformance_tests! { @names tests $start }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macro_makes_a_test_of_every_rule() {
        let names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(conformance_tests!(@names list).as_slice(), names);
    }
}
