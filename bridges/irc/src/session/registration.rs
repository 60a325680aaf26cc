//! From the first byte to the first channel: password, capabilities, nick, and the end of the welcome.

use std::{fmt, time::Instant};

use super::{Event, Farewell, Phase, READY_TOKEN, REGISTER_WITHIN, Session, caps::Caps};
use crate::wire::{Command, LineTooLong, Middle, Trailing};

/// As whom we register.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) nick: String,
    pub(crate) username: Middle,
    pub(crate) realname: Trailing,
    /// For PASS, the server's password.
    pub(crate) password: Option<Trailing>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("nick", &self.nick)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn begin_registration(&mut self) -> Result<(), LineTooLong> {
        let identity = self.settings.identity.clone();
        // The password comes first (RFC 2812 section 3.1.1), CAP LS before NICK and USER: a server
        // that wants an account decides when it has both.
        if let Some(password) = identity.password {
            self.urgent
                .push_back(Command::new("PASS", [], Some(password))?);
        }
        self.urgent.push_back(Caps::begin()?);
        let nick = Command::new("NICK", Middle::parse(&identity.nick), None)?;
        self.urgent.push_back(nick);
        let rest = ["0", "*"].into_iter().filter_map(Middle::parse);
        let middles = [identity.username].into_iter().chain(rest);
        self.urgent
            .push_back(Command::new("USER", middles, Some(identity.realname))?);
        Ok(())
    }

    pub(super) fn handle_welcome(&mut self, nick: &str, now: Instant) {
        if self.phase != Phase::Registering {
            return;
        }
        self.phase = Phase::Welcomed;
        self.register_by = now + REGISTER_WITHIN;
        self.caps.handle_welcome();
        self.nick.handle_welcome(nick, now);
        self.events.push_back(Event::Registered {
            nick: nick.to_owned(),
        });
        // Whatever the server has to say of itself stands before the answer to this; not every
        // server ends it with a MOTD numeric.
        self.urge(Command::new("PING", [], Some(Trailing::new(READY_TOKEN))));
    }

    pub(super) fn become_ready(&mut self) {
        if self.phase == Phase::Welcomed {
            self.phase = Phase::Ready;
            self.events.push_back(Event::Ready);
        }
    }

    /// The nick is taken, forbidden or no nick at all.
    pub(super) fn handle_nick_refused(&mut self, why: &str) {
        let nicklen = self.isupport.nicklen;
        if self.phase != Phase::Registering {
            return;
        }
        match self.nick.handle_refused(nicklen).and_then(Middle::parse) {
            Some(next) => self.urge(Command::new("NICK", [next], None)),
            None => self.lose(Farewell::refused(&format!("no nick to be had: {why}"))),
        }
    }
}
