//! Replies with a number: the welcome, and every refusal that has to reach somebody.

use std::time::Instant;

use super::{Farewell, Phase, Session, TWIN, sends::Complaint};
use crate::wire::{Label, Line, numeric as n};

impl Session {
    pub(super) fn handle_numeric(&mut self, numeric: u16, line: &Line<'_>, now: Instant) {
        // The first parameter of a reply is our nick; what it is about comes next.
        let about = line.param(1);
        let words = line.last_param();
        if let Some(Label::Sent(label)) = self.batches.label(line) {
            return self.handle_answered(label, numeric, line, now);
        }
        match numeric {
            n::WELCOME => self.handle_welcome(line.param(0), now),
            n::ISUPPORT => self.handle_isupport(line),
            n::ENDOFMOTD | n::NOMOTD => self.become_ready(),
            n::HOSTHIDDEN => self.mask.handle_host(about),
            n::UNKNOWNCOMMAND if about.eq_ignore_ascii_case("CAP") => {
                self.caps.handle_unknown_command()
            }
            n::NICKNAMEINUSE | n::NICKCOLLISION | n::ERRONEUSNICKNAME => {
                self.handle_nick_refused(words)
            }
            n::UNAVAILRESOURCE if !self.isupport.is_channel(about) => {
                self.handle_nick_refused(words)
            }
            n::PASSWDMISMATCH | n::YOUREBANNEDCREEP if self.phase == Phase::Registering => {
                self.lose(Farewell::refused(words));
            }
            n::CANNOTSENDTOCHAN | n::NOCOLORSONCHAN | n::CHANOPRIVSNEEDED => {
                self.handle_forbidden(about, words)
            }
            n::NOTONCHANNEL | n::NOSUCHNICK | n::NOSUCHCHANNEL => {
                self.handle_not_there(about, words, now)
            }
            // Both a refused join and a refused line are told with this one.
            n::NEEDREGGEDNICK if self.is_in(about) => self.handle_forbidden(about, words),
            n::NEEDREGGEDNICK
            | n::TOOMANYCHANNELS
            | n::TOOMANYTARGETS
            | n::UNAVAILRESOURCE
            | n::LINKCHANNEL
            | n::CHANNELISFULL
            | n::INVITEONLYCHAN
            | n::BANNEDFROMCHAN
            | n::BADCHANNELKEY
            | n::BADCHANMASK
            | n::SECUREONLYCHAN
            | n::DELAYREJOIN
            | n::OPERONLY
                if !self.is_in(about) =>
            {
                self.handle_out(about, &format!("{words} ({numeric})"), now);
            }
            _ => {}
        }
    }

    /// The server answers one of our lines with a number: it has not taken it.
    fn handle_answered(&mut self, label: u64, numeric: u16, line: &Line<'_>, now: Instant) {
        let (about, words) = (line.param(1), line.last_param());
        let complaint = match numeric {
            n::NOTONCHANNEL | n::NOSUCHNICK | n::NOSUCHCHANNEL => Complaint::NotIn,
            400..600 if self.is_out(about) => Complaint::NotIn,
            // Errors are the numbers from 400 to 599 (RFC 2812 section 5.2); others only inform.
            400..600 => Complaint::Forbidden(words.to_owned()),
            _ => return,
        };
        let not_in = complaint == Complaint::NotIn;
        self.sends.handle_answer(label, Err(complaint));
        if not_in && self.is_in(about) {
            self.handle_out(about, words, now);
        }
    }

    fn handle_isupport(&mut self, line: &Line<'_>) {
        // First our nick, last "are supported by this server".
        let tokens = line
            .params
            .get(1..line.params.len().saturating_sub(1))
            .unwrap_or_default();
        let before = self.isupport.casemapping;
        self.isupport
            .handle_tokens(tokens.iter().map(|token| token.as_ref()));
        if self.isupport.casemapping != before {
            for twin in self.channels.refold(self.isupport.casemapping) {
                self.not_joined(twin, TWIN.to_owned());
            }
        }
    }

    /// We may not speak in the channel, unless it is that a kick has overtaken the line: a channel that
    /// takes nothing from outside (+n) says the same of both.
    fn handle_forbidden(&mut self, channel: &str, words: &str) {
        if let Some(name) = self.channels.find(channel, self.isupport.casemapping) {
            let complaint = match self.is_in(channel) {
                true => Complaint::Forbidden(words.to_owned()),
                false => Complaint::NotIn,
            };
            self.sends.handle_complaint(&name, complaint);
        }
    }

    /// The channel does not exist for us: a join failed, or a line came too late.
    fn handle_not_there(&mut self, channel: &str, words: &str, now: Instant) {
        if let Some(name) = self.channels.find(channel, self.isupport.casemapping) {
            self.sends.handle_complaint(&name, Complaint::NotIn);
            // A kick was told before the lines that it cut off are complained about.
            if self.is_in(channel) || self.channels.is_asked(channel, self.isupport.casemapping) {
                self.handle_out(channel, words, now);
            }
        }
    }

    fn is_in(&self, channel: &str) -> bool {
        self.channels.is_in(channel, self.isupport.casemapping)
    }

    /// Tells whether this is a channel that we want to be in and are not.
    fn is_out(&self, channel: &str) -> bool {
        let map = self.isupport.casemapping;
        self.channels.find(channel, map).is_some() && !self.is_in(channel)
    }
}
