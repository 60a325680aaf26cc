//! How far a room has been heard: what a later run, or the next connection, goes on from.

/// Kept by the gateway, in the same transaction as what was heard.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// The last moment at which the room was heard, by our clock.
    pub(crate) heard_ms: i64,
    /// The id of the last message: the room's own where it keeps an archive. Empty when it had none.
    pub(crate) last: String,
    /// A place in the room's archive: nothing of ours up to it can be in doubt.
    pub(crate) sure: Option<String>,
}

impl Mark {
    /// As it is kept. Ids hold no control characters, so a line each is enough.
    pub(crate) fn write(&self) -> String {
        let sure = self.sure.as_deref().unwrap_or_default();
        format!("{}\n{}\n{sure}", self.heard_ms, self.last)
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let heard_ms = lines.next()?.parse().ok()?;
        let last = lines.next()?.to_owned();
        let sure = lines.next()?;
        let sure = (!sure.is_empty()).then(|| sure.to_owned());
        Some(Self {
            heard_ms,
            last,
            sure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark {
            heard_ms: 1_732_280_000_123,
            last: "occupant id/1".to_owned(),
            sure: Some("sid".to_owned()),
        };
        assert_eq!(Mark::read(&mark.write()), Some(mark));
        let none = Mark::default();
        assert_eq!(Mark::read(&none.write()), Some(none));
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for bad in ["", "x", "1", "1\nid", "x\nid\nsid"] {
            assert_eq!(Mark::read(bad), None, "{bad:?}");
        }
    }
}
