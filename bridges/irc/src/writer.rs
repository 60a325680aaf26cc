//! Writes what is in its buffer, then flushes: TLS keeps back what a full socket did not take.

use std::io;

use bytes::{Buf, BytesMut};
use comity_bridge::failpoint;
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};

use crate::wire::Command;

/// ngircd 26.1 takes 2,048 bytes out of a TLS record and leaves the rest in there until something else arrives, which,
/// behind a fence, would be nothing.
const MAX_RECORD: usize = 2048;

pub(crate) struct Writer<T> {
    half: WriteHalf<T>,
    buffer: BytesMut,
    unflushed: bool,
    tls: bool,
    /// A line to a channel is among what was written.
    says: bool,
}

impl<T: AsyncWrite> Writer<T> {
    pub(crate) fn new(half: WriteHalf<T>, tls: bool) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            unflushed: false,
            tls,
            says: false,
        }
    }

    pub(crate) fn push(&mut self, command: &Command) {
        if command.verb() == "JOIN" {
            failpoint::reached("irc.joining");
        }
        self.says |= matches!(command.verb(), "PRIVMSG" | "NOTICE");
        command.write_to(&mut self.buffer);
    }

    /// Bytes that are not written yet.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && !self.unflushed
    }

    /// Writes everything out. Can be dropped and called again at any time.
    pub(crate) async fn progress(&mut self) -> io::Result<()> {
        if self.says && failpoint::is_set("irc.half") {
            let half = self.buffer.split_to(self.buffer.len().div_ceil(2));
            self.half.write_all(&half).await?;
            self.half.flush().await?;
            failpoint::reached("irc.half");
        }
        while !self.buffer.is_empty() {
            self.unflushed = true;
            let step = match self.tls {
                true => one_record(&self.buffer),
                false => &self.buffer,
            };
            match self.half.write(step).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.buffer.advance(written),
            }
        }
        self.half.flush().await?;
        self.unflushed = false;
        if std::mem::take(&mut self.says) {
            failpoint::reached("irc.written");
        }
        Ok(())
    }
}

/// Returns as many whole lines as one record may have.
fn one_record(buffer: &[u8]) -> &[u8] {
    if buffer.len() <= MAX_RECORD {
        return buffer;
    }
    let record = buffer.get(..MAX_RECORD).unwrap_or(buffer);
    let end = record.iter().rposition(|&byte| byte == b'\n');
    // No line of ours is longer than a record.
    end.and_then(|end| record.get(..=end)).unwrap_or(record)
}
