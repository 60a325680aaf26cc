//! Places for gateways at servers that must know a gateway beforehand.
//!
//! Synapse reads application services only when it starts, and Prosody has a fixed list of
//! components. So there are as many slots as components; each has a domain, a component and a
//! registered application service of its own, and one gateway at a time sits in it. All slots
//! are registered at once, by the daemon's own `registration` command.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    gateway::{Gateway, GatewayPlan},
    lab::Lab,
    ports::free_port,
};

/// The name of the Matrix network in every slot; with the domain it makes the registration's id.
pub const MATRIX_NETWORK: &str = "synapse";

/// A place for one gateway, held until dropped.
#[derive(Debug)]
pub struct Slot {
    folder: PathBuf,
    /// The domain of the gateway that sits here.
    pub domain: String,
    /// The XMPP component that is its own.
    pub component: String,
    _lease: File,
}

impl Slot {
    /// Waits for a free slot. `binary` is the daemon, which writes the registrations.
    pub async fn lease(lab: &Lab, binary: &Path) -> Result<Self> {
        register_all(lab, binary).await?;
        loop {
            for (number, component) in components(lab) {
                if let Some(lease) = lab.try_lock(&format!("slot-{number}"))? {
                    return Ok(Self {
                        folder: folder(lab, number)?,
                        domain: domain(number),
                        component,
                        _lease: lease,
                    });
                }
            }
            // Every slot is taken; nobody tells us when one is given back.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The Matrix network's file in `bridges.d` for a gateway in this slot.
    pub fn matrix_file(&self, lab: &Lab) -> Result<String> {
        matrix_file(lab, &self.folder, lab.value("MATRIX_URL"))
    }

    /// The same, reaching the homeserver through another address.
    pub fn matrix_file_through(&self, lab: &Lab, homeserver: &str) -> Result<String> {
        matrix_file(lab, &self.folder, homeserver)
    }

    /// The address that the homeserver pushes to, and the token that it shows.
    pub fn appservice(&self, lab: &Lab) -> Result<(String, String)> {
        let token = fs::read_to_string(self.folder.join("hs-token"))?;
        Ok((
            appservice_address(lab, &self.folder)?,
            token.trim().to_owned(),
        ))
    }
}

fn components(lab: &Lab) -> impl Iterator<Item = (usize, String)> {
    lab.value("XMPP_COMPONENTS")
        .split(' ')
        .enumerate()
        .map(|(index, component)| (index + 1, component.to_owned()))
}

fn domain(number: usize) -> String {
    format!("gw-slot{number}.test")
}

fn folder(lab: &Lab, number: usize) -> Result<PathBuf> {
    let folder = lab.tests_directory()?.join(format!("slot-{number}"));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Registers the application services of all slots; the lab does nothing when they are known.
async fn register_all(lab: &Lab, binary: &Path) -> Result<()> {
    let _lock = lab.lock("slots").await?;
    let mut files = Vec::new();
    for (number, _) in components(lab) {
        let folder = folder(lab, number)?;
        let gateway = Gateway::prepare(&GatewayPlan {
            binary: binary.to_owned(),
            ip: lab.ip().to_owned(),
            domain: domain(number),
            tls: None,
            rooms: Vec::new(),
            networks: vec![(
                MATRIX_NETWORK.to_owned(),
                matrix_file(lab, &folder, lab.value("MATRIX_URL"))?,
            )],
        })?;
        let output = gateway.command(&["registration", MATRIX_NETWORK]).await?;
        if !output.status.success() {
            bail!(
                "`comity registration` failed ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let file = folder.join("registration.yaml");
        fs::write(&file, &output.stdout)?;
        files.push(file);
    }
    let mut verb = vec![PathBuf::from("appservices")];
    verb.extend(files);
    lab.verb(&verb)
        .await
        .context("registering application services")
}

fn matrix_file(lab: &Lab, folder: &Path, homeserver: &str) -> Result<String> {
    Ok(format!(
        "protocol = \"matrix\"\nhomeserver = \"{homeserver}\"\nserver_name = \"{}\"\n\
         as_token_file = \"{folder}/as-token\"\nhs_token_file = \"{folder}/hs-token\"\n\
         appservice = \"{}\"\nusers = \"ghosts\"\n",
        lab.value("MATRIX_SERVER_NAME"),
        appservice_address(lab, folder)?,
        folder = folder.display(),
    ))
}

/// The slot keeps its port, since the registration names it.
fn appservice_address(lab: &Lab, folder: &Path) -> Result<String> {
    let file = folder.join("port");
    let port = match fs::read_to_string(&file) {
        Ok(port) => port.trim().parse()?,
        Err(_) => {
            let port = free_port(lab.ip())?;
            fs::write(&file, port.to_string())?;
            port
        }
    };
    Ok(format!("{}:{port}", lab.ip()))
}
