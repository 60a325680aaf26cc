//! What was said in a channel while we were not there, and what of ours is there.
//!
//! A server with `draft/chathistory` is asked, one question at a time. Another may replay some lines by itself when we
//! join; whatever it replays has come when it answers a PING that follows the JOIN. Meanwhile the
//! channel's new lines wait, so that everything is told in the order in which it was said.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Event, Heard, Session, batches::Batch};
use crate::{
    ident::ChannelName,
    wire::{Command, Label, Line, Middle, Trailing},
};

/// How long the server may take over one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to answer the PING after a JOIN: it may have much to replay first.
const JOINED_WITHIN: Duration = Duration::from_secs(90);

/// Lines in one answer, if the server does not say that it gives fewer.
const PAGE: usize = 100;

/// Answers that are asked for at most: of a longer absence the rest is a gap.
const MAX_PAGES: usize = 200;

/// Answers that are looked through for our own lines.
const MAX_LOOKS: usize = 10;

/// New lines that wait until the old ones are told. More are asked for, like the old ones; where they cannot be, the old ones
/// are waited for no longer.
const MAX_HELD: usize = 2000;

/// Characters of a `time` tag down to the second.
const SECONDS: usize = "2011-10-19T16:40:51".len();

/// What the token of a PING after a JOIN begins with.
const JOINED: &str = "joined-";

/// The last that is known of a channel, in the server's own terms.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Since {
    pub(crate) msgid: Option<String>,
    /// A `time` tag.
    pub(crate) time: Option<String>,
}

/// A line of ours, as a channel's history has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnLine {
    pub(crate) text: String,
    pub(crate) key: Option<String>,
    pub(crate) msgid: Option<String>,
    pub(crate) time: Option<String>,
}

/// Until when something is missing that was said since a channel was last heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Missing {
    Nothing,
    UntilJoined,
    /// Some of what was said since then, too.
    UntilNow,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// By the name as it was asked for.
    catching_up: BTreeMap<ChannelName, CatchUp>,
    looking: BTreeMap<ChannelName, Look>,
    due: VecDeque<Question>,
    asked: Option<Asked>,
    number: u64,
    joins: u64,
}

#[derive(Debug)]
struct CatchUp {
    since: Since,
    /// The PING that ends what the server replays by itself; none when it is asked.
    fence: Option<String>,
    /// When the PING's answer is overdue.
    deadline: Option<Instant>,
    /// The line that we know was among what was replayed: nothing is missing.
    complete: bool,
    /// The server could not answer: some of it may be missing.
    doubtful: bool,
    pages: usize,
    held: VecDeque<Heard>,
    overflown: bool,
}

#[derive(Debug)]
struct Look {
    /// A `time` tag: nothing of ours before this matters.
    until: String,
    found: Vec<OwnLine>,
    /// The oldest line that was looked at.
    edge: Since,
    pages: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Question {
    Missed(ChannelName),
    Own(ChannelName),
}

#[derive(Debug)]
struct Asked {
    question: Question,
    number: u64,
    deadline: Instant,
    /// Lines of the answer so far.
    lines: usize,
    /// The reference of the next question: the newest line, or the oldest of those looked through.
    edge: Since,
    found: Vec<OwnLine>,
}

impl Session {
    /// Tells whether lines said earlier can be asked for.
    pub(crate) fn has_history(&self) -> bool {
        self.caps.has("draft/chathistory") && self.caps.has("batch") && self.caps.has("server-time")
    }

    /// We are in this channel again: what was missed since then is told before anything new.
    pub(crate) fn catch_up(&mut self, name: &ChannelName, since: Since, now: Instant) {
        let mut catch_up = CatchUp {
            since,
            fence: None,
            deadline: None,
            complete: false,
            doubtful: false,
            pages: 0,
            held: VecDeque::new(),
            overflown: false,
        };
        if self.has_history() && (catch_up.since.msgid.is_some() || catch_up.since.time.is_some()) {
            self.history.due.push_back(Question::Missed(name.clone()));
        } else {
            self.history.joins += 1;
            let token = format!("{JOINED}{}", self.history.joins);
            self.urge(Command::new("PING", [], Some(Trailing::new(&token))));
            catch_up.fence = Some(token);
            catch_up.deadline = Some(now + JOINED_WITHIN);
        }
        self.history.catching_up.insert(name.clone(), catch_up);
    }

    /// Looks through a channel's latest lines for ours, back to `until`, a `time` tag. Answered by
    /// [`Event::LookedBack`].
    pub(crate) fn look_back(&mut self, name: &ChannelName, until: String) {
        let look = Look {
            until,
            found: Vec::new(),
            edge: Since::default(),
            pages: 0,
        };
        self.history.looking.insert(name.clone(), look);
        self.history.due.push_back(Question::Own(name.clone()));
    }

    /// We are no longer in this channel: nothing of it can be asked now.
    pub(super) fn forget_history(&mut self, name: &ChannelName) {
        if let Some(mut catch_up) = self.history.catching_up.remove(name) {
            if catch_up.fence.is_none() {
                // What was not fetched yet is older than these. The server keeps both, and is asked again from the
                // last line that was told.
                catch_up.held.retain(|heard| heard.msgid.is_none());
            }
            self.tell_held(catch_up.held);
        }
        self.history
            .due
            .retain(|question| question.channel() != name);
        if self.history.looking.remove(name).is_some() {
            self.events.push_back(Event::LookedBack(name.clone(), None));
        }
    }

    pub(super) fn has_question(&self) -> bool {
        self.history.asked.is_none() && !self.history.due.is_empty()
    }

    /// Returns the next question, when the one before is answered.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<Command> {
        while self.history.asked.is_none() {
            let question = self.history.due.pop_front()?;
            let Some((kind, since)) = self.reference(&question) else {
                self.fail_question(question);
                continue;
            };
            self.history.number += 1;
            let number = self.history.number;
            let limit = match self.isupport.chathistory {
                Some(limit) if limit > 0 => limit.min(PAGE),
                _ => PAGE,
            };
            let words = [
                Middle::parse(kind),
                Some(question.channel().middle()),
                Middle::parse(&since),
                Middle::parse(&limit.to_string()),
            ];
            // A reference that cannot be sent is no reference.
            let Ok(mut command) = Command::new("CHATHISTORY", words.into_iter().flatten(), None)
            else {
                self.fail_question(question);
                continue;
            };
            command.tags_mut().label = self.tagging().labels.then_some(Label::Asked(number));
            self.history.asked = Some(Asked {
                question,
                number,
                deadline: now + ANSWER_WITHIN,
                lines: 0,
                edge: Since::default(),
                found: Vec::new(),
            });
            return Some(command);
        }
        None
    }

    fn reference(&self, question: &Question) -> Option<(&'static str, String)> {
        let of = |since: &Since| match (&since.msgid, &since.time) {
            (Some(msgid), _) if !msgid.contains(' ') => Some(format!("msgid={msgid}")),
            (_, Some(time)) => Some(format!("timestamp={time}")),
            _ => None,
        };
        match question {
            Question::Missed(name) => {
                let catch_up = self.history.catching_up.get(name)?;
                of(&catch_up.since).map(|since| ("AFTER", since))
            }
            Question::Own(name) => {
                let look = self.history.looking.get(name)?;
                match look.pages {
                    0 => Some(("LATEST", "*".to_owned())),
                    _ => of(&look.edge).map(|since| ("BEFORE", since)),
                }
            }
        }
    }

    /// A line that was said earlier, replayed in a batch. Ours are looked at only when they are looked for.
    pub(super) fn handle_replayed(
        &mut self,
        heard: Heard,
        key: Option<String>,
        is_own: bool,
        answers: Option<Label>,
    ) {
        let name = heard.channel.clone();
        if self.is_answer(&name, answers)
            && let Some(asked) = &mut self.history.asked
        {
            asked.lines += 1;
            let edge = Since {
                msgid: heard.msgid.clone(),
                time: heard.time.clone(),
            };
            match asked.question {
                Question::Missed(_) => {
                    asked.edge = edge;
                    if !is_own {
                        self.events.push_back(Event::Heard(Box::new(heard)));
                    }
                }
                Question::Own(_) => {
                    if asked.lines == 1 {
                        asked.edge = edge;
                    }
                    if is_own {
                        asked.found.push(OwnLine {
                            text: heard.text,
                            key,
                            msgid: heard.msgid,
                            time: heard.time,
                        });
                    }
                }
            }
            return;
        }
        // Nobody asked for it. A line without an id cannot be told from one that we have already.
        match self.history.catching_up.get_mut(&name) {
            Some(catch_up) if catch_up.fence.is_some() && heard.msgid.is_some() => {
                catch_up.complete |= catch_up.since.msgid == heard.msgid;
                // InspIRCd 3 replays with whole seconds. What is known already is no harm: it has its id.
                let second = |time: &Option<String>| {
                    time.as_deref()
                        .and_then(|time| time.get(..SECONDS))
                        .map(str::to_owned)
                };
                let is_earlier = match (second(&heard.time), second(&catch_up.since.time)) {
                    (Some(time), Some(since)) => time < since,
                    _ => false,
                };
                if !is_own && !is_earlier {
                    self.events.push_back(Event::Heard(Box::new(heard)));
                }
            }
            _ => self.events.push_back(Event::Skipped {
                reason: "replayed",
                detail: format!("from {} in {name}", heard.nick),
            }),
        }
    }

    /// Something else than a message is replayed: of that only its place matters.
    pub(super) fn handle_replayed_other(&mut self, line: &Line<'_>) {
        let label = self.batches.label(line);
        let history_of = self
            .batches
            .of(line)
            .and_then(|batch| batch.history_of.as_deref());
        let name = history_of.and_then(|name| self.channels.find(name, self.isupport.casemapping));
        let edge = Since {
            msgid: line.tags.get("msgid").map(str::to_owned),
            time: line.tags.get("time").map(str::to_owned),
        };
        if name.is_some_and(|name| self.is_answer(&name, label))
            && let Some(asked) = &mut self.history.asked
        {
            asked.lines += 1;
            if asked.lines == 1 || matches!(asked.question, Question::Missed(_)) {
                asked.edge = edge;
            }
        }
    }

    /// Keeps a new line back while old ones are on their way. Returns it when it may be told.
    pub(super) fn hold_back(&mut self, heard: Heard) -> Option<Heard> {
        if self.history.catching_up.is_empty() {
            return Some(heard);
        }
        let Some(catch_up) = self.history.catching_up.get_mut(&heard.channel) else {
            return Some(heard);
        };
        if catch_up.held.len() < MAX_HELD && !catch_up.overflown {
            catch_up.held.push_back(heard);
            return None;
        }
        if catch_up.fence.is_none() && heard.msgid.is_some() {
            catch_up.overflown = true;
            return None;
        }
        let name = heard.channel.clone();
        catch_up.doubtful = true;
        self.end_catch_up(&name);
        Some(heard)
    }

    /// A history batch has ended.
    pub(super) fn handle_history_end(&mut self, batch: &Batch) {
        let Some(channel) = &batch.history_of else {
            return;
        };
        let name = self.channels.find(channel, self.isupport.casemapping);
        if name.is_some_and(|name| self.is_answer(&name, batch.label)) {
            self.finish_question();
        }
    }

    /// The server answers a question with nothing (`ACK`), or not at all with history.
    pub(super) fn handle_question_answered(&mut self, number: u64) {
        if self
            .history
            .asked
            .as_ref()
            .is_some_and(|asked| asked.number == number)
        {
            self.finish_question();
        }
    }

    /// The server cannot answer (`FAIL CHATHISTORY`): this question, or without a number the last.
    pub(super) fn handle_question_failed(&mut self, number: Option<u64>) {
        let is_about = |asked: &mut Asked| number.is_none_or(|number| number == asked.number);
        if let Some(asked) = self.history.asked.take_if(is_about) {
            self.fail_question(asked.question);
        }
    }

    /// Takes the PONG of a PING that followed a JOIN; returns whether it was one.
    pub(super) fn handle_joined_pong(&mut self, token: &str) -> bool {
        if !token.starts_with(JOINED) {
            return false;
        }
        let found = self.history.catching_up.iter();
        let name = found
            .filter(|(_, catch_up)| catch_up.fence.as_deref() == Some(token))
            .map(|(name, _)| name.clone())
            .next();
        if let Some(name) = name {
            self.end_catch_up(&name);
        }
        true
    }

    pub(super) fn next_history_timeout(&self) -> Option<Instant> {
        let joins = self.history.catching_up.values();
        let joins = joins.filter_map(|catch_up| catch_up.deadline);
        let asked = self.history.asked.as_ref().map(|asked| asked.deadline);
        joins.chain(asked).min()
    }

    pub(super) fn handle_history_timeout(&mut self, now: Instant) {
        if let Some(asked) = self.history.asked.take_if(|asked| asked.deadline <= now) {
            self.fail_question(asked.question);
        }
        let is_overdue = |catch_up: &CatchUp| catch_up.deadline.is_some_and(|by| by <= now);
        let joins = self.history.catching_up.iter_mut();
        let overdue: Vec<ChannelName> = joins
            .filter(|(_, catch_up)| is_overdue(catch_up))
            .map(|(name, catch_up)| {
                catch_up.doubtful = true;
                name.clone()
            })
            .collect();
        for name in overdue {
            self.end_catch_up(&name);
        }
    }

    fn is_answer(&self, name: &ChannelName, label: Option<Label>) -> bool {
        self.history.asked.as_ref().is_some_and(|asked| {
            asked.question.channel() == name
                && label.is_none_or(|label| label == Label::Asked(asked.number))
        })
    }

    fn finish_question(&mut self) {
        let Some(asked) = self.history.asked.take() else {
            return;
        };
        match asked.question {
            Question::Missed(name) => {
                let Some(catch_up) = self.history.catching_up.get_mut(&name) else {
                    return;
                };
                catch_up.pages += 1;
                let went_on = asked.lines > 0 && asked.edge != catch_up.since;
                if went_on {
                    catch_up.since = asked.edge;
                }
                if went_on && catch_up.pages < MAX_PAGES {
                    return self.history.due.push_front(Question::Missed(name));
                }
                if catch_up.overflown && catch_up.pages < MAX_PAGES {
                    catch_up.overflown = false;
                    // What did not fit is newer than what is held: that goes first, then the question again.
                    if let Some(last) = catch_up.held.back() {
                        catch_up.since = Since {
                            msgid: last.msgid.clone(),
                            time: last.time.clone(),
                        };
                    }
                    let held = std::mem::take(&mut catch_up.held);
                    self.tell_held(held);
                    return self.history.due.push_front(Question::Missed(name));
                }
                catch_up.complete = !went_on && !catch_up.overflown;
                self.end_catch_up(&name);
            }
            Question::Own(name) => {
                let Some(look) = self.history.looking.get_mut(&name) else {
                    return;
                };
                look.pages += 1;
                let time = asked.edge.time.as_ref();
                let reached = asked.lines == 0 || time.is_some_and(|time| *time < look.until);
                let stuck = look.pages >= MAX_LOOKS || time.is_none() || look.edge == asked.edge;
                look.edge = asked.edge;
                look.found.splice(0..0, asked.found);
                if !reached && !stuck {
                    return self.history.due.push_front(Question::Own(name));
                }
                if let Some(look) = self.history.looking.remove(&name) {
                    // What is not among some of the lines may be among the others.
                    let found = reached.then_some(look.found);
                    self.events.push_back(Event::LookedBack(name, found));
                }
            }
        }
    }

    fn fail_question(&mut self, question: Question) {
        match question {
            Question::Missed(name) => {
                let Some(catch_up) = self.history.catching_up.get_mut(&name) else {
                    return;
                };
                // The server may have forgotten the line, and still know what was said after that time. Whether that is
                // all, nobody can say.
                if catch_up.since.msgid.take().is_some() && catch_up.since.time.is_some() {
                    catch_up.pages = MAX_PAGES / 2;
                    catch_up.doubtful = true;
                    self.history.due.push_front(Question::Missed(name));
                } else {
                    catch_up.doubtful = true;
                    self.end_catch_up(&name);
                }
            }
            Question::Own(name) => {
                if self.history.looking.remove(&name).is_some() {
                    self.events.push_back(Event::LookedBack(name, None));
                }
            }
        }
    }

    fn end_catch_up(&mut self, name: &ChannelName) {
        if let Some(catch_up) = self.history.catching_up.remove(name) {
            let missing = match catch_up.complete && !catch_up.doubtful {
                _ if catch_up.overflown => Missing::UntilNow,
                true => Missing::Nothing,
                false => Missing::UntilJoined,
            };
            self.events.push_back(Event::CaughtUp {
                channel: name.clone(),
                missing,
            });
            self.tell_held(catch_up.held);
        }
    }

    fn tell_held(&mut self, held: VecDeque<Heard>) {
        let held = held.into_iter().map(|heard| Event::Heard(Box::new(heard)));
        self.events.extend(held);
    }
}

impl Question {
    fn channel(&self) -> &ChannelName {
        match self {
            Self::Missed(name) | Self::Own(name) => name,
        }
    }
}
