//! One TCP connection to the server: bytes in and out, and whether it is still alive.

mod places;

use std::time::Duration;

use comity_bridge::failpoint::{is_set, reached};
use comity_net::dial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};

use self::places::Places;
use crate::config::Config;
use crate::session::{Handshake, LinkError, Step};
use crate::wire::{self, Element, Read, Reader, element, ns};

/// How long the server may take from the first byte to the accepted handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence after which the server is asked whether it is there.
const IDLE: Duration = Duration::from_secs(45);
/// Silence after that question which ends the connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that may wait for a server which does not read.
const MAX_UNSENT: usize = 16 * 1024 * 1024;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A message has been read and not parsed.
const READ: &str = "xmpp.read";

/// An open connection.
pub(crate) struct Connection {
    component: String,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    reader: Reader,
    handshake: Handshake,
    unsent: Vec<u8>,
    places: Places,
    /// What ends the connection once everything read before it has been handled.
    failed: Option<LinkError>,
    opened: Instant,
    heard: Instant,
    asked: bool,
}

/// What a piece of the stream is to the bridge.
pub(crate) enum Heard {
    Online,
    Read(Read),
}

impl Connection {
    pub(crate) async fn dial(config: &Config) -> Result<Self, LinkError> {
        let stream = dial(&config.host, config.port).await?;
        let handshake = Handshake::new(config.component.clone(), config.secret.expose().to_owned());
        Ok(Self::new(stream, config.component.clone(), handshake))
    }

    fn new(stream: TcpStream, component: String, handshake: Handshake) -> Self {
        let (read, write) = stream.into_split();
        let now = Instant::now();
        Self {
            component,
            read,
            write,
            reader: Reader::new(),
            unsent: handshake.header(),
            handshake,
            places: Places::default(),
            failed: None,
            opened: now,
            heard: now,
            asked: false,
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.handshake.is_done()
    }

    /// Puts a stanza into the queue of what [`Connection::exchange`] writes.
    pub(crate) fn send(&mut self, stanza: &Element) {
        if self.unsent.len() > MAX_UNSENT {
            self.failed = Some(LinkError::Silent("it does not read"));
            return;
        }
        let before = self.unsent.len();
        wire::write(stanza, &mut self.unsent);
        self.places.queued(stanza, self.unsent.len() - before);
    }

    /// Writes what waits and returns what was read next. Nothing is lost when it is dropped half way.
    pub(crate) async fn exchange(&mut self) -> Result<Vec<Heard>, LinkError> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            let portion = self.places.portion(self.unsent.len());
            tokio::select! {
                read = self.read.read(&mut buffer) => {
                    let length = read?;
                    if length == 0 {
                        return Err(LinkError::Ended("without a word".to_owned()));
                    }
                    if is_set(READ) && buffer[..length].windows(5).any(|it| it == b"<body") {
                        reached(READ);
                    }
                    return Ok(self.heard(&buffer[..length]));
                }
                written = self.write.write(&self.unsent[..portion]), if portion > 0 => {
                    let written = written?;
                    self.unsent.drain(..written);
                    self.places.written(written, self.unsent.len());
                }
            }
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.heard = Instant::now();
        self.asked = false;
        let mut reads = Vec::new();
        let parsed = self.reader.feed(bytes, &mut reads);
        self.failed = parsed.err().map(LinkError::Unreadable);
        let mut heard = Vec::new();
        for read in reads {
            match self.handshake.handle(&read) {
                Ok(Step::Nothing) if self.handshake.is_done() => heard.push(Heard::Read(read)),
                Ok(Step::Nothing) => {}
                Ok(Step::Send(stanza)) => wire::write(&stanza, &mut self.unsent),
                Ok(Step::Online) => heard.push(Heard::Online),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        heard
    }

    /// Asks a silent server whether it is there, and gives up one that does not say.
    pub(crate) fn handle_time(&mut self) {
        let now = Instant::now();
        if !self.is_online() {
            if now.duration_since(self.opened) > HANDSHAKE_TIMEOUT {
                self.failed = Some(LinkError::Silent("no end of the handshake"));
            }
            return;
        }
        let silent = now.duration_since(self.heard);
        if silent > IDLE + PATIENCE {
            self.failed = Some(LinkError::Silent("no answer to a ping"));
        } else if silent > IDLE && !self.asked {
            self.asked = true;
            // To ourselves, by way of the server: any answer shows that it routes.
            let ping = element("iq", ns::CLIENT)
                .attr("type", "get")
                .attr("id", "alive")
                .attr("from", self.component.clone())
                .attr("to", self.component.clone())
                .child(element("ping", ns::PING));
            self.send(&ping.build());
        }
    }

    /// Writes what waits, ends our side of the stream and waits, shortly, for the server to end its own.
    pub(crate) async fn close(mut self) {
        self.unsent.extend_from_slice(wire::FOOTER.as_bytes());
        let goodbye = async {
            // The server may be gone already; then there is nobody to say goodbye to.
            while self.exchange().await.is_ok() {}
        };
        if timeout(GOODBYE, goodbye).await.is_err() {
            tracing::debug!("the server did not end the stream in time");
        }
    }
}
