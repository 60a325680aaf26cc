//! Short ways to build an element and to look into one.

use rxml::{Namespace, NcName};

use super::Element;

/// Starts an element with this local name and namespace.
pub(crate) fn element(name: &str, ns: &str) -> Build {
    Build(Element::bare(name, ns))
}

/// An element under construction. Names are literals of this crate; values may be anything,
/// for the writer replaces what XML cannot hold.
pub(crate) struct Build(Element);

impl Build {
    pub(crate) fn attr(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let name = NcName::try_from(name).expect("attribute names are literals of this crate");
        self.0
            .attrs_mut()
            .insert(Namespace::NONE, name, value.into());
        self
    }

    pub(crate) fn child(mut self, child: impl Into<Element>) -> Self {
        self.0.append_child(child.into());
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.append_text_node(text);
        self
    }

    pub(crate) fn build(self) -> Element {
        self.0
    }
}

impl From<Build> for Element {
    fn from(build: Build) -> Self {
        build.0
    }
}

/// The first child with this name and namespace.
pub(crate) fn child<'a>(parent: &'a Element, name: &str, ns: &str) -> Option<&'a Element> {
    parent.children().find(|child| child.is(name, ns))
}
