//! The task of one network: link, HTTP and timers around the [`Session`].
//!
//! One task owns the state. It does what the session asks for, tells it what came of that, and
//! decides nothing about messages itself. Calls, commits and plans run beside each other; requests
//! of the gateway are always taken at once.

mod client;
mod door;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use comity_bridge::{
    Answer as Verdict, Batch, Bridge, BridgeError, Capabilities, DeliveryKey, Endpoint,
    HttpExchange, Incoming, Link, Listener, NativeId, NetworkStatus, Outcome, Receipts, Reports,
    Request, failpoint,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Response;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::bridge::client::Client;
use crate::config::Config;
use crate::session::{Action, CallId, Job, Session, Settings, Ticket};
use crate::wire::call::{Answer, Call};
use crate::wire::fault::Fault;

/// Deliveries of one channel in our hands at once. They are sent one after another; the others
/// are there so that the next one need not be waited for.
const WINDOW: usize = 4;
/// Calls to the homeserver at once.
const MAX_CALLS: usize = 64;
/// Transactions that may wait; a homeserver sends one at a time.
const MAX_WAITING: usize = 8;
/// Events committed together.
const MAX_BATCH: usize = 500;
/// How long to wait between two tries to commit.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How long a test that kills us after an acknowledgement lets it travel.
const ACKED: Duration = Duration::from_millis(100);
/// How long what is under way may take to end when we stop.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// A configured Matrix network.
pub(crate) struct MatrixBridge {
    config: Config,
}

impl MatrixBridge {
    pub(crate) fn new(config: Config) -> Self {
        Self { config }
    }
}

#[async_trait]
impl Bridge for MatrixBridge {
    fn endpoints(&self) -> Vec<Endpoint> {
        let listener = self
            .config
            .appservice
            .map_or(Listener::Public, Listener::Own);
        vec![Endpoint {
            listener,
            prefix: self.config.prefix.clone(),
            max_body: door::MAX_BODY,
            body_needs: &["authorization"],
        }]
    }

    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        let config = self.config;
        let client = Client::new(&config).map_err(|error| BridgeError::Local(error.to_string()))?;
        if config.in_clear {
            warn!(homeserver = %config.homeserver, "tokens and messages cross the network in clear; use https");
        }
        link.reports.network(NetworkStatus::Connecting);
        link.reports.capabilities(Capabilities {
            window: WINDOW,
            ..Capabilities::default()
        });
        let remembered = tokio::select! {
            remembered = link.reports.remembered() => remembered,
            () = link.shutdown.cancelled() => return Ok(()),
        };
        let settings = Settings {
            names: config.names.clone(),
            bot_name: config.bot_name.clone(),
            registration: config.registration.clone(),
            users: config.users,
        };
        let driver = Driver {
            session: Session::new(now(), link.env.clock.now(), settings, remembered.writes),
            config,
            client: Arc::new(client),
            reports: link.reports,
            stop: link.shutdown,
            receipts: HashMap::new(),
            transactions: HashMap::new(),
            next_ticket: 0,
            calls: VecDeque::new(),
            calling: 0,
            tasks: FuturesUnordered::new(),
        };
        driver.run(link.requests, link.http).await;
        Ok(())
    }
}

/// tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What came of something that ran beside.
enum Done {
    Answer(CallId, Result<Answer, Fault>),
    Planned(DeliveryKey, Receipts, bool),
    Committed(Ticket),
    Nothing,
}

struct Driver {
    session: Session,
    config: Config,
    client: Arc<Client>,
    reports: Reports,
    stop: CancellationToken,
    receipts: HashMap<DeliveryKey, Receipts>,
    transactions: HashMap<Ticket, oneshot::Sender<Response<Bytes>>>,
    next_ticket: u64,
    calls: VecDeque<(CallId, Call)>,
    calling: usize,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Driver {
    async fn run(
        mut self,
        mut requests: tokio::sync::mpsc::Receiver<Request>,
        mut inbox: tokio::sync::mpsc::Receiver<HttpExchange>,
    ) {
        let mut stop_at: Option<tokio::time::Instant> = None;
        let (mut requests_open, mut inbox_open) = (true, true);
        loop {
            self.act();
            if stop_at.is_some() && self.session.is_idle() {
                break;
            }
            let timeout = self
                .session
                .poll_timeout()
                .map(tokio::time::Instant::from_std);
            tokio::select! {
                () = self.stop.cancelled(), if stop_at.is_none() => {
                    stop_at = Some(tokio::time::Instant::now() + LAST_CALLS);
                    self.session.handle_shutdown(now());
                }
                () = at(stop_at) => break,
                request = requests.recv(), if requests_open => match request {
                    Some(request) => self.request(request),
                    None => requests_open = false,
                },
                exchange = inbox.recv(), if inbox_open && stop_at.is_none() => match exchange {
                    Some(exchange) => self.exchange(exchange),
                    None => inbox_open = false,
                },
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.done(done),
                () = at(timeout) => self.session.handle_timeout(now()),
            }
            // What was handed over together is taken together.
            while let Ok(request) = requests.try_recv() {
                self.request(request);
            }
        }
        self.session.handle_end();
        self.act();
    }

    fn request(&mut self, request: Request) {
        if let Request::Deliver(delivery) = &request {
            failpoint::handed("matrix.handed", &delivery.event);
        }
        match request {
            Request::Join(channel, _) => self.session.handle_join(now(), channel),
            Request::Leave(channel) => self.session.handle_leave(now(), &channel),
            Request::Deliver(delivery) => {
                let job = Job::of(&delivery);
                let mut receipts = delivery.receipts;
                if let Some(plan) = &job.plan {
                    receipts.resume(plan);
                }
                self.receipts.insert(job.key.clone(), receipts);
                self.session.handle_delivery(now(), job);
            }
            Request::Cancel(key) => self.session.handle_cancel(now(), &key),
        }
    }

    fn exchange(&mut self, exchange: HttpExchange) {
        failpoint::reached("matrix.read");
        let Some(pushed) = door::admit(&self.config, &self.reports, exchange) else {
            return;
        };
        if self.transactions.len() >= MAX_WAITING {
            door::answer(pushed.reply, door::later());
            self.session.handle_turned_away(now());
            return;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.transactions.insert(ticket, pushed.reply);
        self.session
            .handle_transaction(now(), ticket, pushed.events);
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Answer(id, result) => {
                self.calling -= 1;
                if matches!(result, Ok(Answer::Sent(_))) {
                    failpoint::reached("matrix.receipt");
                }
                self.session.handle_answer(now(), id, result);
            }
            Done::Planned(key, receipts, durable) => {
                self.receipts.insert(key.clone(), receipts);
                self.session.handle_planned(now(), &key, durable);
            }
            Done::Committed(ticket) => {
                failpoint::reached("matrix.committed");
                self.session.handle_committed(now(), ticket);
            }
            Done::Nothing => {}
        }
    }

    /// Does what the session asks for.
    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                // Whether anybody is there is asked also while everything else hangs, and transactions wait for what the rooms say.
                Action::Call { id, call } if call.is_urgent() => self.start(id, call),
                Action::Call { id, call } => self.calls.push_back((id, call)),
                Action::Online => self.reports.network(NetworkStatus::Online),
                Action::Offline(why) => self.reports.network(NetworkStatus::Offline { why }),
                Action::Channel(channel, state) => self.reports.channel(&channel, state),
                Action::Skip { reason, detail } => self.reports.skip(reason, detail),
                Action::Part { key, index, id } => {
                    if let (Some(receipts), Ok(index)) =
                        (self.receipts.get_mut(&key), u32::try_from(index))
                    {
                        receipts.part(index, vec![NativeId(id.to_string())]);
                    }
                }
                Action::Finish { key, outcome } => self.finish(&key, outcome),
                Action::Plan { key, parts } => self.plan(key, parts),
                Action::Commit {
                    ticket,
                    incoming,
                    writes,
                } => {
                    let reports = self.reports.clone();
                    self.tasks.push(Box::pin(async move {
                        commit(&reports, incoming, writes).await;
                        Done::Committed(ticket)
                    }));
                }
                Action::Answer { ticket, taken } => {
                    if let Some(reply) = self.transactions.remove(&ticket) {
                        let answer = if taken { door::done() } else { door::later() };
                        if !door::answer(reply, answer) {
                            self.session.handle_hung_up(now());
                        }
                        if taken && failpoint::is_set("matrix.acked") {
                            self.tasks.push(Box::pin(acked()));
                        }
                    }
                }
                Action::Remember { key, value } => self.note(Batch {
                    writes: vec![(key, value)],
                    ..Batch::default()
                }),
                Action::Gap(gap) => self.note(Batch {
                    gaps: vec![gap],
                    ..Batch::default()
                }),
            }
        }
        while self.calling < MAX_CALLS
            && let Some((id, call)) = self.calls.pop_front()
        {
            self.start(id, call);
        }
    }

    /// Commits something that nobody waits for.
    fn note(&mut self, batch: Batch) {
        let reports = self.reports.clone();
        self.tasks.push(Box::pin(async move {
            while reports.commit(batch.clone()).await == Verdict::Busy {
                sleep(BUSY_PAUSE).await;
            }
            Done::Nothing
        }));
    }

    fn start(&mut self, id: CallId, call: Call) {
        self.calling += 1;
        if matches!(call, Call::Join { .. }) {
            failpoint::reached("matrix.joining");
        }
        let client = self.client.clone();
        self.tasks.push(Box::pin(async move {
            Done::Answer(id, client.ask(&call).await)
        }));
    }

    fn finish(&mut self, key: &DeliveryKey, outcome: Outcome) {
        if let Some(receipts) = self.receipts.remove(key) {
            receipts.finish(outcome);
        }
    }

    fn plan(&mut self, key: DeliveryKey, parts: Vec<String>) {
        let Some(mut receipts) = self.receipts.remove(&key) else {
            return;
        };
        let stop = self.stop.clone();
        self.tasks.push(Box::pin(async move {
            let durable = tokio::select! {
                planned = receipts.plan(&parts) => planned.is_ok(),
                () = stop.cancelled() => false,
            };
            Done::Planned(key, receipts, durable)
        }));
    }
}

async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Commits what a transaction brought, however long that takes. When the homeserver sends it again meanwhile, what has been
/// taken is recognised by its event ids.
async fn commit(reports: &Reports, incoming: Vec<Incoming>, mut writes: Vec<(String, String)>) {
    failpoint::reached("matrix.parsed");
    let mut batches = incoming.chunks(MAX_BATCH).peekable();
    while let Some(some) = batches.next() {
        let batch = Batch {
            incoming: some.to_vec(),
            // True only when all of it is there.
            writes: if batches.peek().is_none() {
                std::mem::take(&mut writes)
            } else {
                Vec::new()
            },
            ..Batch::default()
        };
        while reports.commit(batch.clone()).await == Verdict::Busy {
            sleep(BUSY_PAUSE).await;
        }
    }
}

/// The listener's task writes the answer, and nothing tells when it has.
async fn acked() -> Done {
    sleep(ACKED).await;
    failpoint::reached("matrix.acked");
    Done::Nothing
}
