//! The wire of the scripted network: one line for each word, fields set apart by tabs, text last.
//!
//! A line ends at a line feed or a carriage return, so that text which is written to the wire as it is can break out of
//! its line, as on real wires.

/// From the bridge to the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ToNetwork {
    Hello,
    Enter {
        channel: String,
    },
    Exit {
        channel: String,
    },
    /// `key` tells a repeated send.
    Show {
        key: String,
        channel: String,
        text: String,
    },
    Acknowledge {
        id: u64,
    },
    Pong {
        number: u64,
    },
}

/// From the network to the bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ToBridge {
    Welcome,
    Entered {
        channel: String,
    },
    Denied {
        channel: String,
    },
    /// `key` is that of our own line coming back, or empty.
    Line {
        id: u64,
        channel: String,
        key: String,
        author: String,
        text: String,
    },
    Seen {
        key: String,
        id: u64,
    },
    Ping {
        number: u64,
    },
}

impl ToNetwork {
    pub(super) fn print(&self) -> String {
        match self {
            ToNetwork::Hello => "HELLO".to_owned(),
            ToNetwork::Enter { channel } => format!("ENTER\t{channel}"),
            ToNetwork::Exit { channel } => format!("EXIT\t{channel}"),
            ToNetwork::Show { key, channel, text } => format!("SHOW\t{key}\t{channel}\t{text}"),
            ToNetwork::Acknowledge { id } => format!("ACK\t{id}"),
            ToNetwork::Pong { number } => format!("PONG\t{number}"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once('\t').unwrap_or((line, ""));
        let mut fields = rest.splitn(3, '\t').map(str::to_owned);
        Some(match word {
            "HELLO" => ToNetwork::Hello,
            "ENTER" => ToNetwork::Enter {
                channel: fields.next()?,
            },
            "EXIT" => ToNetwork::Exit {
                channel: fields.next()?,
            },
            "SHOW" => ToNetwork::Show {
                key: fields.next()?,
                channel: fields.next()?,
                text: fields.next()?,
            },
            "ACK" => ToNetwork::Acknowledge {
                id: rest.parse().ok()?,
            },
            "PONG" => ToNetwork::Pong {
                number: rest.parse().ok()?,
            },
            _ => return None,
        })
    }
}

impl ToBridge {
    pub(super) fn print(&self) -> String {
        match self {
            ToBridge::Welcome => "WELCOME".to_owned(),
            ToBridge::Entered { channel } => format!("ENTERED\t{channel}"),
            ToBridge::Denied { channel } => format!("DENIED\t{channel}"),
            ToBridge::Line {
                id,
                channel,
                key,
                author,
                text,
            } => format!("LINE\t{id}\t{channel}\t{key}\t{author}\t{text}"),
            ToBridge::Seen { key, id } => format!("SEEN\t{id}\t{key}"),
            ToBridge::Ping { number } => format!("PING\t{number}"),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once('\t').unwrap_or((line, ""));
        Some(match word {
            "WELCOME" => ToBridge::Welcome,
            "ENTERED" => ToBridge::Entered {
                channel: rest.to_owned(),
            },
            "DENIED" => ToBridge::Denied {
                channel: rest.to_owned(),
            },
            "LINE" => {
                let mut fields = rest.splitn(5, '\t');
                ToBridge::Line {
                    id: fields.next()?.parse().ok()?,
                    channel: fields.next()?.to_owned(),
                    key: fields.next()?.to_owned(),
                    author: fields.next()?.to_owned(),
                    text: fields.next()?.to_owned(),
                }
            }
            "SEEN" => {
                let (id, key) = rest.split_once('\t')?;
                ToBridge::Seen {
                    key: key.to_owned(),
                    id: id.parse().ok()?,
                }
            }
            "PING" => ToBridge::Ping {
                number: rest.parse().ok()?,
            },
            _ => return None,
        })
    }
}
