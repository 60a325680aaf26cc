//! One gateway under test: its configuration, its process, its health and metrics pages.
//!
//! Everything is as an operator would do it: files are written, the binary is started, asked over
//! HTTP, ended by signals. The data directory survives restarts and goes with the value.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::{metrics::Metrics, person::PATIENCE, ports::free_port};

/// A gateway, running or not.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    domain: String,
    folder: TempDir,
    admin: String,
    public_port: u16,
    child: Option<Child>,
    wrapper: Vec<String>,
    failpoint: Option<String>,
    clock: Option<PathBuf>,
    http: reqwest::Client,
}

/// How to make a gateway.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// The daemon's binary.
    pub binary: PathBuf,
    /// The loopback address that it listens on.
    pub ip: String,
    /// Its DNS name.
    pub domain: String,
    /// Certificate chain and key of the public listener; without them it speaks plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Rooms.
    pub rooms: Vec<Room>,
    /// Networks: name, and the text of their file in `bridges.d`.
    pub networks: Vec<(String, String)>,
}

/// A `[[room]]`.
#[derive(Clone, Debug)]
pub struct Room {
    /// `rust`.
    pub name: String,
    /// `off` or `open`.
    pub federation: &'static str,
    /// `libera/#rust`.
    pub channels: Vec<String>,
}

impl Gateway {
    /// Writes the configuration; starts nothing.
    pub fn prepare(plan: &GatewayPlan) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("comity-gateway-")
            .tempdir()?;
        let admin = format!("{}:{}", plan.ip, free_port(&plan.ip)?);
        let public_port = free_port(&plan.ip)?;
        let gateway = Self {
            binary: plan.binary.clone(),
            domain: plan.domain.clone(),
            folder,
            admin,
            public_port,
            child: None,
            wrapper: Vec::new(),
            failpoint: None,
            clock: None,
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        fs::write(gateway.config(), gateway.main_file(plan))?;
        let networks = gateway.folder.path().join("bridges.d");
        fs::create_dir(&networks)?;
        for (name, text) in &plan.networks {
            fs::write(networks.join(format!("{name}.toml")), text)?;
        }
        Ok(gateway)
    }

    fn main_file(&self, plan: &GatewayPlan) -> String {
        let mut text = format!(
            "[gateway]\ndomain = \"{}\"\ndata_dir = \"{}\"\n\n\
             [http]\nadmin = \"{}\"\npublic = \"{}:{}\"\npublic_url = \"https://{}:{}\"\n",
            self.domain,
            self.data_dir().display(),
            self.admin,
            plan.ip,
            self.public_port,
            self.domain,
            self.public_port,
        );
        if let Some((chain, key)) = &plan.tls {
            text.push_str(&format!(
                "tls_cert = \"{}\"\ntls_key = \"{}\"\n",
                chain.display(),
                key.display()
            ));
        }
        for room in &plan.rooms {
            text.push_str(&format!(
                "\n[[room]]\nname = \"{}\"\nchannels = {:?}\nfederation = \"{}\"\n",
                room.name, room.channels, room.federation
            ));
        }
        text
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + PATIENCE;
        while self.page("readyz").await.is_err() {
            if let Some(status) = self.running()?.try_wait()? {
                bail!(
                    "{} ended with {status} instead of starting:\n{}",
                    self.domain,
                    self.log()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {PATIENCE:?}:\n{}",
                    self.domain,
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        // A test that ends in a panic must leave no daemon behind: the kernel ends it with us.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(&self.wrapper)
            .arg(&self.binary)
            .args(["run", "--config"])
            .arg(self.config())
            .env(
                "RUST_LOG",
                std::env::var("COMITY_TEST_LOG").unwrap_or_else(|_| "info".into()),
            )
            .envs(
                self.failpoint
                    .iter()
                    .map(|place| ("COMITY_FAILPOINT", place)),
            )
            .envs(self.clock.iter().map(|file| ("COMITY_CLOCK", file)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("setpriv (util-linux)")?;
        self.child = Some(child);
        Ok(())
    }

    /// Every start from now on kills the daemon at a place of its own code (`irc.read@7`); needs a
    /// binary that was built with the feature `failpoints`. `None` is as usual.
    pub fn arm(&mut self, failpoint: Option<String>) {
        self.failpoint = failpoint;
    }

    /// Makes the daemon believe that the machine's clock is so many seconds wrong, at once if it was
    /// started after the first call; needs a binary that was built with the feature `failpoints`.
    pub fn set_clock(&mut self, wrong_by: i64) -> Result<()> {
        let file = self.folder.path().join("clock");
        let next = self.folder.path().join("clock.next");
        fs::write(&next, wrong_by.to_string())?;
        fs::rename(&next, &file)?;
        self.clock = Some(file);
        Ok(())
    }

    /// Every start from now on runs the daemon by another program, such as `prlimit`, that becomes it.
    pub fn run_by(&mut self, program: &[&str]) {
        self.wrapper = program.iter().map(|word| (*word).to_owned()).collect();
    }

    /// How the daemon ended, if it did so by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.running()?.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Result<u32> {
        self.child
            .as_ref()
            .and_then(Child::id)
            .ok_or_else(|| anyhow!("{} is not running", self.domain))
    }

    /// Sends the daemon a signal that does not end it: `STOP`, `CONT`.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.pid()?;
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(id.to_string())
            .status()
            .await?;
        if !sent.success() {
            bail!("kill -{signal} {id}: {sent}");
        }
        Ok(())
    }

    /// Whether the daemon is stopped by SIGSTOP.
    pub fn is_stopped(&self) -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        // The state stands behind the name, which may hold anything but ends with the last bracket.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        Ok(state.flatten() == Some('T'))
    }

    /// Kills the daemon with SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.take_child()?;
        child.kill().await?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM (or `INT`) and returns how it ended.
    pub async fn stop(&mut self, signal: &str) -> Result<ExitStatus> {
        self.signal(signal).await?;
        let mut child = self.take_child()?;
        tokio::time::timeout(PATIENCE, child.wait())
            .await
            .map_err(|_| {
                anyhow!(
                    "{} does not end on SIG{signal}:\n{}",
                    self.domain,
                    self.log()
                )
            })?
            .map_err(Into::into)
    }

    /// Runs another command of the binary with this configuration.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(&self.binary)
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| self.binary.display().to_string())
    }

    /// A page of the admin listener; an answer other than 2xx is an error.
    pub async fn page(&self, name: &str) -> Result<String> {
        let url = format!("{}/{name}", self.admin_url());
        let request = self.http.get(url).timeout(Duration::from_secs(5));
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    /// Waits for a while until [`Gateway::is_in_all_channels`].
    pub async fn is_everywhere(&self) {
        let deadline = Instant::now() + PATIENCE / 4;
        while !self.is_in_all_channels().await && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Whether the daemon says that it is in all its channels. Whether messages pass is another question. Soon answered, also by a
    /// daemon that does not answer.
    pub async fn is_in_all_channels(&self) -> bool {
        let page = tokio::time::timeout(Duration::from_millis(500), self.page("v1/rooms"));
        let Ok(Ok(page)) = page.await else {
            return false;
        };
        let page: serde_json::Value = serde_json::from_str(&page).unwrap_or_default();
        let rooms = page["rooms"].as_array();
        let channels = |room: &serde_json::Value| room["channels"].as_array().cloned();
        rooms.is_some_and(|rooms| {
            let mut all = rooms
                .iter()
                .flat_map(|room| channels(room).unwrap_or_default());
            all.all(|channel| channel["joined"] == true)
        })
    }

    /// The metrics now.
    pub async fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics::parse(&self.page("metrics").await?))
    }

    /// Waits until the metrics are as wanted.
    pub async fn metrics_until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.metrics().await?) {
            if Instant::now() > deadline {
                bail!(
                    "{what}: not within {PATIENCE:?}:\n{}",
                    self.page("metrics").await?
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Copies the log to where it outlives the gateway; says where.
    pub fn keep_log(&self) -> String {
        let name = format!(
            "comity-failed-{}-{}.log",
            self.domain,
            rand::random::<u32>()
        );
        let kept = std::env::temp_dir().join(name);
        fs::copy(self.log_path(), &kept)
            .map_or_else(|error| error.to_string(), |_| kept.display().to_string())
    }

    /// Its DNS name.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The port of its public listener.
    pub fn public_port(&self) -> u16 {
        self.public_port
    }

    /// Where its health and metrics pages are.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Its main configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("comity.toml")
    }

    /// One network's configuration file.
    pub fn network_file(&self, network: &str) -> PathBuf {
        self.folder
            .path()
            .join("bridges.d")
            .join(format!("{network}.toml"))
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn running(&mut self) -> Result<&mut Child> {
        let domain = &self.domain;
        self.child
            .as_mut()
            .with_context(|| format!("{domain} is not running"))
    }

    fn take_child(&mut self) -> Result<Child> {
        self.running()?;
        Ok(self.child.take().expect("it is running"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!(
            "--- end of the log of {}, whole in {} ---\n{}",
            self.domain,
            self.keep_log(),
            tail(&self.log(), 40)
        );
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The daemon's binary beside this program, as cargo places them.
pub fn binary_beside(program: &Path) -> PathBuf {
    program.with_file_name("comity")
}
