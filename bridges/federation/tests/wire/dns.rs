//! A name server that knows a handful of records and answers over UDP (RFC 1035).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

const A: u16 = 1;
const SRV: u16 = 33;
const TXT: u16 = 16;

type Records = Arc<Mutex<HashMap<(String, u16), Vec<Vec<u8>>>>>;

/// The server; it ends with the runtime.
pub(crate) struct Dns {
    address: SocketAddr,
    records: Records,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let records = Records::default();
        let known = Arc::clone(&records);
        tokio::spawn(async move {
            let mut buffer = [0_u8; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&buffer[..length], &known) {
                    drop(socket.send_to(&answer, client).await);
                }
            }
        });
        Self { address, records }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn a(&self, name: &str, address: Ipv4Addr) {
        self.add(name, A, address.octets().to_vec());
    }

    /// Adds a target of `_chat._tcp.<domain>`.
    pub(crate) fn srv(&self, domain: &str, priority: u16, port: u16, target: &str) {
        let mut data = Vec::new();
        for number in [priority, 10, port] {
            data.extend(number.to_be_bytes());
        }
        data.extend(encode(target));
        self.add(&format!("_chat._tcp.{domain}"), SRV, data);
    }

    pub(crate) fn txt(&self, name: &str, text: &str) {
        // In pieces, as long texts have to be.
        let mut data = Vec::new();
        for piece in text.as_bytes().chunks(50) {
            data.push(u8::try_from(piece.len()).expect("at most 50"));
            data.extend(piece);
        }
        self.add(name, TXT, data);
    }

    fn add(&self, name: &str, kind: u16, data: Vec<u8>) {
        self.records
            .lock()
            .expect("no panic")
            .entry((name.to_owned(), kind))
            .or_default()
            .push(data);
    }
}

fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a label"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn answer(query: &[u8], records: &Records) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    let question = query.get(12..at + 4)?;
    let name = labels.join(".");
    let records = records.lock().expect("no panic");
    let found = records
        .get(&(name.clone(), kind))
        .cloned()
        .unwrap_or_default();
    let exists = records.keys().any(|(known, _)| *known == name);
    let mut out = query.get(..2)?.to_vec();
    // A response, with authority; NXDOMAIN when the name has no record of any type.
    out.extend([0x85, if exists { 0x80 } else { 0x83 }, 0, 1]);
    out.extend(u16::try_from(found.len()).ok()?.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(question);
    for data in found {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 1]);
        out.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        out.extend(data);
    }
    Some(out)
}
