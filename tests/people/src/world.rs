//! Two gateways and four people: everything that one line has to cross.
//!
//! The first gateway sits on ngIRCd, Prosody and Synapse and opens its room to peers; the second
//! sits on InspIRCd and knows of the first nothing but the room's alias.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;

use crate::{
    gate::Gate,
    gateway::{Gateway, GatewayPlan, Room},
    history::{Account, Fault, View},
    irc::Irc,
    lab::Lab,
    matrix::Matrix,
    person::{PATIENCE, Person},
    ports::free_port,
    slots::{MATRIX_NETWORK, Slot},
    xmpp::Xmpp,
};

/// How to make a world.
#[derive(Clone, Debug)]
pub struct WorldPlan {
    /// The daemon's binary.
    pub binary: PathBuf,
    /// Name of the room, and of the channel on every network.
    pub room: String,
    /// DNS name of the second gateway.
    pub second_domain: String,
    /// Nicks of the gateways on IRC.
    pub nicks: [String; 2],
    /// On ngIRCd, in the MUC, on InspIRCd. The person on Matrix is the account's name.
    pub people: [String; 3],
    /// An account of the Matrix homeserver. Made when it is none of the lab's.
    pub matrix_user: String,
    /// How the gateways reach the servers.
    pub links: Links,
}

/// Addresses at which the gateways reach the servers, for whoever stands in between.
#[derive(Clone, Debug)]
pub struct Links {
    /// ngIRCd, and whether with TLS.
    pub ngircd: (String, bool),
    /// InspIRCd, and whether with TLS.
    pub inspircd: (String, bool),
    /// Prosody's component port.
    pub prosody: String,
    /// Synapse, `http://..`.
    pub synapse: String,
    /// Whether a gate stands in front of the application service, [`World::push`].
    pub gated_push: bool,
}

impl Links {
    /// Straight to the lab's servers, with TLS on IRC.
    pub fn direct(lab: &Lab) -> Self {
        Self {
            ngircd: (lab.address("NGIRCD_TLS"), true),
            inspircd: (lab.address("INSPIRCD_TLS"), true),
            prosody: lab.address("XMPP_COMPONENT"),
            synapse: lab.value("MATRIX_URL").to_owned(),
            gated_push: false,
        }
    }
}

impl WorldPlan {
    /// A world whose names no other test has.
    pub fn unique(lab: &Lab, binary: PathBuf) -> Self {
        let tag = tag();
        Self {
            binary,
            room: format!("room{tag}"),
            second_domain: format!("gw2-{tag}.test"),
            nicks: [format!("one{tag}"), format!("two{tag}")],
            people: [
                format!("ann{tag}"),
                format!("bea{tag}"),
                format!("dan{tag}"),
            ],
            // An account in many rooms would be told of all of them, by each of its clients.
            matrix_user: format!("cleo{tag}"),
            links: Links::direct(lab),
        }
    }
}

/// Six hexadecimal digits that make a name unique.
pub fn tag() -> String {
    format!("{:06x}", rand::random_range(0..0x100_0000_u32))
}

/// Places of the four in [`World::people`].
pub const NGIRCD: usize = 0;
/// The second place.
pub const PROSODY: usize = 1;
/// The third place.
pub const SYNAPSE: usize = 2;
/// The fourth place, behind the second gateway.
pub const INSPIRCD: usize = 3;

/// Two gateways and four people.
pub struct World {
    /// The servers.
    pub lab: Lab,
    /// What the world was made from.
    pub plan: WorldPlan,
    /// Where the first gateway sits.
    pub slot: Slot,
    /// Between Synapse and the first gateway's application service, if the plan wants it.
    pub push: Option<Gate>,
    /// On ngIRCd, Prosody and Synapse.
    pub first: Gateway,
    /// On InspIRCd.
    pub second: Gateway,
    /// On ngIRCd.
    pub ngircd: Irc,
    /// In the MUC.
    pub prosody: Xmpp,
    /// On Matrix.
    pub synapse: Matrix,
    /// On InspIRCd.
    pub inspircd: Irc,
}

impl World {
    /// A world of names that no other test has, on the lab that the environment names, running.
    pub async fn unique(binary: PathBuf) -> Result<Self> {
        let lab = Lab::up().await?;
        let plan = WorldPlan::unique(&lab, binary);
        Self::start(lab, plan).await
    }

    /// Brings the people into their rooms, starts both gateways and waits until each of the four
    /// hears all others.
    pub async fn start(lab: Lab, plan: WorldPlan) -> Result<Self> {
        let mut world = Self::prepare(lab, plan).await?;
        tokio::try_join!(world.first.start(), world.second.start())?;
        world.connected().await.with_context(|| world.logs())?;
        Ok(world)
    }

    /// Everything but starting the gateways.
    pub async fn prepare(lab: Lab, plan: WorldPlan) -> Result<Self> {
        let slot = Slot::lease(&lab, &plan.binary).await?;
        let (matrix_file, push) = if plan.links.gated_push {
            let behind = format!("{}:{}", lab.ip(), free_port(lab.ip())?);
            let (announced, _) = slot.appservice(&lab)?;
            let file = slot.matrix_file_through(&lab, &plan.links.synapse)?;
            let file = file.replace(&announced, &behind);
            (file, Some(Gate::at(&announced, &behind, 0).await?))
        } else {
            (slot.matrix_file_through(&lab, &plan.links.synapse)?, None)
        };
        let [ann, bea, dan] = &plan.people;
        let ngircd_address = lab.address("NGIRCD");
        let inspircd_address = lab.address("INSPIRCD");
        let channel = format!("#{}", plan.room);
        let muc = format!("{}@{}", plan.room, lab.value("XMPP_MUC"));
        let alias = format!("#{}:{}", plan.room, lab.value("MATRIX_SERVER_NAME"));
        let xmpp_account = lab.xmpp_account("bob");
        let matrix_account = lab.matrix_account(&plan.matrix_user);
        let mut known = lab.value("MATRIX_USERS").split(' ');
        if !known.any(|user| user == plan.matrix_user) {
            Matrix::register(&matrix_account).await?;
        }
        let (ngircd, prosody, synapse, inspircd) = tokio::try_join!(
            Irc::join("ngircd", &ngircd_address, ann, &channel),
            Xmpp::join(&xmpp_account, &muc, bea, 0),
            Matrix::join(&matrix_account, &alias),
            Irc::join("inspircd", &inspircd_address, dan, &channel),
        )?;
        // Keeps what is said for an hour, for those who come back.
        inspircd
            .raw(format!("MODE {channel} +H 500:1h").as_bytes())
            .await?;

        let first = Gateway::prepare(&GatewayPlan {
            binary: plan.binary.clone(),
            ip: lab.ip().to_owned(),
            domain: slot.domain.clone(),
            tls: Some(lab.certificate(&slot.domain).await?),
            rooms: vec![Room {
                name: plan.room.clone(),
                federation: "open",
                channels: vec![
                    format!("ngircd/{channel}"),
                    format!("prosody/{muc}"),
                    format!("{MATRIX_NETWORK}/{alias}"),
                ],
            }],
            networks: vec![
                (
                    "ngircd".to_owned(),
                    irc_file(&lab, &plan.links.ngircd, &plan.nicks[0]),
                ),
                (
                    "prosody".to_owned(),
                    xmpp_file(&lab, &plan.links.prosody, &slot.component),
                ),
                (MATRIX_NETWORK.to_owned(), matrix_file),
                ("peers".to_owned(), federation_file(&lab)),
            ],
        })?;
        let second = Gateway::prepare(&GatewayPlan {
            binary: plan.binary.clone(),
            ip: lab.ip().to_owned(),
            domain: plan.second_domain.clone(),
            tls: Some(lab.certificate(&plan.second_domain).await?),
            rooms: vec![Room {
                name: format!("{}-here", plan.room),
                federation: "off",
                channels: vec![
                    format!("inspircd/{channel}"),
                    format!("peers/#{}@{}", plan.room, slot.domain),
                ],
            }],
            networks: vec![
                (
                    "inspircd".to_owned(),
                    irc_file(&lab, &plan.links.inspircd, &plan.nicks[1]),
                ),
                ("peers".to_owned(), federation_file(&lab)),
            ],
        })?;
        lab.point(first.domain(), first.public_port()).await?;
        lab.point(second.domain(), second.public_port()).await?;
        Ok(Self {
            lab,
            plan,
            slot,
            push,
            first,
            second,
            ngircd,
            prosody,
            synapse,
            inspircd,
        })
    }

    /// The four people, in the order ngIRCd, Prosody, Synapse, InspIRCd.
    pub fn people(&self) -> [&dyn Person; 4] {
        [&self.ngircd, &self.prosody, &self.synapse, &self.inspircd]
    }

    /// Both gateways, to be killed while the people talk.
    pub fn parts(&mut self) -> (&mut Gateway, &mut Gateway, [&dyn Person; 4]) {
        let people: [&dyn Person; 4] = [&self.ngircd, &self.prosody, &self.synapse, &self.inspircd];
        (&mut self.first, &mut self.second, people)
    }

    /// Waits until each of the four hears all others. Nothing tells from outside when a gateway
    /// has entered a room, so everyone greets until everyone has been heard by everyone.
    pub async fn connected(&self) -> Result<()> {
        // Greetings before that would be said to nobody, and again.
        tokio::join!(self.first.is_everywhere(), self.second.is_everywhere());
        self.connected_among(&self.people()).await
    }

    /// The same for some of them, while others are away.
    pub async fn connected_among(&self, people: &[&dyn Person]) -> Result<()> {
        let round = tag();
        try_join_all(
            people
                .iter()
                .map(|speaker| self.greet(*speaker, people, &round)),
        )
        .await?;
        Ok(())
    }

    async fn greet(&self, speaker: &dyn Person, people: &[&dyn Person], round: &str) -> Result<()> {
        let greeting = format!("hello from {} ({round})", speaker.name());
        let others = || people.iter().filter(|other| !same(**other, speaker));
        // Less and less often: on a busy machine greetings would queue up faster than they arrive.
        for (earlier, patience) in [1, 2, 4, 8, 16, 32].into_iter().enumerate() {
            let patience = Duration::from_secs(patience);
            speaker.say(&greeting).await?;
            let all = others().map(|other| other.hears(&greeting, patience));
            if try_join_all(all).await.is_ok() {
                // Earlier greetings that are still on their way arrive before this one.
                if earlier > 0 {
                    let last = format!("{greeting} and good day");
                    speaker.say(&last).await?;
                    try_join_all(others().map(|other| other.hears(&last, PATIENCE))).await?;
                }
                return Ok(());
            }
        }
        let deaf: Vec<&str> = others()
            .filter(|other| {
                !other
                    .heard()
                    .iter()
                    .any(|heard| !heard.own && heard.says(&greeting))
            })
            .map(|other| other.network())
            .collect();
        bail!(
            "what is said on {} does not arrive on {}",
            speaker.network(),
            deaf.join(", ")
        )
    }

    /// What both gateways have logged, for an error message.
    fn logs(&self) -> String {
        let [first, second] = [&self.first, &self.second];
        format!(
            "--- {} ---\n{}--- {} ---\n{}",
            first.domain(),
            first.log(),
            second.domain(),
            second.log()
        )
    }

    /// Waits until everyone has heard the last line of every speaker in the account, says one
    /// more line each as a fence against late copies, and judges what everyone saw.
    pub async fn judge(&self, account: &Account, within: Duration) -> Result<Vec<Fault>> {
        let waited = self.settled(account, within).await;
        let faults = account.check(&self.people().map(View::of));
        if faults.is_empty() {
            waited?;
        }
        Ok(faults)
    }

    async fn settled(&self, account: &Account, within: Duration) -> Result<()> {
        for (speaker, token) in account.last_of_each() {
            for listener in self.people() {
                if listener.name() != speaker {
                    listener.hears(&token, within).await?;
                }
            }
        }
        let fence = tag();
        for speaker in self.people() {
            let line = format!("that is all from {} ({fence})", speaker.name());
            speaker.say(&line).await?;
            for listener in self
                .people()
                .into_iter()
                .filter(|other| !same(*other, speaker))
            {
                listener.hears(&line, within).await?;
            }
        }
        Ok(())
    }
}

fn same(one: &dyn Person, other: &dyn Person) -> bool {
    (one.network(), one.name()) == (other.network(), other.name())
}

/// `bridges.d` for an IRC server.
pub fn irc_file(lab: &Lab, (server, tls): &(String, bool), nick: &str) -> String {
    let tls = if *tls {
        format!("tls = \"required\"\nca_file = \"{}\"\n", lab.ca().display())
    } else {
        "tls = \"none\"\n".to_owned()
    };
    format!(
        "protocol = \"irc\"\nserver = \"{server}\"\n{tls}nick = \"{nick}\"\nusers = \"relay\"\n\
         max_lines = 400\n"
    )
}

/// `bridges.d` for the XMPP server.
pub fn xmpp_file(lab: &Lab, server: &str, component: &str) -> String {
    format!(
        "protocol = \"xmpp\"\ncomponent = \"{component}\"\nserver = \"{server}\"\n\
         secret = \"{}\"\nusers = \"ghosts\"\n",
        lab.value("XMPP_SECRET")
    )
}

/// `bridges.d` for the federation among gateways of the lab.
pub fn federation_file(lab: &Lab) -> String {
    format!(
        "protocol = \"federation\"\ndns = \"{}\"\nca_file = \"{}\"\n\
         allow_addresses = [\"127.0.0.0/8\"]\n",
        lab.value("DNS_ADDR"),
        lab.ca().display()
    )
}
