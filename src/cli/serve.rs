//! `ringgate serve`.

use std::error::Error;
use std::io::Write;

use super::environment;
use crate::config::{self, Flags};
use crate::server::{self, Start, Summary};
use crate::telemetry::notice;

/// What `serve` can be told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    flags: Flags,
    /// Do not write the first token to a file in the data directory
    #[arg(long)]
    no_token_file: bool,
    /// Drain and exit once this many requests were served: instruction counters need a process that ends by itself
    /// (`benches/instructions`). No feature of the gateway, hence not shown.
    #[arg(long, value_name = "N", hide = true)]
    exit_after: Option<u64>,
}

/// Serves until a signal ends it.
pub(super) fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Options {
        flags,
        no_token_file,
        exit_after,
    } = options;
    let variable = |name: &str| std::env::var(name).ok();
    let (config, shown) = config::load(&flags, &variable)?;
    super::warn(&config);
    let running = server::start(Start {
        config,
        reload: Box::new(move || {
            let (config, _) = config::load(&flags, &variable).map_err(|error| error.to_string())?;
            super::warn(&config);
            Ok(config)
        }),
        bootstrap: environment::bootstrap_token()?,
        master_key: environment::master_key()?,
        token_file: !no_token_file,
        exit_after,
    })
    .map_err(|error| config::located(&shown, &error.to_string()))?;
    let summary = running.summary();
    notice::say(summary);
    if let Some(token) = &summary.first_token {
        // Where nobody reads it, the file still tells it.
        let _ = std::io::stderr().write_all(first_steps(summary, token).as_bytes());
    }
    running.wait().map_err(Into::into)
}

/// The first token, shown this once, inside commands that work as they stand.
fn first_steps(summary: &Summary, token: &str) -> String {
    let scheme = if summary.tls { "https" } else { "http" };
    let data = summary
        .data
        .first()
        .map_or_else(String::new, |address| format!("{scheme}://{address}"));
    let kept = match &summary.token_file {
        Some(path) => format!("it is also in {}", path.display()),
        None => "it is written nowhere else".to_owned(),
    };
    format!(
        r#"
First start: this token may do everything. It is shown once; {kept}.

export CLOUDFLARE_API_TOKEN={token}

curl {data}/v1/{account}/default/openai/chat/completions \
  -H 'cf-aig-authorization: Bearer {token}' \
  -H "authorization: Bearer $OPENAI_API_KEY" \
  -H 'content-type: application/json' \
  -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hello"}}]}}'

curl http://{management}/client/v4/accounts/{account}/ai-gateway/gateways \
  -H 'authorization: Bearer {token}'

"#,
        account = summary.account,
        management = summary.management,
    )
}
