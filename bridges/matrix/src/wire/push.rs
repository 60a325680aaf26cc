//! What the homeserver asks of us: which request it is, and whether it may ask.
//!
//! Application service API v1, with the older paths without a prefix that servers fall back to.
//! Whatever is not listed here does not exist (404); whoever does not show the token learns
//! nothing, not even that.

use http::{HeaderMap, Method, header::AUTHORIZATION};

use crate::ident::percent_decode;

/// A request of the homeserver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// `PUT /transactions/{txnId}`: here are events. The id is a hint only: Synapse numbers anew
    /// after some restarts (synapse #14556) and repeats events in other transactions (#11447).
    Transaction(String),
    /// `POST /ping`: can you hear me?
    Ping,
    /// `GET /users/{userId}`: do you want this user to exist?
    User(String),
    /// `GET /rooms/{roomAlias}`: do you want this alias to exist?
    Room(String),
    /// A known path with another method.
    OtherMethod,
    /// Anything else.
    Unknown,
}

impl Asked {
    /// Reads method and path; `prefix` is where this bridge's paths begin.
    pub(crate) fn parse(prefix: &str, method: &Method, path: &str) -> Self {
        let Some(path) = path.strip_prefix(prefix.trim_end_matches('/')) else {
            return Self::Unknown;
        };
        let path = path.strip_prefix("/_matrix/app/v1").unwrap_or(path);
        let mut segments = path.split('/').skip(1);
        let (what, which) = (segments.next(), segments.next());
        if segments.next().is_some() {
            return Self::Unknown;
        }
        let (asked, wanted) = match (what, which.map(percent_decode)) {
            (Some("transactions"), Some(Some(id))) if !id.is_empty() => {
                (Self::Transaction(id), Method::PUT)
            }
            (Some("ping"), None) => (Self::Ping, Method::POST),
            (Some("users"), Some(Some(user))) => (Self::User(user), Method::GET),
            (Some("rooms"), Some(Some(alias))) => (Self::Room(alias), Method::GET),
            _ => return Self::Unknown,
        };
        if *method == wanted {
            asked
        } else {
            Self::OtherMethod
        }
    }
}

/// What a request showed for a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token {
    Right,
    Wrong,
    Missing,
}

impl Token {
    /// Compares the `Authorization` header with our `hs_token`.
    ///
    /// A token in the query is not looked at: it would end up in logs. (Servers send the header
    /// since Matrix 1.4.)
    pub(crate) fn check(headers: &HeaderMap, hs_token: &str) -> Self {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if headers.contains_key(AUTHORIZATION) {
                Self::Wrong
            } else {
                Self::Missing
            };
        };
        let Some((scheme, token)) = split_once_space(value.as_bytes()) else {
            return Self::Wrong;
        };
        if scheme.eq_ignore_ascii_case(b"bearer") && same(token, hs_token.as_bytes()) {
            Self::Right
        } else {
            Self::Wrong
        }
    }
}

fn split_once_space(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    Some((&value[..at], &value[at + 1..]))
}

/// Compares without stopping at the first difference: the digests have one length, and how far
/// they agree says nothing about how far the tokens do.
fn same(a: &[u8], b: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter()
        .zip(b.iter())
        .fold(0, |difference, (x, y)| difference | (x ^ y))
        == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(method: Method, path: &str) -> Asked {
        Asked::parse("/", &method, path)
    }

    #[test]
    fn the_paths_of_the_specification_and_the_older_ones_are_known() {
        let txn = Asked::Transaction("t/1".into());
        assert_eq!(
            asked(Method::PUT, "/_matrix/app/v1/transactions/t%2F1"),
            txn
        );
        assert_eq!(asked(Method::PUT, "/transactions/t%2f1"), txn);
        assert_eq!(asked(Method::POST, "/_matrix/app/v1/ping"), Asked::Ping);
        assert_eq!(
            asked(Method::GET, "/_matrix/app/v1/users/%40a%3Ahs"),
            Asked::User("@a:hs".into())
        );
        assert_eq!(
            asked(Method::GET, "/rooms/%23a:hs"),
            Asked::Room("#a:hs".into())
        );
        assert_eq!(asked(Method::GET, "/transactions/1"), Asked::OtherMethod);
        for path in [
            "/",
            "",
            "/transactions",
            "/transactions/",
            "/users/%zz",
            "/ping/x",
            "/a/b/c",
        ] {
            assert_eq!(asked(Method::PUT, path), Asked::Unknown, "{path}");
        }
    }

    #[test]
    fn a_prefix_comes_off_first() {
        let path = "/net/home/_matrix/app/v1/ping";
        assert_eq!(Asked::parse("/net/home/", &Method::POST, path), Asked::Ping);
        assert_eq!(
            Asked::parse("/net/other/", &Method::POST, path),
            Asked::Unknown
        );
    }

    #[test]
    fn only_the_right_token_in_the_right_place_opens() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            headers
        };
        assert_eq!(Token::check(&with("Bearer hs"), "hs"), Token::Right);
        assert_eq!(Token::check(&with("bearer hs"), "hs"), Token::Right);
        assert_eq!(Token::check(&HeaderMap::new(), "hs"), Token::Missing);
        for wrong in ["Bearer h", "Bearer hss", "Bearer ", "Basic hs", "hs", ""] {
            assert_eq!(Token::check(&with(wrong), "hs"), Token::Wrong, "{wrong}");
        }
        let mut twice = with("Bearer hs");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer hs"));
        assert_eq!(Token::check(&twice, "hs"), Token::Wrong);
    }
}
