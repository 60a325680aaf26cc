//! What a gateway finds in its own directory after others have been there: a later version, a disk that forgets, somebody else's journal.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use comity_people::{
    Gateway, Talk, World,
    talk::{IRC_WINDOW, grave},
    world::NGIRCD,
};
use rand::seq::SliceRandom;
use rusqlite::Connection;

use crate::{PATIENCE, dice, world};

/// Bytes in a page of the file.
const PAGE: usize = 4096;

fn journal(gateway: &Gateway) -> PathBuf {
    gateway.data_dir().join("journal.sqlite")
}

/// Ends the gateway in order, so that everything is in the one file.
async fn stopped(gateway: &mut Gateway) -> PathBuf {
    assert!(gateway.stop("TERM").await.unwrap().success());
    let file = journal(gateway);
    Connection::open(&file)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    file
}

/// Starts it and waits until it has ended by itself: its exit code, and what it said.
async fn refuses_to_start(gateway: &mut Gateway) -> (Option<i32>, String) {
    let said = gateway.log().len();
    gateway.start().await.expect_err("it starts");
    let log = news(gateway, said);
    (
        gateway.ended().unwrap().and_then(|status| status.code()),
        log,
    )
}

/// What it has logged since the log was so long.
fn news(gateway: &Gateway, said: usize) -> String {
    gateway.log().split_off(said)
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut world = world().await;
    let file = stopped(&mut world.first).await;
    let connection = Connection::open(&file).unwrap();
    let format: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    connection
        .pragma_update(None, "user_version", format + 1)
        .unwrap();
    drop(connection);
    let before = fs::read(&file).unwrap();
    let (code, log) = refuses_to_start(&mut world.first).await;
    assert_eq!(code, Some(1), "{log}");
    let says = format!(
        "the journal has format {}, this version knows up to {format}",
        format + 1
    );
    assert!(
        log.contains(&says) && log.contains("use a newer Comity"),
        "{log}"
    );
    assert!(fs::read(&file).unwrap() == before, "the file has changed");

    // The newer version is back, so to speak: everything goes on where it was.
    Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", format)
        .unwrap();
    world.first.start().await.unwrap();
    world.connected().await.unwrap();
}

#[tokio::test]
async fn positions_of_other_servers_lose_and_double_nothing() {
    let mut dice = dice();
    let mut world = world().await;
    let mut talk = Talk::default();
    for person in world.people() {
        talk.line(person, &mut dice).await.unwrap();
    }
    let due = talk.due(&world, &[], &[]);
    let faults = world.judge(&due, PATIENCE).await.unwrap();
    assert_eq!(faults, []);
    // As when the configuration names other servers now, which know nothing of these ids and count otherwise.
    for (gateway, count) in [(&mut world.first, 3), (&mut world.second, 1)] {
        let file = stopped(gateway).await;
        let connection = Connection::open(&file).unwrap();
        let facts: Vec<(String, String, String)> = connection
            .prepare("SELECT network, key, value FROM facts")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let mut changed = 0;
        for (network, key, value) in facts {
            let Some(foreign) = foreign(&key, &value) else {
                continue;
            };
            changed += 1;
            connection
                .execute(
                    "UPDATE facts SET value = ?3 WHERE network = ?1 AND key = ?2",
                    [network, key, foreign],
                )
                .unwrap();
        }
        assert_eq!(changed, count, "the positions look otherwise now");
    }
    for person in world.people() {
        talk.line(person, &mut dice).await.unwrap();
    }
    tokio::try_join!(world.first.start(), world.second.start()).unwrap();
    world.connected().await.unwrap();
    for person in world.people() {
        talk.line(person, &mut dice).await.unwrap();
    }
    // Nobody keeps what was said on plain IRC meanwhile.
    let due = talk.due(&world, &["ngircd"], &[]);
    let faults = world.judge(&due, PATIENCE).await.unwrap();
    assert_eq!(grave(faults, &[]), None, "run {}", talk.run());
}

/// What another server would have left there: archive ids, a message id, the number of a transaction, a room.
fn foreign(key: &str, value: &str) -> Option<String> {
    let (kind, _) = key.split_once([' ', '/']).unwrap_or((key, ""));
    match kind {
        "mark" => {
            let (moment, _) = value.split_once('\n')?;
            Some(format!("{moment}\nan-id-of-elsewhere\nan-id-of-elsewhere"))
        }
        "channel" => {
            let (rest, id) = value.rsplit_once(' ')?;
            (id != "-").then(|| format!("{rest} an-id-of-elsewhere"))
        }
        "place" => {
            let (moment, _) = value.split_once(' ')?;
            Some(format!("{moment} $an-id-of-elsewhere"))
        }
        "room" => Some("!a-room-of-elsewhere:other.test".to_owned()),
        _ => None,
    }
}

#[tokio::test]
async fn a_damaged_page_is_said_and_nothing_is_sent_twice() {
    damaged(2).await;
}

#[tokio::test]
#[ignore = "the long form, four minutes"]
async fn a_damaged_page_of_any_table_is_said_and_nothing_is_sent_twice() {
    damaged(usize::MAX).await;
}

/// The first page of each of so many tables, one after the other.
async fn damaged(tables: usize) {
    let mut dice = dice();
    let mut world = world().await;
    let mut talk = Talk::default();
    for _ in 0..5 {
        for person in world.people() {
            talk.line(person, &mut dice).await.unwrap();
        }
    }
    world.connected().await.unwrap();
    let mut failed = Vec::new();
    let file = stopped(&mut world.first).await;
    let mut pages = pages(&file);
    pages.shuffle(&mut dice);
    for (table, page) in pages.into_iter().take(tables) {
        let sound = overwrite(&file, page, &[0xff; PAGE]);
        let said = world.first.log().len();
        let outcome = match world.first.start().await {
            Ok(()) => goes_on(&mut world, &mut talk, said).await,
            Err(_) => says_so(&news(&world.first, said)).map(|()| "does not start".to_owned()),
        };
        match outcome {
            Ok(how) => println!("{table}: {how}"),
            Err(why) => failed.push(format!("{table}: {why}")),
        }
        if world.first.pid().is_ok() {
            drop(world.first.stop("TERM").await);
        }
        // What could not be read has not been written either, so it may come back as it was.
        overwrite(&file, page, &sound);
    }
    world.first.start().await.unwrap();
    world.connected().await.unwrap();
    match goes_on(&mut world, &mut talk, 0).await.as_deref() {
        Ok("relays") => {}
        other => failed.push(format!("with all pages sound again: {other:?}")),
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Either everything is relayed, or the gateway has said that it cannot and what to do.
async fn goes_on(world: &mut World, talk: &mut Talk, said: usize) -> Result<String, String> {
    let soon = tokio::time::timeout(Duration::from_secs(8), world.connected());
    if !matches!(soon.await, Ok(Ok(()))) {
        if world.first.page("readyz").await.is_err() {
            return says_so(&news(&world.first, said)).map(|()| "does not relay".to_owned());
        }
        // It says that it is ready, so it is.
        world.connected().await.map_err(|why| format!("{why:#}"))?;
    }
    let due = talk.due(world, &["ngircd"], &[]);
    let faults = world
        .judge(&due, PATIENCE)
        .await
        .map_err(|why| format!("{why:#}"))?;
    match grave(faults, &[(&world.plan.people[NGIRCD], IRC_WINDOW)]) {
        Some(faults) => Err(faults),
        None => Ok("relays".to_owned()),
    }
}

fn says_so(log: &str) -> Result<(), String> {
    let clear = log.contains("is damaged") && log.contains("put a copy in");
    clear.then_some(()).ok_or_else(|| log.to_owned())
}

/// The first page of each table and index that has one of its own.
fn pages(file: &Path) -> Vec<(String, u64)> {
    let connection = Connection::open(file).unwrap();
    let mut query = connection
        .prepare("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 1 ORDER BY name")
        .unwrap();
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Puts this into the page; returns what was there.
fn overwrite(file: &Path, page: u64, with: &[u8; PAGE]) -> [u8; PAGE] {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let at = (page - 1) * PAGE as u64;
    let mut sound = [0; PAGE];
    file.read_exact_at(&mut sound, at).unwrap();
    file.write_all_at(with, at).unwrap();
    sound
}
