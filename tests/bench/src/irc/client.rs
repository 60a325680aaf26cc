//! Plain IRC clients: one that sends, one that listens. As cheap as they can be, since they share the machine with what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::pace::{Schedule, histogram, micros, record};

/// How long a server may take to answer one command.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that is registered and in its channel.
pub(super) struct Client {
    stream: TcpStream,
    channel: String,
}

impl Client {
    pub(super) fn join(server: SocketAddr, nick: &str, channel: &str) -> Result<Client> {
        let mut stream = TcpStream::connect(server).context("the IRC server")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n")?;
        answer(&mut stream, " 001 ")?;
        write!(stream, "JOIN {channel}\r\n")?;
        answer(&mut stream, " 366 ")?;
        Ok(Client {
            stream,
            channel: channel.to_owned(),
        })
    }

    /// Reads and forgets what the others say, so that the server need not keep it.
    fn ignore_others(&self) -> Result<()> {
        let mut stream = self.stream.try_clone()?;
        stream.set_read_timeout(None)?;
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
        });
        Ok(())
    }

    /// One line, for whoever waits until a way is open.
    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        write!(self.stream, "PRIVMSG {} :{text}\r\n", self.channel)?;
        Ok(())
    }

    /// Sends lines as fast as the server takes them. The thread's result is the client, whom the server must not see go before all
    /// is heard: ngircd 26.1 throws away the last lines of a client that closes, up to five in one read.
    pub(super) fn flood(
        mut self,
        sender: usize,
        lines: u64,
        epoch: Instant,
        text: usize,
    ) -> Result<JoinHandle<Result<Client>>> {
        self.ignore_others()?;
        Ok(thread::spawn(move || {
            let mut buffer = Vec::with_capacity(1 << 14);
            let mut next = 0;
            while next < lines {
                buffer.clear();
                let now = Instant::now();
                while next < lines && buffer.len() < 8000 {
                    self.line(&mut buffer, sender, next, now - epoch, text)?;
                    next += 1;
                }
                self.stream.write_all(&buffer)?;
            }
            Ok(self)
        }))
    }

    /// Sends lines when they are due. The thread's result is the client, as with [`Client::flood`].
    pub(super) fn stream(
        mut self,
        sender: usize,
        schedule: Schedule,
        epoch: Instant,
        text: usize,
    ) -> Result<JoinHandle<Result<Client>>> {
        self.ignore_others()?;
        Ok(thread::spawn(move || {
            let mut buffer = Vec::new();
            let sent: Result<_> = schedule.run(|due| {
                buffer.clear();
                for (number, due) in due {
                    self.line(&mut buffer, sender, *number, *due - epoch, text)?;
                }
                self.stream.write_all(&buffer)?;
                Ok(())
            });
            sent.map(|_| self)
        }))
    }

    fn line(
        &self,
        buffer: &mut Vec<u8>,
        sender: usize,
        number: u64,
        due: Duration,
        text: usize,
    ) -> Result<()> {
        let due = micros(due);
        write!(
            buffer,
            "PRIVMSG {} :|{sender}|{number}|{due}|{:x<text$}\r\n",
            self.channel, ""
        )?;
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whoever reads beside us has a handle of their own.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// What one listener heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) lines: u64,
    /// Lines that did not follow the last one of their sender.
    pub(super) disorder: u64,
    pub(super) latencies: Histogram<u64>,
    /// When the last came, from the epoch.
    pub(super) last: Duration,
}

/// Listens until so many lines of each sender have come, or nothing comes any more.
pub(super) struct Listener {
    client: Client,
    epoch: Instant,
    held: Vec<u8>,
    /// The number that comes next, by sender.
    next: Vec<u64>,
    heard: Heard,
}

impl Listener {
    pub(super) fn new(client: Client, senders: usize, epoch: Instant) -> Listener {
        Listener {
            client,
            epoch,
            held: Vec::new(),
            next: vec![0; senders],
            heard: Heard {
                lines: 0,
                disorder: 0,
                latencies: histogram(),
                last: Duration::ZERO,
            },
        }
    }

    /// Waits until a line with these words comes.
    pub(super) fn wait_for(&mut self, words: &str, within: Duration) -> Result<bool> {
        let until = Instant::now() + within;
        let mut seen = Vec::new();
        while Instant::now() < until {
            self.client
                .stream
                .set_read_timeout(Some(Duration::from_millis(100)))?;
            let mut buffer = [0; 4096];
            match self.client.stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => seen.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if String::from_utf8_lossy(&seen).contains(words) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn listen(mut self, lines: u64, silence: Duration) -> JoinHandle<Result<Heard>> {
        thread::spawn(move || {
            self.client.stream.set_read_timeout(Some(silence))?;
            let mut buffer = vec![0; 1 << 16];
            while self.heard.lines < lines {
                let count = match self.client.stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if is_timeout(&error) => break,
                    Err(error) => return Err(error.into()),
                };
                let now = self.epoch.elapsed();
                let mut rest = buffer.get(..count).unwrap_or_default();
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let (line, after) = rest.split_at(end + 1);
                    rest = after;
                    if self.held.is_empty() {
                        self.line(line, now)?;
                    } else {
                        self.held.extend_from_slice(line);
                        let line = std::mem::take(&mut self.held);
                        self.line(&line, now)?;
                    }
                }
                self.held.extend_from_slice(rest);
            }
            Ok(self.heard)
        })
    }

    fn line(&mut self, line: &[u8], now: Duration) -> Result<()> {
        if line.starts_with(b"PING") {
            let token = line.get(4..).unwrap_or_default();
            self.client.stream.write_all(&[b"PONG", token].concat())?;
            return Ok(());
        }
        let mut fields = line.split(|byte| *byte == b'|').skip(1).map(digits);
        let (Some(Some(sender)), Some(Some(number)), Some(Some(due))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Ok(());
        };
        let Some(next) = self.next.get_mut(sender as usize) else {
            return Ok(());
        };
        if *next != number {
            self.heard.disorder += 1;
        }
        *next = number + 1;
        self.heard.lines += 1;
        self.heard.last = now;
        let late = now.saturating_sub(Duration::from_micros(due));
        record(&mut self.heard.latencies, late);
        Ok(())
    }
}

fn digits(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn answer(stream: &mut TcpStream, words: &str) -> Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(words) {
        match stream
            .read(&mut buffer)
            .with_context(|| format!("waiting for{words}"))?
        {
            0 => bail!(
                "the server closed the connection: {}",
                String::from_utf8_lossy(&seen)
            ),
            count => seen.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// What a server that takes one client reads of it until that one is gone.
    fn server() -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let reading = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b":x 001 s :\r\n").expect("it reads");
            let lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
            let mut heard = Vec::new();
            for line in lines.map_while(std::io::Result::ok) {
                if line.starts_with("JOIN") {
                    stream.write_all(b":x 366 s :\r\n").expect("it reads");
                }
                heard.push(line);
            }
            heard
        });
        (address, reading)
    }

    #[test]
    fn a_sender_stays_until_whoever_listens_has_heard_all() {
        let (address, reading) = server();
        let client = Client::join(address, "s", "#c").expect("it is let in");
        let epoch = Instant::now();
        let schedule = Schedule {
            start: epoch,
            rate: 10_000.0,
            count: 100,
        };
        let sending = client.stream(0, schedule, epoch, 10).expect("it starts");
        let mut client = sending.join().expect("no panic").expect("all is sent");
        client.say("still here").expect("it is");
        drop(client);
        let heard = reading.join().expect("no panic");
        assert_eq!(heard.len(), "NICK USER JOIN".split(' ').count() + 100 + 1);
    }
}
