//! A load generator for OpenAI- and Anthropic-shaped endpoints, streams included.
//!
//! Closed loop: each connection sends its next request when it has the answer to the last. Open loop (`--rate`): requests
//! fall due at a fixed rate, whatever the answers do, and their latency counts from the moment they were due, so that a
//! server that stalls is charged for every request that should have been sent meanwhile (no coordinated omission).

mod report;
mod request;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use report::{Percentiles, Report};

use crate::net::driver::DriverChoice;
use crate::net::resolver::Resolver;
use crate::net::tls::{Roots, TlsError, UpstreamTls};
use report::Tally;
use request::Job;

/// What `ringgate load` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Base URL of an SDK, or the whole URL of an endpoint
    pub url: String,
    /// The shape of the request, unless --body is given
    #[arg(long, value_enum, default_value_t = Dialect::Openai)]
    pub dialect: Dialect,
    /// Connections; in the open loop as many requests may be in flight
    #[arg(long, short, value_name = "N", default_value_t = 16)]
    pub connections: usize,
    /// Requests a second, sent on schedule whatever the answers do
    #[arg(long, short, value_name = "RATE")]
    pub rate: Option<f64>,
    /// Seconds to run
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// End after so many requests
    #[arg(long, short = 'n', value_name = "N")]
    pub requests: Option<u64>,
    /// Seconds at the start that are not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub warmup: f64,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// The model to ask for
    #[arg(long, default_value = "gpt-4o-mini")]
    pub model: String,
    /// Ask for a stream
    #[arg(long, short)]
    pub stream: bool,
    /// max_tokens of the request
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Bytes of the prompt
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub prompt_bytes: usize,
    /// A file to send instead of a made request
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The method; GET sends no body
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// A header, as 'name: value'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Seconds that one request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub timeout: f64,
    /// A new connection for every request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// PEM file of further authorities to trust
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Print nothing but the report, as JSON
    #[arg(long)]
    pub json: bool,
    /// The driver of its threads.
    #[arg(skip)]
    pub driver: DriverChoice,
}

/// The shape of a request and of its stream's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// Chat completions; a stream ends with `[DONE]`.
    Openai,
    /// Messages; a stream ends with `message_stop`.
    Anthropic,
    /// The URL as it is, any answer.
    Raw,
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option is wrong.
    #[error("{0}")]
    Option(String),
    /// The body's file cannot be read.
    #[error("--body {path}: {source}")]
    Body {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Trust anchors cannot be read.
    #[error("--ca-file: {0}")]
    Tls(#[from] TlsError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// What is known while a run goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live {
    /// Seconds since the start.
    pub seconds: f64,
    /// Requests answered.
    pub requests: u64,
    /// Requests failed.
    pub errors: u64,
    /// Events received.
    pub events: u64,
}

/// What all threads of a run share.
struct Run {
    job: Job,
    resolver: Arc<Resolver>,
    tls: UpstreamTls,
    counted_from: Instant,
    end: Instant,
    /// Requests still to be sent, where they are bounded.
    left: Option<AtomicU64>,
    stopping: AtomicBool,
    requests: AtomicU64,
    errors: AtomicU64,
    events: AtomicU64,
}

impl Run {
    /// Leave to send one more request.
    fn take(&self) -> bool {
        if self.stopping.load(Ordering::Relaxed) || Instant::now() >= self.end {
            return false;
        }
        match &self.left {
            None => true,
            Some(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok(),
        }
    }
}

/// Runs to the end, or until `stop`; `live` is called about once a second.
pub fn run(
    options: &Options,
    stop: &AtomicBool,
    mut live: impl FnMut(Live),
) -> Result<Report, LoadError> {
    check(options)?;
    let begin = Instant::now();
    let shared = Arc::new(Run {
        job: Job::build(options)?,
        resolver: Resolver::start(1)?,
        tls: UpstreamTls::build(Roots::Bundled, options.ca_file.as_deref())?,
        counted_from: begin + Duration::from_secs_f64(options.warmup),
        end: begin + Duration::from_secs_f64(options.warmup + options.duration),
        left: options.requests.map(AtomicU64::new),
        stopping: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        events: AtomicU64::new(0),
    });
    let threads = options.threads.min(options.connections);
    let mut handles = Vec::new();
    for index in 0..threads {
        let shared = shared.clone();
        // Uneven numbers: the first threads take one more.
        let connections =
            options.connections / threads + usize::from(index < options.connections % threads);
        let rate = options.rate.map(|rate| rate / threads as f64);
        let driver = options.driver;
        let thread = std::thread::Builder::new().name(format!("load-{index}"));
        handles.push(thread.spawn(move || worker::run(shared, connections, rate, driver))?);
    }
    let mut next = begin + Duration::from_secs(1);
    while handles.iter().any(|handle| !handle.is_finished()) {
        std::thread::sleep(Duration::from_millis(10));
        if stop.load(Ordering::Relaxed) {
            shared.stopping.store(true, Ordering::Relaxed);
        }
        if Instant::now() >= next {
            next += Duration::from_secs(1);
            live(Live {
                seconds: begin.elapsed().as_secs_f64(),
                requests: shared.requests.load(Ordering::Relaxed),
                errors: shared.errors.load(Ordering::Relaxed),
                events: shared.events.load(Ordering::Relaxed),
            });
        }
    }
    let mut total = Tally::default();
    for handle in handles {
        let tally = handle
            .join()
            .map_err(|_| io::Error::other("a thread of the run panicked"))??;
        total.add(&tally);
    }
    let counted = total.time(shared.counted_from, shared.end, Instant::now());
    Ok(total.report(counted, options.rate))
}

fn check(options: &Options) -> Result<(), LoadError> {
    let wrong = |text: &str| Err(LoadError::Option(text.to_owned()));
    let finite = |value: f64, highest: f64| value.is_finite() && (0.0..=highest).contains(&value);
    if options.connections == 0 || options.connections > 100_000 {
        return wrong("--connections must be 1 to 100000");
    }
    if options.threads == 0 || options.threads > 256 {
        return wrong("--threads must be 1 to 256");
    }
    if options
        .rate
        .is_some_and(|rate| !finite(rate, 1e7) || rate <= 0.0)
    {
        return wrong("--rate must be above 0 and at most 10000000");
    }
    if !finite(options.duration, 1e6)
        || !finite(options.warmup, 1e6)
        || !finite(options.timeout, 1e6)
    {
        return wrong("--duration, --warmup and --timeout must be seconds from 0 to 1000000");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(url: &str, arguments: &[&str]) -> Options {
        let line = ["load", url].into_iter().chain(arguments.iter().copied());
        Line::try_parse_from(line).expect("a command line").options
    }

    fn go(options: &Options) -> Result<Report, LoadError> {
        run(options, &AtomicBool::new(false), |_| ())
    }

    #[test]
    fn both_loops_count_what_they_send() {
        let simulator = sim::start(&sim::Options::default()).expect("a simulator");
        let url = format!("http://{}/v1", simulator.addr());
        for driver in [DriverChoice::Auto, DriverChoice::Epoll] {
            for arguments in [
                &["-n", "60", "-c", "4"][..],
                &["-n", "60", "-c", "4", "--rate", "2000", "--threads", "2"],
            ] {
                let before = simulator.stats()["requests"].as_u64().expect("a number");
                let mut options = options(&url, arguments);
                options.driver = driver;
                let report = go(&options).expect("a report");
                assert_eq!(
                    (report.requests, report.errors.len()),
                    (60, 0),
                    "{report:?}"
                );
                assert_eq!(report.latency_us.count, 60);
                assert_eq!(simulator.stats()["requests"].as_u64(), Some(before + 60));
            }
        }
    }

    #[test]
    fn streams_are_followed_to_their_end_and_errors_told_apart() {
        let simulator = sim::start(&sim::Options::default()).expect("a simulator");
        let url = format!("http://{}", simulator.addr());
        let count = |path: &str, arguments: &[&str]| {
            let arguments: Vec<&str> = ["-n", "5", "-c", "1"]
                .into_iter()
                .chain(arguments.iter().copied())
                .collect();
            go(&options(&format!("{url}{path}"), &arguments)).expect("a report")
        };
        let stream = count("/v1", &["--stream", "--model", "sim-tokens-10"]);
        assert_eq!((stream.requests, stream.errors.len()), (5, 0), "{stream:?}");
        assert!(
            stream.latency_us.p50 > 2
                && stream.events >= 50
                && stream.event_gap_us.count >= 45
                && stream.first_event_us.count == 5,
            "{stream:?}"
        );
        assert_eq!(stream.event_delay_us.count, 0, "{stream:?}");
        let stamped = count("/v1", &["--stream", "--model", "sim-tokens-10+stamp"]);
        assert!(
            stamped.errors.is_empty() && stamped.event_delay_us.count >= 50,
            "{stamped:?}"
        );
        let messages = count("", &["--stream", "--dialect", "anthropic"]);
        assert_eq!(
            (messages.requests, messages.errors.len()),
            (5, 0),
            "{messages:?}"
        );
        let broken = count("/v1", &["--stream", "--model", "sim-close-after-2"]);
        assert_eq!(broken.errors.get("truncated"), Some(&5), "{broken:?}");
        let failing = count("/v1", &["--model", "sim-status-503"]);
        assert_eq!(failing.errors.get("status 503"), Some(&5), "{failing:?}");
        let slow = count("/v1", &["--model", "sim-hang", "--timeout", "0.05"]);
        assert_eq!(slow.errors.get("timeout"), Some(&5), "{slow:?}");
        let nobody = go(&options("http://127.0.0.1:1", &["-n", "3"])).expect("a report");
        let (kind, count) = nobody.errors.first_key_value().expect("errors");
        assert!(
            *count == 3 && kind.starts_with("connect: 127.0.0.1:1: Connection refused"),
            "{nobody:?}"
        );
    }

    #[test]
    fn the_rate_is_what_was_answered_not_what_was_sent() {
        let simulator = sim::start(&sim::Options::default()).expect("a simulator");
        let url = format!("http://{}/v1", simulator.addr());
        // Two connections take 40 answers of 20 ms; all of them fall due within a millisecond.
        let slow = [
            "--rate",
            "100000",
            "-n",
            "40",
            "-c",
            "2",
            "--model",
            "sim-ttft-20",
        ];
        let report = go(&options(&url, &slow)).expect("a report");
        assert_eq!(report.requests, 40, "{report:?}");
        assert!(report.seconds >= 0.39, "20 rounds of 20 ms: {report:?}");
        assert!(report.rate < 110.0, "{report:?}");
        assert!(
            report.latency_us.max >= 390_000,
            "the last one waited: {report:?}"
        );
    }

    #[test]
    fn a_run_can_be_stopped_and_still_reports() {
        let simulator = sim::start(&sim::Options::default()).expect("a simulator");
        let url = format!("http://{}/v1", simulator.addr());
        for arguments in [&["-d", "3600"][..], &["-d", "3600", "--rate", "0.5"]] {
            let stop = AtomicBool::new(false);
            let before = simulator.stats()["requests"].clone();
            let options = options(&url, arguments);
            let report = std::thread::scope(|scope| {
                let running = scope.spawn(|| run(&options, &stop, |_| ()));
                while simulator.stats()["requests"] == before {
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
                running.join().expect("no panic")
            });
            let report = report.expect("a report");
            assert!(report.requests > 0 && report.seconds < 3600.0, "{report:?}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        for arguments in [
            &["--rate", "0"][..],
            &["--connections", "0"],
            &["--threads", "0"],
            &["--header", "no colon"],
            &["--body", "/nonexistent"],
        ] {
            assert!(
                go(&options("http://127.0.0.1:1", arguments)).is_err(),
                "{arguments:?}"
            );
        }
        assert!(go(&options("ftp://x", &[])).is_err());
    }
}
