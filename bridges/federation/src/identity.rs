//! This gateway's own keys: made at first use, kept in files that only it may read.
//!
//! The signing key signs events, requests and the key document. The recovery key signs nothing here: only its
//! hash is published, and it may be moved to a safe place.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use comity_bridge::failpoint;
use serde::{Deserialize, Serialize};

use crate::ident::{Kid, ServerName, decode_hash};
use crate::wire::keys::KeyDocument;
use crate::wire::sign::OwnKey;

/// The keys with which this gateway speaks.
#[derive(Debug, Clone)]
pub struct Identity {
    pub key: OwnKey,
    created_ms: u64,
    /// The hash of the recovery key.
    recovery: String,
}

/// The keys cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is not a key file of this gateway")]
    Damaged(PathBuf),
    #[error("the machine has no random numbers: {0}")]
    Random(getrandom::Error),
}

/// A key file.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    kid: String,
    created_ms: u64,
    seed: String,
}

impl Identity {
    /// Reads the keys in `directory`, making them when they are not there.
    pub fn open(directory: &Path, now_ms: u64) -> Result<Self, IdentityError> {
        fs::create_dir_all(directory).map_err(|source| IdentityError::File {
            path: directory.to_owned(),
            source,
        })?;
        let signing = read_or_make(&directory.join("signing.key"), now_ms)?;
        // Once the recovery key was taken to a safe place, its hash is all that is left here.
        let hash_path = directory.join("recovery.hash");
        if !hash_path.exists() {
            let (recovery, _) = read_or_make(&directory.join("recovery.key"), now_ms)?;
            let hash = recovery.public().hash();
            write_new(&hash_path, format!("{hash}\n").as_bytes())?;
        }
        let recovery = match fs::read_to_string(&hash_path) {
            Ok(text) if decode_hash(text.trim()).is_some() => text.trim().to_owned(),
            Ok(_) => return Err(IdentityError::Damaged(hash_path)),
            Err(source) => {
                return Err(IdentityError::File {
                    path: hash_path,
                    source,
                });
            }
        };
        Ok(Self {
            key: signing.0,
            created_ms: signing.1,
            recovery,
        })
    }

    #[cfg(test)]
    pub fn from_seed(seed: u8) -> Self {
        let key = OwnKey::from_seed(Kid::parse("k1").expect("a name"), &[seed; 32]);
        let recovery = OwnKey::from_seed(Kid::parse("r").expect("a name"), &[seed ^ 0xff; 32])
            .public()
            .hash();
        Self {
            key,
            created_ms: 0,
            recovery,
        }
    }

    /// The key document as it is published now.
    pub fn document(&self, server: &ServerName, now_ms: u64) -> KeyDocument {
        KeyDocument::compose(server, &self.key, &self.recovery, self.created_ms, now_ms)
    }
}

fn read_or_make(path: &Path, now_ms: u64) -> Result<(OwnKey, u64), IdentityError> {
    if !path.exists() {
        let json = serde_json::to_vec(&make(now_ms)?).expect("strings and a number");
        write_new(path, &json)?;
        failpoint::reached("federation.key");
    }
    let bytes = fs::read(path).map_err(|source| IdentityError::File {
        path: path.to_owned(),
        source,
    })?;
    let file: KeyFile =
        serde_json::from_slice(&bytes).map_err(|_| IdentityError::Damaged(path.to_owned()))?;
    let kid = Kid::parse(&file.kid).map_err(|_| IdentityError::Damaged(path.to_owned()))?;
    let seed = decode_hash(&file.seed).ok_or_else(|| IdentityError::Damaged(path.to_owned()))?;
    Ok((OwnKey::from_seed(kid, &seed), file.created_ms))
}

fn make(now_ms: u64) -> Result<KeyFile, IdentityError> {
    use base64::Engine as _;
    let mut random = [0_u8; 36];
    getrandom::fill(&mut random).map_err(IdentityError::Random)?;
    let (seed, name) = random.split_at(32);
    // A short random name: a gateway that lost its keys makes another, and must not reuse a name (attack F7).
    let kid: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let seed = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(seed);
    Ok(KeyFile {
        kid: format!("k{kid}"),
        created_ms: now_ms,
        seed,
    })
}

/// Writes a file that only its owner can read, whole or not at all, and on disk when it returns. A file that is there meanwhile
/// stays: the daemon and `comity keys` may both be the first to need it, and must not have two keys.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(IdentityError::Random)?;
    let temporary = path.with_extension(format!("new-{:016x}", u64::from_le_bytes(random)));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        failpoint::reached("federation.key");
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(directory) = path.parent() {
            fs::File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| IdentityError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_are_nobody_elses_to_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Identity::open(directory.path(), 1).expect("made");
        let again = Identity::open(directory.path(), 2).expect("read");
        let server = ServerName::parse("a.example").expect("a name");
        assert_eq!(first.document(&server, 5), again.document(&server, 5));
        for name in ["signing.key", "recovery.key"] {
            let mode = fs::metadata(directory.path().join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_file(directory.path().join("recovery.key")).expect("moved away");
        assert_eq!(
            Identity::open(directory.path(), 3).expect("read").recovery,
            first.recovery
        );
    }

    #[test]
    fn whoever_comes_first_makes_the_keys_and_the_others_use_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Identity::open(directory.path(), 1).expect("made or read");
        let made: Vec<Identity> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            let ended = threads.into_iter();
            ended
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        for other in &made {
            assert_eq!(other.key.public(), made[0].key.public());
            assert_eq!(other.recovery, made[0].recovery);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 3);
    }

    /// Every place at which a first start can be killed leaves something that the next one goes on with.
    #[test]
    fn a_first_start_that_is_cut_short_leaves_a_usable_identity() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("signing.new-0"), "{\"kid\":\"k1").expect("half a key file");
        let first = Identity::open(directory.path(), 1).expect("made");
        fs::remove_file(path("recovery.hash")).expect("not written yet");
        let second = Identity::open(directory.path(), 2).expect("read");
        assert_eq!(
            (second.key.public(), &second.recovery),
            (first.key.public(), &first.recovery)
        );
        fs::remove_file(path("recovery.hash")).expect("not written yet");
        fs::rename(path("recovery.key"), path("recovery.new-0")).expect("not renamed yet");
        let third = Identity::open(directory.path(), 3).expect("made anew");
        assert_eq!(third.key.public(), first.key.public());
        assert!(Identity::open(directory.path(), 4).is_ok());
    }

    #[test]
    fn a_damaged_key_file_is_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("signing.key"), "{}").expect("written");
        assert!(matches!(
            Identity::open(directory.path(), 1),
            Err(IdentityError::Damaged(_))
        ));
    }
}
