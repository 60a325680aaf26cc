//! The bridge of a scripted network whose channels are [`Place`]s.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use comity_bridge::event::{Edit, Message, MessageKind, React, ReactAction, Redact};
use comity_bridge::{
    Answer, Batch, Bridge, BridgeError, Capabilities, Channel, ChannelState, Content, Cursor,
    Delivery, DeliveryError, Event, Incoming, Link, NativeAuthor, NativeId, NativeRef,
    NetworkStatus, Outcome, Reports, Request, SourceId, Text,
};
use comity_people::history::changes::What;
use futures_util::future::select_all;

use super::REFUSED_EVERY;
use super::place::{Place, Record};

/// What a network can do.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    changes: bool,
    window: usize,
    asks: bool,
    late_receipts: bool,
}

pub(super) const NATIVE: Manner = Manner {
    changes: true,
    window: 8,
    asks: true,
    late_receipts: false,
};

pub(super) const PLAIN: Manner = Manner {
    changes: false,
    window: 4,
    asks: false,
    late_receipts: false,
};

pub(super) const WIDE: Manner = Manner {
    changes: true,
    window: 32,
    asks: true,
    late_receipts: true,
};

pub(super) struct Network {
    places: Vec<Arc<Place>>,
    manner: Manner,
}

impl Network {
    pub(super) fn new(places: Vec<Arc<Place>>, manner: Manner) -> Network {
        Network { places, manner }
    }

    fn deliver(&self, mut delivery: Delivery) {
        let channel = delivery.key.channel.to_string();
        let place = self.places.iter().find(|place| place.channel == channel);
        let place = place.expect("no other channel is configured");
        let key = delivery.key.event.to_string();
        let what = what(&delivery.event, &delivery);
        // Asked first: what was refused as its author first said it may stand here with its newer text.
        let known = place
            .known(&key)
            .filter(|_| self.manner.asks && delivery.doubt);
        if known.is_none() && channel == "wide/#a" && is_refused(&what) {
            let why = DeliveryError::Rejected("not this text".to_owned());
            delivery.receipts.finish(Outcome::GiveUp(why));
            return;
        }
        let id = known.unwrap_or_else(|| place.shows(&delivery.event.author.name, what, &key));
        let number = place.len() as u64;
        let land = move || {
            delivery.receipts.part(0, vec![NativeId(id)]);
            delivery.receipts.finish(Outcome::Shown);
        };
        if self.manner.late_receipts {
            tokio::spawn(async move {
                // In any order, and now and then so late that the window is full.
                let late = if number.is_multiple_of(60) {
                    20_000
                } else {
                    number * 7919 % 2_000
                };
                tokio::time::sleep(Duration::from_micros(late)).await;
                land();
            });
        } else {
            land();
        }
    }
}

/// The text's number is one of those that `wide/#a` does not take.
fn is_refused(what: &What) -> bool {
    let What::Message { text } = what else {
        return false;
    };
    let number = text.split('-').nth(2).and_then(|n| n.parse::<usize>().ok());
    !text.contains("good night") && number.is_some_and(|number| number % REFUSED_EVERY == 5)
}

#[async_trait]
impl Bridge for Network {
    async fn run(mut self: Box<Self>, mut link: Link) -> Result<(), BridgeError> {
        link.reports.capabilities(Capabilities {
            window: self.manner.window,
            edits: self.manner.changes,
            redactions: self.manner.changes,
            reactions: self.manner.changes,
            ..Capabilities::default()
        });
        link.reports.network(NetworkStatus::Online);
        let remembered = link.reports.remembered().await;
        let cursor = remembered
            .cursor
            .map_or_else(String::new, |cursor| cursor.0);
        let reports = link.reports.clone();
        let hear = hear(&self.places, cursor, &reports);
        let show = async {
            loop {
                let request = tokio::select! {
                    Some(request) = link.requests.recv() => request,
                    () = link.shutdown.cancelled() => return,
                };
                match request {
                    Request::Join(channel, _) => {
                        link.reports.channel(&channel, ChannelState::Joined);
                    }
                    Request::Deliver(delivery) => self.deliver(delivery),
                    Request::Leave(_) | Request::Cancel(_) => {}
                }
            }
        };
        tokio::select! {
            () = hear => {}
            () = show => {}
        }
        Ok(())
    }
}

/// Reports what people do, from where the cursor says. It has a number for each channel.
async fn hear(places: &[Arc<Place>], cursor: String, reports: &Reports) {
    let mut read: Vec<usize> = cursor
        .split(' ')
        .map(|at| at.parse().unwrap_or_default())
        .collect();
    read.resize(places.len(), 0);
    loop {
        let mut batch = Batch::default();
        let mut reached = read.clone();
        for (place, at) in places.iter().zip(&mut reached) {
            // Batches of a few, so that deaths come between them.
            for record in place.from(*at).into_iter().take(5) {
                *at += 1;
                batch
                    .incoming
                    .extend(record.seen.own.then(|| incoming(place, &record)));
            }
        }
        if reached == read {
            // A notification that came while nobody waited is not lost.
            let news = places.iter().map(|place| Box::pin(place.news.notified()));
            select_all(news).await;
            continue;
        }
        let cursor: Vec<String> = reached.iter().map(usize::to_string).collect();
        batch.cursor = Some(Cursor(cursor.join(" ")));
        if let Answer::Committed(_) = reports.commit(batch).await {
            read = reached;
        }
    }
}

fn incoming(place: &Place, record: &Record) -> Incoming {
    let channel: Channel = place.channel.parse().expect("a channel");
    Incoming {
        channel,
        source_id: SourceId(record.seen.id.clone()),
        author: NativeAuthor::named(&*place.person, &*place.person),
        claimed: None,
        own: None,
        content: content(&record.seen.what),
        via: Vec::new(),
    }
}

fn content(what: &What) -> Content<NativeRef> {
    let reference = |of: &String| NativeRef(of.clone());
    match what {
        What::Message { text } | What::Notice { text } => {
            Content::Message(Message::of(MessageKind::Text, Text::plain(text.clone())))
        }
        What::Edit { of, text } => Content::Edit(Edit {
            target: reference(of),
            text: Text::plain(text.clone()),
            unknown: Default::default(),
        }),
        What::Redact { of } => Content::Redact(Redact {
            target: reference(of),
            reason: None,
            unknown: Default::default(),
        }),
        What::Reaction { of, emoji, on } => Content::React(React {
            target: reference(of),
            action: if *on {
                ReactAction::Add
            } else {
                ReactAction::Remove
            },
            emoji: emoji.clone(),
            unknown: Default::default(),
        }),
    }
}

/// The same the other way round, in this channel's ids.
fn what(event: &Event, delivery: &Delivery) -> What {
    // An id that nothing has, where the gateway gives none: the checker sees it.
    let of = || {
        let target = delivery.refs.target.first();
        target.map_or_else(String::new, |id| id.0.clone())
    };
    match &event.content {
        Content::Message(message) if event.ext.contains_key("only") => What::Notice {
            text: message.text.plain.clone(),
        },
        Content::Message(message) => What::Message {
            text: message.text.plain.clone(),
        },
        Content::Edit(edit) => What::Edit {
            of: of(),
            text: edit.text.plain.clone(),
        },
        Content::Redact(_) => What::Redact { of: of() },
        Content::React(react) => What::Reaction {
            of: of(),
            emoji: react.emoji.clone(),
            on: react.action == ReactAction::Add,
        },
        other => What::Notice {
            text: other.type_name().to_owned(),
        },
    }
}
