//! From a client's path to the upstream's URL. The path goes up as it came: it is decoded for checking only.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use super::table::Slug;
use crate::net::origin::Origin;

/// A configured root that stands in for a provider's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Scheme, host and port.
    pub origin: Arc<Origin>,
    /// Path without a trailing slash; empty where the URL has none.
    pub path: String,
}

/// Why a text is no base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("base URL {url:?}: {reason}")]
pub struct BaseUrlError {
    url: String,
    reason: &'static str,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(url: &str) -> Result<Self, BaseUrlError> {
        let wrong = |reason| BaseUrlError {
            url: url.to_owned(),
            reason,
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("has no scheme"))?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("the scheme is neither https nor http")),
        };
        if rest.contains(['?', '#', '@']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "holds a query, a fragment, credentials or a byte that no URL has",
            ));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port_at = authority
            .rfind(':')
            .filter(|&at| !authority[at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], authority[at + 1..].parse().ok()),
            None => (authority, Some(if tls { 443 } else { 80 })),
        };
        let port = port
            .filter(|&port| port != 0)
            .ok_or_else(|| wrong("the port is not 1 to 65535"))?;
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let path = path.trim_end_matches('/');
        check_path(path)
            .map_err(|_| wrong("the path holds a dot segment or a control character"))?;
        Ok(Self {
            origin: Arc::new(Origin::new(tls, host, port)),
            path: path.to_owned(),
        })
    }
}

/// Why a path leads nowhere: answered with 400 and code 2008.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `.` or `..`, plain or encoded, or NUL, CR or LF.
    #[error("the path holds a dot segment or a control character")]
    Unsafe,
    /// The provider's path needs a part that is not there, or not of its form.
    #[error("{provider}: the path needs {missing}")]
    Missing {
        /// The slug.
        provider: &'static str,
        /// What is missing.
        missing: &'static str,
    },
}

/// A provider with its configuration: built once for each snapshot.
#[derive(Debug, Clone)]
pub struct Provider {
    slug: Slug,
    base: Option<BaseUrl>,
    origin: Option<Arc<Origin>>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Scheme, host and port.
    pub origin: Arc<Origin>,
    root: Cow<'a, str>,
    version: &'static str,
    rest: Cow<'a, str>,
    query: Option<&'a str>,
}

impl Target<'_> {
    /// Appends path and query as they go on the wire.
    pub fn write_path(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.root.as_bytes());
        out.extend_from_slice(self.version.as_bytes());
        if !self.rest.is_empty() || (self.root.is_empty() && self.version.is_empty()) {
            out.push(b'/');
        }
        out.extend_from_slice(self.rest.as_bytes());
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }
}

/// A provider's own place for a rest, before any configured base URL.
struct Place<'a> {
    /// `None`: the row's.
    host: Option<String>,
    root: Cow<'a, str>,
    /// Whether the row's default version may be put before the rest.
    versioned: bool,
    rest: Cow<'a, str>,
}

impl Provider {
    /// `base` replaces the provider's root; a custom provider has none of its own.
    pub fn new(slug: Slug, base: Option<BaseUrl>) -> Self {
        let host = slug.row().host;
        let origin = (!host.is_empty()).then(|| Arc::new(Origin::new(true, host, 443)));
        Self { slug, base, origin }
    }

    /// The target of `rest`, the raw path after `{provider}/`, and the raw query. `account` is the caller's (Workers AI).
    pub fn target<'a>(
        &'a self,
        account: &str,
        rest: &'a str,
        query: Option<&'a str>,
    ) -> Result<Target<'a>, TargetError> {
        check_path(rest)?;
        let place = self.place(account, rest)?;
        let (row, own_root) = (self.slug.row(), place.root);
        let (root, rest): (Cow<'a, str>, _) = match &self.base {
            Some(base) if !base.path.is_empty() => {
                let rest = without_overlap(&base.path, place.rest);
                (Cow::Borrowed(&base.path), rest)
            }
            _ => (own_root, place.rest),
        };
        let has_version = starts_with_version(&rest) || root.split('/').any(is_version);
        let version = if place.versioned && !has_version {
            row.version
        } else {
            ""
        };
        let missing_host = TargetError::Missing {
            provider: row.name,
            missing: "a configured base_url",
        };
        let origin = match (&self.base, place.host) {
            (Some(base), _) => base.origin.clone(),
            (None, Some(host)) => Arc::new(Origin::new(true, &host, 443)),
            (None, None) => self.origin.clone().ok_or(missing_host)?,
        };
        Ok(Target {
            origin,
            root,
            version,
            rest,
            query,
        })
    }

    /// The target that fal's own header `x-fal-target-url` names. Only fal's hosts are reached this way: anything else would
    /// make the gateway an open proxy. A configured base URL still decides the host.
    pub fn fal_target<'a>(&self, url: &'a str) -> Result<Target<'a>, TargetError> {
        let refused = TargetError::Missing {
            provider: "fal",
            missing: "an https URL on fal.run or fal.ai in x-fal-target-url",
        };
        let rest = url.strip_prefix("https://").ok_or(refused.clone())?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let named: BaseUrl = format!("https://{authority}")
            .parse()
            .map_err(|_| refused.clone())?;
        let allowed = ["fal.run", "fal.ai"].iter().any(|domain| {
            let host = named.origin.host.strip_suffix(domain);
            host.is_some_and(|label| label.is_empty() || label.ends_with('.'))
        });
        if !allowed || named.origin.port != 443 || url.contains('#') {
            return Err(refused);
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        check_path(path)?;
        if query.is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(TargetError::Unsafe);
        }
        let origin = match &self.base {
            Some(base) => base.origin.clone(),
            None => named.origin,
        };
        Ok(Target {
            origin,
            root: Cow::Borrowed(""),
            version: "",
            rest: Cow::Borrowed(path),
            query,
        })
    }

    /// The provider's slug.
    pub fn slug(&self) -> Slug {
        self.slug
    }

    /// Whether a base URL is configured, which decides the host.
    pub fn is_hosted(&self) -> bool {
        self.base.is_some()
    }

    /// Whether the configured base URL ends in a version, as in `/v1`.
    pub fn ends_in_version(&self) -> bool {
        let last = self
            .base
            .as_ref()
            .and_then(|base| base.path.rsplit('/').next());
        last.is_some_and(is_version)
    }

    fn place<'a>(&self, account: &str, rest: &'a str) -> Result<Place<'a>, TargetError> {
        let row = self.slug.row();
        let plain = Place {
            host: None,
            root: Cow::Borrowed(row.root),
            versioned: true,
            rest: Cow::Borrowed(rest),
        };
        let at_root = |rest: &'a str| Place {
            host: None,
            root: Cow::Borrowed(""),
            versioned: false,
            rest: Cow::Borrowed(rest),
        };
        Ok(match self.slug {
            Slug::GoogleVertexAi => vertex(rest)?,
            Slug::AzureOpenAi => azure(rest)?,
            Slug::AwsBedrock => bedrock(rest)?,
            Slug::WorkersAi => workers_ai(account, rest),
            Slug::Baseten => baseten(rest).unwrap_or(plain),
            // The provider's own SDK brings the root's path along.
            Slug::Groq if rest.starts_with("openai/") => at_root(rest),
            Slug::Cohere if rest.starts_with("compatibility/") => at_root(rest),
            // The router's own endpoints stand beside those of its models.
            Slug::HuggingFace if starts_with_version(rest) => at_root(rest),
            Slug::PerplexityAi if rest == "v1/chat/completions" => at_root("chat/completions"),
            _ => plain,
        })
    }
}

/// The region stands in `locations/{region}`; `global` has a host of its own.
fn vertex(rest: &str) -> Result<Place<'_>, TargetError> {
    let missing = TargetError::Missing {
        provider: "google-vertex-ai",
        missing: "locations/{region}",
    };
    let mut segments = rest
        .split('/')
        .skip_while(|segment| *segment != "locations");
    let region = segments
        .nth(1)
        .filter(|region| is_label(region))
        .ok_or(missing)?;
    let host = match region {
        "global" => "aiplatform.googleapis.com".to_owned(),
        region => format!("{region}-aiplatform.googleapis.com"),
    };
    Ok(hosted(host, Cow::Borrowed(""), rest))
}

/// `{resource}/{deployment}/{operation}`, and the two forms that Azure's own SDKs make.
fn azure(rest: &str) -> Result<Place<'_>, TargetError> {
    let missing = TargetError::Missing {
        provider: "azure-openai",
        missing: "{resource}/{deployment}/{operation}",
    };
    let (resource, rest) = rest.split_once('/').ok_or(missing.clone())?;
    if !is_label(resource) || !rest.contains('/') {
        return Err(missing);
    }
    let root = match rest.split('/').next() {
        Some("openai") => "",
        Some("deployments") => "/openai",
        _ => "/openai/deployments",
    };
    Ok(hosted(
        format!("{resource}.openai.azure.com"),
        Cow::Borrowed(root),
        rest,
    ))
}

/// `{service}/{region}/{path}`; the client may have signed host and path, so both are exactly AWS's.
fn bedrock(rest: &str) -> Result<Place<'_>, TargetError> {
    let missing = |missing| TargetError::Missing {
        provider: "aws-bedrock",
        missing,
    };
    let mut parts = rest.splitn(3, '/');
    let service = parts.next().unwrap_or_default();
    if service != "bedrock" && !service.starts_with("bedrock-") || !is_label(service) {
        return Err(missing("a service such as bedrock-runtime"));
    }
    let region = parts
        .next()
        .filter(|region| is_label(region))
        .ok_or(missing("a region"))?;
    let domain = match (service, region.starts_with("cn-")) {
        ("bedrock-mantle", _) => "api.aws",
        (_, true) => "amazonaws.com.cn",
        (_, false) => "amazonaws.com",
    };
    let host = format!("{service}.{region}.{domain}");
    Ok(hosted(
        host,
        Cow::Borrowed(""),
        parts.next().unwrap_or_default(),
    ))
}

/// `v1/...` is the OpenAI surface; everything else names a model to run.
fn workers_ai<'a>(account: &str, rest: &'a str) -> Place<'a> {
    let (below, rest) = match rest.strip_prefix("run/") {
        Some(model) => ("/run", model),
        None if starts_with_version(rest) => ("", rest),
        None => ("/run", rest),
    };
    Place {
        host: None,
        root: Cow::Owned(format!("/client/v4/accounts/{account}/ai{below}")),
        versioned: false,
        rest: Cow::Borrowed(rest),
    }
}

/// `model/{id}` has a host of its own and one path.
fn baseten(rest: &str) -> Option<Place<'_>> {
    let id = rest
        .strip_prefix("model/")?
        .split('/')
        .next()
        .filter(|id| is_label(id))?;
    let path = "environments/production/predict";
    Some(hosted(
        format!("model-{id}.api.baseten.co"),
        Cow::Borrowed(""),
        path,
    ))
}

fn hosted<'a>(host: String, root: Cow<'a, str>, rest: &'a str) -> Place<'a> {
    Place {
        host: Some(host),
        root,
        versioned: false,
        rest: Cow::Borrowed(rest),
    }
}

/// Drops from `rest` the segments that already end `base`.
fn without_overlap<'a>(base: &str, rest: Cow<'a, str>) -> Cow<'a, str> {
    let base: Vec<&str> = base
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let segments: Vec<&str> = rest.split('/').collect();
    let shared = (1..=base.len().min(segments.len()))
        .rev()
        .find(|&count| base[base.len() - count..] == segments[..count]);
    match shared {
        Some(count) => Cow::Owned(segments[count..].join("/")),
        None => rest,
    }
}

fn starts_with_version(rest: &str) -> bool {
    is_version(rest)
}

/// `v` and a digit: `v1`, `v2`, `v1beta`.
fn is_version(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes.next() == Some(b'v') && bytes.next().is_some_and(|byte| byte.is_ascii_digit())
}

/// One label of a host name: the caller may choose which, never where it leads.
pub fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Slug {
    /// The model that a native path names, percent-decoded; `None` where the body names it (resolutions 15).
    pub fn model_in_path(self, rest: &str) -> Option<String> {
        let after = |marker: &str| {
            let at = rest.find(marker)? + marker.len();
            Some(&rest[at..])
        };
        let model = match self {
            Self::GoogleAiStudio | Self::GoogleVertexAi => {
                let tail = after("models/")?;
                let name = tail.split('/').next()?;
                name.rsplit_once(':').map_or(name, |(name, _)| name)
            }
            Self::AwsBedrock => after("/model/")?.split('/').next()?,
            Self::WorkersAi => {
                let model = rest.strip_prefix("run/").unwrap_or(rest);
                if starts_with_version(model) {
                    return None;
                }
                model
            }
            Self::AzureOpenAi => {
                let tail = rest.split_once('/')?.1;
                let tail = tail.strip_prefix("openai/").unwrap_or(tail);
                let tail = match tail.strip_prefix("deployments/") {
                    Some(deployment) => deployment,
                    None if starts_with_version(tail) => return None,
                    None => tail,
                };
                tail.split_once('/')?.0
            }
            _ => return None,
        };
        let decoded = percent_encoding::percent_decode_str(model).decode_utf8_lossy();
        (!decoded.is_empty()).then(|| decoded.into_owned())
    }
}

fn check_path(path: &str) -> Result<(), TargetError> {
    // A path without dots and escapes is told by a look at many bytes at once; any other is taken apart.
    let special = |byte: u8| !byte.is_ascii_graphic() | (byte == b'%') | (byte == b'.');
    if !path.bytes().fold(false, |any, byte| any | special(byte)) {
        return Ok(());
    }
    let unsafe_byte = |byte: u8| matches!(byte, 0 | b'\r' | b'\n');
    for segment in path.split('/') {
        let decoded = percent_encoding::percent_decode_str(segment).collect::<Vec<u8>>();
        let dots = decoded
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .any(|part| part == b"." || part == b"..");
        if dots || decoded.into_iter().any(unsafe_byte) {
            return Err(TargetError::Unsafe);
        }
    }
    match path.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(TargetError::Unsafe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(slug: &str, base: Option<&str>, path: &str) -> Result<String, TargetError> {
        let slug = Slug::parse(slug).unwrap_or(Slug::Custom);
        let provider = Provider::new(slug, base.map(|base| base.parse().expect("a base URL")));
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        let target = provider.target("acc", path, query)?;
        let mut wire = Vec::new();
        target.write_path(&mut wire);
        Ok(format!(
            "{}{}",
            target.origin,
            String::from_utf8(wire).expect("ASCII")
        ))
    }

    #[test]
    fn documented_paths_lead_where_the_provider_is() {
        let cases = [
            (
                "openai",
                "chat/completions",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "openai",
                "v1/chat/completions?a=%2F",
                "https://api.openai.com/v1/chat/completions?a=%2F",
            ),
            (
                "anthropic",
                "v1/messages",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "anthropic",
                "messages",
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "google",
                "models/gemini-2.5-pro:generateContent",
                "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent",
            ),
            (
                "xai",
                "chat/completions",
                "https://api.x.ai/v1/chat/completions",
            ),
            (
                "groq",
                "chat/completions",
                "https://api.groq.com/openai/v1/chat/completions",
            ),
            (
                "groq",
                "openai/v1/models",
                "https://api.groq.com/openai/v1/models",
            ),
            ("cohere", "v2/chat", "https://api.cohere.com/v2/chat"),
            ("cohere", "chat", "https://api.cohere.com/v1/chat"),
            (
                "cohere",
                "compatibility/v1/embeddings",
                "https://api.cohere.com/compatibility/v1/embeddings",
            ),
            (
                "perplexity",
                "v1/chat/completions",
                "https://api.perplexity.ai/chat/completions",
            ),
            (
                "deepseek",
                "chat/completions",
                "https://api.deepseek.com/chat/completions",
            ),
            (
                "openrouter",
                "chat/completions",
                "https://openrouter.ai/api/v1/chat/completions",
            ),
            (
                "replicate",
                "predictions",
                "https://api.replicate.com/v1/predictions",
            ),
            (
                "fireworks",
                "v1/models",
                "https://api.fireworks.ai/inference/v1/models",
            ),
            (
                "huggingface",
                "org/model",
                "https://router.huggingface.co/hf-inference/models/org/model",
            ),
            (
                "huggingface",
                "v1/chat/completions",
                "https://router.huggingface.co/v1/chat/completions",
            ),
            (
                "baseten",
                "v1/chat/completions",
                "https://inference.baseten.co/v1/chat/completions",
            ),
            (
                "baseten",
                "model/ab1",
                "https://model-ab1.api.baseten.co/environments/production/predict",
            ),
            (
                "workers-ai",
                "@cf/meta/llama",
                "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/@cf/meta/llama",
            ),
            (
                "workers-ai",
                "run/@cf/m",
                "https://api.cloudflare.com/client/v4/accounts/acc/ai/run/@cf/m",
            ),
            (
                "workers-ai",
                "v1/chat/completions",
                "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/chat/completions",
            ),
            (
                "bedrock",
                "bedrock-runtime/us-east-1/model/a%3A0/converse",
                "https://bedrock-runtime.us-east-1.amazonaws.com/model/a%3A0/converse",
            ),
            (
                "aws-bedrock",
                "bedrock-mantle/us-east-1/anthropic/v1/messages",
                "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages",
            ),
            (
                "azure-openai",
                "res/dep/chat/completions?api-version=1",
                "https://res.openai.azure.com/openai/deployments/dep/chat/completions?api-version=1",
            ),
            (
                "azure",
                "res/deployments/dep/embeddings",
                "https://res.openai.azure.com/openai/deployments/dep/embeddings",
            ),
            (
                "azure",
                "res/openai/v1/models",
                "https://res.openai.azure.com/openai/v1/models",
            ),
            (
                "google-vertex",
                "v1/projects/p/locations/europe-west1/publishers/google/models/g:predict",
                "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1/publishers/google/\
                 models/g:predict",
            ),
            (
                "google-vertex",
                "v1/projects/p/locations/global/x",
                "https://aiplatform.googleapis.com/v1/projects/p/locations/global/x",
            ),
        ];
        for (slug, path, expected) in cases {
            assert_eq!(
                url(slug, None, path).as_deref(),
                Ok(expected),
                "{slug} {path}"
            );
        }
    }

    #[test]
    fn a_base_url_replaces_the_host_and_with_a_path_the_root() {
        let cases = [
            (
                "openai",
                "http://127.0.0.1:9001",
                "chat/completions",
                "http://127.0.0.1:9001/v1/chat/completions",
            ),
            (
                "openai",
                "http://h/openai",
                "chat/completions",
                "http://h/openai/v1/chat/completions",
            ),
            (
                "openai",
                "http://h/openai/v1/",
                "v1/models",
                "http://h/openai/v1/models",
            ),
            (
                "openai",
                "http://h/openai/v4",
                "models",
                "http://h/openai/v4/models",
            ),
            (
                "groq",
                "http://h/groq",
                "openai/v1/models",
                "http://h/groq/openai/v1/models",
            ),
            (
                "bedrock",
                "http://h",
                "bedrock-runtime/us-east-1/model/a/converse",
                "http://h/model/a/converse",
            ),
            (
                "custom-x",
                "http://[::1]:1/api/v2",
                "v2/things",
                "http://[::1]:1/api/v2/things",
            ),
            ("custom-x", "https://h", "", "https://h/"),
        ];
        for (slug, base, path, expected) in cases {
            assert_eq!(
                url(slug, Some(base), path).as_deref(),
                Ok(expected),
                "{slug} {base} {path}"
            );
        }
    }

    #[test]
    fn hostile_and_incomplete_paths_are_refused() {
        for path in [
            "../x",
            "a/./b",
            "a/%2e%2E/b",
            "a/..%2fb",
            "a%00",
            "a%0d%0a",
            "a b",
            "a\\..\\b",
            "a%5c..%5cb",
        ] {
            assert_eq!(
                url("openai", None, path),
                Err(TargetError::Unsafe),
                "{path}"
            );
        }
        let incomplete = [
            ("bedrock", "s3/us-east-1/x"),
            ("bedrock", "bedrock-runtime/evil.com%2f/x"),
            ("bedrock", "bedrock-runtime"),
            ("azure", "evil.com/dep/x"),
            ("azure", "res/dep"),
            ("google-vertex", "v1/projects/p"),
            ("google-vertex", "v1/locations/evil.com@/x"),
            ("custom-x", "x"),
        ];
        for (slug, path) in incomplete {
            assert!(
                matches!(url(slug, None, path), Err(TargetError::Missing { .. })),
                "{slug} {path}"
            );
        }
    }

    #[test]
    fn names_and_aliases_are_read_and_others_are_not() {
        for slug in Slug::ALL {
            let expected = (slug != Slug::Custom).then_some(slug);
            assert_eq!(Slug::parse(slug.as_str()), expected);
        }
        assert_eq!(Slug::parse("OpenAI"), None);
        for bad in [
            "h",
            "ftp://h",
            "http://",
            "http://h:0",
            "http://h:x",
            "http://u@h",
            "http://h/../a",
            "http://h?q",
        ] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_wire_unclean(path in "[ -~%./\\\\]{0,60}") {
            for slug in Slug::ALL {
                let provider = Provider::new(slug, None);
                if let Ok(target) = provider.target("acc", &path, None) {
                    let mut wire = Vec::new();
                    target.write_path(&mut wire);
                    prop_assert!(wire.starts_with(b"/"));
                    prop_assert!(wire.iter().all(u8::is_ascii_graphic));
                    prop_assert!(!wire.split(|&byte| byte == b'/').any(|part| part == b".."));
                }
            }
        }
    }

    #[test]
    fn fals_header_leads_to_fal_alone() {
        let provider = Provider::new(Slug::Fal, None);
        let target = provider
            .fal_target("https://queue.fal.run/fal-ai/flux?x=1")
            .expect("fal's own");
        let mut wire = Vec::new();
        target.write_path(&mut wire);
        assert_eq!(&*target.origin.host, "queue.fal.run");
        assert_eq!(wire, b"/fal-ai/flux?x=1");
        for url in [
            "http://fal.run/x",
            "https://evil.com/x",
            "https://notfal.run/x",
            "https://fal.run@evil.com/x",
            "https://fal.run.evil.com/",
            "https://fal.run:8443/x",
            "https://fal.run/../x",
            "https://fal.run/x?a b",
        ] {
            assert!(provider.fal_target(url).is_err(), "{url}");
        }
        let base = "http://127.0.0.1:9".parse().expect("a base URL");
        let target = Provider::new(Slug::Fal, Some(base));
        let target = target.fal_target("https://fal.run/x").expect("allowed");
        assert_eq!(&*target.origin.host, "127.0.0.1");
    }

    #[test]
    fn models_are_read_from_the_paths_that_name_them() {
        let cases = [
            (
                "google-ai-studio",
                "v1beta/models/gemini-2.5-pro:streamGenerateContent",
                Some("gemini-2.5-pro"),
            ),
            (
                "google-vertex-ai",
                "v1/projects/p/locations/us/publishers/anthropic/models/claude:rawPredict",
                Some("claude"),
            ),
            (
                "aws-bedrock",
                "bedrock-runtime/us-east-1/model/us.anthropic.claude-v1%3A0/converse",
                Some("us.anthropic.claude-v1:0"),
            ),
            ("workers-ai", "@cf/meta/llama-3", Some("@cf/meta/llama-3")),
            (
                "workers-ai",
                "run/@cf/meta/llama-3",
                Some("@cf/meta/llama-3"),
            ),
            ("workers-ai", "v1/chat/completions", None),
            (
                "azure-openai",
                "res/gpt-4o/chat/completions",
                Some("gpt-4o"),
            ),
            (
                "azure-openai",
                "res/openai/deployments/gpt-4o/chat/completions",
                Some("gpt-4o"),
            ),
            ("azure-openai", "res/openai/v1/chat/completions", None),
            ("openai", "v1/chat/completions", None),
        ];
        for (slug, rest, model) in cases {
            let slug = Slug::parse(slug).expect("a slug");
            assert_eq!(slug.model_in_path(rest).as_deref(), model, "{rest}");
        }
    }
}
