//! `ringgate demo`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment;
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
    /// Time to their first token: `300ms`, `1.5s`
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = sim::duration)]
    ttft: Duration,
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
        ttft,
        ..sim::Options::default()
    })?;
    let base_url: BaseUrl = format!("http://{}", simulator.addr()).parse()?;
    let read = move || -> Result<Config, config::ConfigError> {
        let (config, _) = config::load(&flags, &|name| std::env::var(name).ok())?;
        Ok(behind(config, &base_url))
    };
    let config = read()?;
    super::warn(&config);
    let given = environment::bootstrap_token()?;
    let running = server::start(Start {
        config,
        reload: Box::new(move || read().map_err(|error| error.to_string())),
        bootstrap: given.clone(),
        master_key: environment::master_key()?,
        token_file: false,
        exit_after: None,
        dev: false,
    })?;
    notice::say(running.summary());
    // A data directory that was used before keeps its tokens, and they are not shown again.
    let token = running.summary().first_token.clone().or(given);
    let token = token.as_deref().unwrap_or("YOUR_TOKEN");
    print!("{}", greeting(running.summary(), simulator.addr(), token));
    let outcome = running.wait();
    simulator.stop();
    outcome.map_err(Into::into)
}

/// Where the simulator stands for a provider: below its slug, by which it knows whose quirks to show. Paths of AWS, Azure and
/// Workers AI say so themselves, and parts of them would go with another root.
fn place(base_url: &BaseUrl, slug: Slug) -> BaseUrl {
    let path = match slug {
        Slug::AwsBedrock | Slug::AzureOpenAi | Slug::WorkersAi => String::new(),
        slug => format!("/{}", slug.as_str()),
    };
    BaseUrl {
        path,
        ..base_url.clone()
    }
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
                provider
                    .base_url
                    .get_or_insert_with(|| place(base_url, slug));
            }
            None => config.providers.push(ProviderConfig {
                name: slug.as_str().to_owned(),
                slug,
                base_url: Some(place(base_url, slug)),
                api_key: None,
                region: None,
                project: None,
            }),
        }
    }
    config
}

fn greeting(summary: &Summary, simulator: std::net::SocketAddr, token: &str) -> String {
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
  -H 'cf-aig-authorization: Bearer {token}' \
  -H 'content-type: application/json' \
  -d '{{"model":"gpt-4o-mini","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"Hello"}}]}}'

OpenAI SDK       base URL  {base}/openai
Anthropic SDK    base URL  {base}/anthropic
Token            {token}  (header cf-aig-authorization, or as the SDK's API key)
Management       http://{}  (/client/v4, /openapi.json, /health, /ready, /metrics)
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
