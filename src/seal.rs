//! Sealing of stored provider keys: AES-256-GCM under a master key that is never in the database (mechanisms B8).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// First byte of every sealed value.
const FORMAT: u8 = 1;
const KEY_LENGTH: usize = 32;

/// A master key, ready to seal and to open.
pub struct Sealer {
    id: Box<str>,
    key: LessSafeKey,
}

/// A sealed value: format, nonce, ciphertext and tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The master key it was sealed with.
    pub key_id: Box<str>,
    /// Its bytes, as stored.
    pub bytes: Box<[u8]>,
}

/// What a sealed value belongs to, so that two rows cannot be exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Belonging<'a> {
    /// The account.
    pub account: &'a str,
    /// The row's id.
    pub id: &'a str,
    /// The row's name.
    pub name: &'a str,
}

/// Why a master key cannot be had, or a value not be opened. No message holds a key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written.
    #[error("master key {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than its owner may read the file.
    #[error("master key {0}: others than its owner may read it; chmod 600 it")]
    Exposed(PathBuf),
    /// Not 64 hexadecimal digits.
    #[error("{0}: a master key is 64 hexadecimal digits")]
    Form(String),
    /// The value was sealed with another key.
    #[error("sealed with master key {0}, which is not here; the keys cannot be read without it")]
    OtherKey(Box<str>),
    /// The value, its place or its key was changed.
    #[error("does not open: the value, its place or the master key was changed")]
    Broken,
    /// The system's source of randomness failed.
    #[error("no random bytes")]
    Random,
}

impl Sealer {
    /// Of 64 hexadecimal digits; `whence` names their place in an error.
    pub fn of_text(text: &str, whence: &str) -> Result<Self, SealError> {
        let form = || SealError::Form(whence.to_owned());
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * KEY_LENGTH {
            return Err(form());
        }
        let mut key = [0; KEY_LENGTH];
        for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| form())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| form())?;
        }
        let sealer = Self::new(&key);
        wipe(&mut key);
        sealer
    }

    /// Of a key file, which its owner alone may read. `None`: there is none.
    pub fn of_file(path: &Path) -> Result<Option<Self>, SealError> {
        let failed = |source| SealError::Io {
            path: path.to_owned(),
            source,
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if metadata.mode() & 0o077 != 0 {
            return Err(SealError::Exposed(path.to_owned()));
        }
        let mut text = fs::read_to_string(path).map_err(failed)?;
        let sealer = Self::of_text(&text, &path.display().to_string());
        // SAFETY: zero bytes are valid UTF-8, and nothing else is written.
        wipe(unsafe { text.as_bytes_mut() });
        sealer.map(Some)
    }

    /// Makes a key and its file, which must not exist, and brings both to the disk. A crash leaves no file with half a key: it
    /// is written beside and renamed. Whoever calls holds the directory's lock.
    pub fn create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::Io {
            path: path.to_owned(),
            source,
        };
        let mut key = [0; KEY_LENGTH];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| SealError::Random)?;
        let write = || -> io::Result<()> {
            if path.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let mut beside = path.as_os_str().to_owned();
            beside.push(".part");
            // One that a crash left is half a key at best, and may have other permissions.
            remove(Path::new(&beside))?;
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            for byte in &key {
                write!(file, "{byte:02x}")?;
            }
            writeln!(file)?;
            file.sync_all()?;
            rename(Path::new(&beside), path)
        };
        write().map_err(failed)?;
        let sealer = Self::new(&key);
        wipe(&mut key);
        sealer
    }

    fn new(key: &[u8; KEY_LENGTH]) -> Result<Self, SealError> {
        let digest = Sha256::digest([b"master key id", &key[..]].concat());
        let id: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let unbound = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Broken)?;
        Ok(Self {
            id: id.into(),
            key: LessSafeKey::new(unbound),
        })
    }

    /// Tells this key from others; says nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a value.
    pub fn seal(&self, plain: &[u8], belonging: Belonging<'_>) -> Result<Sealed, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| SealError::Random)?;
        let mut bytes = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(plain);
        let start = 1 + NONCE_LEN;
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.aad(belonging),
                &mut bytes[start..],
            )
            .map_err(|_| SealError::Broken)?;
        bytes.extend_from_slice(tag.as_ref());
        Ok(Sealed {
            key_id: self.id.clone(),
            bytes: bytes.into(),
        })
    }

    /// Opens what this key sealed for the same row.
    pub fn open(&self, sealed: &Sealed, belonging: Belonging<'_>) -> Result<Secret, SealError> {
        if sealed.key_id != self.id {
            return Err(SealError::OtherKey(sealed.key_id.clone()));
        }
        let Some((&[FORMAT], rest)) = sealed.bytes.split_first_chunk() else {
            return Err(SealError::Broken);
        };
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_LEN>() else {
            return Err(SealError::Broken);
        };
        let mut buffer = ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .key
            .open_in_place(nonce, self.aad(belonging), &mut buffer)
            .map(|plain| plain.len());
        let length = opened.map_err(|_| SealError::Broken)?;
        buffer.truncate(length);
        Ok(Secret::from(buffer.into_boxed_slice()))
    }

    /// Each part behind its length, so that no two places have the same.
    fn aad(&self, belonging: Belonging<'_>) -> Aad<Vec<u8>> {
        let mut aad = vec![FORMAT];
        for part in [&self.id, belonging.account, belonging.id, belonging.name] {
            aad.extend_from_slice(&(part.len() as u64).to_le_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        Aad::from(aad)
    }
}

/// Puts a key file in the place of another, durably.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is as good as removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn wipe(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: an exclusive reference to a byte; volatile, so that the compiler keeps a store nobody reads.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Belonging<'static> = Belonging {
        account: "a",
        id: "1",
        name: "g_openai_default",
    };

    #[test]
    fn what_is_sealed_opens_in_its_own_place_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master-key");
        let sealer = Sealer::create(&path).expect("a key");
        let sealed = sealer.seal(b"sk-secret", HERE).expect("sealed");
        assert!(!sealed.bytes.windows(9).any(|window| window == b"sk-secret"));
        assert_eq!(
            sealer.open(&sealed, HERE).expect("open").expose(),
            b"sk-secret"
        );
        assert_ne!(sealer.seal(b"sk-secret", HERE).expect("sealed"), sealed);
        let elsewhere = Belonging { id: "2", ..HERE };
        assert!(matches!(
            sealer.open(&sealed, elsewhere),
            Err(SealError::Broken)
        ));
        for index in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[index] ^= 1;
            assert!(sealer.open(&changed, HERE).is_err(), "byte {index}");
        }
        let again = Sealer::of_file(&path).expect("readable").expect("there");
        assert_eq!(again.id(), sealer.id());
        assert_eq!(
            again.open(&sealed, HERE).expect("open").expose(),
            b"sk-secret"
        );
        assert!(Sealer::create(&path).is_err(), "a key is never overwritten");
    }

    #[test]
    fn a_key_is_refused_where_others_may_read_it_or_it_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master-key");
        assert!(Sealer::of_file(&path).expect("no key").is_none());
        Sealer::create(&path).expect("a key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(matches!(Sealer::of_file(&path), Err(SealError::Exposed(_))));
        for text in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            let error = Sealer::of_text(text, "RINGGATE_MASTER_KEY")
                .err()
                .expect("refused");
            assert!(
                error.to_string().starts_with("RINGGATE_MASTER_KEY"),
                "{error}"
            );
        }
        let other = Sealer::of_text(&"ab".repeat(32), "x").expect("a key");
        let sealed = other.seal(b"k", HERE).expect("sealed");
        let key = Sealer::of_text(&"cd".repeat(32), "x").expect("a key");
        assert!(matches!(
            key.open(&sealed, HERE),
            Err(SealError::OtherKey(_))
        ));
    }
}
