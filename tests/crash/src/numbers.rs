//! One network says the numbers 1, 2, 3, ..., two show them.
//!
//! The source writes each number that was committed to `DIR/acknowledged`. Like any network, it forgets what it was told "we have it" about:
//! after a kill it goes on behind that number, whatever the gateway remembers. Where the gateway's own cursor stood at the start is in
//! `DIR/cursors`.
//!
//! Two targets append what they show to `DIR/fenced` and `DIR/plain`: what people have seen. `fenced` can be asked whether it has a delivery
//! already; `plain` cannot, like a network without any idempotency. `fenced` refuses one number in [`REFUSED_EVERY`] for good: a dead
//! letter. What the source is told about those is in `DIR/told`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use comity_bridge::event::{Message, MessageKind};
use comity_bridge::{
    Answer, Batch, Bridge, BridgeError, Capabilities, Channel, ChannelState, Content, Cursor,
    Delivery, DeliveryError, Incoming, Link, NativeAuthor, NativeId, NetworkStatus, Outcome,
    Reports, Request, SourceId, Text,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::stage::{self, Kind, append_to};

/// `fenced` refuses the numbers that leave the half of this when divided by it.
const REFUSED_EVERY: u64 = 500;

/// Says the numbers up to `last`, and returns when both targets have shown them.
pub(crate) async fn run(dir: &Path, last: u64) -> Result<()> {
    let finished = Arc::new(Semaphore::new(0));
    let source = {
        let dir = dir.to_owned();
        Kind::new(move || SourceBridge {
            dir: dir.clone(),
            last,
        })
    };
    let target = |name: &str, asks: bool| {
        let (file, finished) = (dir.join(name), Arc::clone(&finished));
        Kind::new(move || TargetBridge::new(&file, asks, last, &finished))
    };
    let networks = vec![
        ("source", source),
        ("fenced", target("fenced", true)),
        ("plain", target("plain", false)),
    ];
    let channels = ["source/#room", "fenced/#room", "plain/#room"];
    let gateway = stage::gateway(dir, networks, &channels).await?;
    drop(finished.acquire_many(2).await?);
    gateway.stop().await;
    Ok(())
}

struct SourceBridge {
    dir: PathBuf,
    last: u64,
}

#[async_trait]
impl Bridge for SourceBridge {
    async fn run(self: Box<Self>, link: Link) -> Result<(), BridgeError> {
        link.reports.network(NetworkStatus::Online);
        let told = Told {
            seen: lines_of(&self.dir.join("told")),
            file: append_to(&self.dir.join("told")),
        };
        tokio::join!(
            self.say(&link.reports),
            told.listen(&link.reports, link.requests, &link.shutdown)
        );
        Ok(())
    }
}

impl SourceBridge {
    async fn say(&self, reports: &Reports) {
        let channel: Channel = "source/#room".parse().expect("a channel");
        let remembered = reports.remembered().await;
        let cursor = remembered.cursor.map_or_else(|| "1".to_owned(), |at| at.0);
        let mut cursors = append_to(&self.dir.join("cursors"));
        let known = lines_of(&self.dir.join("acknowledged"));
        let mut next = known.len() as u64 + 1;
        cursors
            .write_all(format!("{cursor} {next}\n").as_bytes())
            .expect("the test's directory can be written");
        let mut acknowledged = append_to(&self.dir.join("acknowledged"));
        while next <= self.last {
            let size = (next % 7 + 1).min(self.last - next + 1);
            let incoming = (next..next + size)
                .map(|number| said(&channel, number))
                .collect();
            let batch = Batch {
                incoming,
                cursor: Some(Cursor((next + size).to_string())),
                ..Batch::default()
            };
            if let Answer::Committed(_) = reports.commit(batch).await {
                let lines: String = (next..next + size)
                    .map(|number| format!("{number}\n"))
                    .collect();
                // One write, so that a kill leaves the whole batch or nothing of it.
                acknowledged
                    .write_all(lines.as_bytes())
                    .expect("the test's directory can be written");
                next += size;
            }
        }
    }
}

/// What the gateway tells the source's people.
struct Told {
    seen: BTreeSet<String>,
    file: File,
}

impl Told {
    async fn listen(
        mut self,
        reports: &Reports,
        mut requests: mpsc::Receiver<Request>,
        shutdown: &CancellationToken,
    ) {
        loop {
            let request = tokio::select! {
                Some(request) = requests.recv() => request,
                () = shutdown.cancelled() => return,
            };
            match request {
                Request::Join(channel, _) => reports.channel(&channel, ChannelState::Joined),
                Request::Deliver(delivery) => {
                    let id = delivery.event.id.to_string();
                    if self.seen.insert(id.clone()) {
                        self.file
                            .write_all(format!("{id}\n").as_bytes())
                            .expect("the test's directory can be written");
                    }
                    delivery.receipts.finish(Outcome::Shown);
                }
                Request::Leave(_) | Request::Cancel(_) => {}
            }
        }
    }
}

fn lines_of(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn said(channel: &Channel, number: u64) -> Incoming {
    Incoming {
        channel: channel.clone(),
        source_id: SourceId(number.to_string()),
        author: NativeAuthor::named("alice", "alice"),
        claimed: None,
        own: None,
        content: Content::Message(Message::of(
            MessageKind::Text,
            Text::plain(number.to_string()),
        )),
        via: Vec::new(),
    }
}

struct TargetBridge {
    shown: File,
    seen: BTreeSet<String>,
    is_through: bool,
    asks: bool,
    last: u64,
    finished: Arc<Semaphore>,
}

impl TargetBridge {
    fn new(file: &Path, asks: bool, last: u64, finished: &Arc<Semaphore>) -> TargetBridge {
        let seen = lines_of(file);
        // An earlier life may have shown everything.
        let is_through = seen.contains(&last.to_string());
        finished.add_permits(usize::from(is_through));
        TargetBridge {
            seen,
            is_through,
            shown: append_to(file),
            asks,
            last,
            finished: Arc::clone(finished),
        }
    }

    fn deliver(&mut self, mut delivery: Delivery) {
        let number = delivery.event.origin.native_id.0.clone();
        let refused = number
            .parse::<u64>()
            .is_ok_and(|number| number % REFUSED_EVERY == REFUSED_EVERY / 2);
        if self.asks && refused {
            let why = DeliveryError::Rejected("not this number".to_owned());
            delivery.receipts.finish(Outcome::GiveUp(why));
            return;
        }
        if !(self.asks && delivery.doubt && self.seen.contains(&number)) {
            // One write, so that a kill leaves a whole line or none.
            self.shown
                .write_all(format!("{number}\n").as_bytes())
                .expect("the test's directory can be written");
        }
        delivery
            .receipts
            .part(0, vec![NativeId(format!("native-{number}"))]);
        delivery.receipts.finish(Outcome::Shown);
        if number == self.last.to_string() && !std::mem::replace(&mut self.is_through, true) {
            self.finished.add_permits(1);
        }
    }
}

#[async_trait]
impl Bridge for TargetBridge {
    async fn run(mut self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        link.reports.capabilities(Capabilities {
            window: 8,
            ..Capabilities::default()
        });
        link.reports.network(NetworkStatus::Online);
        loop {
            let request = tokio::select! {
                Some(request) = link.requests.recv() => request,
                () = link.shutdown.cancelled() => return Ok(()),
            };
            match request {
                Request::Join(channel, _) => link.reports.channel(&channel, ChannelState::Joined),
                Request::Deliver(delivery) => self.deliver(delivery),
                Request::Leave(_) | Request::Cancel(_) => {}
            }
        }
    }
}
