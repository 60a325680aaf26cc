//! A TCP proxy between a gateway and a server, which a test can shut, open, speak into and spoil.
//!
//! Each direction has a [`Weather`] of its own. What chance there is in it comes from the gate's
//! seed, so that a run can be repeated.

mod weather;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinHandle,
};

pub use self::weather::Weather;
use self::weather::{Carrier, End};

/// A gate in front of one server. Connections wait at a shut gate; shutting ends those inside.
#[derive(Debug)]
pub struct Gate {
    address: String,
    passage: Passage,
    porter: JoinHandle<()>,
}

/// Which bytes are meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From whoever connected to whom the gate stands in front of.
    Forth,
    /// The answers.
    Back,
}

impl Gate {
    /// An open gate to `upstream`, on a port of its own at `ip`.
    pub async fn new(ip: &str, upstream: &str) -> Result<Self> {
        Self::at(&format!("{ip}:0"), upstream, 0).await
    }

    /// An open gate to `upstream` that listens at `address`, with a seed for what is random in its
    /// weather.
    pub async fn at(address: &str, upstream: &str, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?.to_string();
        let passage = Passage {
            upstream: upstream.to_owned(),
            open: watch::Sender::new(true),
            cuts: watch::Sender::new(0),
            strandings: watch::Sender::new(0),
            weather: [
                watch::Sender::new(Weather::Fair),
                watch::Sender::new(Weather::Fair),
            ],
            injections: broadcast::Sender::new(64),
            passed: Arc::new(AtomicUsize::new(0)),
            seed,
        };
        let porter = tokio::spawn(stand(listener, passage.clone()));
        Ok(Self {
            address,
            passage,
            porter,
        })
    }

    /// Where the gate listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        port.parse().expect("a bound address ends in a port")
    }

    /// Ends all connections and lets none through until [`Gate::open`].
    pub fn shut(&self) {
        self.passage.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.passage.open.send_replace(true);
    }

    /// Resets all connections (RST, not FIN); new ones pass.
    pub fn cut(&self) {
        self.passage.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Strands all connections: nothing that is sent arrives any more, and nobody is told, for as long as it takes the one
    /// who connected to notice by itself. When it closes its end, the other one is reset. New ones pass.
    pub fn strand(&self) {
        self.passage.strandings.send_modify(|times| *times += 1);
    }

    /// What becomes of the bytes of one direction from now on, in every connection. One that has
    /// lost bytes is reset when the weather changes again: nobody could make sense of the rest.
    pub fn weather(&self, direction: Direction, weather: Weather) {
        self.passage.weather[direction as usize].send_replace(weather);
    }

    /// Fair weather both ways.
    pub fn clear(&self) {
        self.weather(Direction::Forth, Weather::Fair);
        self.weather(Direction::Back, Weather::Fair);
    }

    /// How many connections went through so far.
    pub fn passed(&self) -> usize {
        self.passage.passed.load(Ordering::SeqCst)
    }

    /// Sends bytes to the gateway as if the server had sent them. Only on a link that is quiet,
    /// since nothing here knows where a line or a stanza ends.
    pub fn inject(&self, bytes: &[u8]) -> Result<()> {
        self.passage.injections.send(bytes.to_vec())?;
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
        self.porter.abort();
    }
}

#[derive(Clone, Debug)]
struct Passage {
    upstream: String,
    open: watch::Sender<bool>,
    cuts: watch::Sender<usize>,
    strandings: watch::Sender<usize>,
    weather: [watch::Sender<Weather>; 2],
    injections: broadcast::Sender<Vec<u8>>,
    passed: Arc<AtomicUsize>,
    seed: u64,
}

async fn stand(listener: TcpListener, passage: Passage) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(pass(near, passage.clone()));
    }
}

/// Carries one connection until an end closes, the gate shuts or the weather ends it.
async fn pass(mut near: TcpStream, passage: Passage) -> std::io::Result<()> {
    let mut open = passage.open.subscribe();
    if open.wait_for(|open| *open).await.is_err() {
        return Ok(());
    }
    let mut far = TcpStream::connect(&passage.upstream).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let number = passage.passed.fetch_add(1, Ordering::SeqCst) as u64;
    let mut cuts = passage.cuts.subscribe();
    let mut strandings = passage.strandings.subscribe();
    let [forth, back] = [0, 1].map(|direction| Carrier {
        weather: passage.weather[direction].clone(),
        injections: (direction == Direction::Back as usize).then(|| passage.injections.subscribe()),
        dice: StdRng::seed_from_u64(passage.seed ^ (number << 1 | direction as u64)),
    });
    let end = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        tokio::select! {
            end = forth.carry(near_read, far_write) => end,
            end = back.carry(far_read, near_write) => end,
            _ = open.wait_for(|open| !*open) => End::Closed,
            _ = cuts.changed() => End::Reset,
            _ = strandings.changed() => End::Stranded,
        }
    };
    if matches!(end, End::Stranded) {
        // The far end may close or be reset for all that the near one hears.
        tokio::io::copy(&mut near, &mut tokio::io::sink())
            .await
            .ok();
        far.set_zero_linger()?;
        return Ok(());
    }
    if matches!(end, End::Reset) {
        near.set_zero_linger()?;
        far.set_zero_linger()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
