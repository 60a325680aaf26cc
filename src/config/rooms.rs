//! `[[room]]`, and that rooms, channels and networks fit together.

use std::collections::BTreeMap;

use comity_bridge::{Access, Channel, ConfigTable, GatewayInfo, NetworkName, RoomAddress};

use super::networks::Networks;

/// One room.
#[derive(Clone, Debug)]
pub struct RoomConfig {
    /// `#name@domain`.
    pub address: RoomAddress,
    /// Where it is shown, the hosted channels included.
    pub channels: Vec<Channel>,
    /// The channels that are the room itself, offered to peers. Not written in the file: they follow from `federation`.
    pub hosted: Vec<Channel>,
    /// Who of the peers may join it.
    pub access: Access,
}

impl RoomConfig {
    /// True when this channel is the room itself, offered to peers.
    pub fn is_hosted(&self, channel: &Channel) -> bool {
        self.hosted.contains(channel)
    }
}

/// Reads the tables of the rooms, which `root` takes back with their problems.
pub(super) fn read(
    root: &mut ConfigTable,
    tables: Vec<ConfigTable>,
    gateway: &GatewayInfo,
    networks: &Networks,
) -> Vec<RoomConfig> {
    let mut rooms = Vec::new();
    let mut reader = Reader {
        gateway,
        networks,
        names: BTreeMap::new(),
        channels: BTreeMap::new(),
    };
    for (index, mut table) in tables.into_iter().enumerate() {
        rooms.extend(reader.room(&mut table, index + 1));
        root.absorb(table);
    }
    rooms
}

struct Reader<'a> {
    gateway: &'a GatewayInfo,
    networks: &'a Networks,
    /// Names that are taken, and by which room of the file.
    names: BTreeMap<String, usize>,
    /// Channels that are taken, by the normal form of their names, since servers take several spellings for one channel.
    channels: BTreeMap<(NetworkName, String), Taken>,
}

/// Where a channel is in the file.
struct Taken {
    room: usize,
    written: String,
}

/// What a channel is to the room that names it.
enum Place {
    /// A channel like any other.
    Plumbed(Channel),
    /// The room of another gateway.
    Foreign(Channel),
}

impl Reader<'_> {
    fn room(&mut self, table: &mut ConfigTable, index: usize) -> Option<RoomConfig> {
        let address = self.address(table, index);
        let access = table
            .choice(
                "federation",
                &[
                    ("off", Access::Off),
                    ("invite", Access::Invite),
                    ("open", Access::Open),
                ],
            )
            .unwrap_or_default();
        if access == Access::Invite {
            table.problem(
                "federation",
                "\"invite\" is not built yet",
                "write \"open\" or \"off\"",
            );
        }
        let written = table.strings("channels");
        if written.as_ref().is_some_and(Vec::is_empty) && access == Access::Off
            || written.is_none() && !table.has("channels") && access == Access::Off
        {
            table.problem(
                "channels",
                "names no channel, so the room would be shown nowhere",
                "write [\"network/native name\", ...]",
            );
        }
        let mut channels = Vec::new();
        let mut foreign = None;
        for text in written.unwrap_or_default() {
            match self.place(table, address.as_ref(), &text, index) {
                Some(Place::Plumbed(channel)) => channels.push(channel),
                Some(Place::Foreign(channel)) => {
                    foreign = Some(channel.clone());
                    channels.push(channel);
                }
                None => {}
            }
        }
        let mut hosted = Vec::new();
        match (access, &foreign, &address) {
            (Access::Off, _, _) => {}
            (_, Some(foreign), _) => table.problem(
                "federation",
                format!("is on, but the room is {foreign}, which its own gateway offers"),
                "leave it out",
            ),
            (_, None, Some(address)) => {
                hosted = self.hosted(table, address);
                channels.extend(hosted.iter().cloned());
            }
            (_, None, None) => {}
        }
        Some(RoomConfig {
            address: address?,
            channels,
            hosted,
            access,
        })
    }

    fn address(&mut self, table: &mut ConfigTable, index: usize) -> Option<RoomAddress> {
        let name = table.required_string("name");
        if name.is_empty() {
            return None;
        }
        let Ok(address) = RoomAddress::new(&name, &self.gateway.domain) else {
            table.problem(
                "name",
                format!("found {name:?}"),
                "write a name without \"#\", \"@\" and white space",
            );
            return None;
        };
        if let Some(first) = self.names.get(&name) {
            table.problem(
                "name",
                format!("{name:?} is the name of room[{first}] already"),
                "give each room a name of its own",
            );
            return None;
        }
        self.names.insert(name, index);
        Some(address)
    }

    fn place(
        &mut self,
        table: &mut ConfigTable,
        room: Option<&RoomAddress>,
        text: &str,
        index: usize,
    ) -> Option<Place> {
        let channel: Channel = match text.parse() {
            Ok(channel) => channel,
            Err(error) => {
                let instead = "write \"network/native name\"";
                table.problem("channels", error.to_string(), instead);
                return None;
            }
        };
        let Some(kind) = self.networks.kind(channel.network()) else {
            let network = channel.network();
            table.problem(
                "channels",
                format!("{text:?} is on a network that does not exist"),
                format!("correct it, or write bridges.d/{network}.toml"),
            );
            return None;
        };
        let is_foreign = kind.is_some_and(|kind| kind.hosts_rooms());
        if is_foreign && !self.is_elsewhere(table, room, &channel, text) {
            return None;
        }
        let normal = match kind.map(|kind| kind.channel(channel.native())) {
            Some(Ok(normal)) => normal,
            Some(Err(instead)) => {
                let found = format!("{text:?} can be no channel of that network");
                table.problem("channels", found, instead);
                return None;
            }
            None => channel.native().to_owned(),
        };
        let key = (channel.network().clone(), normal);
        if let Some(first) = self.channels.get(&key) {
            let spelled = if first.written == text {
                String::new()
            } else {
                format!(", as {:?}", first.written)
            };
            if first.room == index {
                let found = format!("{text:?} is here twice{spelled}");
                table.problem("channels", found, "write it once");
            } else {
                table.problem(
                    "channels",
                    format!("{text:?} is in room[{}] already{spelled}", first.room),
                    "a channel shows one room; make the two rooms one, or remove it from one of them",
                );
            }
            return None;
        }
        let taken = Taken {
            room: index,
            written: text.to_owned(),
        };
        self.channels.insert(key, taken);
        Some(if is_foreign {
            Place::Foreign(channel)
        } else {
            Place::Plumbed(channel)
        })
    }

    /// Whether a channel that is a gateway's room is the room of another gateway than this one.
    fn is_elsewhere(
        &self,
        table: &mut ConfigTable,
        room: Option<&RoomAddress>,
        channel: &Channel,
        text: &str,
    ) -> bool {
        match channel.native().parse::<RoomAddress>() {
            Ok(address) if Some(&address) == room => {
                table.problem(
                    "channels",
                    format!("{text:?} is this room itself"),
                    "remove it, and write federation = \"open\" for peers to join",
                );
                false
            }
            Ok(address) if address.domain() == self.gateway.domain => {
                table.problem(
                    "channels",
                    format!("{text:?} is a room of this gateway"),
                    "name its channels in that room; a room cannot show another one",
                );
                false
            }
            Ok(address) => {
                if let Err(fault) = super::gateway::check_domain(address.domain()) {
                    let found = format!("{text:?} names no gateway: {fault}");
                    table.problem("channels", found, "write \"network/#name@domain\"");
                    return false;
                }
                true
            }
            Err(_) => {
                let found = format!("{text:?} is no room of another gateway");
                table.problem("channels", found, "write \"network/#name@domain\"");
                false
            }
        }
    }

    /// The channels on which the room itself is offered to peers.
    fn hosted(&self, table: &mut ConfigTable, address: &RoomAddress) -> Vec<Channel> {
        let hosted: Vec<Channel> = self
            .networks
            .hosting()
            .filter_map(|network| Channel::new(network.clone(), address.to_string()).ok())
            .collect();
        for channel in &hosted {
            let kind = self.networks.kind(channel.network()).flatten();
            if let Some(Err(instead)) = kind.map(|kind| kind.channel(channel.native())) {
                let found = format!("makes the room {channel}, which cannot be offered to peers");
                table.problem("name", found, instead);
            }
        }
        if hosted.is_empty() && !self.networks.some_unknown() {
            table.problem(
                "federation",
                "is on, but there is no network over which peers could join",
                "write such a network's file in bridges.d, e.g. with protocol = \"federation\", or leave this out",
            );
        }
        hosted
    }
}
