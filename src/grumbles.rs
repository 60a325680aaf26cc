//! What is logged of the things that strangers can bring about, such as what cannot be taken or shown: everything while it is little, a count
//! when it is much.
//!
//! Every one is in the metrics. A log line for each would let anybody fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use comity_bridge::NetworkName;
use tokio::time::Instant;

/// Lines of one network for one reason, written out within one [`SPAN`].
const LINES: u32 = 10;

/// After this the counting begins anew.
const SPAN: Duration = Duration::from_secs(60);

/// Counts by network and reason. The reasons are words of the program, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Grumbles {
    spans: Mutex<HashMap<(NetworkName, &'static str), Span>>,
}

#[derive(Debug)]
struct Span {
    begun: Instant,
    count: u32,
}

/// What to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Grumble {
    /// The line itself; before it, how many were left out in the last span, if any.
    Line { left_out: u32 },
    /// That from now on lines are left out.
    LastLine,
    /// Nothing.
    Silence,
}

impl Grumbles {
    /// Counts one more and says what to write of it.
    pub(crate) fn hear(
        &self,
        network: &NetworkName,
        reason: &'static str,
        now: Instant,
    ) -> Grumble {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let span = spans.entry((network.clone(), reason)).or_insert(Span {
            begun: now,
            count: 0,
        });
        let mut left_out = 0;
        if now.duration_since(span.begun) >= SPAN {
            left_out = span.count.saturating_sub(LINES);
            *span = Span {
                begun: now,
                count: 0,
            };
        }
        span.count = span.count.saturating_add(1);
        match span.count {
            LINES => Grumble::LastLine,
            count if count < LINES => Grumble::Line { left_out },
            _ => Grumble::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_fill_the_log() {
        let grumbles = Grumbles::default();
        let network: NetworkName = "libera".parse().expect("a name");
        let begun = Instant::now();
        let heard: Vec<Grumble> = (0..1000)
            .map(|_| grumbles.hear(&network, "malformed", begun))
            .collect();
        assert_eq!(
            heard
                .iter()
                .filter(|grumble| **grumble != Grumble::Silence)
                .count(),
            LINES as usize
        );
        assert_eq!(heard[LINES as usize - 1], Grumble::LastLine);
        assert_eq!(
            grumbles.hear(&network, "private", begun),
            Grumble::Line { left_out: 0 },
            "another reason"
        );
        assert_eq!(
            grumbles.hear(&network, "malformed", begun + SPAN),
            Grumble::Line { left_out: 990 }
        );
    }
}
