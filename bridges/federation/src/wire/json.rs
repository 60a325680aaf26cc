//! The canonical form: the one way in which a value may be written (PROTOCOL 5).
//!
//! [`parse`] accepts bytes only if they equal the canonical form of what they say. That is checked
//! before anything is hashed or verified, since parsers differ on equal keys, large numbers and
//! escapes, and what two parsers read differently must not be signed.

use serde_json::{Map, Value};

/// The deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;
/// The greatest integer that every JSON reader keeps exactly.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Bytes that are not JSON in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    #[error("longer than {0} bytes")]
    TooLarge(usize),
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("not JSON")]
    NotJson,
    #[error("a number that is not an integer within 2^53-1")]
    Number,
    #[error("an object key that is not printable ASCII")]
    Key,
    #[error("not in canonical form")]
    NotCanonical,
}

/// Parses `bytes`, at most `limit` of them, and requires them to be canonical.
pub fn parse(bytes: &[u8], limit: usize) -> Result<Value, CanonicalError> {
    if bytes.len() > limit {
        return Err(CanonicalError::TooLarge(limit));
    }
    check_depth(bytes)?;
    let value: Value = serde_json::from_slice(bytes).map_err(|_| CanonicalError::NotJson)?;
    if to_bytes(&value)? == bytes {
        Ok(value)
    } else {
        Err(CanonicalError::NotCanonical)
    }
}

/// The canonical form of `value`.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(256);
    write(value, 0, &mut out)?;
    Ok(out)
}

/// The canonical form of an object without the fields named in `without`.
pub fn object_without(
    object: &Map<String, Value>,
    without: &[&str],
) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(512);
    write_object(object, without, 0, &mut out)?;
    Ok(out)
}

/// Stops at a nesting bomb before the parser sees it; brackets inside strings do not count.
fn check_depth(bytes: &[u8]) -> Result<(), CanonicalError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_string = false,
            (true, _) => {}
            (false, b'"') => in_string = true,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(CanonicalError::TooDeep);
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
    }
    Ok(())
}

fn write(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let integer = number
                .as_i64()
                .filter(|n| (-MAX_INTEGER..=MAX_INTEGER).contains(n));
            out.extend_from_slice(
                integer
                    .ok_or(CanonicalError::Number)?
                    .to_string()
                    .as_bytes(),
            );
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            if depth >= MAX_DEPTH {
                return Err(CanonicalError::TooDeep);
            }
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, &[], depth, out)?,
    }
    Ok(())
}

fn write_object(
    object: &Map<String, Value>,
    without: &[&str],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), CanonicalError> {
    if depth >= MAX_DEPTH {
        return Err(CanonicalError::TooDeep);
    }
    // Sorted here and not left to the map: a feature of serde_json that any crate in the tree may
    // turn on (`preserve_order`) would change every id.
    let mut entries: Vec<(&String, &Value)> = object
        .iter()
        .filter(|(key, _)| !without.contains(&key.as_str()))
        .collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'{');
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if !key.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            return Err(CanonicalError::Key);
        }
        if index > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write(value, depth + 1, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// RFC 8785 3.2.2.2: only what JSON forces to be escaped is escaped.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x00..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> CanonicalError {
        parse(text.as_bytes(), 1 << 16).expect_err(text)
    }

    #[test]
    fn canonical_bytes_come_back_as_they_went_in() {
        for text in [
            r#"{"a":1,"b":[true,false,null],"c":{"d":"é \" \\ \n \u001f 😀"}}"#,
            r#"{"":-9007199254740991,"A":9007199254740991,"a":{},"b":[]}"#,
            r#""\b\t\n\f\r""#,
        ] {
            let value = parse(text.as_bytes(), 1 << 16).expect(text);
            assert_eq!(to_bytes(&value).expect(text), text.as_bytes());
        }
    }

    #[test]
    fn f2_anything_but_the_canonical_bytes_is_refused() {
        for text in [
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a": 1}"#,
            "{\"a\":1}\n",
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u000A"}"#,
            r#"{"a":"\u001F"}"#,
        ] {
            assert_eq!(refused(text), CanonicalError::NotCanonical, "{text}");
        }
        for text in [
            "\u{feff}{}",
            "{} {}",
            "{}x",
            "",
            "{\"a\":01}",
            "{'a':1}",
            r#"{"a":"\ud800"}"#,
        ] {
            assert_eq!(refused(text), CanonicalError::NotJson, "{text}");
        }
        assert_eq!(parse(b"\"\xff\"", 100), Err(CanonicalError::NotJson));
    }

    #[test]
    fn f2_numbers_that_readers_round_are_refused() {
        for text in [
            "1.0",
            "1e2",
            "-0",
            "0.5",
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551615",
            "1e999",
        ] {
            let error = refused(&format!("{{\"a\":{text}}}"));
            assert!(
                matches!(error, CanonicalError::Number | CanonicalError::NotJson),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn keys_are_printable_ascii_so_that_two_sort_orders_agree() {
        for text in [
            r#"{"é":1}"#,
            "{\"\u{7f}\":1}",
            r#"{"a\tb":1}"#,
            r#"{"😀":1}"#,
        ] {
            assert_eq!(refused(text), CanonicalError::Key, "{text}");
        }
    }

    #[test]
    fn f3_a_nesting_bomb_is_stopped_before_the_parser() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(32).as_bytes(), 1 << 20).is_ok());
        assert_eq!(
            parse(deep(33).as_bytes(), 1 << 20),
            Err(CanonicalError::TooDeep)
        );
        assert_eq!(
            parse("[".repeat(100_000).as_bytes(), 1 << 20),
            Err(CanonicalError::TooDeep)
        );
        assert!(parse(format!("\"{}\"", "[".repeat(100)).as_bytes(), 1 << 20).is_ok());
        assert_eq!(parse(&[b' '; 11], 10), Err(CanonicalError::TooLarge(10)));
    }
}
