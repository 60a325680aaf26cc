//! What goes over HTTP, in both directions, and nothing else.
//!
//! [`call`] is what we ask of the homeserver (client-server API), [`fault`] how it refuses;
//! [`push`] is what the homeserver asks of us (application service API) and [`event`] the events
//! inside. Nothing here opens a socket, keeps state or decides what a message means.

pub(crate) mod call;
pub(crate) mod event;
pub(crate) mod fault;
pub(crate) mod push;
