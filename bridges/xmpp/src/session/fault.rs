//! The error that a stanza of type `error` carries (RFC 6120 §8.3).

use crate::wire::{Element, child, ns};

/// An error, read as leniently as it may be written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Fault {
    /// `auth`, `cancel`, `continue`, `modify`, `wait`, or nothing.
    pub(super) kind: String,
    /// The defined condition; of an old error with a code only, what that code means.
    pub(super) condition: String,
    /// What the server says for people, shortened.
    pub(super) text: String,
}

impl Fault {
    pub(super) fn read(stanza: &Element) -> Self {
        let Some(error) = child(stanza, "error", ns::CLIENT) else {
            return Self {
                condition: "undefined-condition".to_owned(),
                ..Self::default()
            };
        };
        let named = error
            .children()
            .find(|child| child.has_ns(ns::STANZA_ERROR) && child.name() != "text");
        let condition = match named {
            Some(condition) => condition.name(),
            None => by_code(error.attr("code").unwrap_or_default()),
        };
        let text = child(error, "text", ns::STANZA_ERROR)
            .map(Element::text)
            .unwrap_or_default();
        Self {
            kind: error.attr("type").unwrap_or_default().to_owned(),
            condition: condition.to_owned(),
            text: text.chars().filter(|c| !c.is_control()).take(200).collect(),
        }
    }

    /// For people: the condition and what the server says about it.
    pub(super) fn why(&self) -> String {
        match self.text.as_str() {
            "" => self.condition.clone(),
            text => format!("{} ({text})", self.condition),
        }
    }
}

/// XEP-0086's table, as far as rooms use it.
fn by_code(code: &str) -> &'static str {
    match code {
        "400" => "bad-request",
        "401" => "not-authorized",
        "403" => "forbidden",
        "404" => "item-not-found",
        "405" => "not-allowed",
        "406" => "not-acceptable",
        "407" => "registration-required",
        "409" => "conflict",
        "501" => "feature-not-implemented",
        "503" => "service-unavailable",
        "504" => "remote-server-timeout",
        _ => "undefined-condition",
    }
}
