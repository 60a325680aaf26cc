//! Why the homeserver did not do what it was asked to.
//!
//! The answer to a failed request decides what happens to a message, so the line that matters is
//! drawn here: did the request certainly not arrive, may it have arrived, or was it refused?

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

/// A call that brought no answer of the expected form.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    /// No connection came about: the request was certainly not carried out.
    #[error("the homeserver cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke or took too long: it may have been carried out.
    #[error("the homeserver did not answer: {0}")]
    Broken(String),
    /// The server failed, or something before it answered in its place: it may have been carried out.
    #[error("the homeserver fails: status {status} {error}")]
    Failing { status: u16, error: String },
    /// The server asks to come back later (`M_LIMIT_EXCEEDED`).
    #[error("the homeserver limits the rate; again after {} ms", .0.as_millis())]
    Limited(Duration),
    /// The server understood and said no.
    #[error("{errcode}: {error}")]
    Refused {
        status: u16,
        errcode: String,
        error: String,
    },
    /// A success whose body is not what the specification says.
    #[error("the homeserver's answer does not parse: {0}")]
    Unreadable(String),
}

/// The body of a failure.
#[derive(Deserialize)]
pub(crate) struct Problem {
    errcode: Option<String>,
    error: Option<String>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether it says that the homeserver is well and could not reach the application service
    /// (`POST /_matrix/client/v1/appservice/{id}/ping`, Matrix 1.7).
    pub(crate) fn is_about_reaching_us(&self) -> bool {
        let codes = [
            "M_BAD_STATUS",
            "M_CONNECTION_FAILED",
            "M_CONNECTION_TIMEOUT",
            "M_URL_NOT_SET",
        ];
        self.errcode
            .as_deref()
            .is_some_and(|code| codes.contains(&code))
    }

    pub(crate) fn describe(&self) -> String {
        let part = |text: &Option<String>| visible(text.as_deref().unwrap_or_default());
        format!("{}: {}", part(&self.errcode), part(&self.error))
    }
}

/// How long to wait after a 429 that does not say how long.
const UNTOLD_PAUSE: Duration = Duration::from_secs(2);
/// A server that asks for more than this is asked again after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// How much of a stranger's error text is kept.
const MAX_ERROR_CHARS: usize = 200;

impl Fault {
    /// Reads a response whose status is not a success.
    pub(crate) fn from_response(
        status: StatusCode,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Self {
        let parsed = Problem::read(body);
        if status == StatusCode::TOO_MANY_REQUESTS {
            // The header came with Matrix 1.10; older servers put it into the body only.
            let header = headers
                .get(http::header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.trim().parse::<u64>().ok())
                .map(Duration::from_secs);
            let body = parsed
                .and_then(|body| body.retry_after_ms)
                .map(Duration::from_millis);
            let pause = header.or(body).unwrap_or(UNTOLD_PAUSE);
            return Self::Limited(pause.min(LONGEST_PAUSE));
        }
        let (errcode, error) = match parsed {
            Some(Problem {
                errcode: Some(errcode),
                error,
                ..
            }) => (errcode, error.unwrap_or_default()),
            // Some servers, and the proxies before them, say these two without words.
            _ if matches!(
                status,
                StatusCode::UNAUTHORIZED | StatusCode::PAYLOAD_TOO_LARGE
            ) =>
            {
                (format!("HTTP {}", status.as_u16()), String::new())
            }
            // A refusal has a code (client-server API, "Standard error response"). This is the page of a proxy, say.
            _ => (String::new(), "without a code".to_owned()),
        };
        let error = visible(&error);
        let errcode = visible(&errcode);
        if errcode.is_empty() || status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Self::Failing {
                status: status.as_u16(),
                error: if error.is_empty() { errcode } else { error },
            };
        }
        Self::Refused {
            status: status.as_u16(),
            errcode,
            error,
        }
    }

    /// The `errcode` of a refusal.
    pub(crate) fn errcode(&self) -> Option<&str> {
        match self {
            Self::Refused { errcode, .. } => Some(errcode),
            _ => None,
        }
    }

    /// Whether the server said that this may not be done (by this user, in this room).
    pub(crate) fn is_forbidden(&self) -> bool {
        // Synapse 1.163 says M_BAD_STATE to a banned user who wants to join.
        matches!(self.errcode(), Some("M_FORBIDDEN" | "M_BAD_STATE"))
    }

    /// Whether the server refuses it to everybody, whatever is said: it has no such endpoint, or takes nothing more.
    pub(crate) fn is_everybodys(&self) -> bool {
        matches!(
            self.errcode(),
            Some("M_UNRECOGNIZED" | "M_RESOURCE_LIMIT_EXCEEDED")
        )
    }

    /// Whether the server does not know what was asked for.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether our token is not accepted: nothing works until the registration is put right.
    pub(crate) fn is_bad_token(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
            || matches!(self.errcode(), Some("M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN"))
    }
}

fn visible(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_ERROR_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_rate_limit_is_read_from_the_body_and_the_header_wins() {
        let body = br#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":1500}"#;
        let mut headers = HeaderMap::new();
        let status = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(
            Fault::from_response(status, &headers, body),
            Fault::Limited(Duration::from_millis(1500))
        );
        headers.insert("retry-after", HeaderValue::from_static("3"));
        assert_eq!(
            Fault::from_response(status, &headers, body),
            Fault::Limited(Duration::from_secs(3))
        );
    }

    #[test]
    fn a_rate_limit_without_a_time_still_pauses_and_an_absurd_one_is_capped() {
        let none = HeaderMap::new();
        let status = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(
            Fault::from_response(status, &none, b"<html>"),
            Fault::Limited(UNTOLD_PAUSE)
        );
        let body = br#"{"retry_after_ms":999999999999}"#;
        assert_eq!(
            Fault::from_response(status, &none, body),
            Fault::Limited(LONGEST_PAUSE)
        );
    }

    #[test]
    fn a_proxys_page_is_a_failure_and_not_a_refusal() {
        let none = HeaderMap::new();
        for status in [301, 400, 403, 404, 502, 503] {
            let code = StatusCode::from_u16(status).unwrap();
            for page in [
                &b"<h1>Down for maintenance</h1>"[..],
                b"{}",
                b"",
                b"{\"errcode\":\"\"}",
            ] {
                let fault = Fault::from_response(code, &none, page);
                assert!(
                    matches!(fault, Fault::Failing { status: said, .. } if said == status),
                    "{fault:?}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_keeps_its_code_and_loses_control_characters() {
        let none = HeaderMap::new();
        let body = b"{\"errcode\":\"M_FORBIDDEN\",\"error\":\"no\\u0000\\nway\"}";
        let fault = Fault::from_response(StatusCode::FORBIDDEN, &none, body);
        assert!(fault.is_forbidden());
        assert_eq!(fault.to_string(), "M_FORBIDDEN: noway");
    }
}
