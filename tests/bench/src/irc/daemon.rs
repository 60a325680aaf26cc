//! The daemon, as an operator runs it: files are written, the binary is started and killed at the end.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A running daemon that bridges two channels of one server, each through a connection of its own.
pub(super) struct Daemon {
    child: Child,
    folder: PathBuf,
    admin: SocketAddr,
}

impl Daemon {
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        server: SocketAddr,
        channels: [&str; 2],
    ) -> Result<Daemon> {
        ensure!(
            binary.exists(),
            "there is no {}: build the package comity with the same profile",
            binary.display()
        );
        let admin = TcpListener::bind((server.ip(), 0))?.local_addr()?;
        let [one, two] = channels;
        let tag = std::process::id();
        fs::create_dir(folder.join("bridges.d"))?;
        fs::write(
            folder.join("comity.toml"),
            format!(
                "[gateway]\ndomain = \"bench.example\"\ndata_dir = \"{}\"\n\n[http]\nadmin = \"{admin}\"\n\n\
                 [journal]\nwaiting_events_per_network = 10000000\nwaiting_events = 10000000\n\n\
                 [[room]]\nname = \"bench\"\nchannels = [\"a/{one}\", \"b/{two}\"]\n",
                folder.join("data").display()
            ),
        )?;
        for name in ["a", "b"] {
            fs::write(
                folder.join("bridges.d").join(format!("{name}.toml")),
                format!(
                    "protocol = \"irc\"\nserver = \"{server}\"\ntls = \"none\"\nnick = \"bridge-{name}-{tag}\"\nburst_lines = 256\n"
                ),
            )?;
        }
        let log = File::create(folder.join("log"))?;
        // A bench that is interrupted leaves no daemon behind: the kernel ends it with us.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .args(["run", "--config"])
            .arg(folder.join("comity.toml"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv (util-linux)")?;
        Ok(Daemon {
            child,
            folder: folder.to_owned(),
            admin,
        })
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What was heard and could not be taken.
    pub(super) fn refused(&self) -> String {
        let page = page(self.admin, "/metrics").unwrap_or_default();
        let lines = page
            .lines()
            .filter(|line| line.starts_with("comity_refused_total") && !line.ends_with(" 0"));
        lines.collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn page(admin: SocketAddr, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(admin)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
