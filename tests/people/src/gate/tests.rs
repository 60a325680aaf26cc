use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::*;

const QUICKLY: Duration = Duration::from_secs(5);

/// Both ends of one connection through a gate.
async fn connected() -> (Gate, TcpListener, TcpStream, TcpStream) {
    let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = server.local_addr().unwrap().to_string();
    let gate = Gate::new("127.0.0.1", &upstream).await.unwrap();
    let client = TcpStream::connect(gate.address()).await.unwrap();
    let (far, _) = server.accept().await.unwrap();
    (gate, server, client, far)
}

async fn arrives(at: &mut TcpStream, wanted: &[u8]) {
    let mut found = vec![0; wanted.len()];
    timeout(QUICKLY, at.read_exact(&mut found))
        .await
        .expect("it arrives")
        .unwrap();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_gate_carries_speaks_and_shuts() {
    let (gate, server, mut client, mut far) = connected().await;
    client.write_all(b"up").await.unwrap();
    arrives(&mut far, b"up").await;
    gate.inject(b"in").unwrap();
    arrives(&mut client, b"in").await;

    gate.shut();
    assert_eq!(client.read(&mut [0; 2]).await.unwrap(), 0);
    let waiting = TcpStream::connect(gate.address()).await.unwrap();
    assert_eq!(gate.passed(), 1);
    gate.open();
    server.accept().await.unwrap();
    drop(waiting);
}

#[tokio::test]
async fn a_cut_is_a_reset_for_both_ends_and_the_next_connection_passes() {
    let (gate, server, mut client, mut far) = connected().await;
    client.write_all(b"up").await.unwrap();
    arrives(&mut far, b"up").await;
    gate.cut();
    for end in [&mut client, &mut far] {
        let error = timeout(QUICKLY, end.read(&mut [0; 2]))
            .await
            .expect("it ends")
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let mut client = TcpStream::connect(gate.address()).await.unwrap();
    let (mut far, _) = server.accept().await.unwrap();
    client.write_all(b"again").await.unwrap();
    arrives(&mut far, b"again").await;
}

#[tokio::test]
async fn delayed_bytes_arrive_later_and_in_order() {
    let (gate, _server, mut client, mut far) = connected().await;
    let delay = Duration::from_millis(100);
    gate.weather(Direction::Forth, Weather::Delay(delay));
    let began = Instant::now();
    for word in ["one ", "two ", "three"] {
        client.write_all(word.as_bytes()).await.unwrap();
    }
    client.shutdown().await.unwrap();
    // The other way is not delayed.
    far.write_all(b"down").await.unwrap();
    arrives(&mut client, b"down").await;
    assert!(began.elapsed() < delay, "{:?}", began.elapsed());
    arrives(&mut far, b"one two three").await;
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    assert_eq!(far.read(&mut [0; 2]).await.unwrap(), 0);
}

#[tokio::test]
async fn swallowed_bytes_never_arrive_and_nobody_is_told_until_the_weather_changes() {
    let (gate, _server, mut client, mut far) = connected().await;
    gate.weather(Direction::Forth, Weather::Swallow);
    client.write_all(b"gone").await.unwrap();
    far.write_all(b"down").await.unwrap();
    arrives(&mut client, b"down").await;
    let silence = timeout(Duration::from_millis(200), far.read(&mut [0; 4])).await;
    assert!(silence.is_err(), "{silence:?}");
    gate.clear();
    let error = timeout(QUICKLY, far.read(&mut [0; 4]))
        .await
        .expect("it ends")
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stranded_connection_is_silent_until_the_near_end_closes_and_the_next_one_passes() {
    let (gate, server, mut client, mut far) = connected().await;
    client.write_all(b"up").await.unwrap();
    arrives(&mut far, b"up").await;
    gate.strand();
    let mut next = TcpStream::connect(gate.address()).await.unwrap();
    let (mut next_far, _) = server.accept().await.unwrap();
    client.write_all(b"gone").await.unwrap();
    far.write_all(b"gone").await.unwrap();
    next.write_all(b"again").await.unwrap();
    arrives(&mut next_far, b"again").await;
    for end in [&mut client, &mut far] {
        let silence = timeout(Duration::from_millis(200), end.read(&mut [0; 4])).await;
        assert!(silence.is_err(), "{silence:?}");
    }
    drop(client);
    let error = timeout(QUICKLY, far.read(&mut [0; 4]))
        .await
        .expect("it ends")
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_truncated_connection_ends_behind_the_last_byte_that_may_pass() {
    let (gate, server, mut client, mut far) = connected().await;
    gate.weather(Direction::Forth, Weather::Truncate(6));
    client.write_all(b"four").await.unwrap();
    arrives(&mut far, b"four").await;
    client.write_all(b"five").await.unwrap();
    arrives(&mut far, b"fi").await;
    assert_eq!(far.read(&mut [0; 4]).await.unwrap(), 0);
    // Only that one.
    let mut client = TcpStream::connect(gate.address()).await.unwrap();
    let (mut far, _) = server.accept().await.unwrap();
    client.write_all(b"whole again").await.unwrap();
    arrives(&mut far, b"whole again").await;
}
