//! Somebody in a room of a real server: a component of their own with one occupant.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Place;
use super::stream::{Stanzas, handshake};

/// One line as the room has shown it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) nick: String,
    pub(crate) text: String,
    /// The stamps that it carries (XEP-0203).
    pub(crate) stamps: Vec<String>,
}

pub(crate) struct Person {
    jid: String,
    room: String,
    nick: String,
    write: OwnedWriteHalf,
    kept: Arc<Kept>,
    said: usize,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    stream_id: Option<String>,
    joined: bool,
    lines: Vec<Line>,
}

impl Person {
    pub(crate) async fn join(place: &Place, component: &str, room: &str, nick: &str) -> Self {
        let stream = TcpStream::connect(&place.address)
            .await
            .expect("the server");
        let (read, mut write) = stream.into_split();
        let kept = Arc::new(Kept::default());
        let reading = tokio::spawn(listen(read, kept.clone(), format!("{room}/{nick}")));
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{component}'>"
        );
        write.write_all(header.as_bytes()).await.expect("a header");
        let id = kept.until(|state| state.stream_id.clone()).await;
        let digest = handshake(&id, &place.secret);
        let jid = format!("{nick}@{component}/test");
        let hello = format!(
            "<handshake>{digest}</handshake><presence from='{jid}' to='{room}/{nick}'>\
             <x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"
        );
        write.write_all(hello.as_bytes()).await.expect("a join");
        kept.until(|state| state.joined.then_some(())).await;
        Self {
            jid,
            room: room.to_owned(),
            nick: nick.to_owned(),
            write,
            kept,
            said: 0,
            reading,
        }
    }

    /// Says these lines; returns when the room has shown the last of them.
    pub(crate) async fn says(&mut self, lines: impl IntoIterator<Item = String>) {
        let mut stanzas = String::new();
        let mut last = None;
        for line in lines {
            self.said += 1;
            let id = format!("{}-{}", self.nick, self.said);
            stanzas.push_str(&format!(
                "<message from='{}' to='{}' type='groupchat' id='{id}'><body>{line}</body></message>",
                self.jid, self.room
            ));
            last = Some(line);
        }
        self.write
            .write_all(stanzas.as_bytes())
            .await
            .expect("lines");
        let (Some(last), nick) = (last, self.nick.clone()) else {
            return;
        };
        let shown = |line: &Line| line.nick == nick && line.text == last;
        self.kept
            .until(|state| state.lines.iter().any(shown).then_some(()))
            .await;
    }

    /// Waits until the room has shown this.
    pub(crate) async fn sees(&self, text: &str) {
        let shown = |line: &Line| line.text == text;
        self.kept
            .until(|state| state.lines.iter().any(shown).then_some(()))
            .await;
    }

    /// What others have said.
    pub(crate) fn seen(&self) -> Vec<Line> {
        let mut lines = self.kept.lock().lines.clone();
        lines.retain(|line| line.nick != self.nick);
        lines
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let search = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(super::PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("in vain; seen {:?}", self.lock().lines))
    }
}

async fn listen(mut read: OwnedReadHalf, kept: Arc<Kept>, occupant: String) {
    let mut stanzas = Stanzas::new();
    let mut buffer = [0; 65_536];
    while let Ok(length) = read.read(&mut buffer).await
        && length > 0
        && !stanzas.ended()
    {
        let heard = stanzas.feed(&buffer[..length]).expect("XML");
        let mut state = kept.lock();
        if let Some(id) = stanzas.opened() {
            state.stream_id = Some(id);
        }
        for stanza in heard {
            match stanza.name() {
                "presence" if stanza.attr("from") == Some(&occupant) => {
                    assert_ne!(stanza.attr("type"), Some("error"), "{stanza:?}");
                    state.joined = true;
                }
                "message" if stanza.attr("type") == Some("groupchat") => {
                    let body = stanza.children().find(|child| child.name() == "body");
                    let nick = stanza.attr("from").and_then(|from| from.split_once('/'));
                    if let (Some(body), Some((_, nick))) = (body, nick) {
                        let stamps = stanza
                            .children()
                            .filter(|child| child.name() == "delay")
                            .filter_map(|delay| delay.attr("stamp").map(str::to_owned));
                        state.lines.push(Line {
                            nick: nick.to_owned(),
                            text: body.text(),
                            stamps: stamps.collect(),
                        });
                    }
                }
                "error" => panic!("the server ended the stream: {stanza:?}"),
                _ => {}
            }
        }
        drop(state);
        kept.changed.notify_waiters();
    }
}
