//! One delivery on its way: what is asked next, and what a success changes.

use std::collections::{BTreeMap, VecDeque};

use comity_bridge::{DeliveryError, DeliveryKey, Outcome, failpoint};
use ruma::{OwnedEventId, OwnedRoomId};

use super::{Asked, Step, Work};
use crate::config::Users;
use crate::ident::{Names, transaction_id};
use crate::inbound::clean_name;
use crate::outbound;
use crate::session::ghosts::Ghosts;
use crate::session::{Action, Job, Settings};
use crate::wire::call::{Answer, Call};

/// After this many attempts it is asked whether the homeserver fails for everybody, or for this one alone.
const MANY_ATTEMPTS: u32 = 8;

impl Work {
    pub(super) fn begin(
        job: Job,
        room: &OwnedRoomId,
        settings: &Settings,
    ) -> Result<Self, (DeliveryKey, Outcome)> {
        let mut spoken = match outbound::speak(&job.event, &job.refs, settings.users) {
            Ok(spoken) => spoken,
            Err(error) => {
                return Err((
                    job.key,
                    Outcome::GiveUp(DeliveryError::Unsupported(error.to_string())),
                ));
            }
        };
        let mut done = BTreeMap::new();
        if let Some(plan) = &job.plan {
            spoken.parts.clone_from(&plan.parts);
            for (index, ids) in &plan.done {
                let id = ids
                    .first()
                    .and_then(|id| OwnedEventId::try_from(id.0.as_str()).ok());
                if let (Ok(index), Some(id)) = (usize::try_from(*index), id) {
                    done.insert(index, id);
                }
            }
        }
        let ghost = settings.names.ghost(&job.event.author.address);
        let speaker = match settings.users {
            Users::Ghosts => ghost.clone(),
            Users::Relay => settings.names.bot().clone(),
        };
        let name = clean_name(&job.event.author.name);
        let name = if name.is_empty() {
            job.event.author.address.user().to_owned()
        } else {
            name
        };
        let wants_probe = job.attempt >= MANY_ATTEMPTS;
        Ok(Self {
            planned: job.plan.is_some() || spoken.parts.len() <= 1,
            doubt: job.doubt,
            job,
            room: room.clone(),
            spoken,
            speaker,
            name,
            done,
            from: None,
            pages: 0,
            redacted: Vec::new(),
            pause_until: None,
            speakers: vec![ghost, settings.names.bot().clone()],
            begun: false,
            wants_join: false,
            wants_invite: false,
            invited: false,
            rejoined: false,
            wants_probe,
            served: false,
            asked: Asked::Nothing,
        })
    }

    /// The next thing to ask; none when everything has been sent.
    pub(super) fn next(&mut self, settings: &Settings, ghosts: &mut Ghosts) -> Option<Step> {
        let part = (0..self.spoken.parts.len()).find(|part| !self.done.contains_key(part))?;
        let (user, room) = (self.speaker.clone(), self.room.clone());
        if self.doubt {
            return self.call(
                Asked::Look,
                Call::History {
                    room,
                    from: self.from.clone(),
                    senders: self.speakers.clone(),
                },
            );
        }
        if self.wants_probe {
            return self.call(
                Asked::Probe,
                Call::SetName {
                    user: settings.names.bot().clone(),
                    name: settings.bot_name.clone(),
                },
            );
        }
        if settings.users == Users::Ghosts {
            let ghost = ghosts.of(&user);
            if !ghost.registered {
                return self.call(
                    Asked::Register,
                    Call::Register {
                        localpart: user.localpart().to_owned(),
                    },
                );
            }
            if ghost.name.as_deref() != Some(&self.name) {
                return self.call(
                    Asked::Name,
                    Call::SetName {
                        user,
                        name: self.name.clone(),
                    },
                );
            }
            self.wants_join = !ghost.is_in(&room);
        }
        if self.wants_invite {
            return self.call(Asked::Invite, Call::Invite { user, room });
        }
        if self.wants_join {
            return self.call(
                Asked::Join,
                Call::Join {
                    user,
                    room,
                    via: Vec::new(),
                },
            );
        }
        if !self.planned {
            self.asked = Asked::Plan;
            return Some(Step::Plan {
                key: self.job.key.clone(),
                parts: self.spoken.parts.clone(),
            });
        }
        if part > 0 {
            failpoint::reached("matrix.between_parts");
        }
        let content = outbound::content(
            self.spoken.kind,
            &self.spoken.parts[part],
            self.spoken.reply_to.as_deref(),
            &self.job.key,
            part,
            self.job.late.is_some(),
        );
        let txn = transaction_id(&self.job.key, part);
        self.call(
            Asked::Send(part),
            Call::Send {
                user,
                room,
                txn,
                written: self.job.late,
                content,
            },
        )
    }

    fn call(&mut self, asked: Asked, call: Call) -> Option<Step> {
        self.asked = asked;
        self.pause_until = None;
        Some(Step::Call(call))
    }

    pub(super) fn handle_success(
        &mut self,
        asked: &Asked,
        answer: Answer,
        names: &Names,
        ghosts: &mut Ghosts,
        actions: &mut VecDeque<Action>,
    ) {
        match (asked, answer) {
            (Asked::Look, Answer::Page { events, next }) => {
                self.look(&events, next, names, actions)
            }
            (Asked::Probe, _) => {
                self.wants_probe = false;
                self.served = true;
            }
            (Asked::Register, _) => ghosts.of(&self.speaker).registered = true,
            (Asked::Name, _) => ghosts.of(&self.speaker).name = Some(self.name.clone()),
            (Asked::Invite, _) => self.wants_invite = false,
            (Asked::Join, _) => {
                self.wants_join = false;
                ghosts.of(&self.speaker).note(&self.room, true);
            }
            (Asked::Send(part), Answer::Sent(id)) => {
                self.begun = true;
                self.landed(*part, id, actions);
            }
            _ => {}
        }
    }

    pub(super) fn landed(&mut self, part: usize, id: OwnedEventId, actions: &mut VecDeque<Action>) {
        if part < self.spoken.parts.len() && !self.done.contains_key(&part) {
            self.done.insert(part, id.clone());
            actions.push_back(Action::Part {
                key: self.job.key.clone(),
                index: part,
                id,
            });
        }
    }
}
