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
    /// Let programs on this machine manage without a token; needs a management listener on a loopback address
    #[arg(long)]
    dev: bool,
}

/// Serves until a signal ends it.
pub(super) fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Options {
        flags,
        no_token_file,
        exit_after,
        dev,
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
        dev,
    })
    .map_err(|error| config::located(&shown, &error.to_string()))?;
    let summary = running.summary();
    notice::say(summary);
    if dev {
        notice::say(format_args!(
            "warning: --dev: ANYONE ON THIS MACHINE MAY DO EVERYTHING at http://{} without a token, also create tokens and use stored keys; not for a machine that others use",
            summary.management
        ));
    }
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
The gateway runs on here; paste what follows into another shell.

For `ringgate account`, `ringgate token` and Cloudflare's own clients:

export CLOUDFLARE_API_TOKEN={token}

A request to OpenAI with your own key, which is expected in OPENAI_API_KEY (no key at hand? `ringgate demo` simulates every provider):

curl {data}/v1/{account}/default/openai/chat/completions \
  -H 'cf-aig-authorization: Bearer {token}' \
  -H "authorization: Bearer $OPENAI_API_KEY" \
  -H 'content-type: application/json' \
  -d '{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hello"}}]}}'

The gateways of this account; `default` is there already:

curl http://{management}/client/v4/accounts/{account}/ai-gateway/gateways \
  -H 'authorization: Bearer {token}'

"#,
        account = summary.account,
        management = summary.management,
    )
}
