//! What a [`Gate`](super::Gate) does to the bytes of one direction of one connection.

use std::{collections::VecDeque, io, time::Duration};

use rand::{Rng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{broadcast, watch},
    time::Instant,
};

/// Bytes that may be under way in one direction; behind them the sender has to wait.
const UNDER_WAY: usize = 256 * 1024;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weather {
    /// They arrive.
    Fair,
    /// They arrive in order, each piece this much later or up to twice as much.
    Delay(Duration),
    /// They are taken and never arrive, and nobody is told: a half-open connection.
    Swallow,
    /// That many more arrive, wherever in a line, a stanza or a body this is; then the connection
    /// ends. For one connection: the next one has fair weather.
    Truncate(usize),
}

/// How carrying ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// In an orderly way, or an end is gone.
    Closed,
    /// With a reset for both ends.
    Reset,
    /// With nothing that either end would notice.
    Stranded,
}

/// Carries one direction of one connection.
pub(super) struct Carrier {
    pub(super) weather: watch::Sender<Weather>,
    pub(super) injections: Option<broadcast::Receiver<Vec<u8>>>,
    pub(super) dice: StdRng,
}

impl Carrier {
    pub(super) async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        self.run(&mut from, &mut to).await.unwrap_or(End::Closed)
    }

    async fn run(&mut self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<End> {
        let mut changes = self.weather.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut closing = false;
        let mut lost = false;
        let mut deaf = false;
        loop {
            let weather = *changes.borrow_and_update();
            if lost && weather != Weather::Swallow {
                return Ok(End::Reset);
            }
            let waiting: usize = late.iter().map(|(_, bytes)| bytes.len()).sum();
            if closing && late.is_empty() {
                return Ok(End::Closed);
            }
            let due = late.front().map(|(due, _)| *due);
            tokio::select! {
                read = from.read(&mut buffer), if !closing && !deaf && waiting < UNDER_WAY => {
                    let bytes = match read? {
                        // Whoever closes behind swallowed bytes is not heard either.
                        0 if lost => {
                            deaf = true;
                            continue;
                        }
                        0 => {
                            closing = true;
                            continue;
                        }
                        count => &buffer[..count],
                    };
                    match weather {
                        Weather::Swallow => lost = true,
                        Weather::Delay(delay) => {
                            let delay = delay.mul_f64(self.dice.random_range(1.0..2.0));
                            let due = due_after(&late, Instant::now() + delay);
                            late.push_back((due, bytes.to_vec()));
                        }
                        // What was delayed still goes first.
                        _ if !late.is_empty() => {
                            late.push_back((due_after(&late, Instant::now()), bytes.to_vec()));
                        }
                        Weather::Truncate(left) if bytes.len() >= left => {
                            to.write_all(&bytes[..left]).await?;
                            self.weather.send_replace(Weather::Fair);
                            return Ok(End::Closed);
                        }
                        Weather::Truncate(left) => {
                            self.weather.send_replace(Weather::Truncate(left - bytes.len()));
                            to.write_all(bytes).await?;
                        }
                        Weather::Fair => to.write_all(bytes).await?,
                    }
                }
                () = until(due), if due.is_some() => {
                    if let Some((_, bytes)) = late.pop_front() {
                        to.write_all(&bytes).await?;
                    }
                }
                injected = next(&mut self.injections) => to.write_all(&injected).await?,
                changed = changes.changed() => if changed.is_err() {
                    return Ok(End::Closed);
                },
            }
        }
    }
}

/// Not before what came earlier.
fn due_after(late: &VecDeque<(Instant, Vec<u8>)>, due: Instant) -> Instant {
    late.back().map_or(due, |(last, _)| due.max(*last))
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

async fn next(injections: &mut Option<broadcast::Receiver<Vec<u8>>>) -> Vec<u8> {
    loop {
        let Some(receiver) = injections else {
            std::future::pending().await
        };
        match receiver.recv().await {
            Ok(bytes) => return bytes,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => *injections = None,
        }
    }
}
