//! The people themselves, against the real servers, without any gateway: if these fail, what the
//! gateway's tests say means nothing.

use std::time::Duration;

use comity_people::{
    Irc, Lab, Matrix, Person, Xmpp,
    history::{Account, Script, View},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn tag() -> String {
    format!("{:06x}", rand::random_range(0..0x100_0000_u32))
}

/// Each says a burst; each hears the other's, whole and in order.
async fn talk(one: &dyn Person, other: &dyn Person) {
    let run = tag();
    let mut account = Account::new(&run);
    for speaker in [one, other] {
        let said = Script::new(&run, speaker).lines(20);
        let lines: Vec<_> = said.iter().map(|said| said.line.clone()).collect();
        speaker.burst(&lines).await.unwrap();
        account.add(said);
    }
    for (listener, speaker) in [(one, other), (other, one)] {
        let last = format!("{run}-{}-19-", speaker.name());
        listener.hears(&last, PATIENCE).await.unwrap();
    }
    assert_eq!(account.check(&[View::of(one), View::of(other)]), []);
}

#[tokio::test]
async fn two_people_talk_on_each_irc_server() {
    let lab = Lab::up().await.unwrap();
    for (network, port) in [("ngircd", "NGIRCD"), ("inspircd", "INSPIRCD")] {
        let (address, tag) = (lab.address(port), tag());
        let channel = format!("#people-{tag}");
        let (first, second) = (format!("a{tag}"), format!("b{tag}"));
        let one = Irc::join(network, &address, &first, &channel)
            .await
            .unwrap();
        let other = Irc::join(network, &address, &second, &channel)
            .await
            .unwrap();
        one.sees_join(&second).await.unwrap();
        other.sees_join(&first).await.unwrap();
        talk(&one, &other).await;
    }
}

#[tokio::test]
async fn two_people_talk_in_a_muc() {
    let lab = Lab::up().await.unwrap();
    let room = format!("people-{}@{}", tag(), lab.value("XMPP_MUC"));
    let one = Xmpp::join(&lab.xmpp_account("alice"), &room, "ann", 0)
        .await
        .unwrap();
    let other = Xmpp::join(&lab.xmpp_account("bob"), &room, "bob", 0)
        .await
        .unwrap();
    one.sees_join("bob").await.unwrap();
    talk(&one, &other).await;
    let late = Xmpp::join(&lab.xmpp_account("carol"), &room, "carol", 10)
        .await
        .unwrap();
    late.hears("-bob-19-", PATIENCE).await.unwrap();
    assert_eq!(late.heard().len(), 10);
}

#[tokio::test]
async fn two_people_talk_in_a_matrix_room() {
    let lab = Lab::up().await.unwrap();
    let alias = format!("#people-{}:{}", tag(), lab.value("MATRIX_SERVER_NAME"));
    let one = Matrix::join(&lab.matrix_account("alice"), &alias)
        .await
        .unwrap();
    let other = Matrix::join(&lab.matrix_account("bob"), &alias)
        .await
        .unwrap();
    one.sees_join(other.user_id()).await.unwrap();
    talk(&one, &other).await;
}

#[tokio::test]
async fn a_refused_nick_a_wrong_password_and_a_closed_port_say_what_is_wrong() {
    let lab = Lab::up().await.unwrap();
    let address = lab.address("NGIRCD");
    let error = Irc::join("ngircd", &address, "#nick", "#x")
        .await
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("the server says"),
        "{error:#}"
    );

    let mut account = lab.matrix_account("alice");
    account.password = "wrong".into();
    let error = Matrix::join(&account, "#x:hs.test").await.unwrap_err();
    assert!(format!("{error:#}").contains("403"), "{error:#}");

    let error = Irc::join("ngircd", "127.0.0.1:1", "nick", "#x")
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("127.0.0.1:1"), "{error:#}");
}
