//! A person in a Matrix room: the client-server API by hand, one access token, one room.
//!
//! A task holds `/sync` open for that one room and writes down what arrives; a server that is
//! down for a while is asked again, as any client would. Everything named here is scoped to the
//! room, since an account's first sync may bring rooms of earlier runs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    person::{Line, PATIENCE, Person},
    transcript::{Heard, Log, Transcript},
};

/// Where and as whom to log in.
#[derive(Clone, Debug)]
pub struct MatrixAccount {
    /// For reports: `synapse`.
    pub network: String,
    /// `http://127.0.0.1:18008`.
    pub homeserver: String,
    /// `alice`.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// Someone in a room.
#[derive(Debug)]
pub struct Matrix {
    network: String,
    name: String,
    api: Api,
    user_id: String,
    room_id: String,
    transcript: Transcript,
    members: Log<String>,
    sync: JoinHandle<()>,
}

impl Matrix {
    /// Logs in and enters the room with that alias (`#rust:hs.test`), making it (public) when
    /// there is none.
    pub async fn join(account: &MatrixAccount, alias: &str) -> Result<Self> {
        let api = Api::login(account)
            .await
            .with_context(|| format!("{} logging in at {}", account.user, account.homeserver))?;
        let room_id = api
            .enter(alias)
            .await
            .with_context(|| format!("{} entering {alias}", account.user))?;
        let user_id = api.user_id.clone();
        let transcript = Transcript::default();
        let members = Log::default();
        let ears = Ears {
            api: api.clone(),
            room_id: room_id.clone(),
            names: Mutex::default(),
            transcript: transcript.clone(),
            members: members.clone(),
        };
        // The first sync is the barrier: what is said from now on is in the transcript, and what
        // it brings itself was said before, perhaps in an earlier run. Only who is there counts.
        let (since, body) = ears.once(None).await.context("first sync")?;
        ears.take(&body, |event| event["type"] == "m.room.member");
        let sync = tokio::spawn(follow(ears, since));
        Ok(Self {
            network: account.network.clone(),
            name: account.user.clone(),
            api,
            user_id,
            room_id,
            transcript,
            members,
            sync,
        })
    }

    /// Makes the account, on a homeserver where everybody may.
    pub async fn register(account: &MatrixAccount) -> Result<()> {
        let request = json!({
            "auth": { "type": "m.login.dummy" },
            "username": account.user,
            "password": account.password,
            "inhibit_login": true,
        });
        let api = Api::stranger(account)?;
        let answer = api.ask(Method::POST, "register", Some(request)).await;
        answer.map(drop).map_err(Into::into)
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// This person's MXID.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Asks `user_id` into the room.
    pub async fn invite(&self, user_id: &str) -> Result<()> {
        let path = format!("rooms/{}/invite", encoded(&self.room_id));
        self.api
            .ask(Method::POST, &path, Some(json!({ "user_id": user_id })))
            .await?;
        Ok(())
    }

    /// Waits until `user_id` is in the room.
    pub async fn sees_join(&self, user_id: &str) -> Result<()> {
        let what = format!("member {user_id} in {}", self.room_id);
        self.members
            .wait_for(&what, PATIENCE, |members| {
                members.iter().any(|member| member == user_id).then_some(())
            })
            .await
    }

    /// Sends an event with content of the caller's making; returns its id.
    pub async fn event(&self, kind: &str, content: Value) -> Result<String> {
        let transaction = self.api.next_transaction();
        let path = format!(
            "rooms/{}/send/{}/{}",
            encoded(&self.room_id),
            encoded(kind),
            encoded(&transaction)
        );
        let answer = self.api.ask(Method::PUT, &path, Some(content)).await?;
        answer["event_id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("no event id in {answer}"))
    }
}

#[async_trait]
impl Person for Matrix {
    fn name(&self) -> &str {
        &self.name
    }

    fn network(&self) -> &str {
        &self.network
    }

    fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    async fn burst(&self, lines: &[Line]) -> Result<()> {
        for line in lines {
            let kind = if line.emote { "m.emote" } else { "m.text" };
            self.event(
                "m.room.message",
                json!({ "msgtype": kind, "body": line.text }),
            )
            .await?;
        }
        Ok(())
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.sync.abort();
    }
}

/// The client-server API with one access token.
#[derive(Clone, Debug)]
struct Api {
    http: Client,
    homeserver: String,
    token: String,
    user_id: String,
    transactions: Arc<AtomicU64>,
    session: String,
}

impl Api {
    /// Somebody who has no token yet.
    fn stranger(account: &MatrixAccount) -> Result<Self> {
        Ok(Self {
            http: Client::builder().no_proxy().build()?,
            homeserver: account.homeserver.trim_end_matches('/').to_owned(),
            token: String::new(),
            user_id: String::new(),
            transactions: Arc::default(),
            session: format!("{:08x}", rand::random::<u32>()),
        })
    }

    async fn login(account: &MatrixAccount) -> Result<Self> {
        let mut api = Self::stranger(account)?;
        let request = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": account.user },
            "password": account.password,
        });
        let answer = api.ask(Method::POST, "login", Some(request)).await?;
        let field = |name: &str| {
            answer[name]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| anyhow!("no {name} in {answer}"))
        };
        api.token = field("access_token")?;
        api.user_id = field("user_id")?;
        Ok(api)
    }

    /// Enters or makes the room with this alias.
    async fn enter(&self, alias: &str) -> Result<String> {
        let path = format!("join/{}", encoded(alias));
        let answer = match self.ask(Method::POST, &path, Some(json!({}))).await {
            Ok(answer) => answer,
            Err(Refusal::Server(StatusCode::NOT_FOUND, _)) => {
                let localpart = alias.trim_start_matches('#').split(':').next();
                let room = json!({
                    "preset": "public_chat",
                    "room_alias_name": localpart,
                    "name": localpart,
                });
                self.ask(Method::POST, "createRoom", Some(room)).await?
            }
            Err(error) => return Err(error.into()),
        };
        answer["room_id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("no room id in {answer}"))
    }

    /// One request; the error says what was asked and what the server answered.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Refusal> {
        let url = format!("{}/_matrix/client/v3/{path}", self.homeserver);
        let mut request = self.http.request(method, &url).timeout(PATIENCE * 2);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let body = response.text().await?;
        if !status.is_success() {
            return Err(Refusal::Server(status, format!("{path}: {body}")));
        }
        Ok(serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn next_transaction(&self) -> String {
        let n = self.transactions.fetch_add(1, Ordering::Relaxed);
        format!("{}.{n}", self.session)
    }
}

/// Why a request failed.
#[derive(Debug)]
enum Refusal {
    Server(StatusCode, String),
    Transport(reqwest::Error),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(status, body) => write!(f, "the homeserver answered {status} to {body}"),
            Self::Transport(error) => write!(f, "{error}: {:?}", std::error::Error::source(error)),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<reqwest::Error> for Refusal {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error)
    }
}

/// The sync side of a person.
struct Ears {
    api: Api,
    room_id: String,
    /// Display names by MXID.
    names: Mutex<HashMap<String, String>>,
    transcript: Transcript,
    members: Log<String>,
}

/// Asks for what is new until the person is dropped.
async fn follow(ears: Ears, mut since: String) {
    let mut pause = Duration::from_millis(50);
    loop {
        match ears.once(Some(&since)).await {
            Ok((next, body)) => {
                ears.take(&body, |_| true);
                if body["rooms"]["join"][&ears.room_id]["timeline"]["limited"] == true {
                    let why = "the homeserver left lines out of a sync: too many at once";
                    ears.transcript.end(why);
                    return;
                }
                since = next;
                pause = Duration::from_millis(50);
            }
            Err(error) if error.to_string().contains("M_UNKNOWN_TOKEN") => {
                ears.transcript.end(error.to_string());
                ears.members.end(error.to_string());
                return;
            }
            // The homeserver is down or starting: what is said meanwhile comes with a later sync.
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

impl Ears {
    async fn once(&self, since: Option<&str>) -> Result<(String, Value)> {
        let filter = json!({
            "room": {
                "rooms": [self.room_id],
                "timeline": { "limit": 1000 },
                "state": { "types": ["m.room.member"] },
                "ephemeral": { "types": [] },
                "account_data": { "types": [] },
            },
            "presence": { "types": [] },
            "account_data": { "types": [] },
        });
        let mut path = format!("sync?filter={}", encoded(&filter.to_string()));
        if let Some(since) = since {
            path.push_str(&format!("&timeout=20000&since={}", encoded(since)));
        }
        let body = self.api.ask(Method::GET, &path, None).await?;
        let Some(next) = body["next_batch"].as_str().map(str::to_owned) else {
            bail!("no next_batch in {body}");
        };
        Ok((next, body))
    }

    fn take(&self, body: &Value, wanted: impl Fn(&Value) -> bool) {
        let room = &body["rooms"]["join"][&self.room_id];
        for part in ["state", "timeline"] {
            let events = room[part]["events"].as_array().into_iter().flatten();
            for event in events.filter(|event| wanted(event)) {
                self.event(event);
            }
        }
    }

    fn event(&self, event: &Value) {
        let content = &event["content"];
        let sender = event["sender"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("m.room.member") if content["membership"] == "join" => {
                let member = event["state_key"].as_str().unwrap_or_default().to_owned();
                let name = content["displayname"]
                    .as_str()
                    .unwrap_or(&member)
                    .to_owned();
                self.names
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(member.clone(), name);
                self.members.push(member);
            }
            Some("m.room.message") => {
                let author = self
                    .names
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(sender)
                    .cloned();
                self.transcript.push(Heard {
                    author: author.unwrap_or_else(|| sender.to_owned()),
                    author_id: sender.to_owned(),
                    text: content["body"].as_str().unwrap_or_default().to_owned(),
                    emote: content["msgtype"] == "m.emote",
                    own: sender == self.api.user_id,
                    at: SystemTime::now(),
                });
            }
            _ => {}
        }
    }
}

/// Percent-encodes everything that is not unreserved in RFC 3986.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
