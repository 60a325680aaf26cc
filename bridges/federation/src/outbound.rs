//! From the gateway to the graph: what was said elsewhere becomes an event of ours, signed once.
//!
//! A delivery is shown when its event is in our own graph. The signed bytes are stored under the delivery's key in
//! the same transaction, so that a repetition never makes a second event (which would be equivocation).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comity_bridge::event::Message;
use comity_bridge::{
    Content, Delivery, DeliveryError, Event as GatewayEvent, NativeId, NativeRef, Outcome, Refs,
    failpoint,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::graph::Store;
use crate::ident::{Alias, EventId, ServerName, UserAddress};
use crate::node::Node;
use crate::session::compose::{ComposeError, Said};
use crate::session::judge::Acceptance;
use crate::session::{Shelf as _, ShelfError, Stage};
use crate::text;
use crate::wire::event::{Hop, MAX_HOPS};
use crate::wire::sign::hash_text;

/// How long a lane waits before it hands over again what the graph could not take.
const RETRY: Duration = Duration::from_secs(5);
/// The longest foreign id that goes into `prov`, in characters.
const MAX_FOREIGN_ID: usize = 200;
const OWN: Acceptance = Acceptance {
    hidden: false,
    edge: false,
    shown: false,
    unproved: false,
};

/// One delivery, ready for the graph.
struct Order {
    key: String,
    alias: Option<Alias>,
    said: Result<(UserAddress, Said), DeliveryError>,
}

/// Makes events of deliveries, in order and in one transaction, and tells what became of each.
pub async fn deliver(node: &Arc<Node>, deliveries: Vec<Delivery>, shutdown: &CancellationToken) {
    for delivery in &deliveries {
        failpoint::handed("federation.handed", &delivery.event);
    }
    let orders: Vec<Order> = deliveries
        .iter()
        .map(|delivery| order(node, delivery))
        .collect();
    let now = node.now_ms();
    let inside = Arc::clone(node);
    let made = node
        .graph
        .run(move |store| {
            let mut wake = BTreeSet::new();
            let outcomes: Vec<_> = orders
                .into_iter()
                .map(|order| make_apart(&inside, store, order, now, &mut wake))
                .collect::<Result<_, _>>()?;
            Ok::<_, ShelfError>((outcomes, wake))
        })
        .await;
    match made {
        Ok((outcomes, wake)) => {
            if !outcomes.is_empty() {
                failpoint::reached("federation.receipt");
            }
            for (delivery, outcome) in deliveries.into_iter().zip(outcomes) {
                finish(delivery, outcome);
            }
            for peer in wake {
                node.peers.wake(node, &peer, shutdown);
            }
        }
        Err(error) => {
            tracing::error!(%error, "graph not writable");
            for delivery in deliveries {
                let why = DeliveryError::ConnectionLost(error.to_string());
                // Nothing of a transaction that did not commit is anywhere.
                delivery
                    .receipts
                    .finish(Outcome::Retry { after: RETRY, why });
            }
        }
    }
}

fn finish(delivery: Delivery, outcome: Result<EventId, DeliveryError>) {
    let mut receipts = delivery.receipts;
    match outcome {
        Ok(id) => {
            receipts.part(0, vec![NativeId(id.as_str().to_owned())]);
            receipts.finish(Outcome::Shown);
        }
        Err(why @ DeliveryError::NotJoined(_)) => {
            receipts.finish(Outcome::Retry { after: RETRY, why })
        }
        Err(why) => receipts.finish(Outcome::GiveUp(why)),
    }
}

fn order(node: &Node, delivery: &Delivery) -> Order {
    let event = &delivery.event;
    let said = body(event, &delivery.refs).map(|body| {
        (
            speaker(node, event),
            Said {
                body,
                prov: provenance(node, event),
            },
        )
    });
    Order {
        key: delivery.key.to_string(),
        alias: Alias::parse(delivery.key.channel.native()).ok(),
        said,
    }
}

/// What is damaged costs the deliveries that need it, not those of other rooms that came with them.
fn make_apart(
    node: &Node,
    store: &Store<'_>,
    order: Order,
    now: u64,
    wake: &mut BTreeSet<ServerName>,
) -> Result<Result<EventId, DeliveryError>, ShelfError> {
    let key = order.key.clone();
    match store.apart(|store| make(node, store, order, now, wake)) {
        Err(ShelfError::Damaged(why)) => {
            tracing::error!(
                key,
                why,
                "the federation's graph is damaged where a delivery needs it"
            );
            Ok(Err(DeliveryError::Damaged(why)))
        }
        made => made,
    }
}

/// Makes the events of one order, or finds the one that an earlier attempt has made.
fn make(
    node: &Node,
    store: &Store<'_>,
    order: Order,
    now: u64,
    wake: &mut BTreeSet<ServerName>,
) -> Result<Result<EventId, DeliveryError>, ShelfError> {
    if let Some(id) = store.delivered(&order.key)? {
        return Ok(Ok(id));
    }
    let (speaker, said) = match order.said {
        Ok(said) => said,
        Err(error) => return Ok(Err(error)),
    };
    let room = match &order.alias {
        Some(alias) => store
            .room_by_alias(alias)?
            .filter(|room| room.stage == Stage::In),
        None => None,
    };
    let Some(room) = room else {
        return Ok(Err(DeliveryError::NotJoined(
            "the room is not joined yet".to_owned(),
        )));
    };
    let events = match node.author.message(store, &room.id, &speaker, said, now) {
        Ok(events) => events,
        Err(ComposeError::Shelf(error)) => return Err(error),
        Err(ComposeError::NotInRoom) => {
            return Ok(Err(DeliveryError::NotJoined(
                "this server has left the room".to_owned(),
            )));
        }
        Err(ComposeError::Content(reject)) => {
            return Ok(Err(DeliveryError::TooLarge(reject.to_string())));
        }
    };
    for event in &events {
        send_to_all(node, store, event, wake)?;
    }
    let id = events
        .last()
        .map(|event| event.id.clone())
        .expect("a message is at least one event");
    store.put_delivered(&order.key, &id)?;
    Ok(Ok(id))
}

/// Keeps an event of ours and puts it into the queue of every other server in the room (PROTOCOL 11.3). One whose join may be
/// somebody else's invention gets it when that is known.
pub fn send_to_all(
    node: &Node,
    store: &Store<'_>,
    event: &crate::wire::event::Event,
    wake: &mut BTreeSet<ServerName>,
) -> Result<(), ShelfError> {
    let arrival = store.put(event, OWN)?;
    for server in store.servers(&event.room)? {
        if server != *node.server() && !store.is_unproved(&event.room, &server)? {
            store.enqueue(&server, arrival)?;
            wake.insert(server);
        }
    }
    Ok(())
}

/// What is signed: the content and the author's profile, without anything that means something here only.
fn body(event: &GatewayEvent, refs: &Refs) -> Result<serde_json::Value, DeliveryError> {
    let Content::Message(message) = &event.content else {
        return Err(DeliveryError::Unsupported(
            event.content.type_name().to_owned(),
        ));
    };
    let mut attachments = message.attachments.clone();
    for attachment in &mut attachments {
        attachment.media = None;
        attachment.name = text::name(&attachment.name);
    }
    let content: Content<NativeRef> = Content::Message(Message {
        kind: message.kind,
        text: text::clean(message.text.clone()),
        // In another gateway's words: the id of the event, if it was ever said in this room.
        reply_to: match (&message.reply_to, refs.target.first()) {
            (Some(_), Some(id)) => Some(NativeRef(id.0.clone())),
            _ => None,
        },
        thread: None,
        attachments,
        unknown: message.unknown.clone(),
    });
    let content = serde_json::to_value(content)
        .map_err(|error| DeliveryError::Rejected(error.to_string()))?;
    let mut author = json!({ "name": text::name(&event.author.name) });
    if event.author.bot {
        author["bot"] = json!(true);
    }
    Ok(json!({ "author": author, "content": content }))
}

/// The name under which this server speaks for the author. Whoever belongs to another gateway is a user of this
/// network here: a server signs for its own users only (PROTOCOL 6.5).
fn speaker(node: &Node, event: &GatewayEvent) -> UserAddress {
    let own = node.server();
    let address = event.author.address.to_string();
    let reserved = own.gateway();
    if let Ok(user) = UserAddress::parse(&address)
        && user.is_of(own)
        && user != reserved
    {
        return user;
    }
    let network = node.network.as_str();
    UserAddress::of_network(&address, network, own)
        .or_else(|| UserAddress::of_network(&hash_text(address.as_bytes()), network, own))
        // Reached only with a network whose name is no DNS label; the user then stands directly below the gateway.
        .or_else(|| UserAddress::parse(&format!("{}@{own}", hash_text(address.as_bytes()))).ok())
        .unwrap_or(reserved)
}

/// Where the event comes from: the gateways that it passed, this one last.
fn provenance(node: &Node, event: &GatewayEvent) -> Vec<Hop> {
    let id: String = event
        .origin
        .native_id
        .0
        .chars()
        .take(MAX_FOREIGN_ID)
        .collect();
    let network = event.origin.network.as_str().to_owned();
    let own = Hop {
        network: network.clone(),
        id: id.clone(),
        via: node.server().clone(),
    };
    let mut hops: Vec<Hop> = event
        .via
        .iter()
        .filter_map(|via| ServerName::parse(via).ok())
        .filter(|via| via != node.server())
        .map(|via| Hop {
            network: network.clone(),
            id: id.clone(),
            via,
        })
        .collect();
    hops.truncate(MAX_HOPS - 1);
    hops.push(own);
    hops
}
