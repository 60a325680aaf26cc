//! What is said around one row of the matrix: until its place is reached, and the judgement when all is over.

use anyhow::{Result, bail};
use comity_people::talk::grave;
use comity_people::world::{PROSODY, SYNAPSE};
use comity_people::{Irc, Talk, World};
use rand::rngs::StdRng;

use crate::run::{Long, PATIENCE, gateway, irc_behind, newcomer, talk_until_it_is_over};
use crate::table::{self, Row, Victim};

/// Everything that was said.
pub(crate) struct Scene {
    pub(crate) talk: Talk,
    long: Option<Long>,
    /// Stays until all is over.
    newcomer: Option<Irc>,
}

impl Scene {
    /// Starts the victim, which does not run, and lets people talk as the row says until it has died or stopped at the place.
    pub(crate) async fn reach(
        world: &mut World,
        row: &Row,
        failpoint: &str,
        dice: &mut StdRng,
    ) -> Result<Scene> {
        let is_first = row.victim.is_first();
        let mut scene = Scene {
            talk: Talk::default(),
            long: None,
            newcomer: match row.talk {
                table::Talk::Newcomer => Some(newcomer(world, is_first).await?),
                _ => None,
            },
        };
        let (first, second, people) = world.parts();
        let (victim, other) = if is_first {
            (first, second)
        } else {
            (second, first)
        };
        let mut people = people.to_vec();
        if row.talk == table::Talk::FirstStart {
            other.start().await?;
            people.clear();
        }
        victim.arm(Some(failpoint.to_owned()));
        victim.spawn()?;
        if row.talk == table::Talk::Long {
            // Whoever can say so much at once.
            let (speaker, text) = match row.victim {
                Victim::Synapse => (PROSODY, Long::new(300, &"\"".repeat(90))),
                Victim::Prosody => (SYNAPSE, Long::new(100, &"&".repeat(80))),
                _ => (SYNAPSE, Long::new(40, "long-words-that-fill-lines")),
            };
            people[speaker].say(&text.text).await?;
            scene.long = Some(text);
        }
        if let Some(newcomer) = &scene.newcomer {
            people.insert(0, newcomer);
            scene.talk.line(newcomer, dice).await?;
        }
        let reached = talk_until_it_is_over(victim, &people, &mut scene.talk, dice).await;
        gateway(world, is_first).arm(None);
        reached.map(|()| scene)
    }

    /// What is wrong with what everyone saw, but for what the contract excepts: lines that the dead gateway did not hear and does not have in
    /// `held`, and so many `repeats` on the IRC network behind it.
    pub(crate) async fn judge(
        &self,
        world: &World,
        row: &Row,
        held: &[String],
        repeats: usize,
    ) -> Result<()> {
        let irc = irc_behind(world, row.victim.is_first());
        let due = self.talk.due(world, irc.deaf, held);
        let faults = world.judge(&due, PATIENCE).await?;
        if let Some(faults) = grave(faults, &[(&irc.person, repeats)]) {
            bail!("run {}: {faults}", self.talk.run());
        }
        let Some(long) = &self.long else {
            return Ok(());
        };
        for person in world.people() {
            // Its speaker does not get it back.
            if person
                .heard()
                .iter()
                .any(|line| line.own && line.says(&long.last()))
            {
                continue;
            }
            person.hears(&long.last(), PATIENCE).await?;
            let may_repeat = repeats > 0 && person.name() == irc.person;
            if let Some(fault) = long.fault(person, may_repeat) {
                bail!("the long message: {fault}");
            }
        }
        Ok(())
    }
}
