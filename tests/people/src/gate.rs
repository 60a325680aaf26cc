//! A TCP proxy between a gateway and a server, which a test can shut, open and speak into.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinHandle,
};

/// A gate in front of one server. Connections wait at a shut gate; shutting cuts those inside.
#[derive(Debug)]
pub struct Gate {
    address: String,
    open: watch::Sender<bool>,
    injections: broadcast::Sender<Vec<u8>>,
    passed: Arc<AtomicUsize>,
    porter: JoinHandle<()>,
}

impl Gate {
    /// An open gate to `upstream`, on a port of its own at `ip`.
    pub async fn new(ip: &str, upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let open = watch::Sender::new(true);
        let injections = broadcast::Sender::new(64);
        let passed = Arc::new(AtomicUsize::new(0));
        let porter = tokio::spawn(stand(
            listener,
            Passage {
                upstream: upstream.to_owned(),
                open: open.clone(),
                injections: injections.clone(),
                passed: passed.clone(),
            },
        ));
        Ok(Self {
            address,
            open,
            injections,
            passed,
            porter,
        })
    }

    /// Where the gate listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts all connections and lets none through until [`Gate::open`].
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many connections went through so far.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// Sends bytes to the gateway as if the server had sent them. Only on a link that is quiet,
    /// since nothing here knows where a line or a stanza ends.
    pub fn inject(&self, bytes: &[u8]) -> Result<()> {
        self.injections.send(bytes.to_vec())?;
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open.send_replace(false);
        self.porter.abort();
    }
}

#[derive(Clone)]
struct Passage {
    upstream: String,
    open: watch::Sender<bool>,
    injections: broadcast::Sender<Vec<u8>>,
    passed: Arc<AtomicUsize>,
}

async fn stand(listener: TcpListener, passage: Passage) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(pass(near, passage.clone()));
    }
}

/// Carries one connection until an end closes, or the gate shuts.
async fn pass(mut near: TcpStream, passage: Passage) -> std::io::Result<()> {
    let mut open = passage.open.subscribe();
    if open.wait_for(|open| *open).await.is_err() {
        return Ok(());
    }
    let mut far = TcpStream::connect(&passage.upstream).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    passage.passed.fetch_add(1, Ordering::SeqCst);
    let mut injections = passage.injections.subscribe();
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = near.read(&mut up) => match read? {
                0 => return Ok(()),
                count => far.write_all(&up[..count]).await?,
            },
            read = far.read(&mut down) => match read? {
                0 => return Ok(()),
                count => near.write_all(&down[..count]).await?,
            },
            injected = injections.recv() => {
                if let Ok(bytes) = injected {
                    near.write_all(&bytes).await?;
                }
            }
            () = shut(&mut open) => return Ok(()),
        }
    }
}

/// Returns when the gate is shut, or gone.
async fn shut(open: &mut watch::Receiver<bool>) {
    while *open.borrow_and_update() {
        if open.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_carries_speaks_and_cuts() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let upstream = server.local_addr().unwrap().to_string();
        let gate = Gate::new("127.0.0.1", &upstream).await.unwrap();
        let mut client = TcpStream::connect(gate.address()).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();

        client.write_all(b"up").await.unwrap();
        let mut two = [0; 2];
        far.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"up");
        gate.inject(b"in").unwrap();
        client.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"in");

        gate.shut();
        assert_eq!(client.read(&mut two).await.unwrap(), 0);
        let waiting = TcpStream::connect(gate.address()).await.unwrap();
        assert_eq!(gate.passed(), 1);
        gate.open();
        server.accept().await.unwrap();
        drop(waiting);
    }
}
