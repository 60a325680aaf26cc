//! A person in an XMPP room: one account, one room, as a stock client library sees it.
//!
//! The client is driven by one task, which alone touches it; everyone else sends that task what
//! is to be sent. A line counts as said when the room has reflected it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_xmpp::{Client, Event, Stanza, connect::DnsConfig, xmlstream::Timeouts};
use xmpp_parsers::{
    delay::Delay,
    jid::{BareJid, FullJid, Jid},
    message::{Id, Lang, Message, MessageType},
    minidom::Element,
    muc::{Muc, MucUser, muc::History, user::Status},
    presence::{Presence, Type},
};

use crate::{
    person::{Line, PATIENCE, Person},
    transcript::{Heard, Log, Transcript},
};

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub struct XmppAccount {
    /// For reports: `prosody`.
    pub network: String,
    /// `127.0.0.1:15222`, without TLS.
    pub address: String,
    /// `alice@xmpp.test`.
    pub jid: String,
    /// Its password.
    pub password: String,
}

/// Someone in a room.
#[derive(Debug)]
pub struct Xmpp {
    network: String,
    nick: String,
    room: BareJid,
    transcript: Transcript,
    notices: Log<Notice>,
    outgoing: mpsc::Sender<Stanza>,
    ids: AtomicU64,
    driver: JoinHandle<()>,
}

impl Xmpp {
    /// Logs in and enters `room` (`rust@conference.xmpp.test`) as `nick`, making the room if need
    /// be. `history` lines said before are shown first; their `at` is still the time of arrival.
    pub async fn join(account: &XmppAccount, room: &str, nick: &str, history: u32) -> Result<Self> {
        let jid: Jid = account.jid.parse().context("the person's JID")?;
        let room: BareJid = room.parse().context("the room's JID")?;
        let occupant = room
            .with_resource_str(nick)
            .with_context(|| format!("the nick {nick:?}"))?;
        let client = Client::new_plaintext(
            jid,
            account.password.clone(),
            DnsConfig::addr(&account.address),
            Timeouts::tight(),
        );
        let transcript = Transcript::default();
        let notices = Log::default();
        let (outgoing, requests) = mpsc::channel(64);
        let driver = tokio::spawn(drive(
            client,
            requests,
            Ears {
                occupant: occupant.clone(),
                history,
                transcript: transcript.clone(),
                notices: notices.clone(),
            },
        ));
        let person = Self {
            network: account.network.clone(),
            nick: nick.to_owned(),
            room,
            transcript,
            notices,
            outgoing,
            ids: AtomicU64::new(0),
            driver,
        };
        person.entered().await.with_context(|| {
            format!("{} at {} entering {occupant}", account.jid, account.address)
        })?;
        Ok(person)
    }

    /// Waits until `nick` is an occupant of the room.
    pub async fn sees_join(&self, nick: &str) -> Result<()> {
        let what = format!("occupant {nick:?} in {}", self.room);
        self.notices
            .wait_for(&what, PATIENCE, |notices| {
                notices
                    .iter()
                    .any(|notice| matches!(notice, Notice::Occupant(seen) if seen == nick))
                    .then_some(())
            })
            .await
    }

    /// Sends a stanza of the caller's making.
    pub async fn stanza(&self, stanza: Element) -> Result<()> {
        let stanza = match stanza.name() {
            "message" => Stanza::Message(stanza.try_into()?),
            "presence" => Stanza::Presence(stanza.try_into()?),
            other => bail!("a <{other}/> is not a stanza that people send"),
        };
        self.send(stanza).await
    }

    /// The room's address.
    pub fn room(&self) -> &BareJid {
        &self.room
    }

    async fn entered(&self) -> Result<()> {
        let notice = self
            .notices
            .wait_for("own presence from the room", PATIENCE, |notices| {
                notices
                    .iter()
                    .find(|notice| matches!(notice, Notice::Entered | Notice::Refused(_)))
                    .cloned()
            })
            .await?;
        match notice {
            Notice::Refused(why) => bail!("the room refuses: {why}"),
            _ => Ok(()),
        }
    }

    async fn send(&self, stanza: Stanza) -> Result<()> {
        self.outgoing
            .send(stanza)
            .await
            .map_err(|_| anyhow!("the client of {} has ended", self.nick))
    }
}

#[async_trait]
impl Person for Xmpp {
    fn name(&self) -> &str {
        &self.nick
    }

    fn network(&self) -> &str {
        &self.network
    }

    fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    async fn burst(&self, lines: &[Line]) -> Result<()> {
        let mut last = String::new();
        for line in lines {
            let text = if line.emote {
                format!("/me {}", line.text)
            } else {
                line.text.clone()
            };
            last = format!("{}-{}", self.nick, self.ids.fetch_add(1, Ordering::Relaxed));
            let mut message = Message::groupchat(Jid::from(self.room.clone()))
                .with_body(Lang(String::new()), text);
            message.id = Some(Id(last.clone()));
            self.send(Stanza::Message(message)).await?;
        }
        if last.is_empty() {
            return Ok(());
        }
        let what = format!("reflection of {last} by {}", self.room);
        let answer = self
            .notices
            .wait_for(&what, PATIENCE, |notices| {
                notices.iter().find(|notice| notice.answers(&last)).cloned()
            })
            .await?;
        match answer {
            Notice::Bounced(_, why) => bail!("{} did not take the line: {why}", self.room),
            _ => Ok(()),
        }
    }
}

impl Drop for Xmpp {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What the room told us beside what people said.
#[derive(Clone, Debug)]
enum Notice {
    Entered,
    Refused(String),
    Occupant(String),
    Reflected(String),
    Bounced(String, String),
}

impl Notice {
    fn answers(&self, wanted: &str) -> bool {
        matches!(self, Self::Reflected(id) | Self::Bounced(id, _) if id == wanted)
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

struct Ears {
    occupant: FullJid,
    history: u32,
    transcript: Transcript,
    notices: Log<Notice>,
}

async fn drive(mut client: Client, mut requests: mpsc::Receiver<Stanza>, ears: Ears) {
    // Requests wait until the stream is up: a stanza sent before would be lost with it.
    let mut online = false;
    let why = loop {
        tokio::select! {
            event = client.next() => match event {
                None => break "the stream has ended".to_owned(),
                Some(Event::Disconnected(error)) => break error.to_string(),
                Some(Event::Online { resumed: true, .. }) => {}
                Some(Event::Online { .. }) => {
                    if let Err(error) = client.send_stanza(ears.entrance().into()).await {
                        break error.to_string();
                    }
                    online = true;
                }
                Some(Event::Stanza(Stanza::Presence(presence))) => ears.presence(presence),
                Some(Event::Stanza(Stanza::Message(message))) => ears.message(message),
                Some(Event::Stanza(Stanza::Iq(_))) => {}
            },
            request = requests.recv(), if online => {
                let Some(stanza) = request else { break "nobody holds this client".to_owned() };
                if let Err(error) = client.send_stanza(stanza).await {
                    break error.to_string();
                }
            }
        }
    };
    ears.notices.end(why.clone());
    ears.transcript.end(why);
}

impl Ears {
    fn entrance(&self) -> Presence {
        Presence::available()
            .with_to(Jid::from(self.occupant.clone()))
            .with_payload(Muc::new().with_history(History::new().with_maxstanzas(self.history)))
    }

    fn presence(&self, presence: Presence) {
        let Some(from) = presence.from.as_ref().filter(|from| self.in_room(from)) else {
            return;
        };
        let nick = from.resource().map(ToString::to_string).unwrap_or_default();
        if presence.type_ == Type::Error {
            let why = presence.payloads.iter().map(String::from).collect();
            self.notices.push(Notice::Refused(why));
            return;
        }
        if presence.type_ != Type::None {
            return;
        }
        let itself = presence
            .payloads
            .into_iter()
            .filter_map(|payload| MucUser::try_from(payload).ok())
            .any(|user| user.status.contains(&Status::SelfPresence));
        self.notices.push(Notice::Occupant(nick));
        if itself {
            self.notices.push(Notice::Entered);
        }
    }

    fn message(&self, message: Message) {
        let Some(from) = message.from.as_ref().filter(|from| self.in_room(from)) else {
            return;
        };
        let id = message
            .id
            .as_ref()
            .map(|id| id.0.clone())
            .unwrap_or_default();
        if message.type_ == MessageType::Error {
            let why = message.payloads.iter().map(String::from).collect();
            self.notices.push(Notice::Bounced(id, why));
            return;
        }
        let (Some(nick), Some((_, body))) = (from.resource(), message.get_best_body(vec![""]))
        else {
            return;
        };
        let own = nick == self.occupant.resource();
        let delayed = message
            .payloads
            .iter()
            .any(|payload| Delay::try_from(payload.clone()).is_ok());
        let emote = body.strip_prefix("/me ");
        self.transcript.push(Heard {
            author: nick.to_string(),
            author_id: from.to_string(),
            text: emote.unwrap_or(body).to_owned(),
            emote: emote.is_some(),
            own,
            at: SystemTime::now(),
        });
        if own && !delayed {
            self.notices.push(Notice::Reflected(id));
        }
    }

    fn in_room(&self, from: &Jid) -> bool {
        from.to_bare() == self.occupant.to_bare()
    }
}
