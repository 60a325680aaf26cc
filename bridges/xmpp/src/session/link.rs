//! The opening of a component's stream (XEP-0114 §3): header, id, handshake, and what ends it.

use sha1::{Digest, Sha1};

use crate::wire::{self, Element, ParseError, Read, element, ns};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The server knows no such component or the secret is another: only the operator can help.
    #[error("the server refuses the component: {0}")]
    Refused(String),
    /// The server ended the stream.
    #[error("the server ended the stream: {0}")]
    Ended(String),
    /// What came is not XMPP.
    #[error(transparent)]
    Unreadable(#[from] ParseError),
    /// The server did not answer in time.
    #[error("the server does not answer: {0}")]
    Silent(&'static str),
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
}

/// What a piece of the stream means for the connection.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing.
    Nothing,
    Send(Element),
    /// The component is known now.
    Online,
}

/// How far the opening has come.
#[derive(Debug)]
pub(crate) struct Handshake {
    component: String,
    secret: String,
    answered: bool,
    done: bool,
}

impl Handshake {
    pub(crate) fn new(component: String, secret: String) -> Self {
        Self {
            component,
            secret,
            answered: false,
            done: false,
        }
    }

    /// What is sent first.
    pub(crate) fn header(&self) -> Vec<u8> {
        wire::header(&self.component)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Anything read before the handshake is done, and stream errors at any time.
    pub(crate) fn handle(&mut self, read: &Read) -> Result<Step, LinkError> {
        match read {
            Read::Open { id: Some(id) } => {
                self.answered = true;
                let digest = Sha1::digest(format!("{id}{}", self.secret).as_bytes());
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Step::Send(
                    element("handshake", ns::CLIENT).text(&hex).build(),
                ))
            }
            Read::Open { id: None } => Err(LinkError::Ended("it gave no stream id".to_owned())),
            Read::Close => Err(LinkError::Ended("without a reason".to_owned())),
            Read::Stanza(error) if error.is("error", ns::STREAM) => Err(self.stream_error(error)),
            Read::Stanza(handshake)
                if self.answered && !self.done && handshake.is("handshake", ns::CLIENT) =>
            {
                self.done = true;
                Ok(Step::Online)
            }
            Read::Stanza(_) | Read::Skipped(_) => Ok(Step::Nothing),
        }
    }

    fn stream_error(&self, error: &Element) -> LinkError {
        let named = error
            .children()
            .find(|child| child.has_ns(ns::STREAM_ERROR) && child.name() != "text");
        let condition = named.map_or("undefined-condition", Element::name);
        let text = error
            .children()
            .find(|child| child.is("text", ns::STREAM_ERROR))
            .map(Element::text);
        let why: String = match text {
            Some(text) => format!("{condition} ({text})")
                .chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect(),
            None => condition.to_owned(),
        };
        match condition {
            "not-authorized" => LinkError::Refused(format!("{why}; is the secret the server's?")),
            "host-unknown" => LinkError::Refused(format!(
                "{why}; does the server configure the component {}?",
                self.component
            )),
            _ => LinkError::Ended(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_the_digest_of_id_and_secret() {
        // The digest of XEP-0114 §3, example 3.
        let mut handshake = Handshake::new("plays.shakespeare.lit".to_owned(), "test".to_owned());
        let step = handshake
            .handle(&Read::Open {
                id: Some("3BF96D32".to_owned()),
            })
            .expect("a step");
        let Step::Send(stanza) = step else {
            panic!("{step:?}")
        };
        assert_eq!(stanza.text(), "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e");
        let done = handshake
            .handle(&Read::Stanza(element("handshake", ns::CLIENT).build()))
            .expect("a step");
        assert!(matches!(done, Step::Online) && handshake.is_done());
    }

    #[test]
    fn a_handshake_that_nobody_asked_for_does_not_open_the_stream() {
        let mut handshake = Handshake::new("c".to_owned(), "s".to_owned());
        let step = handshake
            .handle(&Read::Stanza(element("handshake", ns::CLIENT).build()))
            .expect("a step");
        assert!(matches!(step, Step::Nothing) && !handshake.is_done());
    }

    #[test]
    fn a_wrong_secret_is_the_operators_to_mend_and_a_conflict_is_not() {
        let ended = |condition: &str| {
            let error = element("error", ns::STREAM)
                .child(element(condition, ns::STREAM_ERROR))
                .build();
            Handshake::new("c".to_owned(), "s".to_owned())
                .handle(&Read::Stanza(error))
                .expect_err(condition)
        };
        assert!(matches!(ended("not-authorized"), LinkError::Refused(_)));
        assert!(matches!(ended("host-unknown"), LinkError::Refused(_)));
        assert!(matches!(ended("conflict"), LinkError::Ended(_)));
    }
}
