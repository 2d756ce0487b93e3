//! Owns the threads, the listeners, the signals and the drain.

mod cache;
mod control;
mod data;
mod data_dir;
mod journal;
mod listen;
pub mod master_key;
mod premises;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use control::Running;
pub use data_dir::{DataDir, DataDirError};
pub use master_key::{FILE as MASTER_KEY_FILE, MasterKeyError};
pub use premises::Premises;

use crate::config::Config;
use crate::manage::PublishError;
use crate::net::tls::TlsError;
use crate::store::StoreError;

/// What a server is started with.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// Reads it again, for SIGHUP.
    pub reload: Box<dyn Fn() -> Result<Config, String> + Send>,
    /// The value of the first token, from the environment; used where there is none yet.
    pub bootstrap: Option<String>,
    /// The master key, from the environment; else it is a file in the data directory.
    pub master_key: Option<String>,
    /// Whether a first token that was made here is also written to a file.
    pub token_file: bool,
    /// Drain once so many requests were served; for benchmarks.
    pub exit_after: Option<u64>,
    /// Whether management calls from this machine need no token (`serve --dev`).
    pub dev: bool,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others would manage without a token.
    #[error(
        "--dev lets anyone on this machine manage without a token, and so needs a management listener on a loopback address; --management-listen is {0}"
    )]
    Dev(SocketAddr),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({option}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that changes it.
        option: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The configuration database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key cannot be used.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The configuration cannot be run.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The listener's certificate cannot be used.
    #[error("data.tls: {0}")]
    Tls(#[from] TlsError),
    /// A thread could not be started, or its runtime not built.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// Which thread.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// What the start-up line says.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The account in every path.
    pub account: Arc<str>,
    /// Where data is served.
    pub data: Vec<SocketAddr>,
    /// Where management is served.
    pub management: SocketAddr,
    /// Data threads.
    pub threads: usize,
    /// `io_uring` or `epoll`, or both where they differ.
    pub driver: String,
    /// Ring flags, or why there is no ring.
    pub driver_note: String,
    /// Client connections that may be open at once.
    pub connections: usize,
    /// The bound of a drain.
    pub drain: Duration,
    /// Whether TLS is spoken on the data listener.
    pub tls: bool,
    /// The first token, where it was made at this start.
    pub first_token: Option<String>,
    /// Where it was written to.
    pub token_file: Option<PathBuf>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let data: Vec<String> = self
            .data
            .iter()
            .map(|address| format!("{scheme}://{address}"))
            .collect();
        write!(
            f,
            "ringgate {} serves {} · management http://{} · account {} · {} threads on {} ({}) · at most {} connections",
            env!("CARGO_PKG_VERSION"),
            data.join(", "),
            self.management,
            self.account,
            self.threads,
            self.driver,
            self.driver_note,
            self.connections,
        )?;
        Ok(())
    }
}

/// What the log store of a configuration may take and keep.
pub fn log_bounds(config: &Config) -> crate::telemetry::logs::Bounds {
    control::log_bounds(config)
}

/// Binds, starts every thread, and returns when requests are served.
pub fn start(start: Start) -> Result<Running, StartError> {
    control::start(start)
}
