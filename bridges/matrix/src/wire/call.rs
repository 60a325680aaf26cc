//! What we ask of the homeserver: ruma's requests behind one enum.
//!
//! A [`Call`] is plain data, so that the session can say what it wants without a socket; encoding
//! and decoding are here. Every call carries the application service's token, and those made for
//! a ghost its `user_id` ("identity assertion", application service API). The token is never part
//! of a [`Call`], so that one can be logged.

use std::{borrow::Cow, collections::BTreeMap};

use comity_bridge::Timestamp;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    OwnedTransactionId, OwnedUserId, RoomOrAliasId, UInt, UserId,
    api::{
        AppserviceUserIdentity, IncomingResponse, Metadata, OutgoingRequest,
        OutgoingRequestAppserviceExt, SupportedVersions,
        auth_scheme::{AuthScheme, SendAccessToken},
        client::{
            account::{register, whoami},
            alias::get_alias,
            appservice::request_ping,
            context::get_context,
            discovery::get_supported_versions,
            filter::{LazyLoadOptions, RoomEventFilter},
            membership::{invite_user, join_room_by_id_or_alias, leave_room},
            message::{get_message_events, send_message_event},
            profile::set_profile_field,
            state::get_state_event_for_key,
        },
        error::IntoHttpError,
        path_builder::VersionHistory,
    },
    events::{AnyMessageLikeEventContent, MessageLikeEventType, StateEventType},
    profile::ProfileFieldValue,
    serde::Raw,
    uint,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::RoomEvent;
use super::fault::{Fault, Problem};

/// One thing asked of the homeserver.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// Is anybody there?
    Versions,
    /// Makes an account in our namespace. That it exists already is as good.
    Register { localpart: String },
    /// Whom does our token speak for?
    Whoami,
    /// Sets a display name.
    SetName { user: OwnedUserId, name: String },
    /// Asks the homeserver to reach us, which also ends its pause after failures.
    Ping { registration: String },
    /// Which room does an alias name?
    Resolve { alias: OwnedRoomAliasId },
    /// Enters a room.
    Join {
        user: OwnedUserId,
        room: OwnedRoomId,
        via: Vec<OwnedServerName>,
    },
    /// Leaves a room.
    Leave {
        user: OwnedUserId,
        room: OwnedRoomId,
    },
    /// Invites a ghost, as the bot.
    Invite {
        user: OwnedUserId,
        room: OwnedRoomId,
    },
    /// Puts one message into a room; with `written`, under the time at which it was written ("timestamp massaging",
    /// application service API).
    Send {
        user: OwnedUserId,
        room: OwnedRoomId,
        txn: OwnedTransactionId,
        written: Option<Timestamp>,
        content: Box<RawValue>,
    },
    /// Reads a room from its newest event backwards, or from where the last page ended: the messages of some users, or, when none
    /// is named, everybody's and who came and went.
    History {
        room: OwnedRoomId,
        from: Option<String>,
        senders: Vec<OwnedUserId>,
    },
    /// Where a room goes on after an event.
    After {
        room: OwnedRoomId,
        event: OwnedEventId,
    },
    /// Reads a room forwards from where the last page ended: everybody's messages, and who came and went.
    Onward { room: OwnedRoomId, from: String },
    /// A member's state in a room: membership and display name.
    Member {
        room: OwnedRoomId,
        user: OwnedUserId,
    },
    /// Whether a room is encrypted.
    Encryption { room: OwnedRoomId },
}

/// What the homeserver answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is done; there is nothing to tell.
    Done,
    /// [`Call::Whoami`].
    User(OwnedUserId),
    /// [`Call::Resolve`].
    Room {
        room: OwnedRoomId,
        via: Vec<OwnedServerName>,
    },
    /// [`Call::Send`].
    Sent(OwnedEventId),
    /// [`Call::History`]: newest first; [`Call::After`] and [`Call::Onward`]: oldest first. `next` is absent at the room's end in
    /// that direction.
    Page {
        events: Vec<RoomEvent>,
        next: Option<String>,
    },
    /// [`Call::Member`].
    Member(MemberState),
    /// [`Call::Ping`], when the homeserver tried and could not: why.
    NotReached(String),
}

/// The content of an `m.room.member` event, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct MemberState {
    #[serde(default, deserialize_with = "super::event::lenient_string")]
    pub(crate) membership: Option<String>,
    #[serde(default, deserialize_with = "super::event::lenient_string")]
    pub(crate) displayname: Option<String>,
}

/// Where the homeserver is and how we show who we are.
pub(crate) struct Address {
    base_url: String,
    as_token: String,
    versions: SupportedVersions,
}

impl Address {
    pub(crate) fn new(base_url: &str, as_token: &str) -> Self {
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            as_token: as_token.to_owned(),
            // All paths used here are stable since Matrix 1.7 (the ping is the youngest).
            versions: SupportedVersions::from_parts(&["v1.11".to_owned()], &BTreeMap::new()),
        }
    }

    /// Prints a call as an HTTP request.
    pub(crate) fn encode(&self, call: &Call) -> Result<http::Request<Vec<u8>>, IntoHttpError> {
        match call {
            Call::Versions => get_supported_versions::Request::new().try_into_http_request(
                &self.base_url,
                SendAccessToken::None,
                (),
            ),
            Call::Register { localpart } => {
                let mut request = register::v3::Request::new();
                request.username = Some(localpart.clone());
                request.login_type = Some(register::LoginType::ApplicationService);
                request.inhibit_login = true;
                self.print(request, None)
            }
            Call::Whoami => self.print(whoami::v3::Request::new(), None),
            Call::SetName { user, name } => {
                let name = ProfileFieldValue::DisplayName(name.clone());
                self.print(
                    set_profile_field::v3::Request::new(user.clone(), name),
                    Some(user),
                )
            }
            Call::Ping { registration } => {
                self.print(request_ping::v1::Request::new(registration.clone()), None)
            }
            Call::Resolve { alias } => self.print(get_alias::v3::Request::new(alias.clone()), None),
            Call::Join { user, room, via } => {
                let room: &RoomOrAliasId = (**room).into();
                let mut request = join_room_by_id_or_alias::v3::Request::new(room.to_owned());
                request.via.clone_from(via);
                self.print(request, Some(user))
            }
            Call::Leave { user, room } => {
                self.print(leave_room::v3::Request::new(room.clone()), Some(user))
            }
            Call::Invite { user, room } => {
                let whom = invite_user::v3::InviteUserId::new(user.clone());
                self.print(
                    invite_user::v3::Request::new(room.clone(), whom.into()),
                    None,
                )
            }
            Call::Send {
                user,
                room,
                txn,
                written,
                content,
            } => {
                let content = Raw::<AnyMessageLikeEventContent>::from_json(content.clone());
                let kind = MessageLikeEventType::RoomMessage;
                let mut request = send_message_event::v3::Request::new_raw(
                    room.clone(),
                    txn.clone(),
                    kind,
                    content,
                );
                request.timestamp = written
                    .and_then(|time| UInt::try_from(time.0).ok())
                    .map(MilliSecondsSinceUnixEpoch);
                self.print(request, Some(user))
            }
            Call::History {
                room,
                from,
                senders,
            } => {
                let mut request = get_message_events::v3::Request::backward(room.clone());
                request.from.clone_from(from);
                request.limit = uint!(100);
                if senders.is_empty() {
                    // Mostly little is missing, and Synapse (1.163, `handlers/pagination.py`) asks other homeservers for what a
                    // page lacks.
                    request.limit = uint!(30);
                    request.filter = talk();
                } else {
                    request.filter.types = Some(vec!["m.room.message".to_owned()]);
                    request.filter.senders = Some(senders.clone());
                }
                self.print(request, None)
            }
            Call::After { room, event } => {
                let mut request = get_context::v3::Request::new(room.clone(), event.clone());
                // One, since some servers take none for their default.
                request.limit = uint!(1);
                request.filter = talk();
                // Or the answer holds every member of the room.
                request.filter.lazy_load_options = LazyLoadOptions::Enabled {
                    include_redundant_members: false,
                };
                self.print(request, None)
            }
            Call::Onward { room, from } => {
                let mut request = get_message_events::v3::Request::forward(room.clone());
                request.from = Some(from.clone());
                // An event may have three times its 64 KiB around it, and all of them have to fit into an answer.
                request.limit = uint!(50);
                request.filter = talk();
                self.print(request, None)
            }
            Call::Member { room, user } => {
                self.state(room, StateEventType::RoomMember, user.as_str())
            }
            Call::Encryption { room } => self.state(room, StateEventType::RoomEncryption, ""),
        }
    }

    fn state(
        &self,
        room: &OwnedRoomId,
        kind: StateEventType,
        key: &str,
    ) -> Result<http::Request<Vec<u8>>, IntoHttpError> {
        let request = get_state_event_for_key::v3::Request::new(room.clone(), kind, key.to_owned());
        self.print(request, None)
    }

    fn print<R>(
        &self,
        request: R,
        user: Option<&UserId>,
    ) -> Result<http::Request<Vec<u8>>, IntoHttpError>
    where
        R: OutgoingRequestAppserviceExt + Metadata<PathBuilder = VersionHistory>,
        for<'a> R::Authentication: AuthScheme<Input<'a> = SendAccessToken<'a>>,
    {
        // Without a user the server takes the registration's sender, our bot.
        let identity = user.map_or_else(Default::default, AppserviceUserIdentity::new);
        request.try_into_http_request_with_identity(
            &self.base_url,
            SendAccessToken::Always(&self.as_token),
            identity,
            Cow::Borrowed(&self.versions),
        )
    }
}

impl Call {
    /// Whether it does not wait until others are answered. Of these there are only a few at once.
    pub(crate) fn is_urgent(&self) -> bool {
        match self {
            Self::Versions | Self::Whoami | Self::Ping { .. } => true,
            _ => self.is_of_timeline(),
        }
    }

    /// Whether it asks what a room has that we have not.
    pub(crate) fn is_of_timeline(&self) -> bool {
        match self {
            Self::After { .. } | Self::Onward { .. } => true,
            // With senders, it is for a delivery.
            Self::History { senders, .. } => senders.is_empty(),
            _ => false,
        }
    }

    /// Reads the homeserver's response to this call.
    pub(crate) fn decode(&self, response: http::Response<Vec<u8>>) -> Result<Answer, Fault> {
        if !response.status().is_success() {
            let (parts, body) = response.into_parts();
            let fault = Fault::from_response(parts.status, &parts.headers, &body);
            return match self {
                // Registered in an earlier life, which is all we wanted.
                Self::Register { .. } if fault.errcode() == Some("M_USER_IN_USE") => {
                    Ok(Answer::Done)
                }
                // What is wrong with the homeserver itself, or with a proxy before it, comes without these codes.
                Self::Ping { .. } => match Problem::read(&body) {
                    Some(problem) if problem.is_about_reaching_us() => {
                        Ok(Answer::NotReached(problem.describe()))
                    }
                    _ => Err(fault),
                },
                _ => Err(fault),
            };
        }
        match self {
            Self::Versions => {
                read::<get_supported_versions::Request>(response).map(|_| Answer::Done)
            }
            Self::Whoami => {
                read::<whoami::v3::Request>(response).map(|answer| Answer::User(answer.user_id))
            }
            Self::Resolve { .. } => {
                read::<get_alias::v3::Request>(response).map(|answer| Answer::Room {
                    room: answer.room_id,
                    via: answer.servers,
                })
            }
            Self::Send { .. } => read::<send_message_event::v3::Request>(response)
                .map(|answer| Answer::Sent(answer.event_id)),
            Self::History { .. } | Self::Onward { .. } => {
                let answer = read::<get_message_events::v3::Request>(response)?;
                Ok(Answer::Page {
                    events: readable(&answer.chunk),
                    next: answer.end,
                })
            }
            Self::After { .. } => {
                let answer = read::<get_context::v3::Request>(response)?;
                Ok(Answer::Page {
                    events: readable(&answer.events_after),
                    next: answer.end,
                })
            }
            Self::Member { .. } => serde_json::from_slice(response.body())
                .map(Answer::Member)
                .map_err(|error| Fault::Unreadable(error.to_string())),
            // The body says nothing that we need: a success is the whole answer.
            Self::Register { .. }
            | Self::SetName { .. }
            | Self::Ping { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Invite { .. }
            | Self::Encryption { .. } => Ok(Answer::Done),
        }
    }
}

/// What people say, and who comes and goes.
fn talk() -> RoomEventFilter {
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec![
        "m.room.message".to_owned(),
        "m.room.member".to_owned(),
    ]);
    filter
}

/// One that is no event spoils only itself.
fn readable<E>(page: &[Raw<E>]) -> Vec<RoomEvent> {
    page.iter()
        .filter_map(|raw| RoomEvent::parse(raw.json()).ok())
        .collect()
}

fn read<R: OutgoingRequest>(
    response: http::Response<Vec<u8>>,
) -> Result<R::IncomingResponse, Fault> {
    R::IncomingResponse::try_from_http_response(response)
        .map_err(|error| Fault::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_room_alias_id, owned_room_id, owned_user_id};

    use super::*;

    fn printed(call: &Call) -> http::Request<Vec<u8>> {
        Address::new("http://hs.test:8008/", "secret")
            .encode(call)
            .expect("encodes")
    }

    #[test]
    fn a_ghosts_message_names_the_ghost_and_the_transaction() {
        let content = RawValue::from_string(r#"{"msgtype":"m.text","body":"hi"}"#.into()).unwrap();
        let request = printed(&Call::Send {
            user: owned_user_id!("@_comity_a=40b:hs.test"),
            room: owned_room_id!("!r:hs.test"),
            txn: "c1.abc.0".into(),
            written: None,
            content,
        });
        assert_eq!(request.method(), "PUT");
        assert_eq!(
            request.uri().to_string(),
            "http://hs.test:8008/_matrix/client/v3/rooms/!r:hs.test/send/m.room.message/c1.abc.0\
             ?user_id=%40_comity_a%3D40b%3Ahs.test"
        );
        assert_eq!(request.headers()["authorization"], "Bearer secret");
        assert_eq!(request.body(), br#"{"msgtype":"m.text","body":"hi"}"#);
    }

    #[test]
    fn a_late_message_keeps_the_time_at_which_it_was_written() {
        let content = RawValue::from_string(r#"{"msgtype":"m.text","body":"hi"}"#.into()).unwrap();
        let printed_with = |written| {
            let request = printed(&Call::Send {
                user: owned_user_id!("@u:hs.test"),
                room: owned_room_id!("!r:hs.test"),
                txn: "t".into(),
                written,
                content: content.clone(),
            });
            request.uri().query().unwrap_or_default().to_owned()
        };
        assert!(printed_with(Some(Timestamp(1_732_280_000_123))).contains("ts=1732280000123"));
        // No homeserver knows a time before 1970.
        assert!(!printed_with(Some(Timestamp(-1))).contains("ts="));
    }

    #[test]
    fn an_alias_is_percent_encoded_in_the_path() {
        let request = printed(&Call::Resolve {
            alias: owned_room_alias_id!("#a/b:hs.test"),
        });
        let path = request.uri().path().to_owned();
        assert_eq!(path, "/_matrix/client/v3/directory/room/%23a%2Fb:hs.test");
    }

    #[test]
    fn registering_asks_for_no_device() {
        let request = printed(&Call::Register {
            localpart: "bot".into(),
        });
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["type"], "m.login.application_service");
        assert_eq!(body["inhibit_login"], true);
        assert!(request.uri().query().is_none());
    }

    #[test]
    fn a_name_in_use_is_as_good_as_registered() {
        let response = http::Response::builder()
            .status(400)
            .body(br#"{"errcode":"M_USER_IN_USE","error":"taken"}"#.to_vec())
            .unwrap();
        let answer = Call::Register {
            localpart: "bot".into(),
        }
        .decode(response);
        assert!(matches!(answer, Ok(Answer::Done)));
    }

    #[test]
    fn a_ping_tells_apart_who_does_not_answer() {
        let ping = Call::Ping {
            registration: "comity-x".into(),
        };
        let answer = |status: u16, body: &str| {
            let response = http::Response::builder().status(status);
            ping.decode(response.body(body.as_bytes().to_vec()).unwrap())
        };
        for (status, code) in [
            (502, "M_CONNECTION_FAILED"),
            (504, "M_CONNECTION_TIMEOUT"),
            (502, "M_BAD_STATUS"),
            (400, "M_URL_NOT_SET"),
        ] {
            let body = format!(r#"{{"errcode":"{code}","error":"no"}}"#);
            let told = answer(status, &body);
            assert!(matches!(told, Ok(Answer::NotReached(_))), "{told:?}");
        }
        for (status, body) in [
            (502, "<h1>Bad Gateway</h1>"),
            (
                500,
                r#"{"errcode":"M_UNKNOWN","error":"Internal server error"}"#,
            ),
            (504, ""),
        ] {
            let told = answer(status, body);
            assert!(matches!(told, Err(Fault::Failing { .. })), "{told:?}");
        }
    }

    #[test]
    fn every_call_can_be_printed() {
        let user = owned_user_id!("@u:hs.test");
        // Room version 12 has ids without a server part.
        let room = owned_room_id!("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM");
        for call in [
            Call::Versions,
            Call::Whoami,
            Call::Ping {
                registration: "comity-x".into(),
            },
            Call::SetName {
                user: user.clone(),
                name: "U".into(),
            },
            Call::Join {
                user: user.clone(),
                room: room.clone(),
                via: vec![],
            },
            Call::Leave {
                user: user.clone(),
                room: room.clone(),
            },
            Call::Invite {
                user: user.clone(),
                room: room.clone(),
            },
            Call::History {
                room: room.clone(),
                from: Some("t1".into()),
                senders: vec![user.clone()],
            },
            Call::After {
                room: room.clone(),
                event: owned_event_id!("$e"),
            },
            Call::Onward {
                room: room.clone(),
                from: "t2".into(),
            },
            Call::Member {
                room: room.clone(),
                user,
            },
            Call::Encryption { room },
        ] {
            printed(&call);
        }
    }
}
