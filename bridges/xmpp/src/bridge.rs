//! The task of one network: the session between the gateway's link and the server's connection.
//!
//! One loop owns everything. Requests are drained, commits driven and the time passed on whether
//! or not there is a connection.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use comity_bridge::event::{Message, MessageKind};
use comity_bridge::failpoint::handed;
use comity_bridge::link::Clock;
use comity_bridge::{
    Bridge, BridgeError, BridgeKind, Capabilities, Channel, ChannelState, ConfigProblem,
    ConfigTable, Content, DeliveryKey, EventId, Gap, GatewayInfo, Incoming, Link, NativeAuthor,
    NetworkName, NetworkStatus, Reports, Request, SourceId, Text, Timestamp,
};
use comity_net::backoff::{Backoff, STABLE};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};
use ulid::Ulid;

use crate::config::{Config, Users};
use crate::connection::{Connection, Heard};
use crate::deliveries::Deliveries;
use crate::ident::{Bare, PartIds};
use crate::intake::{Intake, Item};
use crate::session::{LinkError, Mark, Output, RoomState, Session, Settings, TICK};
use crate::wire::Read;

/// Deliveries of one room in hand at once.
const WINDOW: usize = 32;
/// A server that refuses the component will do so until somebody changes a configuration.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// A lost server is tried again after this, and twice as long each time,
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Requests taken at once, so that what they ask for is written at once.
const MAX_REQUESTS: usize = 64;
/// Marks of rooms that nobody has joined by then are forgotten: what was said there while they were not configured is no
/// business of ours.
const UNCLAIMED: Duration = Duration::from_secs(10 * 60);
/// How long what was read last may take to be committed at the end.
const LAST_COMMIT: Duration = Duration::from_millis(500);

/// The protocol `xmpp`.
pub struct Xmpp;

impl BridgeKind for Xmpp {
    fn protocol(&self) -> &'static str {
        "xmpp"
    }

    fn channel(&self, native: &str) -> Result<String, String> {
        match Bare::room(native) {
            Some(room) => Ok(room.as_str().to_owned()),
            None => {
                Err("write \"network/room@service\", the room's address without a nick".to_owned())
            }
        }
    }

    fn configure(
        &self,
        _gateway: &GatewayInfo,
        _network: &NetworkName,
        table: ConfigTable,
    ) -> Result<Box<dyn Bridge>, Vec<ConfigProblem>> {
        Ok(Box::new(XmppBridge {
            config: Config::read(table)?,
        }))
    }
}

struct XmppBridge {
    config: Config,
}

#[async_trait]
impl Bridge for XmppBridge {
    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        let network = link.reports.network_name().clone();
        if !self.config.is_local() {
            warn!(%network, host = self.config.host, "the component link is not encrypted and leaves this machine");
        }
        Task::new(self.config, link).run().await
    }
}

/// Where the connection stands.
enum Net {
    Waiting(Instant),
    Dialling(JoinHandle<Result<Connection, LinkError>>),
    Up(Box<Connection>),
}

/// What happened to the connection.
enum NetEvent {
    Dial,
    Dialled(Box<Connection>),
    Heard(Vec<Heard>),
    Ended(LinkError),
}

impl Net {
    /// Nothing is lost when this is dropped half way.
    async fn event(&mut self) -> NetEvent {
        match self {
            Self::Waiting(until) => {
                sleep_until(*until).await;
                NetEvent::Dial
            }
            Self::Dialling(task) => match task.await {
                Ok(Ok(connection)) => NetEvent::Dialled(Box::new(connection)),
                Ok(Err(error)) => NetEvent::Ended(error),
                Err(error) => NetEvent::Ended(LinkError::Io(error.into())),
            },
            Self::Up(connection) => match connection.exchange().await {
                Ok(heard) => NetEvent::Heard(heard),
                Err(error) => NetEvent::Ended(error),
            },
        }
    }
}

struct Task {
    config: Config,
    network: NetworkName,
    reports: Reports,
    session: Session,
    deliveries: Deliveries,
    intake: Intake,
    channels: HashMap<Bare, Channel>,
    /// What earlier runs have kept, by key, until its room is joined.
    marks: BTreeMap<String, String>,
    started: Instant,
    clock: Clock,
    /// When the server was last heard.
    alive: Timestamp,
    net: Net,
    backoff: Backoff,
    /// Since when the server knows the component.
    online_since: Option<Instant>,
    link: Option<Link>,
}

impl Task {
    fn new(config: Config, link: Link) -> Self {
        let settings = Settings {
            component: config.component.clone(),
            nick: config.nick.clone(),
            ghosts: config.users == Users::Ghosts,
            ghosts_max: config.ghosts_max,
            epoch: Ulid::new().to_string().to_lowercase(),
            ids: PartIds::new(&config.component),
        };
        let reports = link.reports.clone();
        Self {
            config,
            network: reports.network_name().clone(),
            session: Session::new(settings),
            deliveries: Deliveries::default(),
            intake: Intake::new(reports.clone()),
            reports,
            channels: HashMap::new(),
            marks: BTreeMap::new(),
            started: Instant::now(),
            alive: Timestamp(0),
            clock: link.env.clock.clone(),
            net: Net::Waiting(Instant::now()),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            online_since: None,
            link: Some(link),
        }
    }

    async fn run(mut self) -> Result<(), BridgeError> {
        let Some(Link {
            mut requests,
            shutdown,
            ..
        }) = self.link.take()
        else {
            return Ok(());
        };
        self.reports.capabilities(Capabilities {
            window: WINDOW,
            ..Capabilities::default()
        });
        self.marks = self.reports.remembered().await.writes;
        self.marks.retain(|key, _| key.starts_with(MARK));
        let mut gathered = Vec::with_capacity(MAX_REQUESTS);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.tell_time();
            tokio::select! {
                () = shutdown.cancelled() => break,
                count = requests.recv_many(&mut gathered, MAX_REQUESTS) => {
                    if count == 0 {
                        break;
                    }
                    gathered.drain(..).for_each(|request| self.handle_request(request));
                }
                event = self.net.event() => self.handle_net(event),
                (job, stored) = self.deliveries.plan_stored() => match stored {
                    true => self.session.plan_stored(job, now()),
                    false => self.session.plan_refused(job, now()),
                },
                () = self.intake.advance() => {
                    self.tell_time();
                    self.session.handle_room_made(now());
                }
                _ = ticks.tick() => self.handle_time(),
            }
            self.handle_outputs();
            self.intake.offer();
        }
        self.stop().await;
        Ok(())
    }

    fn tell_time(&mut self) {
        let (now, free) = (self.clock.now(), self.intake.free());
        self.session.handle_clock(now.0, self.alive.0, free);
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Join(channel, _) => self.join(channel),
            Request::Leave(channel) => {
                if let Some(room) = Bare::room(channel.native())
                    .filter(|room| self.channels.get(room) == Some(&channel))
                {
                    self.session.leave(&room);
                    self.handle_outputs();
                    self.channels.remove(&room);
                    self.forget(mark_key(&room));
                }
            }
            Request::Deliver(delivery) => {
                handed("xmpp.handed", &delivery.event);
                let room = Bare::room(delivery.key.channel.native());
                let now_ms = self.clock.now();
                if let (Some(job), Some(room)) = (self.deliveries.take(delivery, now_ms), room) {
                    self.session.submit(&room, job, now());
                }
            }
            Request::Cancel(key) => {
                if let Some(job) = self.deliveries.job_of(&key) {
                    self.session.cancel(job, now());
                }
            }
        }
    }

    fn join(&mut self, channel: Channel) {
        let Some(room) = Bare::room(channel.native()) else {
            let why = format!("{} is not a room's address, room@service", channel.native());
            return self
                .reports
                .channel(&channel, ChannelState::NotJoined { why });
        };
        match self.channels.get(&room) {
            Some(known) if *known != channel => {
                let why = format!("the same room as {known}");
                self.reports
                    .channel(&channel, ChannelState::NotJoined { why });
            }
            _ => {
                let kept = self.marks.remove(&mark_key(&room));
                let mark = kept.as_deref().and_then(Mark::read);
                if kept.is_some() && mark.is_none() {
                    warn!(network = %self.network, %channel, "how far the room was heard cannot be read; it begins at its end");
                }
                self.channels.insert(room.clone(), channel);
                self.session.join(&room, mark, now());
            }
        }
    }

    fn handle_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Dial => {
                self.reports.network(NetworkStatus::Connecting);
                let config = self.config.clone();
                self.net =
                    Net::Dialling(tokio::spawn(async move { Connection::dial(&config).await }));
            }
            NetEvent::Dialled(connection) => self.net = Net::Up(connection),
            NetEvent::Heard(heard) => {
                self.alive = self.clock.now();
                self.tell_time();
                heard.into_iter().for_each(|heard| self.handle_heard(heard));
            }
            NetEvent::Ended(error) => self.handle_ended(&error),
        }
    }

    fn handle_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Online => {
                info!(network = %self.network, component = self.config.component, "connected as a component");
                self.online_since = Some(Instant::now());
                self.reports.network(NetworkStatus::Online);
                self.session.handle_connected(now());
            }
            Heard::Read(Read::Stanza(stanza)) => self.session.handle_stanza(&stanza, now()),
            Heard::Read(Read::Skipped(skipped)) => self.session.handle_skipped(&skipped),
            Heard::Read(Read::Open { .. } | Read::Close) => {}
        }
        // Outputs leave as they come: one read may hold thousands of stanzas.
        self.handle_outputs();
    }

    fn handle_ended(&mut self, error: &LinkError) {
        let floor = if matches!(error, LinkError::Refused(_)) {
            REFUSED_WAIT
        } else {
            Duration::ZERO
        };
        // A server that ends every stream soon after its opening is not to be asked every second.
        if self
            .online_since
            .take()
            .is_some_and(|since| since.elapsed() >= STABLE)
        {
            self.backoff.reset();
        }
        let wait = self.backoff.next_wait().max(floor);
        // The gateway warns of it.
        debug!(network = %self.network, %error, retry_secs = wait.as_secs_f32(), "not connected");
        let why = error.to_string();
        self.session.handle_disconnected(&why);
        self.handle_outputs();
        self.net = Net::Waiting(Instant::now() + wait);
        self.reports.network(NetworkStatus::Offline { why });
    }

    fn handle_time(&mut self) {
        if let Net::Up(connection) = &mut self.net {
            connection.handle_time();
        }
        self.session.handle_time(now());
        if self.started.elapsed() > UNCLAIMED {
            for key in std::mem::take(&mut self.marks).into_keys() {
                self.forget(key);
            }
        }
    }

    fn forget(&mut self, key: String) {
        self.intake.push(Item {
            write: Some((key, String::new())),
            ..Item::default()
        });
    }

    fn handle_outputs(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(stanza) => {
                    if let Net::Up(connection) = &mut self.net {
                        connection.send(&stanza);
                    }
                }
                Output::Room(room, state) => self.handle_room(&room, state),
                Output::Said { room, said, mark } => {
                    if let Some(channel) = self.channels.get(&room).cloned() {
                        let incoming = Incoming {
                            channel,
                            source_id: said.source_id,
                            author: said.author,
                            claimed: said.claimed,
                            own: None,
                            content: said.content,
                            via: Vec::new(),
                        };
                        self.intake.push(Item {
                            incoming: Some(incoming),
                            write: mark.map(|mark| (mark_key(&room), mark.write())),
                            gap: None,
                        });
                    }
                }
                Output::Gap {
                    room,
                    from_ms,
                    until_ms,
                } => {
                    if let Some(channel) = self.channels.get(&room).cloned() {
                        let (from, until) = (Timestamp(from_ms), Timestamp(until_ms));
                        self.intake.push(Item {
                            gap: Some(Gap {
                                channel,
                                from,
                                until,
                            }),
                            ..Item::default()
                        });
                    }
                }
                Output::Mark { room, mark } => {
                    if self.channels.contains_key(&room) {
                        self.intake.push(Item {
                            write: Some((mark_key(&room), mark.write())),
                            ..Item::default()
                        });
                    }
                }
                Output::Own { room, event, id } => self.handle_own(&room, &event, id),
                Output::Landed { job, part, ids } => self.deliveries.landed(job, part, ids),
                Output::Over(job, outcome) => {
                    debug!(network = %self.network, job, ?outcome, "delivery over");
                    self.deliveries.over(job, outcome);
                }
                Output::Skip { reason, detail } => self.reports.skip(reason, detail),
            }
        }
    }

    fn handle_room(&mut self, room: &Bare, state: RoomState) {
        let Some(channel) = self.channels.get(room) else {
            return;
        };
        let state = match state {
            RoomState::Joined => {
                info!(network = %self.network, %channel, "joined");
                ChannelState::Joined
            }
            RoomState::NotJoined(why) => {
                warn!(network = %self.network, %channel, why, "not joined");
                ChannelState::NotJoined { why }
            }
        };
        self.reports.channel(channel, state);
    }

    /// A message of ours that came back late: the gateway notes its native id.
    fn handle_own(&mut self, room: &Bare, event: &str, id: String) {
        let (Some(channel), Ok(event)) =
            (self.channels.get(room).cloned(), event.parse::<EventId>())
        else {
            return;
        };
        let own = Some(DeliveryKey {
            event,
            channel: channel.clone(),
        });
        let content = Content::Message(Message::of(MessageKind::Text, Text::default()));
        let author = NativeAuthor::named(self.config.component.clone(), self.config.nick.clone());
        self.intake.push(Item {
            incoming: Some(Incoming {
                channel,
                source_id: SourceId(id),
                author,
                claimed: None,
                own,
                content,
                via: Vec::new(),
            }),
            ..Item::default()
        });
    }

    async fn stop(mut self) {
        self.session.shut_down(now());
        self.handle_outputs();
        self.intake.offer();
        let Self {
            net, mut intake, ..
        } = self;
        let last_commit = async {
            while !intake.is_empty() {
                intake.advance().await;
            }
        };
        let goodbye = async {
            if let Net::Up(connection) = net {
                connection.close().await;
            }
        };
        let (committed, ()) = tokio::join!(timeout(LAST_COMMIT, last_commit), goodbye);
        if committed.is_err() {
            warn!("what was said last is not committed");
        }
    }
}

/// Keys under which the marks are kept begin with this.
const MARK: &str = "mark ";

fn mark_key(room: &Bare) -> String {
    format!("{MARK}{room}")
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
