//! A person on IRC: one connection, one channel.
//!
//! Speaks just enough of the protocol to sit in a channel and talk, and shares no code with the
//! bridge. What is said is fenced by PING and PONG: when `say` returns, the server has parsed it.

mod line;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Mutex,
    task::JoinHandle,
};

use self::line::ServerLine;
use crate::{
    person::{Line, PATIENCE, Person},
    transcript::{Heard, Log, Transcript},
};

/// Someone in an IRC channel.
#[derive(Debug)]
pub struct Irc {
    network: String,
    nick: String,
    channel: String,
    lines: Log<ServerLine>,
    transcript: Transcript,
    writer: std::sync::Arc<Mutex<OwnedWriteHalf>>,
    fences: AtomicU64,
    reader: JoinHandle<()>,
}

impl Irc {
    /// Connects to `address` without TLS as `nick` and joins `channel`. `network` is for reports.
    pub async fn join(network: &str, address: &str, nick: &str, channel: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("{network} at {address}"))?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let writer = std::sync::Arc::new(Mutex::new(write));
        let lines = Log::default();
        let transcript = Transcript::default();
        let reader = tokio::spawn(listen(Ears {
            read: BufReader::new(read),
            writer: writer.clone(),
            channel: channel.to_owned(),
            lines: lines.clone(),
            transcript: transcript.clone(),
        }));
        let person = Self {
            network: network.to_owned(),
            nick: nick.to_owned(),
            channel: channel.to_owned(),
            lines,
            transcript,
            writer,
            fences: AtomicU64::new(0),
            reader,
        };
        person.register().await?;
        Ok(person)
    }

    /// Sends raw bytes, whatever they are, as one line.
    pub async fn raw(&self, line: &[u8]) -> Result<()> {
        let mut bytes = line.to_vec();
        bytes.extend_from_slice(b"\r\n");
        self.writer.lock().await.write_all(&bytes).await?;
        Ok(())
    }

    /// Waits until the server has parsed everything sent so far.
    pub async fn roundtrip(&self) -> Result<()> {
        let token = format!("fence{}", self.fences.fetch_add(1, Ordering::Relaxed));
        self.raw(format!("PING :{token}").as_bytes()).await?;
        self.line("PONG", |line| {
            line.command == "PONG" && line.params.contains(&token)
        })
        .await
    }

    /// Waits until `nick` is in the channel.
    pub async fn sees_join(&self, nick: &str) -> Result<()> {
        self.line(&format!("JOIN of {nick}"), |line| {
            let listed = line.command == "353"
                && line.params.last().is_some_and(|names| {
                    names
                        .split(' ')
                        .any(|name| name.trim_start_matches(['@', '+', '%', '&', '~']) == nick)
                });
            let joined = line.command == "JOIN" && line.nick == nick;
            listed || joined
        })
        .await
    }

    async fn register(&self) -> Result<()> {
        let nick = &self.nick;
        self.raw(format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}").as_bytes())
            .await?;
        self.accepted("001", &["432", "433", "436", "437", "451", "464", "465"])
            .await
            .with_context(|| format!("registering as {nick}"))?;
        let channel = &self.channel;
        self.raw(format!("JOIN {channel}").as_bytes()).await?;
        self.accepted(
            "366",
            &[
                "403", "405", "471", "473", "474", "475", "476", "477", "479",
            ],
        )
        .await
        .with_context(|| format!("joining {channel}"))
    }

    /// Waits for `good`; any of `bad` is an error with the server's words.
    async fn accepted(&self, good: &str, bad: &[&str]) -> Result<()> {
        let answer = self
            .lines
            .wait_for(
                &format!("{good} from {}", self.network),
                PATIENCE,
                |lines| {
                    lines
                        .iter()
                        .find(|line| line.command == good || bad.contains(&line.command.as_str()))
                        .cloned()
                },
            )
            .await?;
        if answer.command != good {
            bail!("the server says: {answer}");
        }
        Ok(())
    }

    async fn line(&self, what: &str, wanted: impl Fn(&ServerLine) -> bool) -> Result<()> {
        let what = format!("{what} from {}", self.network);
        self.lines
            .wait_for(&what, PATIENCE, |lines| {
                lines.iter().any(&wanted).then_some(())
            })
            .await
    }
}

#[async_trait]
impl Person for Irc {
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
        let mut bytes = Vec::new();
        for line in lines {
            let text = if line.emote {
                format!("\u{1}ACTION {}\u{1}", line.text)
            } else {
                line.text.clone()
            };
            bytes.extend_from_slice(format!("PRIVMSG {} :{text}\r\n", self.channel).as_bytes());
        }
        self.writer.lock().await.write_all(&bytes).await?;
        self.roundtrip().await?;
        // The server sends a speaker nothing back, so what the client shows is what it sent.
        for line in lines {
            self.transcript.push(Heard {
                author: self.nick.clone(),
                author_id: self.nick.clone(),
                text: line.text.clone(),
                emote: line.emote,
                own: true,
                at: SystemTime::now(),
            });
        }
        Ok(())
    }
}

impl Drop for Irc {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The reading half of a connection.
struct Ears {
    read: BufReader<OwnedReadHalf>,
    writer: std::sync::Arc<Mutex<OwnedWriteHalf>>,
    channel: String,
    lines: Log<ServerLine>,
    transcript: Transcript,
}

async fn listen(mut ears: Ears) {
    let why = loop {
        let mut bytes = Vec::new();
        match ears.read.read_until(b'\n', &mut bytes).await {
            Ok(0) => break "the server closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = ServerLine::parse(text.trim_end_matches(['\r', '\n']));
        match line.command.as_str() {
            "PING" => {
                let pong = format!("PONG :{}\r\n", line.param(0));
                if let Err(error) = ears.writer.lock().await.write_all(pong.as_bytes()).await {
                    break error.to_string();
                }
            }
            "PRIVMSG" | "NOTICE" if line.param(0).eq_ignore_ascii_case(&ears.channel) => {
                ears.transcript.push(heard(&line));
            }
            _ => ears.lines.push(line),
        }
    };
    ears.lines.end(why.clone());
    ears.transcript.end(why);
}

fn heard(line: &ServerLine) -> Heard {
    let text = line.param(1);
    let action = text
        .strip_prefix("\u{1}ACTION ")
        .map(|text| text.trim_end_matches('\u{1}'));
    Heard {
        author: line.nick.clone(),
        author_id: line.nick.clone(),
        text: action.unwrap_or(text).to_owned(),
        emote: action.is_some(),
        own: false,
        at: SystemTime::now(),
    }
}
