//! Cuts the byte stream into lines, with bounded memory whatever the other side sends.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::MAX_LINE_IN;

/// What one line end closes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    /// A line without its end. Never empty.
    Line(Bytes),
    /// A line longer than any server may send; its bytes are gone.
    TooLong,
}

/// The line codec. Bytes of an overlong line are thrown away as they come, up to its end.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    discarding: bool,
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = std::io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        loop {
            let fresh = buffer.get(self.searched..).unwrap_or_default();
            let Some(end) = fresh
                .iter()
                .position(|&b| b == b'\n')
                .map(|at| at + self.searched)
            else {
                self.searched = buffer.len();
                if self.searched > MAX_LINE_IN {
                    self.discarding = true;
                }
                if self.discarding {
                    buffer.clear();
                    self.searched = 0;
                }
                return Ok(None);
            };
            self.searched = 0;
            let mut line = buffer.split_to(end + 1);
            if std::mem::take(&mut self.discarding) || line.len() > MAX_LINE_IN {
                return Ok(Some(Frame::TooLong));
            }
            let ending = line
                .iter()
                .rev()
                .take_while(|b| matches!(b, b'\r' | b'\n'))
                .count();
            line.truncate(line.len() - ending);
            if !line.is_empty() {
                return Ok(Some(Frame::Line(line.freeze())));
            }
        }
    }

    /// What is left when the stream ends is half a line; it may mean something else than the
    /// whole, so it is dropped.
    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        let frame = self.decode(buffer)?;
        if frame.is_none() {
            buffer.clear();
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Frame> {
        let mut codec = Codec::default();
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(&chunk);
            while let Some(frame) = codec.decode(&mut buffer).expect("no error is possible") {
                out.push(frame);
            }
            assert!(buffer.len() <= MAX_LINE_IN, "the buffer stays small");
        }
        out
    }

    fn line(text: &'static str) -> Frame {
        Frame::Line(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_empty_ones_do_not_count() {
        let input = b"PING a\r\nPING b\n\r\n\n\r\r\nPING c\r\nhalf".to_vec();
        assert_eq!(
            frames([input.clone()]),
            [line("PING a"), line("PING b"), line("PING c")]
        );
        let bytewise = input.into_iter().map(|byte| vec![byte]);
        assert_eq!(
            frames(bytewise),
            [line("PING a"), line("PING b"), line("PING c")]
        );
    }

    #[test]
    fn i1_an_unterminated_line_of_100_mb_takes_no_memory() {
        let flood = std::iter::repeat_with(|| vec![b'x'; 8192]).take(100 * 1024 * 1024 / 8192);
        let got = frames(flood.chain([b"\nPING ok\r\n".to_vec()]));
        assert_eq!(got, [Frame::TooLong, line("PING ok")]);
    }

    #[test]
    fn i1_a_terminated_overlong_line_is_skipped_alone() {
        let mut input = b"PING a\n".to_vec();
        input.extend(vec![b'x'; MAX_LINE_IN]);
        input.extend_from_slice(b"\nPING b\n");
        let got: Vec<Frame> = frames(input.chunks(4096).map(<[u8]>::to_vec));
        assert_eq!(got, [line("PING a"), Frame::TooLong, line("PING b")]);
    }

    #[test]
    fn the_longest_allowed_line_arrives() {
        let mut input = vec![b'x'; MAX_LINE_IN - 2];
        input.extend_from_slice(b"\r\n");
        assert!(matches!(&frames([input])[..], [Frame::Line(l)] if l.len() == MAX_LINE_IN - 2));
    }
}
