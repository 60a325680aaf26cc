//! Transactions to the application service: one at a time, each until it is taken.
//!
//! After one that was not taken comes a pause, as a real homeserver makes it; this one's is so long that only a ping ends it.

use std::sync::Arc;

use bytes::Bytes;
use comity_bridge::test_util::HttpCaller;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{HS_TOKEN, Shared};

pub(super) struct Push {
    pub(super) event: Value,
    /// How many said lines it brings.
    pub(super) lines: usize,
}

pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Push>) {
    let mut callers = shared.caller.subscribe();
    let mut pings = shared.pings.subscribe();
    let mut number = 0;
    while let Some(Push { event, lines }) = queue.recv().await {
        number += 1;
        let body = json!({"events": [event]}).to_string();
        let path = format!("/_matrix/app/v1/transactions/{number}");
        loop {
            let Ok(caller) = callers
                .wait_for(Option::is_some)
                .await
                .map(|caller| caller.clone())
            else {
                return;
            };
            let caller = caller.expect("waited for");
            pings.mark_unchanged();
            // A bridge that is started anew gets at once what the old one did not answer.
            let status = tokio::select! {
                status = call(&caller, "PUT", &path, Some(HS_TOKEN), &body) => status,
                _ = callers.changed() => continue,
            };
            if status == 200 {
                break;
            }
            tokio::select! {
                _ = pings.changed() => {}
                _ = callers.changed() => {}
            }
        }
        shared.record.acknowledge(lines);
        shared.pending.send_modify(|pending| *pending -= 1);
    }
}

pub(super) async fn call(
    caller: &HttpCaller,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> u16 {
    let mut request = http::Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .expect("a request");
    caller.call(request).await.status().as_u16()
}
