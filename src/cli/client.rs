//! The commands' two ways to the management API: on the data directory itself, or over HTTP where a server runs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::environment;
use crate::config::{self, Config, Flags};
use crate::limits::{COMMAND_ANSWER_MAX, COMMAND_PATIENCE};
use crate::manage;
use crate::server::{DataDirError, Premises, StartError};
use crate::store;

/// An instance of this machine.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Home {
    /// Configuration file of the instance (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its data directory [default: ./ringgate-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Its account, where the server is given one by flag
    #[arg(long, value_name = "ID")]
    account_id: Option<String>,
}

/// Which instance a command is about.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    pub home: Home,
    /// Ask a running server, such as http://127.0.0.1:8788; its token is taken from CLOUDFLARE_API_TOKEN
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// What the API or the way to it did not grant: exit code 1.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The API refused; one line an error.
    #[error("{}", .errors.join("\n"))]
    Refused {
        /// The status of the answer.
        status: u16,
        /// The codes of its errors.
        codes: Vec<u64>,
        /// Message, code and path of each.
        errors: Vec<String>,
    },
    /// No answer came, or none of the API's.
    #[error("{0}")]
    Way(String),
    /// The answers do not allow what was asked.
    #[error("{0}")]
    Unfit(String),
}

impl Failure {
    /// Whether the API does not know the path: an older or another one.
    pub fn is_unknown_path(&self) -> bool {
        matches!(self, Self::Refused { status: 404, codes, .. } if codes.contains(&7003))
    }

    /// Puts what it is about before each of its lines.
    pub fn about(self, what: &str) -> Self {
        match self {
            Self::Refused {
                status,
                codes,
                errors,
            } => Self::Refused {
                status,
                codes,
                errors: errors
                    .into_iter()
                    .map(|error| format!("{what}: {error}"))
                    .collect(),
            },
            Self::Way(reason) => Self::Way(format!("{what}: {reason}")),
            Self::Unfit(reason) => Self::Unfit(format!("{what}: {reason}")),
        }
    }
}

impl Home {
    /// The configuration of the instance. Providers' keys are left out: no command needs one, and the operator's shell
    /// seldom has them.
    pub fn configuration(&self) -> Result<Config, Box<dyn Error>> {
        let flags = Flags {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            account_id: self.account_id.clone(),
            ..Flags::default()
        };
        let (mut config, _) = config::load(&flags, &|name| std::env::var(name).ok())?;
        for provider in &mut config.providers {
            provider.api_key = None;
        }
        Ok(config)
    }

    /// Where state is kept.
    pub fn data_dir(&self) -> Result<PathBuf, Box<dyn Error>> {
        Ok(self.configuration()?.data_dir)
    }
}

/// An open way to the API.
pub(super) struct Client {
    way: Way,
    account: Option<String>,
    /// The data directory, where the way leads to one of this machine.
    pub data_dir: Option<PathBuf>,
}

enum Way {
    Offline(Box<Premises>),
    Http {
        agent: ureq::Agent,
        base: String,
        token: String,
    },
}

const TOKEN: &str = "CLOUDFLARE_API_TOKEN";

impl Client {
    /// To the server at `--url`; else to the data directory, or the server that holds it.
    pub fn open(place: &Place) -> Result<Self, Box<dyn Error>> {
        if let Some(url) = &place.url {
            let token = environment::named(TOKEN)
                .ok_or_else(|| format!("--url needs a token in {TOKEN}"))?;
            return Self::over_http(&api_of(url), token, None, true);
        }
        let config = place.home.configuration()?;
        let database = config.data_dir.join(store::FILE);
        if !database.exists() {
            return Err(format!(
                "{} is not there: name the instance by --data-dir, --config or --url (the first start of ringgate serve makes a new one)",
                database.display()
            )
            .into());
        }
        let data_dir = config.data_dir.clone();
        match Premises::enter(&config, environment::master_key()?.as_deref()) {
            Ok(premises) => Ok(Self {
                account: Some(premises.office.account.to_string()),
                way: Way::Offline(Box::new(premises)),
                data_dir: Some(data_dir),
            }),
            Err(StartError::DataDir(DataDirError::InUse {
                holder, management, ..
            })) => {
                let url =
                    management.unwrap_or_else(|| format!("http://{}", config.management.listen));
                let token = environment::named(TOKEN).ok_or_else(|| {
                    let first = data_dir.join("initial-token");
                    let hint = match first.exists() {
                        true => format!(" (the first one is in {})", first.display()),
                        false => String::new(),
                    };
                    format!(
                        "{} is in use by process {holder}, which answers at {url}: put a token{hint} into {TOKEN}, or stop it first",
                        data_dir.display()
                    )
                })?;
                Self::over_http(&api_of(&url), token, Some(data_dir), false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// To the API whose paths begin with `base`.
    pub fn over_http(
        base: &str,
        token: String,
        data_dir: Option<PathBuf>,
        proxy: bool,
    ) -> Result<Self, Box<dyn Error>> {
        if !(base.starts_with("http://") || base.starts_with("https://")) {
            return Err(format!("{base} is no http or https URL").into());
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("ringgate/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(COMMAND_PATIENCE))
            .tls_config(tls());
        if !proxy {
            config = config.proxy(None);
        }
        Ok(Self {
            way: Way::Http {
                agent: config.build().into(),
                base: base.trim_end_matches('/').to_owned(),
                token,
            },
            account: None,
            data_dir,
        })
    }

    /// Names the account, where it is known.
    pub fn of_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self
    }

    /// The account in the paths: an instance has one.
    pub fn account(&mut self) -> Result<String, Failure> {
        if let Some(account) = &self.account {
            return Ok(account.clone());
        }
        let body = self.call("GET", "/accounts", None)?;
        let id = body["result"][0]["id"].as_str();
        let id = id.ok_or_else(|| Failure::Unfit("the token sees no account".to_owned()))?;
        self.account = Some(id.to_owned());
        Ok(id.to_owned())
    }

    /// One call below `/client/v4`, and the whole body of its success. Notes beside it go to standard error.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let answer = match &mut self.way {
            Way::Offline(premises) => {
                let Premises {
                    database, office, ..
                } = &mut **premises;
                let outcome =
                    manage::call_as_operator(office, database, method, path, body.cloned());
                outcome.map_err(|problem| Failure::Refused {
                    status: problem.status,
                    codes: problem
                        .errors
                        .iter()
                        .map(|fault| u64::from(fault.code))
                        .collect(),
                    errors: problem
                        .errors
                        .iter()
                        .map(|fault| line(&fault.message, fault.code.into(), &fault.path))
                        .collect(),
                })?
            }
            Way::Http { agent, base, token } => {
                over_http(agent, &format!("{base}{path}"), token, method, body)?
            }
        };
        for message in answer["messages"].as_array().into_iter().flatten() {
            if let Some(text) = message["message"].as_str() {
                eprintln!("note: {text}");
            }
        }
        Ok(answer)
    }

    /// Every item of a list, page by page; `items` points to them in a page's body.
    pub fn list(
        &mut self,
        path: &str,
        items: &str,
        per_page: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        for page in 1.. {
            let body = self.call(
                "GET",
                &format!("{path}?page={page}&per_page={per_page}"),
                None,
            )?;
            let found = body.pointer(items).and_then(Value::as_array);
            let found = found
                .ok_or_else(|| Failure::Way(format!("GET {path}: the answer holds no list")))?;
            all.extend(found.iter().cloned());
            if found.len() < per_page {
                break;
            }
        }
        Ok(all)
    }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(text, KEPT).to_string()
}

/// Writes a new file that its owner alone may read; one that is there is left alone.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: std::io::Error| format!("{}: {error}", path.display()).into())
}

/// The API's root of a server's address, with or without its path.
fn api_of(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.ends_with("/client/v4") {
        true => url.to_owned(),
        false => format!("{url}/client/v4"),
    }
}

fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs().certs;
    let roots = found
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned());
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .build()
}

fn over_http(
    agent: &ureq::Agent,
    url: &str,
    token: &str,
    method: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let failed = |error: ureq::Error| Failure::Way(format!("{method} {url}: {error}"));
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let unfit = |error: ureq::http::Error| Failure::Way(format!("{method} {url}: {error}"));
    let answer = match body {
        Some(body) => agent.run(request.body(body.to_string()).map_err(unfit)?),
        None => agent.run(request.body(()).map_err(unfit)?),
    };
    let mut answer = answer.map_err(failed)?;
    let status = answer.status().as_u16();
    let text = answer
        .body_mut()
        .with_config()
        .limit(COMMAND_ANSWER_MAX)
        .read_to_string()
        .map_err(failed)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let success = (200..300).contains(&status) && body["success"] != false && body.is_object();
    if success {
        return Ok(body);
    }
    let faults = body["errors"].as_array().cloned().unwrap_or_default();
    if faults.is_empty() {
        return Err(Failure::Way(format!(
            "{method} {url}: status {status}, and not the API's answer"
        )));
    }
    let told = |fault: &Value| {
        let path = fault["path"].as_array().cloned().unwrap_or_default();
        let path: Vec<String> = path
            .iter()
            .map(|part| {
                part.as_str()
                    .map_or_else(|| part.to_string(), str::to_owned)
            })
            .collect();
        line(
            fault["message"].as_str().unwrap_or_default(),
            fault["code"].as_u64().unwrap_or_default(),
            &path,
        )
    };
    Err(Failure::Refused {
        status,
        codes: faults
            .iter()
            .filter_map(|fault| fault["code"].as_u64())
            .collect(),
        errors: faults.iter().map(told).collect(),
    })
}

/// An error of the API for people.
fn line(message: &str, code: u64, path: &[String]) -> String {
    match path.is_empty() {
        true => format!("{message} (code {code})"),
        false => format!("{message} (code {code}, at {})", path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_segments() {
        for url in [
            "http://h:1",
            "http://h:1/",
            "http://h:1/client/v4",
            "http://h:1/client/v4/",
        ] {
            assert_eq!(api_of(url), "http://h:1/client/v4");
        }
        assert_eq!(segment("a b/c-_.~%"), "a%20b%2Fc-_.~%25");
    }

    #[test]
    fn errors_tell_message_code_and_path_and_what_they_are_about() {
        let path = ["body".to_owned(), "cache_ttl".to_owned()];
        let failure = Failure::Refused {
            status: 400,
            codes: vec![7001],
            errors: vec![line("must be a number", 7001, &path), line("no", 1, &[])],
        };
        assert!(!failure.is_unknown_path());
        assert_eq!(
            failure.about("gateway \"a\"").to_string(),
            "gateway \"a\": must be a number (code 7001, at body.cache_ttl)\ngateway \"a\": no (code 1)"
        );
    }
}
