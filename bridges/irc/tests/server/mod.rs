//! A scripted IRC server on a free port of loopback: enough of the wire for one bridge, with
//! switches for what real servers do on bad days.

mod history;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use comity_bridge::test_util::conformance::Record;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::{Notify, mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use history::Logged;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does. Set before the bridge comes.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// Offers message-tags, server-time and account-tag, and gives each line a msgid.
    pub(crate) tags: bool,
    /// Beside the tags: labels, echoes, and a history that can be asked for.
    pub(crate) history: bool,
    /// Takes lines, but answers nothing to them: neither echo nor PONG.
    pub(crate) silent: bool,
    /// Takes no line: what it reads is gone.
    pub(crate) forgetful: bool,
    /// Nicks that somebody has.
    pub(crate) taken: Vec<String>,
    /// The numeric with which JOIN is refused, this many times.
    pub(crate) refuse_joins: Option<(u16, usize)>,
    /// The numeric with which each PRIVMSG is refused.
    pub(crate) mute: Option<u16>,
    /// Reads on, but answers no PING.
    pub(crate) deaf_to_pings: bool,
    pub(crate) tls: Option<TlsAcceptor>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) record: Record,
    shared: Arc<Shared>,
}

struct Shared {
    manners: Mutex<Manners>,
    state: Mutex<State>,
    changed: Notify,
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// To the connections that live.
    lines: Vec<mpsc::UnboundedSender<Vec<u8>>>,
    received: Vec<String>,
    said: usize,
    last_said: Vec<u8>,
    log: Vec<Logged>,
}

impl Server {
    pub(crate) async fn start(manners: Manners) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shared = Arc::new(Shared {
            manners: Mutex::new(manners),
            state: Mutex::default(),
            changed: Notify::new(),
            held: watch::Sender::new(false),
        });
        let address = listener.local_addr().expect("bound");
        let server = Server {
            address,
            record: Record::new(),
            shared,
        };
        tokio::spawn(server.clone().accept(listener));
        server
    }

    /// Sends bytes to the bridge as they are.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.state()
            .lines
            .retain(|line| line.send(bytes.as_ref().to_vec()).is_ok());
    }

    /// Somebody says something in a channel.
    pub(crate) fn say(&self, nick: &str, channel: &str, text: &str) {
        let mut state = self.state();
        state.said += 1;
        let line = format!(":{nick}!~{nick}@host.example PRIVMSG {channel} :{text}");
        let manners = self.manners().clone();
        let tags = match manners.tags || manners.history {
            true => format!("msgid=m{};time={}", state.said, history::now()),
            false => String::new(),
        };
        let shown = match tags.is_empty() {
            true => format!("{line}\r\n"),
            false => format!("@{tags} {line}\r\n"),
        };
        state.last_said = shown.into_bytes();
        if manners.history {
            state.log.push(Logged::new(channel, tags, line));
        }
        let bytes = state.last_said.clone();
        drop(state);
        self.send(bytes);
    }

    /// Says the last thing once more, as the same thing.
    pub(crate) fn repeat(&self) {
        let bytes = self.state().last_said.clone();
        self.send(bytes);
    }

    /// Returns when the bridge has answered: what it sent before is noted, and what it was sent is read.
    pub(crate) async fn settle(&self) {
        let token = {
            let mut state = self.state();
            state.said += 1;
            format!("settle-{}", state.said)
        };
        self.send(format!("PING :{token}\r\n"));
        self.wait_for(|lines| lines.iter().any(|line| *line == format!("PONG :{token}")))
            .await;
    }

    /// Closes every connection without a word.
    pub(crate) fn cut(&self) {
        self.state().lines.clear();
    }

    /// Reads nothing from now on, or reads again.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners());
    }

    /// Every line that was received, of all connections.
    pub(crate) fn received(&self) -> Vec<String> {
        self.state().received.clone()
    }

    /// Waits until `look` is true of the lines that were received; panics when that takes too long.
    pub(crate) async fn wait_for(&self, mut look: impl FnMut(&[String]) -> bool) {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if look(&self.state().received) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, search).await.is_err() {
            panic!(
                "waited in vain; received until then: {:#?}",
                self.received()
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn manners(&self) -> MutexGuard<'_, Manners> {
        self.shared
            .manners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            let tls = self.manners().tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => server.serve(stream).await,
                    // A bridge that does not like the certificate goes away here.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            server.serve(stream).await;
                        }
                    }
                }
            });
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (read, mut write) = tokio::io::split(stream);
        let (lines, mut queued) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut client = Client::new(lines.downgrade(), self.clone());
        {
            let mut state = self.state();
            state.lines.push(lines);
        }
        let mut held = self.shared.held.subscribe();
        let mut read = BufReader::new(read);
        let reading = async {
            let mut line = Vec::new();
            while held.wait_for(|held| !held).await.is_ok()
                && read.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0)
            {
                held.wait_for(|held| !held).await.ok();
                if !client.handle(&std::mem::take(&mut line)) {
                    break;
                }
            }
        };
        let writing = async {
            while let Some(bytes) = queued.recv().await {
                if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                    break;
                }
            }
        };
        // Whichever ends first ends the connection.
        tokio::select! { () = reading => {}, () = writing => {} }
    }
}

/// One connection.
struct Client {
    server: Server,
    to: mpsc::WeakUnboundedSender<Vec<u8>>,
    nick: Option<String>,
    user: bool,
    negotiating: bool,
    registered: bool,
    channels: BTreeSet<String>,
}

impl Client {
    fn new(to: mpsc::WeakUnboundedSender<Vec<u8>>, server: Server) -> Self {
        Client {
            server,
            to,
            nick: None,
            user: false,
            negotiating: false,
            registered: false,
            channels: BTreeSet::new(),
        }
    }

    fn reply(&self, line: &str) {
        if let Some(to) = self.to.upgrade() {
            // A connection that ends takes its answers with it.
            to.send(format!("{line}\r\n").into_bytes()).ok();
        }
    }

    fn me(&self) -> &str {
        self.nick.as_deref().unwrap_or("*")
    }

    fn mask(&self) -> String {
        format!("{}!~comity@bridge.example", self.me())
    }

    fn surprise(&self, what: &str, line: &str) {
        self.server.record.surprise(format!("{what}: {line:?}"));
    }

    /// Returns false when the connection shall end.
    fn handle(&mut self, bytes: &[u8]) -> bool {
        let Some(line) = bytes
            .strip_suffix(b"\r\n")
            .and_then(|line| std::str::from_utf8(line).ok())
        else {
            self.surprise("not a line", &String::from_utf8_lossy(bytes));
            return true;
        };
        let tagged = line.split_once(' ').filter(|_| line.starts_with('@'));
        let untagged = tagged.map_or(bytes.len(), |(tags, _)| bytes.len() - tags.len() - 1);
        if untagged > 512 || line.contains(['\r', '\n', '\0']) {
            self.surprise("too long or with a line end in it", line);
        }
        let (tags, untagged) = match line.strip_prefix('@') {
            Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
            None => ("", line),
        };
        if !tags.is_empty() && !self.server.manners().history {
            self.surprise("tags that nobody offered", line);
        }
        let (head, text) = untagged.split_once(" :").unwrap_or((untagged, ""));
        let words: Vec<&str> = head.split(' ').collect();
        let about = words.get(1).copied().unwrap_or_default();
        match words.first().copied().unwrap_or_default() {
            "CAP" => self.cap(about, text),
            "PASS" | "PONG" => {}
            "NICK" => self.take_nick(about),
            "USER" => self.user = true,
            "PING" if self.server.manners().deaf_to_pings || self.server.manners().silent => {}
            "CHATHISTORY" => self.chathistory(tags, &words),
            "PING" => self.reply(&format!(":irc.example PONG irc.example :{text}")),
            "JOIN" => self.join(about),
            "PART" => drop(self.channels.remove(about)),
            "PRIVMSG" | "NOTICE" if self.server.manners().forgetful => {}
            verb @ ("PRIVMSG" | "NOTICE") => self.said(tags, verb, about, text),
            "QUIT" => {
                self.reply(&format!("ERROR :Closing Link: {} ({text})", self.me()));
                self.note(line);
                return false;
            }
            _ => self.surprise("unknown", line),
        }
        if !self.registered && !self.negotiating && self.user && self.nick.is_some() {
            self.registered = true;
            let me = self.me();
            self.reply(&format!(":irc.example 001 {me} :Welcome"));
            self.reply(&format!(":irc.example 005 {me} CASEMAPPING=ascii CHANTYPES=# NICKLEN=16 :are supported by this server"));
            self.reply(&format!(":irc.example 422 {me} :No MOTD"));
        }
        self.note(line);
        true
    }

    fn note(&self, line: &str) {
        self.server.state().received.push(line.to_owned());
        self.server.shared.changed.notify_waiters();
    }

    fn cap(&mut self, subcommand: &str, caps: &str) {
        let manners = self.server.manners().clone();
        match (subcommand, manners.tags || manners.history) {
            ("LS", true) if manners.history => {
                self.negotiating = true;
                self.reply(":irc.example CAP * LS :account-tag batch draft/chathistory echo-message labeled-response message-tags server-time");
            }
            ("LS", true) => {
                self.negotiating = true;
                self.reply(
                    ":irc.example CAP * LS :account-tag message-tags multi-prefix server-time",
                );
            }
            ("LS", false) => self.reply(":irc.example 421 * CAP :Unknown command"),
            ("REQ", _) => self.reply(&format!(":irc.example CAP * ACK :{caps}")),
            _ => self.negotiating = false,
        }
    }

    fn take_nick(&mut self, nick: &str) {
        if self
            .server
            .manners()
            .taken
            .iter()
            .any(|taken| taken == nick)
        {
            return self.reply(&format!(
                ":irc.example 433 {} {nick} :Nickname is already in use",
                self.me()
            ));
        }
        if self.registered {
            self.reply(&format!(":{} NICK :{nick}", self.mask()));
        }
        self.nick = Some(nick.to_owned());
    }

    fn join(&mut self, channel: &str) {
        if let Some((numeric, times)) = &mut self.server.manners().refuse_joins
            && *times > 0
        {
            *times -= 1;
            return self.reply(&format!(
                ":irc.example {numeric} {} {channel} :Cannot join channel",
                self.me()
            ));
        }
        self.channels.insert(channel.to_owned());
        let time = match self.server.manners().history {
            true => format!("@time={} ", history::now()),
            false => String::new(),
        };
        self.reply(&format!("{time}:{} JOIN {channel}", self.mask()));
    }

    fn said(&self, tags: &str, verb: &str, channel: &str, text: &str) {
        if !self.channels.contains(channel) {
            return self.reply(&format!(
                ":irc.example 442 {} {channel} :You're not on that channel",
                self.me()
            ));
        }
        if let Some(numeric) = self.server.manners().mute {
            return self.reply(&format!(
                ":irc.example {numeric} {} {channel} :Cannot send to channel",
                self.me()
            ));
        }
        let relayed = format!(":{} {verb} {channel} :{text}\r\n", self.mask());
        if relayed.len() > 512 {
            self.surprise("cut by the server", &relayed);
        }
        self.server.record.show(
            self.me(),
            text.trim_matches('\x01').trim_start_matches("ACTION "),
        );
        if self.server.manners().history {
            self.log_and_echo(tags, channel, relayed.trim_end());
        }
    }
}
