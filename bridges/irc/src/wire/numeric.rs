//! The numerics that mean something to us, by name.

use irc_proto::Response;

pub(crate) const WELCOME: u16 = Response::RPL_WELCOME as u16;
pub(crate) const ISUPPORT: u16 = Response::RPL_ISUPPORT as u16;
pub(crate) const ENDOFMOTD: u16 = Response::RPL_ENDOFMOTD as u16;
pub(crate) const NOMOTD: u16 = Response::ERR_NOMOTD as u16;
/// RPL_VISIBLEHOST in newer lists: our host as others see it changed.
pub(crate) const HOSTHIDDEN: u16 = Response::RPL_HOSTHIDDEN as u16;

pub(crate) const NOSUCHNICK: u16 = Response::ERR_NOSUCHNICK as u16;
pub(crate) const NOSUCHCHANNEL: u16 = Response::ERR_NOSUCHCHANNEL as u16;
pub(crate) const CANNOTSENDTOCHAN: u16 = Response::ERR_CANNOTSENDTOCHAN as u16;
pub(crate) const TOOMANYCHANNELS: u16 = Response::ERR_TOOMANYCHANNELS as u16;
pub(crate) const TOOMANYTARGETS: u16 = Response::ERR_TOOMANYTARGETS as u16;
/// UnrealIRCd and others: no coloured text in this channel.
pub(crate) const NOCOLORSONCHAN: u16 = 408;
pub(crate) const UNKNOWNCOMMAND: u16 = Response::ERR_UNKNOWNCOMMAND as u16;
pub(crate) const ERRONEUSNICKNAME: u16 = Response::ERR_ERRONEOUSNICKNAME as u16;
pub(crate) const NICKNAMEINUSE: u16 = Response::ERR_NICKNAMEINUSE as u16;
pub(crate) const NICKCOLLISION: u16 = Response::ERR_NICKCOLLISION as u16;
/// Names a nick or a channel.
pub(crate) const UNAVAILRESOURCE: u16 = Response::ERR_UNAVAILRESOURCE as u16;
pub(crate) const NOTONCHANNEL: u16 = Response::ERR_NOTONCHANNEL as u16;
pub(crate) const PASSWDMISMATCH: u16 = Response::ERR_PASSWDMISMATCH as u16;
pub(crate) const YOUREBANNEDCREEP: u16 = Response::ERR_YOUREBANNEDCREEP as u16;
/// ERR_LINKCHANNEL: the join was forwarded to another channel.
pub(crate) const LINKCHANNEL: u16 = 470;
pub(crate) const CHANNELISFULL: u16 = Response::ERR_CHANNELISFULL as u16;
pub(crate) const INVITEONLYCHAN: u16 = Response::ERR_INVITEONLYCHAN as u16;
pub(crate) const BANNEDFROMCHAN: u16 = Response::ERR_BANNEDFROMCHAN as u16;
pub(crate) const BADCHANNELKEY: u16 = Response::ERR_BADCHANNELKEY as u16;
pub(crate) const BADCHANMASK: u16 = Response::ERR_BADCHANMASK as u16;
/// ERR_NEEDREGGEDNICK on every server of today: joining or speaking needs an account.
pub(crate) const NEEDREGGEDNICK: u16 = Response::ERR_NOCHANMODES as u16;
/// Two meanings, both "you may not": a privilege is missing (RFC 2812).
pub(crate) const CHANOPRIVSNEEDED: u16 = Response::ERR_CHANOPRIVSNEEDED as u16;
/// ERR_SECUREONLYCHAN (TLS users only).
pub(crate) const SECUREONLYCHAN: u16 = 489;
/// ERR_OPERONLY.
pub(crate) const OPERONLY: u16 = 520;
/// ERR_DELAYREJOIN (InspIRCd).
pub(crate) const DELAYREJOIN: u16 = 495;
