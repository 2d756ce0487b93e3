//! Keys, and where they are read from. A key never stands in the configuration itself.

use std::path::PathBuf;

/// A key in clear. It cannot be printed, and its memory is cleared when it is dropped.
pub struct Secret(Box<[u8]>);

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `env:NAME`.
    Environment(String),
    /// `file:PATH`.
    File(PathBuf),
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or empty.
    #[error("environment variable {0} is not set, or empty")]
    Environment(String),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds nothing, or more than a header can carry.
    #[error("{0}: does not hold one line of visible characters")]
    Content(PathBuf),
}

impl SecretSource {
    /// `env:NAME` or `file:PATH`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("must be env:NAME or file:PATH; a key itself does not belong here".to_owned()),
        }
    }

    /// Reads the key. Line ends behind it are not part of it.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Environment(name) => {
                let value = std::env::var(name).unwrap_or_default();
                Secret::new(&value).ok_or_else(|| SecretError::Environment(name.clone()))
            }
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| SecretError::File {
                    path: path.clone(),
                    source,
                })?;
                Secret::new(&text).ok_or_else(|| SecretError::Content(path.clone()))
            }
        }
    }

    /// Whether there is something to read, without reading it for keeps.
    pub(super) fn state(&self) -> &'static str {
        match self.read() {
            Ok(_) => "set",
            Err(_) => "NOT SET",
        }
    }
}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Secret {
    fn new(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        (!text.is_empty() && text.bytes().all(visible)).then(|| Self(text.as_bytes().into()))
    }

    /// The key, for the one place that writes upstream heads.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Box<[u8]>> for Secret {
    fn from(key: Box<[u8]>) -> Self {
        Self(key)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        for byte in &mut *self.0 {
            // SAFETY: an exclusive reference to a byte; volatile, so that the compiler keeps a store nobody reads.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_files_and_variables() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "sk-1\n").expect("written");
        let source = SecretSource::parse(&format!("file:{}", path.display())).expect("a source");
        assert_eq!(source.read().expect("a key").expose(), b"sk-1");
        assert_eq!(source.state(), "set");
        for content in ["", "\n", "two\nlines\n"] {
            std::fs::write(&path, content).expect("written");
            assert!(
                matches!(source.read().err(), Some(SecretError::Content(_))),
                "{content:?}"
            );
        }
        let unset = SecretSource::parse("env:RINGGATE_TEST_NOT_SET").expect("a source");
        let error = unset.read().err().expect("no key");
        assert!(error.to_string().contains("RINGGATE_TEST_NOT_SET"));
        assert_eq!(unset.state(), "NOT SET");
        for text in ["sk-live-key", "env:", "vault:x", ""] {
            let error = SecretSource::parse(text).expect_err("refused");
            assert!(!error.contains("sk-live"), "a pasted key is not repeated");
        }
    }
}
