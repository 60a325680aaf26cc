//! What the tasks of this bridge share: who we are, the graph, the keys of others, and the way out.
//!
//! It holds no room's state: that is the graph's.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use comity_bridge::{Channel, Clock, NetworkName, Reports};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response};
use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use crate::catch_up::CatchUp;
use crate::client::{Transport, TransportError};
use crate::config::Lists;
use crate::graph::Graph;
use crate::ident::{Alias, ServerName};
use crate::identity::Identity;
use crate::keyring::Keyring;
use crate::peers::Peers;
use crate::session::compose::Author;
use crate::tasks::Tasks;
use crate::wire::api::Problem;
use crate::wire::keys::KeyDocument;
use crate::wire::requests::{self, Covered};

/// How long an answer may take where PROTOCOL 13 says nothing else.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One federation network of this gateway.
pub struct Node {
    pub network: NetworkName,
    pub author: Author,
    pub identity: Identity,
    pub lists: Lists,
    pub graph: Graph,
    pub keyring: Keyring,
    pub transport: Arc<dyn Transport>,
    pub tasks: Tasks,
    pub peers: Peers,
    pub catch_up: CatchUp,
    pub reports: Reports,
    pub clock: Clock,
    /// Somebody has shown us an event of ours that we do not have; said once in a run.
    pub is_behind: AtomicBool,
    /// Wakes the reporter: the graph has something that the gateway has not heard of.
    pub arrived: Notify,
    /// How far the gateway has confirmed, and whether it takes anything now.
    pub progress: watch::Sender<Progress>,
}

/// How far the gateway has confirmed what the graph told it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub reported: i64,
    pub busy: bool,
}

/// Why a peer did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{server} answers {status}: {reason}")]
    Refused {
        server: ServerName,
        status: u16,
        reason: String,
        retry_after: Option<u64>,
    },
    #[error("the answer of {0} is not what this protocol says")]
    Malformed(ServerName),
}

impl Node {
    pub fn server(&self) -> &ServerName {
        &self.author.server
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().0).unwrap_or(0)
    }

    /// Our key document as of now.
    pub fn document(&self) -> KeyDocument {
        self.identity.document(self.server(), self.now_ms())
    }

    /// The channel of this network that shows the room.
    pub fn channel(&self, alias: &Alias) -> Option<Channel> {
        Channel::new(self.network.clone(), alias.as_str()).ok()
    }

    /// Sends a signed request and reads its answer.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: usize,
    ) -> Result<T, RequestError> {
        let covered = Covered {
            method: method.as_str(),
            authority: server.as_str(),
            path,
            query: None,
            body: &body,
        };
        let signed = requests::sign(
            covered,
            self.server(),
            &self.author.key,
            self.now_ms() / 1000,
            &random_text(24),
        );
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| RequestError::Malformed(server.clone()))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in [
            ("content-digest", signed.content_digest),
            ("signature-input", signed.signature_input),
            ("signature", signed.signature),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).expect("made of ASCII"));
        }
        let answer = self
            .transport
            .send(server, request, limit, PATIENCE)
            .await?;
        read_answer(server, &answer)
    }
}

fn read_answer<T: DeserializeOwned>(
    server: &ServerName,
    answer: &Response<Bytes>,
) -> Result<T, RequestError> {
    if answer.status() == 200 {
        return serde_json::from_slice(answer.body())
            .map_err(|_| RequestError::Malformed(server.clone()));
    }
    let problem: Option<Problem> = serde_json::from_slice(answer.body()).ok();
    // Something between us and the server, such as a proxy, has only the header.
    let header = || {
        let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok()
    };
    let retry_after = problem
        .as_ref()
        .and_then(|problem| problem.retry_after)
        .or_else(header);
    let reason = problem.map_or_else(String::new, |problem| {
        clip(&format!("{}: {}", problem.error, problem.reason))
    });
    Err(RequestError::Refused {
        server: server.clone(),
        status: answer.status().as_u16(),
        reason,
        retry_after,
    })
}

/// What a stranger wrote, fit for one line of a log.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Letters and digits that nobody can guess.
pub fn random_text(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}
