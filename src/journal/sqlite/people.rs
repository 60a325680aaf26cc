//! What people ask: dead letters, and what became of one event.

use std::collections::HashMap;

use comity_bridge::{Channel, EventId, RoomAddress, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::group::Group;
use super::pages::event_at;
use super::reader::{Reader, parts_of, trouble};
use super::{channel_names, place, room_names, room_of, seq_of};
use crate::journal::{
    ChannelStep, ChannelTrace, DeadEntry, DeadFilter, DeadPlace, LaneId, Logged, PartTrace, Trace,
};

/// What may be done about dead letters.
#[derive(Clone, Debug)]
pub(crate) struct DeadAsk {
    pub(crate) letters: DeadLetters,
    /// True for another attempt, false for no interest any more.
    pub(crate) again: bool,
}

/// Which.
#[derive(Clone, Debug)]
pub(crate) enum DeadLetters {
    Of(Channel, EventId),
    At(Vec<DeadPlace>),
}

impl Group<'_> {
    /// The lanes that it concerns, one for each letter that is there.
    pub(super) fn dead(&mut self, ask: &DeadAsk) -> Result<Vec<LaneId>, rusqlite::Error> {
        let places = match &ask.letters {
            DeadLetters::At(places) => places.clone(),
            DeadLetters::Of(channel, event) => {
                let Some(place) = self.place_of(*event)? else {
                    return Ok(Vec::new());
                };
                let channel = self.channel(channel)?;
                vec![DeadPlace { channel, place }]
            }
        };
        let change = if ask.again {
            "again = 1"
        } else {
            "dropped = 1, again = 0"
        };
        let mut statement = self.transaction.prepare_cached(&format!(
            "UPDATE dead SET {change} WHERE channel = ?1 AND place = ?2 AND NOT dropped"
        ))?;
        let mut lanes = Vec::new();
        for DeadPlace { channel, place } in places {
            if statement.execute([channel, place])? == 0 {
                continue;
            }
            if !ask.again {
                self.transaction
                    .prepare_cached("DELETE FROM plans WHERE channel = ?1 AND place = ?2")?
                    .execute([channel, place])?;
            }
            let room = room_of(place);
            lanes.push(LaneId { room, channel });
        }
        Ok(lanes)
    }
}

/// Rooms and channels by number.
struct Names {
    rooms: HashMap<i64, RoomAddress>,
    channels: HashMap<i64, Channel>,
}

impl Reader {
    fn names(&self) -> Result<Names, rusqlite::Error> {
        Ok(Names {
            rooms: room_names(&self.connection)?.into_iter().collect(),
            channels: channel_names(&self.connection)?.into_iter().collect(),
        })
    }

    pub(crate) fn dead_list(
        &mut self,
        filter: &DeadFilter,
        after: DeadPlace,
        limit: usize,
    ) -> Result<Vec<DeadEntry>, rusqlite::Error> {
        let names = self.names()?;
        let channels = names.channels.iter().filter(|(_, channel)| {
            filter
                .channel
                .as_ref()
                .is_none_or(|wanted| wanted == *channel)
                && filter
                    .network
                    .as_ref()
                    .is_none_or(|wanted| wanted == channel.network())
        });
        let rooms = names
            .rooms
            .iter()
            .filter(|(_, room)| filter.room.as_ref().is_none_or(|wanted| wanted == *room));
        let mut query = self.connection.prepare_cached(
            "SELECT dead.channel, dead.place, parked, reason, at, again, events.id
             FROM dead LEFT JOIN events ON events.place = dead.place
             WHERE NOT dropped AND (dead.channel, dead.place) > (?1, ?2)
                 AND dead.channel IN (SELECT value FROM json_each(?3))
                 AND dead.place >> 40 IN (SELECT value FROM json_each(?4))
             ORDER BY dead.channel, dead.place LIMIT ?5",
        )?;
        let rows = query.query_map(
            params![
                after.channel,
                after.place,
                numbers(channels.map(|(id, _)| *id)),
                numbers(rooms.map(|(id, _)| *id)),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
            |row| entry(row, &names),
        )?;
        rows.filter_map(Result::transpose).collect()
    }

    /// The letter and what it is about.
    pub(crate) fn dead_show(
        &mut self,
        channel: &Channel,
        event: EventId,
    ) -> Result<Option<(DeadEntry, Logged)>, rusqlite::Error> {
        let names = self.names()?;
        let Some((id, _)) = names.channels.iter().find(|(_, known)| *known == channel) else {
            return Ok(None);
        };
        let found = self
            .connection
            .prepare_cached(
                "SELECT dead.channel, dead.place, parked, reason, at, again, events.id
                 FROM events JOIN dead ON dead.place = events.place
                 WHERE events.id = ?2 AND dead.channel = ?1 AND NOT dropped",
            )?
            .query_row(params![id, event.to_bytes()], |row| entry(row, &names))
            .optional()?;
        let Some(letter) = found.flatten() else {
            return Ok(None);
        };
        let about = event_at(&self.connection, letter.place.place)?;
        Ok(about.map(|about| (letter, about)))
    }

    pub(crate) fn trace(&mut self, event: EventId) -> Result<Option<Trace>, rusqlite::Error> {
        let names = self.names()?;
        let found: Option<(i64, i64, i64)> = self
            .connection
            .prepare_cached("SELECT place, channel, committed FROM events WHERE id = ?1")?
            .query_row([event.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((place, origin, committed)) = found else {
            return Ok(None);
        };
        let (Some(room), Some(born), Some(about)) = (
            names.rooms.get(&room_of(place)),
            names.channels.get(&origin),
            event_at(&self.connection, place)?,
        ) else {
            return Ok(None);
        };
        let mut query = self.connection.prepare_cached(
            "SELECT channel, done, since FROM lanes WHERE room = ?1 AND channel <> ?2",
        )?;
        let lanes: Vec<(i64, u64, u64)> = query
            .query_map([room_of(place), origin], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut channels = Vec::new();
        for (id, done, since) in lanes {
            if let Some(channel) = names.channels.get(&id) {
                let lane = LaneId {
                    room: room_of(place),
                    channel: id,
                };
                channels.push(self.in_channel(
                    lane,
                    channel,
                    seq_of(place),
                    [done, since],
                    &names,
                )?);
            }
        }
        channels.sort_by(|a, b| a.channel.cmp(&b.channel));
        Ok(Some(Trace {
            event: about,
            room: room.clone(),
            origin: born.clone(),
            committed: (committed != 0).then_some(Timestamp(committed)),
            channels,
        }))
    }

    fn in_channel(
        &self,
        lane: LaneId,
        channel: &Channel,
        seq: u64,
        [done, since]: [u64; 2],
        names: &Names,
    ) -> Result<ChannelTrace, rusqlite::Error> {
        let place = place(lane.room, seq);
        let letter = self
            .connection
            .prepare_cached(
                "SELECT dead.channel, dead.place, parked, reason, at, again, events.id, dropped
                 FROM dead JOIN events ON events.place = dead.place
                 WHERE dead.channel = ?1 AND dead.place = ?2",
            )?
            .query_row([lane.channel, place], |row| {
                Ok(entry(row, names)?.zip(Some(row.get(7)?)))
            })
            .optional()?
            .flatten();
        let step = match letter {
            Some((letter, false)) => ChannelStep::Dead(letter),
            Some((letter, true)) => ChannelStep::Dropped(letter),
            None if seq > done => ChannelStep::Waiting,
            None if seq <= since => ChannelStep::Before,
            None => ChannelStep::Finished,
        };
        let parts = parts_of(&self.connection, lane.channel, place)?;
        let trouble = self
            .connection
            .prepare_cached(
                "SELECT place, attempts, deaths, doubt, why, at FROM troubles WHERE channel = ?1 AND place = ?2",
            )?
            .query_row([lane.channel, place], trouble)
            .optional()?;
        Ok(ChannelTrace {
            channel: channel.clone(),
            done,
            step,
            parts: parts
                .into_iter()
                .map(|(at, (_, part, ids))| PartTrace {
                    part,
                    ids,
                    at: (at.0 != 0).then_some(at),
                })
                .collect(),
            trouble,
        })
    }
}

fn numbers(ids: impl Iterator<Item = i64>) -> String {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    format!("[{}]", ids.join(","))
}

/// `channel, place, parked, reason, at, again, event id`
fn entry(row: &Row<'_>, names: &Names) -> Result<Option<DeadEntry>, rusqlite::Error> {
    let place = DeadPlace {
        channel: row.get(0)?,
        place: row.get(1)?,
    };
    let known = names.channels.get(&place.channel);
    let Some((channel, room)) = known.zip(names.rooms.get(&room_of(place.place))) else {
        return Ok(None);
    };
    let id: Option<[u8; 16]> = row.get(6)?;
    Ok(Some(DeadEntry {
        place,
        channel: channel.clone(),
        room: room.clone(),
        event: id.map(EventId::from_bytes),
        seq: seq_of(place.place),
        parked: row.get(2)?,
        reason: row.get(3)?,
        at: Timestamp(row.get(4)?),
        again: row.get(5)?,
    }))
}
