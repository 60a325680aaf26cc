//! The far end: the network itself and its people, as one handle for tests.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::wire::{ToBridge, ToNetwork};
use crate::capabilities::Capabilities;
use crate::delivery::Plan;
use crate::error::DeliveryError;
use crate::event::{DeliveryKey, Timestamp};
use crate::test_util::conformance::Record;

/// What becomes of a delivery.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Reaction {
    /// People see it.
    #[default]
    Show,
    /// Nothing of it is sent, and the bridge says so.
    NotAttempted,
    /// Not shown; again after this time.
    Retry(Duration),
    /// The bridge cannot tell whether people have seen it.
    Ambiguous {
        /// Whether they have.
        shown: bool,
    },
    /// Kept for the operator.
    Park(DeliveryError),
    /// A dead letter.
    GiveUp(DeliveryError),
    /// In the bridge's hands until [`ScriptedNetwork::unhang`]; then people see it.
    Hang,
    /// The bridge panics with it in hand.
    Panic,
}

/// A delivery as a bridge of this network was handed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// The same for every attempt.
    pub key: DeliveryKey,
    /// From 1.
    pub attempt: u32,
    /// Whether an earlier one may have reached the network.
    pub doubt: bool,
    /// How an earlier one split it.
    pub plan: Option<Plan>,
    /// Who says it.
    pub author: String,
    /// When it was written, if it is late.
    pub late: Option<Timestamp>,
}

/// A network in memory. Cheap to clone; keeps what was said until a bridge acknowledges it, and says it again to a bridge
/// that enters the channel anew.
#[derive(Clone, Debug, Default)]
pub struct ScriptedNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    record: Record,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<mpsc::UnboundedSender<String>>,
    connections: u64,
    down: bool,
    held: bool,
    held_input: Vec<String>,
    asked_for: BTreeSet<String>,
    entered: BTreeSet<String>,
    shut: BTreeSet<String>,
    last_id: u64,
    last_said: Option<(u64, Said)>,
    unacknowledged: BTreeMap<u64, (Said, bool)>,
    acknowledged: usize,
    keys: HashMap<String, u64>,
    shown: BTreeMap<String, Vec<String>>,
    shown_count: usize,
    counts_only: bool,
    to_reflect: Vec<(u64, String, String, String)>,
    pings: u64,
    pongs: u64,
    capabilities: Capabilities,
    next: VecDeque<Reaction>,
    always: Reaction,
    hangs_ended: u64,
    attempts: Vec<Attempt>,
}

#[derive(Clone, Debug)]
struct Said {
    channel: String,
    author: String,
    text: String,
}

impl ScriptedNetwork {
    /// A network that nobody is on yet.
    pub fn new() -> Self {
        ScriptedNetwork::default()
    }

    // What people do.

    /// Somebody says a line in a channel (its native name). Returns the id that the network gives to it.
    pub fn say(&self, channel: &str, author: &str, text: &str) -> u64 {
        let said = Said {
            channel: channel.to_owned(),
            author: author.to_owned(),
            text: text.to_owned(),
        };
        self.change(|state| {
            state.last_id += 1;
            let id = state.last_id;
            state.last_said = Some((id, said.clone()));
            state.unacknowledged.insert(id, (said, false));
            state.send_unsent();
            id
        })
    }

    /// The network shows the last said line once more.
    pub fn say_again(&self) {
        self.change(|state| {
            if let Some((id, said)) = state.last_said.clone() {
                state.send_line(id, &said, "");
            }
        });
    }

    /// The bridge is shown its own lines.
    pub fn reflect(&self) {
        self.change(|state| {
            for (id, key, channel, text) in std::mem::take(&mut state.to_reflect) {
                let author = "scripted".to_owned();
                let said = Said {
                    channel,
                    author,
                    text,
                };
                state.send_line(id, &said, &key);
            }
        });
    }

    // What people and the network have seen.

    /// How many of the said lines the bridge has acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.look().acknowledged
    }

    /// Waits, without a limit, until this many lines were acknowledged.
    pub async fn wait_acknowledged(&self, lines: usize) {
        self.wait_until(|state| (state.acknowledged >= lines).then_some(()))
            .await;
    }

    /// What people have seen in a channel, in order.
    pub fn shown(&self, channel: &str) -> Vec<String> {
        self.look().shown.get(channel).cloned().unwrap_or_default()
    }

    /// Waits, without a limit, until people have seen this many lines in a channel; returns all of them.
    pub async fn wait_shown(&self, channel: &str, lines: usize) -> Vec<String> {
        self.wait_until(|state| {
            let shown = state.shown.get(channel)?;
            (shown.len() >= lines).then(|| shown.clone())
        })
        .await
    }

    /// How many lines were shown, in all channels.
    pub fn shown_count(&self) -> usize {
        self.look().shown_count
    }

    /// Waits, without a limit, until this many lines were shown in all channels.
    pub async fn wait_shown_count(&self, lines: usize) {
        self.wait_until(|state| (state.shown_count >= lines).then_some(()))
            .await;
    }

    /// Keeps no text of what is shown, and no key, from now on: for measuring with millions of lines.
    pub fn count_only(&self) {
        self.change(|state| state.counts_only = true);
    }

    /// The deliveries that bridges of this network were handed, in order.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.look().attempts.clone()
    }

    /// Waits, without a limit, until this many deliveries were handed over.
    pub async fn wait_attempts(&self, count: usize) -> Vec<Attempt> {
        self.wait_until(|state| (state.attempts.len() >= count).then(|| state.attempts.clone()))
            .await
    }

    // What happens next.

    /// What becomes of the next delivery that has no reaction yet.
    pub fn next(&self, reaction: Reaction) {
        self.change(|state| state.next.push_back(reaction));
    }

    /// What becomes of all deliveries from now on, but those that [`ScriptedNetwork::next`] was told about.
    pub fn always(&self, reaction: Reaction) {
        self.change(|state| state.always = reaction);
    }

    /// People see what hangs now.
    pub fn unhang(&self) {
        self.change(|state| state.hangs_ended += 1);
    }

    /// What the next run of the bridge says that it can show. The window is 1 unless this says otherwise.
    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.change(|state| state.capabilities = capabilities);
    }

    /// From now on the network reads nothing and answers nothing.
    pub fn hold(&self) {
        self.change(|state| state.held = true);
    }

    /// It reads and answers again, also what came in meanwhile.
    pub fn release(&self) {
        self.change(|state| state.held = false);
        let input = self.change(|state| std::mem::take(&mut state.held_input));
        for raw in input {
            self.receive(&raw);
        }
        self.change(State::send_unsent);
    }

    /// Drops the connection. New ones are welcome.
    pub fn cut(&self) {
        self.change(State::disconnect);
    }

    /// Drops the connection and takes no new one until [`ScriptedNetwork::come_up`].
    pub fn go_down(&self) {
        self.change(|state| {
            state.down = true;
            state.disconnect();
        });
    }

    /// Takes connections again.
    pub fn come_up(&self) {
        self.change(|state| state.down = false);
    }

    /// Puts the bridge out of a channel and lets it in no more.
    pub fn shut(&self, channel: &str) {
        self.change(|state| {
            state.shut.insert(channel.to_owned());
            state.entered.remove(channel);
            state.send(ToBridge::Denied {
                channel: channel.to_owned(),
            });
        });
    }

    /// Lets the bridge in, also when it asked before.
    pub fn open(&self, channel: &str) {
        self.change(|state| {
            state.shut.remove(channel);
            if state.asked_for.contains(channel) {
                state.enter(channel);
            }
        });
    }

    /// Sends the bridge something that is none of the wire's words.
    pub fn send_raw(&self, line: &str) {
        self.change(|state| state.send_raw(line.to_owned()));
    }

    /// Waits until the bridge has answered to a ping, and so has read all that was sent before.
    pub async fn ping(&self) {
        let mut sent_on = None;
        let number = self.change(|state| {
            state.pings += 1;
            state.pings
        });
        self.wait_until(|state| {
            // A ping that went down with its connection is sent again on the next.
            if state.connection.is_some() && sent_on != Some(state.connections) {
                sent_on = Some(state.connections);
                state.send(ToBridge::Ping { number });
            }
            (state.pongs >= number).then_some(())
        })
        .await;
    }

    // The bridge's end.

    /// The next lines for the bridge, and the number of the connection; none while the network is down.
    pub(super) fn connect(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.change(|state| {
            if state.down {
                return None;
            }
            state.disconnect();
            let (sender, receiver) = mpsc::unbounded_channel();
            state.connection = Some(sender);
            state.connections += 1;
            Some(receiver)
        })
    }

    /// A number that no other run of a bridge has got.
    pub(super) fn connections(&self) -> u64 {
        self.look().connections
    }

    pub(super) async fn is_up(&self) {
        self.wait_until(|state| (!state.down).then_some(())).await;
    }

    /// Takes what the bridge writes to the wire.
    pub(super) fn receive(&self, raw: &str) {
        let record = &self.shared.record;
        self.change(|state| {
            if state.held {
                state.held_input.push(raw.to_owned());
                return;
            }
            for line in raw.split(['\n', '\r']).filter(|line| !line.is_empty()) {
                match ToNetwork::parse(line) {
                    Some(word) => state.handle(word, record),
                    None => record.surprise(line),
                }
            }
        });
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.look().capabilities.clone()
    }

    pub(super) fn handed(&self, attempt: Attempt) {
        self.change(|state| {
            if !state.counts_only {
                state.attempts.push(attempt);
            }
        });
    }

    pub(super) fn reaction(&self) -> Reaction {
        self.change(|state| {
            state
                .next
                .pop_front()
                .unwrap_or_else(|| state.always.clone())
        })
    }

    pub(super) fn hangs_ended(&self) -> u64 {
        self.look().hangs_ended
    }

    pub(super) async fn hangs_end_after(&self, before: u64) {
        self.wait_until(|state| (state.hangs_ended > before).then_some(()))
            .await;
    }

    pub(super) fn record(&self) -> &Record {
        &self.shared.record
    }

    fn look(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.look());
        self.shared.changed.notify_waiters();
        done
    }

    async fn wait_until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that a change between look and wait is not missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.look()) {
                return found;
            }
            changed.await;
        }
    }
}

impl State {
    fn handle(&mut self, word: ToNetwork, record: &Record) {
        match word {
            ToNetwork::Hello => self.send(ToBridge::Welcome),
            ToNetwork::Enter { channel } => {
                self.asked_for.insert(channel.clone());
                if self.shut.contains(&channel) {
                    self.send(ToBridge::Denied { channel });
                } else {
                    self.enter(&channel);
                }
            }
            ToNetwork::Exit { channel } => {
                self.asked_for.remove(&channel);
                self.entered.remove(&channel);
            }
            ToNetwork::Show { key, channel, text } => self.show(key, channel, text, record),
            ToNetwork::Acknowledge { id } => {
                if self.unacknowledged.remove(&id).is_some() {
                    self.acknowledged += 1;
                    record.acknowledge(1);
                }
            }
            ToNetwork::Pong { number } => self.pongs = self.pongs.max(number),
        }
    }

    fn enter(&mut self, channel: &str) {
        self.entered.insert(channel.to_owned());
        self.send(ToBridge::Entered {
            channel: channel.to_owned(),
        });
        self.send_unsent();
    }

    fn show(&mut self, key: String, channel: String, text: String, record: &Record) {
        if !self.entered.contains(&channel) {
            return;
        }
        let id = match self.keys.get(&key) {
            Some(id) => *id,
            None => {
                self.last_id += 1;
                self.shown_count += 1;
                if !self.counts_only {
                    self.keys.insert(key.clone(), self.last_id);
                    record.show("scripted", &text);
                    self.to_reflect.push((
                        self.last_id,
                        key.clone(),
                        channel.clone(),
                        text.clone(),
                    ));
                    self.shown.entry(channel).or_default().push(text);
                }
                self.last_id
            }
        };
        self.send(ToBridge::Seen { key, id });
    }

    fn send_unsent(&mut self) {
        if self.held || self.connection.is_none() {
            return;
        }
        let mut unsent = Vec::new();
        for (id, (said, sent)) in &mut self.unacknowledged {
            if !*sent && self.entered.contains(&said.channel) {
                *sent = true;
                unsent.push((*id, said.clone()));
            }
        }
        for (id, said) in unsent {
            self.send_line(id, &said, "");
        }
    }

    fn send_line(&mut self, id: u64, said: &Said, key: &str) {
        self.send(ToBridge::Line {
            id,
            channel: said.channel.clone(),
            key: key.to_owned(),
            author: said.author.clone(),
            text: said.text.clone(),
        });
    }

    fn send(&mut self, word: ToBridge) {
        self.send_raw(word.print());
    }

    fn send_raw(&mut self, line: String) {
        if let Some(connection) = &self.connection {
            // A bridge that is gone reads nothing; what it has not acknowledged is kept.
            drop(connection.send(line));
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.held_input.clear();
        self.entered.clear();
        self.asked_for.clear();
        for (_, sent) in self.unacknowledged.values_mut() {
            *sent = false;
        }
    }
}
