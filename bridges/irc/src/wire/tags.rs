//! IRCv3 message tags of an incoming line.

use super::decode::decode;

/// The tags of one line. Of a tag given twice the last counts (message-tags specification).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tags(Vec<(String, String)>);

impl Tags {
    /// Parses what stands between `@` and the first space.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let tags = bytes.split(|&b| b == b';').filter_map(|tag| {
            let (key, value) = match tag.iter().position(|&b| b == b'=') {
                Some(at) => (tag.get(..at)?, tag.get(at + 1..)?),
                None => (tag, &[][..]),
            };
            (!key.is_empty()).then(|| (decode(key).into_owned(), unescape(&decode(value))))
        });
        Self(tags.collect())
    }

    /// Tells whether `key` is there, with or without a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// Returns the value of `key`, unless it is absent or empty: the two mean the same.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(k, _)| k == key);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(':') => out.push(';'),
            Some('s') => out.push(' '),
            Some('r') => out.push('\r'),
            Some('n') => out.push('\n'),
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unescaped_and_the_last_of_two_counts() {
        let tags = Tags::parse(br"a=1;b=x\:\s\\\r\n\q\;c;a=2;=x;;d=");
        assert_eq!(tags.get("a"), Some("2"));
        assert_eq!(tags.get("b"), Some("x; \\\r\nq"));
        assert_eq!(tags.get("c"), None);
        assert_eq!(tags.get("d"), None);
        assert_eq!(tags.get("nothing"), None);
    }
}
