//! What was missed while we or a peer were away: asked for, verified like what is pushed, told as a gap when nobody has it (PROTOCOL 16).
//!
//! A peer is *owed* a question after our start, after it could not be reached, when it asks us, and when it pushes what
//! builds on more than we have. The question goes out as soon as the peer can be reached. One peer can make us fetch only
//! a bounded number of pages, only from itself, and only one after the other.

mod debts;
mod round;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::Node;

pub use debts::CatchUp;

/// Peers asked at once.
const AT_ONCE: usize = 4;

/// Asks whom we owe a question, until the bridge ends.
pub async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, node.catch_up.next().await))
        };
        let next = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => None,
        };
        let Some((place, peer)) = next else {
            return;
        };
        let (watched, shutdown) = (Arc::clone(&node), shutdown.clone());
        let node = Arc::clone(&node);
        watched.tasks.spawn("a question to a peer", async move {
            let _place = place;
            let asked = tokio::select! {
                asked = round::ask(&node, &peer) => asked,
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = &asked {
                tracing::debug!(%peer, %error, "peer not asked what we missed");
            }
            node.catch_up.ended(&peer, Instant::now(), asked.is_ok());
        });
    }
}
