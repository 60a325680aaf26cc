//! What is said on one network appears on each other one: once, in order, under its author's
//! name, a `/me` as a `/me`. The federation is the way to the second gateway and its InspIRCd.

use std::sync::LazyLock;

use comity_people::{
    Person, World,
    history::{Account, Script, View},
    world::{INSPIRCD as FEDERATION, NGIRCD as IRC, PROSODY as XMPP, SYNAPSE as MATRIX, tag},
};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{PATIENCE, world};

macro_rules! directions {
    ($($name:ident: $from:ident => $to:ident,)*) => {
        $(#[test] fn $name() { cross($from, $to); })*
    };
}

directions! {
    a_line_from_irc_appears_in_xmpp_once_with_its_author: IRC => XMPP,
    a_line_from_irc_appears_in_matrix_once_with_its_author: IRC => MATRIX,
    a_line_from_irc_appears_across_the_federation_once_with_its_author: IRC => FEDERATION,
    a_line_from_xmpp_appears_in_irc_once_with_its_author: XMPP => IRC,
    a_line_from_xmpp_appears_in_matrix_once_with_its_author: XMPP => MATRIX,
    a_line_from_xmpp_appears_across_the_federation_once_with_its_author: XMPP => FEDERATION,
    a_line_from_matrix_appears_in_irc_once_with_its_author: MATRIX => IRC,
    a_line_from_matrix_appears_in_xmpp_once_with_its_author: MATRIX => XMPP,
    a_line_from_matrix_appears_across_the_federation_once_with_its_author: MATRIX => FEDERATION,
    a_line_from_across_the_federation_appears_in_irc_once_with_its_author: FEDERATION => IRC,
    a_line_from_across_the_federation_appears_in_xmpp_once_with_its_author: FEDERATION => XMPP,
    a_line_from_across_the_federation_appears_in_matrix_once_with_its_author: FEDERATION => MATRIX,
}

#[tokio::test]
async fn four_people_talking_at_once_have_one_conversation() {
    let world = world().await;
    let run = tag();
    let mut account = Account::new(&run);
    let scripts = world
        .people()
        .map(|person| Script::new(&run, person).lines(20));
    let talk = world
        .people()
        .into_iter()
        .zip(&scripts)
        .map(|(person, said)| async {
            let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
            person.burst(&lines).await
        });
    futures_util::future::try_join_all(talk).await.unwrap();
    account.add(scripts.into_iter().flatten());
    assert_eq!(world.judge(&account, PATIENCE).await.unwrap(), []);
}

/// The twelve directions share one world. It lives in a runtime of its own, since the tests' own
/// threads come and go and the gateways must outlive them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static WORLD: OnceCell<Result<World, String>> = OnceCell::const_new();

fn cross(from: usize, to: usize) {
    RUNTIME.block_on(async {
        let built = || async {
            let task = RUNTIME.spawn(world()).await;
            task.map_err(|_| "there is no world; see the first test that failed".to_owned())
        };
        let world = WORLD.get_or_init(built).await.as_ref().unwrap();
        let people = world.people();
        one_way(people[from], people[to]).await;
    });
}

async fn one_way(speaker: &dyn Person, listener: &dyn Person) {
    let run = tag();
    let said = Script::new(&run, speaker).lines(10);
    let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
    speaker.burst(&lines).await.unwrap();
    // What comes before the fence has come for good; a second copy would stand in front of it.
    let fence = format!("fence of {run}");
    speaker.say(&fence).await.unwrap();
    listener.hears(&fence, PATIENCE).await.unwrap();
    let mut account = Account::new(&run);
    account.add(said);
    assert_eq!(account.check(&[View::of(listener), View::of(speaker)]), []);
}
