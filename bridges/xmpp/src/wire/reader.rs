//! Bytes to stanzas, for a stream on which strangers' stanzas arrive.
//!
//! The parser is rxml (no document types, no entities); around it stand the limits: how deep a
//! stanza may nest, how large it may grow, how many attributes an element may have. A stanza over
//! a limit is read to its end without being kept and comes out as [`Read::Skipped`].

use std::mem;

use rxml::error::EndOrError;
use rxml::{
    AttrMap, Namespace, NcName, Options, Parse, RawEvent, RawParser, RawQName, WithOptions,
};

use super::repair::Repair;
use super::{Element, ParseError, ns};

/// The deepest element of a stanza, the stanza itself being 1. minidom walks and drops a tree by
/// recursion, so an unlimited depth is a stack overflow that any stranger can send.
const MAX_DEPTH: usize = 64;
/// The largest stanza kept. Servers commonly pass on up to 256 KiB from clients and 512 KiB from other servers.
const MAX_STANZA: usize = 512 * 1024;
/// The longest attribute or name the parser takes before it gives up the stream.
/// More than a stanza may be, so that a long attribute costs its stanza only.
const MAX_TOKEN: usize = 4 * 1024 * 1024;
/// A stanza already being skipped that goes on beyond this ends the stream.
const MAX_SKIPPED: usize = 8 * 1024 * 1024;
/// Attributes and namespace declarations of one element.
const MAX_ATTRIBUTES: usize = 64;
/// The longest address of a skipped stanza that is kept: RFC 7622 allows no longer one.
const MAX_NAMED: usize = 3071;

/// One thing read from the stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    /// `<stream:stream>`; the id is what the handshake is made with.
    Open { id: Option<String> },
    /// A child of the stream, in `jabber:client` where the wire says `jabber:component:accept`.
    Stanza(Element),
    /// A stanza over a limit.
    Skipped(Skipped),
    /// `</stream:stream>`.
    Close,
}

/// What is known of a stanza that was not kept.
#[derive(Debug, PartialEq)]
pub(crate) struct Skipped {
    pub(crate) why: &'static str,
    pub(crate) name: String,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
}

/// The reader's state between two reads of the socket.
///
/// Below rxml's namespace-aware parser: that one looks through all open elements for each name,
/// which makes a deep stanza cost the square of its size, and ends the stream for an undeclared
/// prefix. Here a scope is kept for the elements of a stanza that is kept, and for no other.
pub(crate) struct Reader {
    parser: RawParser,
    repair: Repair,
    consumed: u64,
    head: Option<Head>,
    /// What the stream's own tag declares.
    stream: Option<Scope>,
    /// Elements that have begun, the stanza first; empty between stanzas and while skipping.
    stack: Vec<(Element, Scope)>,
    skipping: Option<Skipped>,
    depth: usize,
    size: usize,
}

/// A tag of which the end has not been seen yet.
struct Head {
    name: RawQName,
    attributes: Vec<(RawQName, String)>,
    crowded: bool,
}

/// The namespaces that one element declares, by prefix.
type Scope = Vec<(Option<NcName>, String)>;

impl Reader {
    pub(crate) fn new() -> Self {
        let options = Options {
            max_token_length: MAX_TOKEN,
            ..Options::default()
        };
        Self {
            parser: RawParser::with_options(options),
            repair: Repair::default(),
            consumed: 0,
            head: None,
            stream: None,
            stack: Vec::new(),
            skipping: None,
            depth: 0,
            size: 0,
        }
    }

    /// Takes what the socket gave and appends what it amounts to, also when an error follows.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Read>) -> Result<(), ParseError> {
        let mut clean = Vec::with_capacity(bytes.len());
        self.repair.feed(bytes, &mut clean);
        let mut rest = clean.as_slice();
        loop {
            let before = rest.len();
            let parsed = self.parser.parse(&mut rest, false);
            self.consumed += (before - rest.len()) as u64;
            match parsed {
                Ok(Some(event)) => self.event(event, out)?,
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(()),
                Err(EndOrError::Error(fault)) => {
                    return Err(ParseError::NotWellFormed {
                        offset: self.consumed,
                        fault,
                    });
                }
            }
        }
    }

    fn event(&mut self, event: RawEvent, out: &mut Vec<Read>) -> Result<(), ParseError> {
        let length = event.metrics().len();
        match event {
            RawEvent::XmlDeclaration(..) => {}
            RawEvent::ElementHeadOpen(_, name) => {
                self.grow(length)?;
                self.head = Some(Head {
                    name,
                    attributes: Vec::new(),
                    crowded: false,
                });
            }
            RawEvent::Attribute(_, name, value) => {
                self.grow(length)?;
                if let Some(head) = &mut self.head {
                    head.crowded |= head.attributes.len() == MAX_ATTRIBUTES;
                    if !head.crowded {
                        head.attributes.push((name, value));
                    }
                }
            }
            RawEvent::ElementHeadClose(_) => {
                self.grow(length)?;
                match self.head.take() {
                    Some(head) if self.stream.is_none() => out.push(self.opened(head)?),
                    Some(head) => self.begin(head),
                    None => {}
                }
            }
            RawEvent::Text(_, text) if self.depth > 0 => {
                self.grow(length)?;
                if let Some((parent, _)) = self.stack.last_mut() {
                    parent.append_text_node(text);
                }
            }
            // White space between stanzas keeps a connection alive; anything else there is nothing to us.
            RawEvent::Text(..) => {}
            RawEvent::ElementFoot(_) if self.depth == 0 => out.push(Read::Close),
            RawEvent::ElementFoot(_) => {
                self.grow(length)?;
                self.end(out);
            }
        }
        Ok(())
    }

    fn opened(&mut self, head: Head) -> Result<Read, ParseError> {
        let scope = declared(&head);
        let name = head.name.1.to_string();
        let ns = self
            .resolve(&scope, head.name.0.as_ref())
            .unwrap_or_default()
            .to_owned();
        if ns != ns::STREAM || name != "stream" {
            return Err(ParseError::NotAStream { name, ns });
        }
        self.stream = Some(scope);
        self.size = 0;
        Ok(Read::Open {
            id: plain(&head, "id"),
        })
    }

    /// Counts the bytes of the stanza and stops keeping it when there are too many.
    fn grow(&mut self, bytes: usize) -> Result<(), ParseError> {
        self.size = self.size.saturating_add(bytes);
        if self.size > MAX_SKIPPED {
            return Err(ParseError::Endless(MAX_SKIPPED));
        }
        if self.size > MAX_STANZA {
            self.skip("stanza too large");
        }
        Ok(())
    }

    fn begin(&mut self, head: Head) {
        self.depth += 1;
        if self.skipping.is_some() {
            return;
        }
        let fault = if self.size > MAX_STANZA {
            Some("stanza too large")
        } else if head.crowded {
            Some("too many attributes")
        } else if self.depth > MAX_DEPTH {
            Some("nested too deeply")
        } else {
            None
        };
        let scope = declared(&head);
        let element = match fault {
            Some(why) => Err(why),
            None => self.element(&head, &scope),
        };
        match element {
            Ok(element) => self.stack.push((element, scope)),
            Err(why) if self.depth == 1 => {
                let named = |name| plain(&head, name).filter(|jid| jid.len() <= MAX_NAMED);
                self.skipping = Some(Skipped {
                    why,
                    name: head.name.1.to_string(),
                    from: named("from"),
                    to: named("to"),
                });
            }
            Err(why) => self.skip(why),
        }
    }

    fn element(&self, head: &Head, scope: &Scope) -> Result<Element, &'static str> {
        let mut attributes = AttrMap::new();
        for ((prefix, name), value) in &head.attributes {
            if is_declaration(prefix.as_ref(), name) {
                continue;
            }
            let ns = match prefix {
                Some(_) => self
                    .resolve(scope, prefix.as_ref())
                    .ok_or("undeclared prefix")?,
                None => "",
            };
            if attributes
                .insert(Namespace::from(ns.to_owned()), name.clone(), value.clone())
                .is_some()
            {
                return Err("attribute given twice");
            }
        }
        let ns = self
            .resolve(scope, head.name.0.as_ref())
            .ok_or("undeclared prefix")?;
        let ns = if ns == ns::COMPONENT { ns::CLIENT } else { ns };
        let mut element = Element::bare(head.name.1.to_string(), ns);
        *element.attrs_mut() = attributes;
        Ok(element)
    }

    /// The namespace of a prefix, looked for from the inside out.
    fn resolve<'a>(&'a self, inner: &'a Scope, prefix: Option<&NcName>) -> Option<&'a str> {
        if prefix.is_some_and(|prefix| prefix == "xml") {
            return Some(rxml::XMLNS_XML);
        }
        let outer = self.stack.iter().rev().map(|(_, scope)| scope);
        std::iter::once(inner)
            .chain(outer)
            .chain(&self.stream)
            .find_map(|scope| {
                scope
                    .iter()
                    .find(|(declared, _)| declared.as_ref() == prefix)
            })
            .map(|(_, ns)| ns.as_str())
            .or_else(|| prefix.is_none().then_some(""))
    }

    fn end(&mut self, out: &mut Vec<Read>) {
        self.depth -= 1;
        if self.skipping.is_none()
            && let Some((element, _)) = self.stack.pop()
        {
            match self.stack.last_mut() {
                Some((parent, _)) => {
                    parent.append_child(element);
                }
                None => out.push(Read::Stanza(element)),
            }
        }
        if self.depth == 0 {
            self.size = 0;
            out.extend(self.skipping.take().map(Read::Skipped));
        }
    }

    fn skip(&mut self, why: &'static str) {
        if self.skipping.is_some() {
            return;
        }
        let stack = mem::take(&mut self.stack);
        if let Some((stanza, _)) = stack.first() {
            let named = |name| stanza.attr(name).filter(|jid| jid.len() <= MAX_NAMED);
            self.skipping = Some(Skipped {
                why,
                name: stanza.name().to_owned(),
                from: named("from").map(str::to_owned),
                to: named("to").map(str::to_owned),
            });
        }
    }
}

fn is_declaration(prefix: Option<&NcName>, name: &NcName) -> bool {
    match prefix {
        Some(prefix) => prefix == "xmlns",
        None => name == "xmlns",
    }
}

fn declared(head: &Head) -> Scope {
    let declarations = head
        .attributes
        .iter()
        .filter(|((prefix, name), _)| is_declaration(prefix.as_ref(), name));
    declarations
        .map(|((prefix, name), ns)| (prefix.as_ref().map(|_| name.clone()), ns.clone()))
        .collect()
}

/// An attribute without a prefix.
fn plain(head: &Head, name: &str) -> Option<String> {
    let found = head
        .attributes
        .iter()
        .find(|((prefix, local), _)| prefix.is_none() && local == name);
    found.map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests;
