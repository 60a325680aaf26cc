//! The body of a request: whole, or in two halves for a test that kills the process between them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use comity_bridge::failpoint;
use hyper::body::{Body, Frame, SizeHint};

/// How often the connection may write before the place is reached.
const TURNS: u8 = 50;

/// Bytes to send.
pub(super) struct RequestBody {
    first: Option<Bytes>,
    second: Option<Bytes>,
    turns: u8,
}

impl RequestBody {
    pub(super) fn new(mut bytes: Bytes) -> Self {
        let is_halved = failpoint::is_set("federation.half") && bytes.len() > 1;
        let second = is_halved.then(|| bytes.split_off(bytes.len() / 2));
        Self {
            first: (!bytes.is_empty()).then_some(bytes),
            second,
            turns: TURNS,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.second.is_none() {
            return Poll::Ready(None);
        }
        if self.turns > 0 {
            // Nothing more for now: the connection flushes what it has.
            self.turns -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        failpoint::reached("federation.half");
        Poll::Ready(self.second.take().map(|second| Ok(Frame::data(second))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.second.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = [&self.first, &self.second]
            .into_iter()
            .flatten()
            .map(|bytes| bytes.len() as u64)
            .sum();
        SizeHint::with_exact(length)
    }
}
