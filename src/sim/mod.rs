//! The provider simulator: every provider's native API on one port, with the timing and the faults that are asked for.
//!
//! Every API is served at the root (`/v1/chat/completions`, `/v1/messages`, `/v1beta/models/...`, `/model/{id}/converse`)
//! and under `/{slug}/`; the prefix, or else a provider's name in `Host`, also chooses that provider's quirks. Beside them:
//!
//! | path | answer |
//! |---|---|
//! | `/echo/*`, `/upload/*` | JSON with method, path, query, headers, `body_bytes`, `body_sha256` |
//! | `/bytes/N` | N pseudo-random bytes, with `Content-Length` or (`?chunked`) chunked |
//! | `GET /sim/requests?since=N` | the requests received after number N, as far as they are remembered, and how their answers went |
//! | `DELETE /sim/requests` | forgets them |
//! | `GET /sim/stats` | connections, requests, aborted answers, events, bytes |
//!
//! # Directives
//!
//! A request chooses its answer by directives: words joined by `+` in the model name, the first marked by `sim-`
//! (`gpt-4o+sim-status-429+retry-after-2`), or a list in the header `x-sim` (`ttft-50, tps-100`). A model name may hold other
//! words; in the header an unknown one is answered with 400. `--fault` lets a share of all requests (`--fault-rate`)
//! suffer directives.
//!
//! | directive | effect |
//! |---|---|
//! | `status-N`, `retry-after-N` | that status in the provider's error envelope; `Retry-After` in seconds (alone: 429) |
//! | `hang`, `hang-body`, `hang-after-N` | silence: at once, after the head, after N events |
//! | `reset-after-N`, `close-after-N` | after N events a RST, or a FIN with the message unfinished (a body that is no stream counts an event each 64 bytes) |
//! | `truncated-chunk` | half of an announced chunk, then FIN |
//! | `malformed` | JSON that does not parse; in a binary stream a wrong checksum (streams: the third event) |
//! | `error-in-stream` | the dialect's error event after three tokens |
//! | `drip` | one byte each 10 ms |
//! | `huge-N[k\|m\|g]` | text of that many bytes, one event where streamed |
//! | `slow-head-N`, `early-head` | the head after N ms; the head before the first token is due |
//! | `no-read` | (header only) the answer without reading the request's body |
//! | `100-continue` | interim answers 100 and 103 before the final one |
//! | `close`, `gzip`, `no-usage` | `Connection: close`; content coding gzip; no usage told |
//! | `tokens-N`, `ttft-N`, `tps-N` | tokens of text; milliseconds to the first; tokens a second (0: no pacing) |
//! | `cached-N`, `cache-write-N`, `reasoning-N` | tokens of these kinds |
//! | `tool`, `filter` | call a tool; refuse |
//! | `stamp` | before each server-sent event a comment with the moment it was due, in microseconds since 1970 (`: due 1767225600000000`) |
//! | `seed-N` | bytes and delays of this seed, whatever came before |
//!
//! # Determinism and time
//!
//! Bytes (but stamps) depend on the seed, the path and the body alone; delays drawn from a distribution also on how many requests came
//! before. A stream's head goes out with its first event. Each event has its moment counted from the end of the request, so
//! delays do not add up; an answer that is not streamed comes when its last token would have.
//!
//! # AWS signatures
//!
//! A request with `Authorization: AWS4-HMAC-SHA256` must verify against the configured test key, else 403. The signed host
//! may be the one received or the AWS host that the credential scope names (`bedrock-runtime.{region}.amazonaws.com`), and
//! the signed path may lack the `/{slug}` prefix: what a client that signs for AWS sends through a gateway.

pub mod content;
pub mod directives;
mod ledger;
pub mod pace;
mod play;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use self::content::sigv4::Credentials;
use self::content::{Behaviour, Simulator};
use self::directives::DirectiveError;
use self::pace::Distribution;
use crate::limits::{SIM_THREADS_MAX, SIM_TOKENS_MAX};
use crate::net::driver::DriverChoice;

/// What `ringgate sim` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    pub listen: SocketAddr,
    /// Threads that serve.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Fixes every byte and delay.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Mean time to the first token: `200ms`, `1.5s`.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration)]
    pub ttft: Duration,
    /// Mean tokens a second; 0 for as fast as possible.
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    pub tps: f64,
    /// How both scatter round their means.
    #[arg(long, value_enum, default_value_t = Distribution::Fixed)]
    pub distribution: Distribution,
    /// Tokens of an answer that nothing else bounds.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub tokens: u64,
    /// Share of the requests that suffer `--fault`, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub fault_rate: f64,
    /// Directives for those requests, as in `x-sim`: `status-500`, `reset-after-3`.
    #[arg(long, value_name = "DIRECTIVES", default_value = "status-500")]
    pub fault: String,
    /// Access key id that AWS signatures must be made with.
    #[arg(long, value_name = "ID", default_value = "AKIDEXAMPLE")]
    pub access_key_id: String,
    /// Its secret: a test key, not one of yours.
    #[arg(
        long,
        value_name = "KEY",
        default_value = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    )]
    pub secret_access_key: String,
    /// Answer 401 to requests without this key.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// The driver of its threads.
    #[arg(skip)]
    pub driver: DriverChoice,
}

impl Default for Options {
    /// A free port of the loopback, one thread, no delays.
    fn default() -> Self {
        let behaviour = Behaviour::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: 1,
            seed: behaviour.seed,
            ttft: behaviour.ttft,
            tps: behaviour.tps,
            distribution: behaviour.distribution,
            tokens: behaviour.tokens,
            fault_rate: behaviour.fault_rate,
            fault: behaviour.fault,
            access_key_id: behaviour.credentials.access_key_id,
            secret_access_key: behaviour.credentials.secret_access_key,
            api_key: None,
            driver: DriverChoice::Auto,
        }
    }
}

/// Why a simulator does not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("--listen {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// An option is out of range.
    #[error("--{option} must be {range}")]
    Range {
        /// The option's name.
        option: &'static str,
        /// What it may be.
        range: String,
    },
    /// `--fault` is not a list of directives.
    #[error("--fault: {0}")]
    Fault(#[from] DirectiveError),
    /// A thread could not be started.
    #[error("a simulator thread did not start: {0}")]
    Thread(io::Error),
}

/// A simulator on threads of its own.
pub struct Running {
    address: SocketAddr,
    threads: serve::Threads,
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters of `GET /sim/stats`.
    pub fn stats(&self) -> Value {
        self.threads.stats()
    }

    /// Ends it: no new connections, answers in flight are cut off.
    pub fn stop(self) {
        self.threads.stop();
    }
}

/// Starts a simulator in the background; it listens when this returns.
pub fn start(options: &Options) -> Result<Running, Error> {
    check(options)?;
    let behaviour = Behaviour {
        seed: options.seed,
        ttft: options.ttft,
        tps: options.tps,
        distribution: options.distribution,
        tokens: options.tokens,
        fault_rate: options.fault_rate,
        fault: options.fault.clone(),
        credentials: Credentials {
            access_key_id: options.access_key_id.clone(),
            secret_access_key: options.secret_access_key.clone(),
        },
        api_key: options.api_key.clone(),
    };
    serve::start(
        Simulator::new(behaviour)?,
        options.listen,
        options.threads,
        options.driver,
    )
}

fn check(options: &Options) -> Result<(), Error> {
    let demand = |holds: bool, option, range: String| {
        if holds {
            Ok(())
        } else {
            Err(Error::Range { option, range })
        }
    };
    demand(
        (1..=SIM_THREADS_MAX).contains(&options.threads),
        "threads",
        format!("1 to {SIM_THREADS_MAX}"),
    )?;
    demand(
        options.tokens <= SIM_TOKENS_MAX,
        "tokens",
        format!("at most {SIM_TOKENS_MAX}"),
    )?;
    demand(
        (0.0..=1.0).contains(&options.fault_rate),
        "fault-rate",
        "between 0 and 1".to_owned(),
    )?;
    demand(
        (0.0..=1e6).contains(&options.tps),
        "tps",
        "between 0 and 1000000".to_owned(),
    )
}

/// `200ms`, `1.5s`, or milliseconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => text
            .strip_suffix('s')
            .map_or((text, 0.001), |number| (number, 1.0)),
    };
    match number.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&(value * scale)) => {
            Ok(Duration::from_secs_f64(value * scale))
        }
        _ => Err("expected a time such as 200ms or 1.5s, at most an hour".to_owned()),
    }
}
