//! `POST /_chat/v1/push`: acknowledged when everything accepted is on disk, in the graph and with the gateway.

use std::sync::Arc;
use std::time::Duration;

use comity_bridge::failpoint;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::receive::receive;
use super::{Answer, Refusal, to_json};
use crate::graph::{Store, passed_over};
use crate::ident::ServerName;
use crate::node::Node;
use crate::wire::api::{EventResult, MAX_PUSH_EVENTS, Push, PushAnswer, Status};
use crate::wire::event::{Event, Reject};

/// How long an answer waits for the gateway before the peer is asked to come again.
const CONFIRM: Duration = Duration::from_secs(15);
/// What cannot be read or written where the answers are kept.
const ANSWERS: &str = "the answers to pushes";

pub(super) async fn push(
    node: &Arc<Node>,
    shutdown: &CancellationToken,
    peer: &ServerName,
    body: &[u8],
) -> Answer {
    failpoint::reached("federation.read");
    let push: Push =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed(error.to_string()))?;
    let is_name =
        (1..=64).contains(&push.txn.len()) && push.txn.bytes().all(|b| b.is_ascii_graphic());
    if !is_name || push.events.len() > MAX_PUSH_EVENTS {
        return Err(Refusal::malformed(format!(
            "txn of 1 to 64 printable characters, at most {MAX_PUSH_EVENTS} events"
        )));
    }
    let (name, txn) = (peer.clone(), push.txn.clone());
    let known = node
        .graph
        .run(move |store| passed_over(ANSWERS, store.answer(&name, &txn)))
        .await?
        .flatten();
    let (answer, arrival) = match known {
        Some(known) => known,
        None => take(node, peer, push).await?,
    };
    confirmed(node, shutdown, arrival).await?;
    Ok(answer)
}

async fn take(node: &Arc<Node>, peer: &ServerName, push: Push) -> Result<(Vec<u8>, i64), Refusal> {
    let events = push
        .events
        .iter()
        .map(|raw| Event::parse(raw.get().as_bytes()))
        .collect();
    let taken = receive(node, peer, events).await?;
    for result in &taken.results {
        if let Some(code) = &result.code {
            let id = result.id.as_ref().map_or("?", |id| id.as_str());
            node.reports
                .skip("rejected", format!("event {id} pushed by {peer}: {code}"));
        }
    }
    node.arrived.notify_one();
    let is_final = taken.results.iter().all(is_final);
    let answer = to_json(&PushAnswer {
        results: taken.results,
    });
    if !is_final {
        return Ok((answer, taken.arrival));
    }
    let (name, kept) = (peer.clone(), answer.clone());
    node.graph
        .run(move |store| {
            // Without it, a repetition finds the events themselves.
            let put = |store: &Store<'_>| store.put_answer(&name, &push.txn, &kept, taken.arrival);
            passed_over(ANSWERS, store.apart(put))
        })
        .await?;
    Ok((answer, taken.arrival))
}

/// Whether the same event would get the same answer the next time. What is missing may have come by then, and a server of whose
/// join we have not heard may be a member.
fn is_final(result: &EventResult) -> bool {
    let passing = [Reject::Forbidden, Reject::Quota].map(Reject::code);
    match result.status {
        Status::Ok | Status::Dup | Status::Pending => true,
        Status::Need => false,
        Status::Reject => result
            .code
            .as_deref()
            .is_none_or(|code| !passing.contains(&code)),
    }
}

/// Waits until the gateway has everything up to `arrival` in its journal. While it takes nothing, no
/// acknowledgement leaves: the peer keeps the events and comes again.
async fn confirmed(node: &Node, shutdown: &CancellationToken, arrival: i64) -> Result<(), Refusal> {
    let mut progress = node.progress.subscribe();
    let waited = async {
        loop {
            let now = *progress.borrow_and_update();
            if now.reported >= arrival {
                return true;
            }
            if now.busy || progress.changed().await.is_err() {
                return false;
            }
        }
    };
    let is_confirmed = tokio::select! {
        confirmed = waited => confirmed,
        () = tokio::time::sleep(CONFIRM) => false,
        () = shutdown.cancelled() => false,
    };
    if is_confirmed {
        Ok(())
    } else {
        Err(Refusal::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the events are kept but not confirmed yet",
            2,
        ))
    }
}
