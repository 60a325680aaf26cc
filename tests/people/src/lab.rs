//! The real servers: where they are, and how to ask `tests/lab/lab` for something.
//!
//! Knows no server's configuration; the lab's own script does everything. Which lab is meant
//! follows from the `COMITY_LAB_*` variables, as for the script itself.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::{matrix::MatrixAccount, xmpp::XmppAccount};

/// Labs beside the first. Each has a homeserver, which takes memory.
const SPARES: u8 = 3;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/lab");

/// One set of real servers, all running.
#[derive(Clone, Debug)]
pub struct Lab {
    values: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
}

impl Lab {
    /// The lab that the environment names; its servers are started when they do not run.
    pub async fn up() -> Result<Self> {
        Self::with(Vec::new()).await
    }

    /// One of the labs beside the first, for tests that take servers away; its servers are this test's alone as long as the file is held.
    pub async fn spare() -> Result<(Self, File)> {
        let main = Self::up().await?;
        loop {
            for number in 0..SPARES {
                if let Some(lock) = main.try_lock(&format!("spare-{number}"))? {
                    return Ok((main.beside(number).await?, lock));
                }
            }
            // All are taken; nobody tells us when one is given back.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn beside(&self, number: u8) -> Result<Self> {
        let octets = self.ip().split('.').map(str::parse);
        let mut octets: Vec<u8> = octets.collect::<Result<_, _>>()?;
        octets[2] = octets[2].wrapping_add(100 + number);
        let octets: Vec<String> = octets.iter().map(u8::to_string).collect();
        let directory = format!("{}-spare{number}", self.directory().display());
        Self::with(vec![
            ("COMITY_LAB_IP".to_owned(), octets.join(".")),
            ("COMITY_LAB_DIR".to_owned(), directory),
        ])
        .await
    }

    async fn with(environment: Vec<(String, String)>) -> Result<Self> {
        run(&["up".as_ref()], &environment).await?;
        let values = Self::settings(&environment).await?;
        Ok(Self {
            values,
            environment,
        })
    }

    async fn settings(environment: &[(String, String)]) -> Result<BTreeMap<String, String>> {
        Ok(run(&["env".as_ref()], environment)
            .await?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, quoted)| (key.to_owned(), quoted.trim_matches('\'').to_owned()))
            .collect())
    }

    /// A value of `lab env`.
    pub fn value(&self, key: &str) -> &str {
        value(&self.values, key).expect("the lab's variables are a contract of its README")
    }

    /// The address that everything of this lab listens on.
    pub fn ip(&self) -> &str {
        self.value("LAB_IP")
    }

    /// Address of a service by the name of its port: `NGIRCD`, `XMPP_C2S`.
    pub fn address(&self, service: &str) -> String {
        format!("{}:{}", self.ip(), self.value(&format!("{service}_PORT")))
    }

    /// The certificate authority that signs the lab's certificates.
    pub fn ca(&self) -> &Path {
        Path::new(self.value("LAB_CA"))
    }

    /// The lab's state directory.
    pub fn directory(&self) -> &Path {
        Path::new(self.value("LAB_DIR"))
    }

    /// An account of the XMPP server.
    pub fn xmpp_account(&self, user: &str) -> XmppAccount {
        XmppAccount {
            network: "prosody".to_owned(),
            address: self.address("XMPP_C2S"),
            jid: format!("{user}@{}", self.value("XMPP_DOMAIN")),
            password: self.value("XMPP_PASSWORD").to_owned(),
        }
    }

    /// An account of the Matrix homeserver.
    pub fn matrix_account(&self, user: &str) -> MatrixAccount {
        MatrixAccount {
            network: "synapse".to_owned(),
            homeserver: self.value("MATRIX_URL").to_owned(),
            user: user.to_owned(),
            password: self.value("MATRIX_PASSWORD").to_owned(),
        }
    }

    /// A certificate for `name`, signed by the lab's authority: chain and key.
    pub async fn certificate(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        self.verb(&["cert", name]).await?;
        let file = |kind| Path::new(self.value("LAB_CERTS")).join(format!("{name}.{kind}"));
        Ok((file("pem"), file("key")))
    }

    /// Makes `_chat._tcp.<name>` point to `port` at this lab's address.
    pub async fn point(&self, name: &str, port: u16) -> Result<()> {
        self.verb(&["srv", name, self.ip(), &port.to_string()])
            .await
    }

    /// Runs one verb of the script.
    pub async fn verb<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<()> {
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        run(&arguments, &self.environment).await.map(drop)
    }

    /// Waits for, and holds, a lock that all processes using this lab share.
    pub async fn lock(&self, name: &str) -> Result<File> {
        let file = self.lock_file(name)?;
        Ok(tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??)
    }

    /// Takes such a lock if nobody holds it.
    pub fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let file = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// A directory for what tests keep beside the servers' own state.
    pub fn tests_directory(&self) -> Result<PathBuf> {
        let directory = self.directory().join("tests");
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.tests_directory()?.join(format!("{name}.lock"));
        File::create(&path).with_context(|| path.display().to_string())
    }
}

fn value<'a>(values: &'a BTreeMap<String, String>, key: &str) -> Result<&'a str> {
    values
        .get(key)
        .map(String::as_str)
        .with_context(|| format!("`lab env` prints no {key}"))
}

async fn run(arguments: &[&OsStr], environment: &[(String, String)]) -> Result<String> {
    let output = Command::new(SCRIPT)
        .args(arguments)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .output()
        .await
        .context(SCRIPT)?;
    if !output.status.success() {
        let verb = arguments.join(" ".as_ref());
        bail!(
            "`lab {}` failed ({}):\n{}",
            verb.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
