//! What the component sends, as elements; strict, for the bridge's own output must be in order.

use minidom::Element;
use rxml::error::EndOrError;
use rxml::{Event, Options, Parse, Parser, WithOptions};
use sha1::{Digest, Sha1};

pub(crate) struct Stanzas {
    parser: Parser,
    stack: Vec<Element>,
    depth: usize,
    /// The header's id, if it has one.
    opened: Option<String>,
    ended: bool,
}

impl Stanzas {
    pub(crate) fn new() -> Self {
        let options = Options {
            max_token_length: 1024 * 1024,
            ..Options::default()
        };
        Self {
            parser: Parser::with_options(options),
            stack: Vec::new(),
            depth: 0,
            opened: None,
            ended: false,
        }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Element>, rxml::Error> {
        let mut stanzas = Vec::new();
        loop {
            match self.parser.parse(&mut bytes, false) {
                Ok(Some(event)) => stanzas.extend(self.event(event)),
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(stanzas),
                Err(EndOrError::Error(error)) => return Err(error),
            }
        }
    }

    /// Once, when the stream's header has come: its id, empty for a header without one.
    pub(crate) fn opened(&mut self) -> Option<String> {
        self.opened.take()
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    fn event(&mut self, event: Event) -> Option<Element> {
        match event {
            Event::StartElement(_, (ns, name), attributes) => {
                if self.depth == 0 {
                    let id = attributes.get(&rxml::Namespace::NONE, "id");
                    self.opened = Some(id.cloned().unwrap_or_default());
                } else {
                    let mut element = Element::bare(name.to_string(), ns.to_string());
                    *element.attrs_mut() = attributes;
                    self.stack.push(element);
                }
                self.depth += 1;
            }
            Event::EndElement(_) => {
                self.depth -= 1;
                self.ended |= self.depth == 0;
                let element = self.stack.pop()?;
                match self.stack.last_mut() {
                    Some(parent) => {
                        parent.append_child(element);
                    }
                    None => return Some(element),
                }
            }
            Event::Text(_, text) => {
                if let Some(parent) = self.stack.last_mut() {
                    parent.append_text_node(text);
                }
            }
            Event::XmlDeclaration(..) => {}
        }
        None
    }
}

pub(crate) fn handshake(id: &str, secret: &str) -> String {
    let digest = Sha1::digest(format!("{id}{secret}").as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
