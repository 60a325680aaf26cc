//! People on four channels say things, edit them, take them back and react to what they see, each by the network's own ids.
//!
//! | channel | changes | windows | asked about a delivery in doubt |
//! |---|---|---|---|
//! | `native/#room` | yes | 8 | knows |
//! | `plain/#room` | no, people there only say things | 4 | cannot tell |
//! | `wide/#a`, `wide/#b` | yes | 32, receipts come late and in any order | knows |
//!
//! `wide/#a` refuses a text in [`REFUSED_EVERY`] for good: a dead letter.
//!
//! What a channel shows is in `DIR/NETWORK-CHANNEL`, one [`place::Record`] a line. When everyone has done what they wanted, each says good
//! night once in each life of the gateway; whoever has heard the others' good nights of this life goes to bed.

mod network;
mod people;
mod place;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Semaphore;

use self::network::{Manner, Network};
use self::place::Place;
use crate::stage::{self, Kind};

/// `wide/#a` refuses the texts whose number leaves 5 when divided by this.
pub(crate) const REFUSED_EVERY: usize = 37;

const CHANNELS: [&str; 4] = ["native/#room", "plain/#room", "wide/#a", "wide/#b"];

/// Lives until everyone has done `acts` things and has seen what the others did.
pub(crate) async fn run(dir: &Path, acts: u64) -> Result<()> {
    let asleep = Arc::new(Semaphore::new(0));
    let place = |channel: &str| Place::open(dir, channel, CHANNELS.len() - 1, &asleep);
    let places = CHANNELS.map(place);
    let [native, plain, a, b] = &places;
    let network = |places: Vec<Arc<Place>>, manner: Manner| {
        Kind::new(move || Network::new(places.clone(), manner))
    };
    let networks = vec![
        ("native", network(vec![native.clone()], network::NATIVE)),
        ("plain", network(vec![plain.clone()], network::PLAIN)),
        ("wide", network(vec![a.clone(), b.clone()], network::WIDE)),
    ];
    let gateway = stage::gateway(dir, networks, &CHANNELS).await?;
    for place in &places {
        tokio::spawn(people::live(Arc::clone(place), acts));
    }
    let everyone = u32::try_from(CHANNELS.len())?;
    drop(asleep.acquire_many(everyone).await?);
    gateway.stop().await;
    Ok(())
}
