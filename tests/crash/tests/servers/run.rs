//! People talk, one gateway dies and comes back, and everything that was said is judged.

use std::time::Duration;

use anyhow::{Result, bail};
use comity_people::world::{INSPIRCD, NGIRCD, tag};
use comity_people::{Gateway, Irc, Person, Talk, World};
use rand::{Rng, rngs::StdRng};
use tokio::time::Instant;

/// How long anything may take that takes milliseconds when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Talks until the gateway has died or stopped; `Err` when it did neither.
pub(crate) async fn talk_until_it_is_over(
    gateway: &mut Gateway,
    people: &[&dyn Person],
    talk: &mut Talk,
    dice: &mut StdRng,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE / 2;
    // Something is said while it starts. Much of it would only make the servers busy.
    for person in people {
        talk.line(*person, dice).await?;
    }
    let mut is_starting = true;
    let patient_until = Instant::now() + PATIENCE / 12;
    while gateway.ended()?.is_none() {
        if gateway.is_stopped().unwrap_or_default() {
            return Ok(());
        }
        is_starting =
            is_starting && Instant::now() < patient_until && !gateway.is_in_all_channels().await;
        if Instant::now() > deadline {
            bail!("the place was never reached");
        }
        if !(people.is_empty() || is_starting) {
            let speaker = people[dice.random_range(0..people.len())];
            talk.line(speaker, dice).await?;
        }
        // A moment, so that the queues stay short and the process dies at different ones.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..150))).await;
    }
    Ok(())
}

/// The first gateway or the second one.
pub(crate) fn gateway(world: &mut World, is_first: bool) -> &mut Gateway {
    if is_first {
        &mut world.first
    } else {
        &mut world.second
    }
}

/// The IRC network behind a gateway that died.
pub(crate) struct IrcBehind {
    /// The networks on which lines may be said that nobody keeps.
    pub(crate) deaf: &'static [&'static str],
    /// Who sits there.
    pub(crate) person: String,
}

/// What the contract excepts when the first or the second gateway dies. Neither server can be asked what has arrived; that of the second shows
/// what was said to whoever comes back.
pub(crate) fn irc_behind(world: &World, is_first: bool) -> IrcBehind {
    let (deaf, place): (&[&str], usize) = if is_first {
        (&["ngircd"], NGIRCD)
    } else {
        (&[], INSPIRCD)
    };
    IrcBehind {
        deaf,
        person: world.people()[place].name().to_owned(),
    }
}

/// Someone new on the IRC network of the gateway that does not die.
pub(crate) async fn newcomer(world: &World, is_first: bool) -> Result<Irc> {
    let (network, service) = if is_first {
        ("inspircd", "INSPIRCD")
    } else {
        ("ngircd", "NGIRCD")
    };
    let channel = format!("#{}", world.plan.room);
    Irc::join(
        network,
        &world.lab.address(service),
        &format!("new{}", tag()),
        &channel,
    )
    .await
}

/// The events that a dead gateway's journal has, as JSON. From a copy: the journal itself is the next life's.
pub(crate) fn held(gateway: &Gateway) -> Result<Vec<String>> {
    let copy = tempfile::tempdir()?;
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        let from = gateway.data_dir().join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file))?;
        }
    }
    let path = copy.path().join("journal.sqlite");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let journal = rusqlite::Connection::open(path)?;
    let Ok(mut events) = journal.prepare("SELECT json FROM events") else {
        // It died before the tables were there.
        return Ok(Vec::new());
    };
    let rows = events.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Many words with numbers, in one message that does not fit into one part of the network.
pub(crate) struct Long {
    mark: String,
    count: usize,
    pub(crate) text: String,
}

impl Long {
    /// `filler` is what a word consists of, so that it weighs what it shall on the network.
    pub(crate) fn new(count: usize, filler: &str) -> Long {
        let mark = format!("w{}", tag());
        let words: Vec<String> = (0..count).map(|n| format!("{mark}.{n}.{filler}")).collect();
        Long {
            text: words.join(" "),
            mark,
            count,
        }
    }

    /// The last word.
    pub(crate) fn last(&self) -> String {
        format!("{}.{}.", self.mark, self.count - 1)
    }

    /// What is wrong with what this person saw of it.
    pub(crate) fn fault(&self, person: &dyn Person, may_repeat: bool) -> Option<String> {
        let heard = person.heard();
        let mut seen: Vec<usize> = Vec::new();
        for line in heard.iter().filter(|line| !line.own) {
            for piece in line.text.split(&format!("{}.", self.mark)).skip(1) {
                let number = piece.split('.').next().unwrap_or_default();
                seen.extend(number.parse::<usize>());
            }
        }
        let once: Vec<usize> = (0..self.count).collect();
        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let is_good = if may_repeat {
            distinct == once
        } else {
            seen == once
        };
        (!is_good).then(|| {
            let missing = self.count - distinct.len();
            format!(
                "{} saw {} words of {}, {missing} missing, {} again",
                person.network(),
                seen.len(),
                self.count,
                seen.len() - distinct.len()
            )
        })
    }
}
