//! People talk at random while something goes wrong, and everything that was said is judged.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    history::{Account, Fault, Said, Script, View, report},
    person::Person,
    world::{World, tag},
};

/// Lines that an IRC bridge may have under way without knowing that the server has read them.
pub const IRC_WINDOW: usize = 16;

/// A source of random moments. The seed is printed, and shown when the test fails; `COMITY_SEED` repeats one.
pub fn dice() -> StdRng {
    let seed = std::env::var("COMITY_SEED").ok();
    let seed = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("COMITY_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// What was said in one run, by whom.
#[derive(Debug)]
pub struct Talk {
    run: String,
    scripts: BTreeMap<String, Script>,
    said: Vec<Said>,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            run: tag(),
            scripts: BTreeMap::new(),
            said: Vec::new(),
        }
    }
}

impl Talk {
    /// The mark of this run's lines.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// How many lines were said.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// Whether nobody has said anything.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// One person says one to three lines at once.
    pub async fn line(&mut self, person: &dyn Person, dice: &mut StdRng) -> Result<()> {
        let key = format!("{} {}", person.network(), person.name());
        let script = self
            .scripts
            .entry(key)
            .or_insert_with(|| Script::new(&self.run, person));
        let said: Vec<Said> = (0..dice.random_range(1..=3))
            .map(|_| match dice.random_ratio(1, 6) {
                true => script.emote(),
                false => script.text(),
            })
            .collect();
        let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
        // Said, whether the server answered or not.
        self.said.extend(said);
        person.burst(&lines).await
    }

    /// What must have arrived everywhere: all of it, but of what was said on a `deaf` network, to
    /// which a gateway was not listening all the time and which keeps nothing, only what somebody
    /// saw, or what is among the events that the gateway `held` in its journal.
    pub fn due(&self, world: &World, deaf: &[&str], held: &[String]) -> Account {
        let mut all = Account::new(&self.run);
        all.add(self.said.iter().cloned());
        let seen = all.witnessed(&world.people().map(View::of));
        let seen: Vec<&str> = seen.said().iter().map(|said| said.token.as_str()).collect();
        let is_due = |said: &&Said| {
            !deaf.contains(&said.network.as_str())
                || seen.contains(&said.token.as_str())
                || held.iter().any(|event| event.contains(&said.token))
        };
        let mut due = Account::new(&self.run);
        due.add(self.said.iter().filter(is_due).cloned());
        due
    }
}

/// The faults that the contract does not allow, in words. `copies` has the people who may see
/// lines twice that were under way, and how many at most.
pub fn grave(faults: Vec<Fault>, copies: &[(&str, usize)]) -> Option<String> {
    let most = |fault: &Fault| match fault {
        Fault::Doubled { observer, .. } => copies.iter().find(|(name, _)| observer == name),
        _ => None,
    };
    let (allowed, grave): (Vec<_>, Vec<_>) =
        faults.into_iter().partition(|fault| most(fault).is_some());
    for (name, most) in copies {
        let is_theirs =
            |fault: &&Fault| matches!(fault, Fault::Doubled { observer, .. } if observer == name);
        if allowed.iter().filter(is_theirs).count() > *most {
            return Some(format!(
                "more lines doubled than were under way: {}",
                report(&allowed)
            ));
        }
    }
    (!grave.is_empty()).then(|| report(&grave))
}
