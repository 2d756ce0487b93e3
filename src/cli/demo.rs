//! `ringgate demo`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, Config, Flags, ProviderConfig};
use crate::providers::{BaseUrl, Slug};
use crate::server::{self, Start, Summary};
use crate::sim;
use crate::telemetry::notice;

/// What `demo` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    flags: Flags,
    /// Tokens a second of the simulated models
    #[arg(long, value_name = "RATE", default_value_t = 40.0)]
    tps: f64,
    /// Milliseconds to their first token
    #[arg(long, value_name = "MS", default_value_t = 300)]
    ttft: u64,
}

/// Starts simulator and gateway, prints a command to try, and serves until Ctrl-C.
pub(super) fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Options {
        mut flags,
        tps,
        ttft,
    } = options;
    flags.account_id.get_or_insert_with(|| "demo".to_owned());
    let folder = match &flags.data_dir {
        Some(_) => None,
        None => Some(Folder::make()?),
    };
    if let Some(folder) = &folder {
        flags.data_dir = Some(folder.0.display().to_string());
    }
    let simulator = sim::start(&sim::Options {
        tps,
        ttft: Duration::from_millis(ttft),
        ..sim::Options::default()
    })?;
    let base_url: BaseUrl = format!("http://{}", simulator.addr()).parse()?;
    let read = move || -> Result<Config, config::ConfigError> {
        let (config, _) = config::load(&flags, &|name| std::env::var(name).ok())?;
        Ok(behind(config, &base_url))
    };
    let config = read()?;
    for warning in &config.warnings {
        notice::say(format_args!("warning: {warning}"));
    }
    let running = server::start(Start {
        config,
        reload: Box::new(move || read().map_err(|error| error.to_string())),
        tokens: Vec::new(),
        exit_after: None,
    })?;
    notice::say(running.summary());
    print!("{}", greeting(running.summary(), simulator.addr()));
    let outcome = running.wait();
    simulator.stop();
    outcome.map_err(Into::into)
}

/// Puts the simulator behind every provider that the configuration does not place elsewhere.
fn behind(mut config: Config, base_url: &BaseUrl) -> Config {
    for slug in Slug::ALL.into_iter().filter(|slug| *slug != Slug::Custom) {
        match config
            .providers
            .iter_mut()
            .find(|provider| provider.slug == slug)
        {
            Some(provider) => {
                provider.base_url.get_or_insert_with(|| base_url.clone());
            }
            None => config.providers.push(ProviderConfig {
                name: slug.as_str().to_owned(),
                slug,
                base_url: Some(base_url.clone()),
                api_key: None,
            }),
        }
    }
    config
}

fn greeting(summary: &Summary, simulator: std::net::SocketAddr) -> String {
    let scheme = if summary.tls { "https" } else { "http" };
    let gateway = summary
        .data
        .first()
        .map_or_else(String::new, |address| format!("{scheme}://{address}"));
    let base = format!("{gateway}/v1/{}/default", summary.account);
    format!(
        r#"
The gateway is ready, with simulated providers behind it. Paste this into another shell:

curl -N {base}/openai/chat/completions \
  -H 'content-type: application/json' \
  -d '{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

OpenAI SDK       base URL  {base}/openai
Anthropic SDK    base URL  {base}/anthropic
Management       http://{}  (/health, /ready, /metrics)
Simulator        http://{simulator}  (/sim/requests shows what it received)

Access lines follow. Ctrl-C ends it.

"#,
        summary.management,
    )
}

/// A data directory that goes with the demo.
struct Folder(PathBuf);

impl Folder {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringgate-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        notice::say(format_args!("{}: {error}", path.display()));
    }
}
