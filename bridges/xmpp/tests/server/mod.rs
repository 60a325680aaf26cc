//! A server with one room, that speaks to one component: as much of XEP-0114 and XEP-0045 as the
//! bridge needs, with an archive (XEP-0313) or without, and switches to misbehave.

mod room;
mod stream;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_bridge::test_util::conformance::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use self::room::Room;
use self::stream::Stanzas;

pub(crate) const ROOM: &str = "rust@muc.example";
pub(crate) const COMPONENT: &str = "bridge.example";
pub(crate) const SECRET: &str = "s3cret";
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
    xmlns:stream='http://etherx.jabber.org/streams' from='bridge.example' id='stream-1'>";

/// The server. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) record: Record,
    state: Arc<Mutex<State>>,
    held: watch::Sender<bool>,
    /// How often the component's stream has been opened, and whether it is open.
    opened: watch::Sender<(u64, bool)>,
    /// Ids of pings that the component has answered.
    answered: watch::Sender<u64>,
}

struct State {
    room: Room,
    out: Option<mpsc::UnboundedSender<String>>,
    connections: Vec<AbortHandle>,
    pings: u64,
}

impl Server {
    pub(crate) async fn start(archive: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let record = Record::new();
        let state = State {
            room: Room::new(record.clone(), archive),
            out: None,
            connections: Vec::new(),
            pings: 0,
        };
        let server = Self {
            address: listener.local_addr().expect("a bound address"),
            record,
            state: Arc::new(Mutex::new(state)),
            held: watch::Sender::new(false),
            opened: watch::Sender::new((0, false)),
            answered: watch::Sender::new(0),
        };
        tokio::spawn(server.clone().accept(listener));
        server
    }

    /// Sends this as it is.
    pub(crate) fn raw(&self, text: &str) {
        if let Some(out) = &self.lock().out {
            // A connection that is gone gets nothing.
            out.send(text.to_owned()).ok();
        }
    }

    /// Somebody in the room says a line.
    pub(crate) fn say(&self, nick: &str, text: &str) {
        let mut state = self.lock();
        let copies = state.room.say(nick, &escape(text));
        state.send(copies);
    }

    /// The room is destroyed and made anew, under the same name.
    pub(crate) fn make_anew(&self) {
        self.lock().room.make_anew();
    }

    /// How much of its past the room shows to who enters.
    pub(crate) fn show_past(&self, messages: usize) {
        self.lock().room.show_past(messages);
    }

    /// The room shows the last line once more, under the same id.
    pub(crate) fn repeat(&self) {
        let mut state = self.lock();
        let copies = state.room.repeat();
        state.send(copies);
    }

    /// Waits for the answer to a ping, on whatever connection there is then.
    pub(crate) async fn settle(&self) {
        loop {
            let generation = self.online().await;
            let ping = {
                let mut state = self.lock();
                state.pings += 1;
                state.pings
            };
            self.raw(&format!(
                "<iq type='get' id='ping-{ping}' from='server.example' to='{COMPONENT}'><ping xmlns='urn:xmpp:ping'/></iq>"
            ));
            let mut answered = self.answered.subscribe();
            let mut opened = self.opened.subscribe();
            tokio::select! {
                _ = answered.wait_for(|answered| *answered >= ping) => return,
                _ = opened.wait_for(|opened| *opened != (generation, true)) => {}
            }
        }
    }

    /// Waits until the component's stream is open, and says which it is.
    pub(crate) async fn online(&self) -> u64 {
        let mut opened = self.opened.subscribe();
        let open = opened
            .wait_for(|(_, open)| *open)
            .await
            .expect("the server lives");
        open.0
    }

    /// Waits for another stream than this one.
    pub(crate) async fn reopened(&self, generation: u64) {
        let mut opened = self.opened.subscribe();
        opened
            .wait_for(|(now, open)| *open && *now > generation)
            .await
            .expect("the server lives");
    }

    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state
            .connections
            .drain(..)
            .for_each(|connection| connection.abort());
        state.out = None;
        self.opened.send_modify(|(_, open)| *open = false);
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let task = tokio::spawn(self.clone().serve(stream));
            self.lock().connections.push(task.abort_handle());
        }
    }

    async fn serve(self, mut stream: TcpStream) {
        let (out, mut queue) = mpsc::unbounded_channel::<String>();
        let mut held = self.held.subscribe();
        let mut stanzas = Stanzas::new();
        let mut buffer = [0; 65_536];
        loop {
            if held.wait_for(|held| !held).await.is_err() {
                return;
            }
            tokio::select! {
                _ = held.changed() => {}
                read = stream.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => {
                        if !self.heard(&mut stanzas, &buffer[..length], &out) {
                            break;
                        }
                    }
                    _ => break,
                },
                Some(text) = queue.recv() => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.opened.send_modify(|(_, open)| *open = false);
    }

    /// False when the connection is over.
    fn heard(
        &self,
        stanzas: &mut Stanzas,
        bytes: &[u8],
        out: &mpsc::UnboundedSender<String>,
    ) -> bool {
        let heard = match stanzas.feed(bytes) {
            Ok(heard) => heard,
            Err(error) => {
                self.record.surprise(format!("not XML: {error:?}"));
                return false;
            }
        };
        if stanzas.opened().is_some() {
            out.send(HEADER.to_owned()).ok();
        }
        let mut state = self.lock();
        for stanza in heard {
            match stanza.name() {
                "handshake" => {
                    let secret_is_right = stanza.text() == stream::handshake("stream-1", SECRET);
                    if !secret_is_right {
                        let error = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
                        out.send(error.to_owned()).ok();
                        continue;
                    }
                    state.out = Some(out.clone());
                    out.send("<handshake/>".to_owned()).ok();
                    self.opened.send_modify(|(generation, open)| {
                        (*generation, *open) = (*generation + 1, true)
                    });
                }
                "presence" => {
                    let answers = state.room.presence(&stanza);
                    state.send(answers);
                }
                "message" => {
                    let copies = state.room.message(&stanza);
                    state.send(copies);
                }
                "iq" => {
                    let ping = stanza
                        .attr("id")
                        .and_then(|id| id.strip_prefix("ping-"))
                        .and_then(|n| n.parse().ok());
                    if let Some(ping) = ping {
                        self.answered.send_replace(ping);
                    }
                    let answers = state.room.iq(&stanza);
                    state.send(answers);
                }
                other => self.record.surprise(format!("an element {other}")),
            }
        }
        !stanzas.ended()
    }
}

impl State {
    fn send(&mut self, stanzas: Vec<String>) {
        if let Some(out) = &self.out {
            for stanza in stanzas {
                out.send(stanza).ok();
            }
        }
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
    out
}
