//! What a bridge can do wrong: one deliberate fault for each rule, to prove that the rule finds it.

use crate::test_util::conformance::Rule;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident => $rule:ident,)*) => {
        /// One thing that a bridge does wrong. All else it does right.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault,)*];

            /// The one rule that it breaks.
            pub fn breaks(self) -> Rule {
                match self {
                    $(Fault::$fault => Rule::$rule,)*
                }
            }
        }
    };
}

faults! {
    /// Acknowledges a line when it is read.
    AcknowledgesEarly => AcknowledgesAfterCommit,
    /// Reads nothing while the journal hangs.
    ReadsNothingInTheFrost => AcknowledgesAfterCommit,
    /// Tells lines apart by author and text.
    TextAsSourceId => EqualLinesAreTwo,
    /// Numbers the lines as it reads them, whatever the network calls them.
    CountsReadings => RepeatedLineIsOne,
    /// Takes `Busy` for an answer.
    DropsWhenBusy => BusyIsAskedAgain,
    /// Does not know its own lines.
    EchoAsEvent => OwnIsNoEvent,
    /// Says nothing about a delivery that it cannot show.
    DropsWhatItCannotShow => OneOutcome,
    /// Sends the parts while the plan is being stored.
    SendsBeforeThePlan => PlanBeforeBytes,
    /// Splits again, and starts at the first part.
    IgnoresTheStoredPlan => StoredPlanIsResumed,
    /// Takes the latest delivery first.
    LatestFirst => OrderIsKept,
    /// Names the author on the first line of a text only.
    NamesTheAuthorOnce => AuthorIsNamed,
    /// Forgets that a carriage return ends a line, too.
    ForgetsCarriageReturns => NothingIsACommand,
    /// Makes a new key for each attempt.
    NewKeyEachAttempt => DoubtIsShownOnce,
    /// Ends when it cannot parse a line.
    DiesOfGarbage => GarbageIsSurvived,
    /// Does not connect again.
    StaysAway => CutIsMended,
    /// Takes the next request when the last delivery is done.
    WaitsForTheNetwork => RequestsAreDrained,
    /// Says that it is online, but never that it is not.
    NeverOffline => StatusesAreTrue,
    /// Says that a channel is joined when it has asked for it.
    JoinedTooEarly => StatusesAreTrue,
    /// Counts source ids from the start in each run.
    CountsFromTheStart => RestartIsClean,
    /// Ends when all that it has in hand is done.
    FinishesFirst => ShutdownEndsTheRun,
}
