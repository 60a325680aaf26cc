//! Disks that take nothing: for the directory of one gateway, as long as a test wants it.
//!
//! Each way has its price: a small file system in memory has to be mounted, system calls that fail need `strace`; a
//! limit on the size of files needs no rights at all, and is what a disk that answers with errors looks like to SQLite.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A small file system in memory, gone with the value.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts it; an error says why that may not be done here.
    pub fn mount(place: &Path, megabytes: u32) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=700"))
            .arg("comity-test")
            .arg(place)
            .output()?;
        if !mounted.status.success() {
            bail!("{}", String::from_utf8_lossy(&mounted.stderr).trim());
        }
        Ok(Self {
            place: place.to_owned(),
        })
    }

    /// Leaves no byte, however often it is called.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: after a failed test the daemon may still be in it.
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.place.display());
        }
    }
}

/// Sets the largest size of a file that a process may write; `None` is no limit. Only the soft limit, which its owner may
/// raise again. The process has to ignore SIGXFSZ.
pub fn limit_files(pid: u32, bytes: Option<u64>) -> Result<()> {
    let size = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let status = Command::new("prlimit")
        .args([&format!("--pid={pid}"), &format!("--fsize={size}:")])
        .status()
        .context("prlimit (util-linux)")?;
    if !status.success() {
        bail!("prlimit: {status}");
    }
    Ok(())
}

/// Makes system calls of a process fail with EIO, until dropped.
#[derive(Debug)]
pub struct BadDisk {
    strace: Child,
}

impl BadDisk {
    /// Begins at once, also with a process that is stopped; an error says why that cannot be done here. `calls` are those that
    /// fail, as `pwrite64,fdatasync`.
    pub fn under(pid: u32, calls: &str) -> Result<Self> {
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={calls}"))
            .arg("-e")
            .arg(format!("inject={calls}:error=EIO"))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        let mut bad = Self { strace };
        let deadline = Instant::now() + Duration::from_secs(5);
        while threads(pid)?.iter().any(|status| !is_traced(status)) {
            if let Some(status) = bad.strace.try_wait()? {
                bail!("strace may not look at other processes here ({status})");
            }
            if Instant::now() > deadline {
                bail!("strace does not get hold of {pid}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(bad)
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        // At SIGTERM it lets the process go on by itself; killed, it might leave a call half changed.
        let asked = Command::new("kill")
            .arg(self.strace.id().to_string())
            .status();
        if asked.is_err() {
            self.strace.kill().ok();
        }
        self.strace.wait().ok();
    }
}

/// The state of each thread of a process.
fn threads(pid: u32) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        found.extend(fs::read_to_string(thread?.path().join("status")));
    }
    Ok(found)
}

fn is_traced(status: &str) -> bool {
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}
