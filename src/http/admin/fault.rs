//! Why a question has no answer: `{"error": "..."}` and a status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::journal::JournalError;

/// An answer that is none.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    text: String,
}

impl Fault {
    /// The question makes no sense.
    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Fault {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    /// There is no such thing.
    pub(super) fn unknown(text: impl Into<String>) -> Self {
        Fault {
            status: StatusCode::NOT_FOUND,
            text: text.into(),
        }
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a question could not be answered"
        );
        Fault {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: error.to_string(),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.text}))).into_response()
    }
}
