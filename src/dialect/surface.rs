//! Where a model is reached: which of a provider's endpoints serves a client's request, and in which dialect (spec: providers 1.1,
//! 2, 6, 7.1, 8, 12 and 19, resolutions 16).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Dialect;
use super::failure::Invalid;
use crate::providers::Slug;

/// What is known of the place besides provider and model: from the credential, the configuration, or the model's own name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// Bedrock's and Vertex's.
    pub region: Option<String>,
    /// Vertex's.
    pub project: Option<String>,
    /// Azure's.
    pub resource: Option<String>,
    /// Azure's; with one the classic endpoints are called.
    pub api_version: Option<String>,
    /// The configured base URL ends in a version segment (custom providers).
    pub versioned: bool,
    /// A base URL is configured, which decides the host.
    pub hosted: bool,
}

/// How a request reaches its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What is spoken there.
    pub speech: Speech,
    /// Whose rules the body follows: the provider's, or those of the publisher that it hosts.
    pub rules: Slug,
    /// The provider's name of the model, as it stands in the body or the path.
    pub model: String,
    /// The native path behind the provider's segment.
    pub rest: String,
    /// Its query.
    pub query: Option<String>,
}

/// What a provider's endpoint speaks, and how Claude is wrapped there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speech {
    /// Chat Completions, after the provider's row.
    Chat,
    /// Messages, as Anthropic serves it.
    Messages,
    /// Messages in Vertex's `rawPredict`.
    MessagesOnVertex,
    /// Messages in Bedrock's InvokeModel.
    MessagesOnBedrock,
    /// Responses, relayed.
    Responses,
    /// generateContent.
    Gemini,
    /// Converse.
    Converse,
    /// Cohere's v2 chat.
    Cohere,
}

impl Speech {
    /// The dialect behind it.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Chat => Dialect::Chat,
            Self::Messages | Self::MessagesOnVertex | Self::MessagesOnBedrock => Dialect::Messages,
            Self::Responses => Dialect::Responses,
            Self::Gemini => Dialect::Gemini,
            Self::Converse => Dialect::Converse,
            Self::Cohere => Dialect::Cohere,
        }
    }
}

/// The way of a client's request to `model` at the provider.
pub fn way(
    client: Dialect,
    slug: Slug,
    model: &str,
    stream: bool,
    site: &Site,
) -> Result<Way, Invalid> {
    let to = |speech, rest: &str| {
        Ok(Way {
            speech,
            rules: slug,
            model: model.to_owned(),
            rest: rest.to_owned(),
            query: None,
        })
    };
    match (slug, client) {
        (Slug::AzureOpenAi, _) => azure(client, model, site),
        (Slug::OpenAi | Slug::Grok | Slug::Groq | Slug::OpenRouter, Dialect::Responses) => {
            to(Speech::Responses, "v1/responses")
        }
        (Slug::WorkersAi, Dialect::Responses) if model.contains("gpt-oss") => {
            to(Speech::Responses, "v1/responses")
        }
        (Slug::Anthropic, _) | (Slug::Grok, Dialect::Messages) => {
            to(Speech::Messages, "v1/messages")
        }
        (Slug::DeepSeek, Dialect::Messages) => to(Speech::Messages, "anthropic/v1/messages"),
        (Slug::GoogleAiStudio, _) => gemini(model, stream),
        (Slug::GoogleVertexAi, _) => vertex(model, stream, site),
        (Slug::AwsBedrock, _) => bedrock(client, model, stream, site),
        (Slug::Cohere, _) => to(Speech::Cohere, "v2/chat"),
        _ => to(Speech::Chat, chat_rest(slug, site)?),
    }
}

/// The way of embeddings to a provider; its path is what stands before that of each call (spec: providers 18).
pub fn embedding_way(slug: Slug, model: &str, site: &Site) -> Result<Way, Invalid> {
    let to = |model: &str, rest: String, query| Way {
        speech: Speech::Chat,
        rules: slug,
        model: model.to_owned(),
        rest,
        query,
    };
    Ok(match slug {
        Slug::AzureOpenAi => {
            let way = azure(Dialect::Chat, model, site)?;
            let rest = way.rest.trim_end_matches("chat/completions").to_owned();
            to(&way.model, rest, way.query)
        }
        Slug::GoogleVertexAi => {
            let (model, site) = vertex_name(model, site)?;
            to(&model, format!("v1/{}/", vertex_place(&site)?), None)
        }
        Slug::AwsBedrock => {
            let region = bedrock_region(model, site);
            to(model, format!("bedrock-runtime/{region}/"), None)
        }
        _ => to(model, String::new(), None),
    })
}

/// The way to run a model with its own input.
pub fn running(slug: Slug, model: &str) -> Way {
    Way {
        speech: Speech::Chat,
        rules: slug,
        model: model.to_owned(),
        rest: format!("run/{}", path(model)),
        query: None,
    }
}

/// Where a model's tokens are counted without an answer; `None`: the provider has no such endpoint in the dialect of messages.
pub fn counting(slug: Slug, model: &str) -> Option<Way> {
    (slug == Slug::Anthropic).then(|| Way {
        speech: Speech::Messages,
        rules: slug,
        model: model.to_owned(),
        rest: "v1/messages/count_tokens".to_owned(),
        query: None,
    })
}

fn chat_rest(slug: Slug, site: &Site) -> Result<&'static str, Invalid> {
    Ok(match slug {
        Slug::PerplexityAi | Slug::DeepSeek => "chat/completions",
        Slug::Parallel => "v1beta/chat/completions",
        Slug::Custom if site.versioned => "chat/completions",
        Slug::OpenAi
        | Slug::WorkersAi
        | Slug::Groq
        | Slug::Grok
        | Slug::Mistral
        | Slug::Cerebras
        | Slug::OpenRouter
        | Slug::HuggingFace
        | Slug::Baseten
        | Slug::Fireworks
        | Slug::Alibaba
        | Slug::MiniMax
        | Slug::Custom => "v1/chat/completions",
        _ => {
            let name = slug.as_str();
            return Err(Invalid::unsupported(
                "model",
                format!("{name} serves no conversations; call its own endpoints below /{name}/"),
            ));
        }
    })
}

/// `{resource}/{deployment}`, or the deployment alone where the credential or the configuration says where it is.
fn azure(client: Dialect, model: &str, site: &Site) -> Result<Way, Invalid> {
    /// Stands where a configured base URL decides the host.
    const UNNAMED: &str = "resource";
    let (resource, deployment) = match model.split_once('/') {
        Some((resource, deployment)) => (Some(resource), deployment),
        None => (site.resource.as_deref(), model),
    };
    let resource = resource
        .or(site.hosted.then_some(UNNAMED))
        .filter(|resource| !resource.is_empty())
        .ok_or_else(|| {
            missing("azure-openai/{resource}/{deployment}, or a stored key with a resource")
        })?;
    let (speech, operation) = match client {
        Dialect::Responses => (Speech::Responses, "responses"),
        _ => (Speech::Chat, "chat/completions"),
    };
    let classic = site.api_version.as_ref().filter(|_| speech == Speech::Chat);
    Ok(Way {
        speech,
        rules: Slug::AzureOpenAi,
        model: deployment.to_owned(),
        rest: match classic {
            Some(_) => format!("{resource}/deployments/{}/{operation}", segment(deployment)),
            None => format!("{resource}/openai/v1/{operation}"),
        },
        query: classic.map(|version| format!("api-version={}", segment(version))),
    })
}

fn gemini(model: &str, stream: bool) -> Result<Way, Invalid> {
    let (verb, query) = gemini_verb(stream);
    let name = model.strip_prefix("models/").unwrap_or(model);
    Ok(Way {
        speech: Speech::Gemini,
        rules: Slug::GoogleAiStudio,
        model: name.to_owned(),
        rest: match name.starts_with("tunedModels/") {
            true => format!("v1beta/{}:{verb}", path(name)),
            false => format!("v1beta/models/{}:{verb}", segment(name)),
        },
        query,
    })
}

fn gemini_verb(stream: bool) -> (&'static str, Option<String>) {
    match stream {
        true => ("streamGenerateContent", Some("alt=sse".to_owned())),
        false => ("generateContent", None),
    }
}

fn vertex_place(site: &Site) -> Result<String, Invalid> {
    /// Where a service account says nothing else.
    const REGION: &str = "us-central1";
    let project = site.project.as_deref().ok_or_else(|| {
        missing(
            "to be told the project: by a service account as its key, by providers.google-vertex-ai.project, or by its full name, projects/{project}/locations/{region}/endpoints/{id}",
        )
    })?;
    let region = site.region.as_deref().unwrap_or(REGION);
    Ok(format!("projects/{project}/locations/{region}"))
}

/// A model's own name and where it is: Google's full names, `projects/{project}/locations/{region}/...`, say both.
fn vertex_name<'a>(
    model: &'a str,
    site: &'a Site,
) -> Result<(Cow<'a, str>, Cow<'a, Site>), Invalid> {
    const FORM: &str = "projects/{project}/locations/{region}/endpoints/{id}";
    let Some(rest) = model.strip_prefix("projects/") else {
        return Ok((model.into(), Cow::Borrowed(site)));
    };
    let parts = rest.split_once('/').and_then(|(project, rest)| {
        let (region, rest) = rest.strip_prefix("locations/")?.split_once('/')?;
        let name = match rest.strip_prefix("publishers/") {
            Some(published) => {
                let (publisher, name) = published.split_once("/models/")?;
                format!("{publisher}/{name}").into()
            }
            None => Cow::Borrowed(rest.starts_with("endpoints/").then_some(rest)?),
        };
        Some((project, region, name))
    });
    let plain = |text: &str, more: &[u8]| {
        let mut bytes = text.bytes();
        // A path's steps up begin with a dot.
        !text.is_empty()
            && !text.starts_with('.')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    match parts {
        // Older projects have a domain before their names.
        Some((project, region, name)) if plain(project, b"-.:") && plain(region, b"-") => {
            let site = Site {
                project: Some(project.to_owned()),
                region: Some(region.to_owned()),
                ..site.clone()
            };
            Ok((name, Cow::Owned(site)))
        }
        _ => Err(missing(FORM)),
    }
}

/// `{publisher}/{model}` or `endpoints/{id}`, a model that was tuned; project and region come from the credential, from the
/// configuration, or from the model's full name.
fn vertex(model: &str, stream: bool, site: &Site) -> Result<Way, Invalid> {
    let (model, site) = vertex_name(model, site)?;
    let (model, site) = (&*model, &*site);
    let (publisher, name) = match model.split_once('/') {
        Some(parts) => parts,
        None if model.starts_with("gemini") => ("google", model),
        None if model.starts_with("claude") => ("anthropic", model),
        None => return Err(missing("google-vertex-ai/{publisher}/{model}")),
    };
    let place = vertex_place(site)?;
    let published = |verb: &str| {
        format!(
            "v1/{place}/publishers/{}/models/{}:{verb}",
            segment(publisher),
            segment(name)
        )
    };
    let raw = if stream {
        "streamRawPredict"
    } else {
        "rawPredict"
    };
    let (speech, name, rest, query) = match publisher {
        "endpoints" => {
            let (verb, query) = gemini_verb(stream);
            let rest = format!("v1/{place}/endpoints/{}:{verb}", segment(name));
            (Speech::Gemini, name, rest, query)
        }
        "google" => {
            let (verb, query) = gemini_verb(stream);
            (Speech::Gemini, name, published(verb), query)
        }
        "anthropic" => (Speech::MessagesOnVertex, name, published(raw), None),
        "mistralai" => (Speech::Chat, name, published(raw), None),
        _ => {
            let rest = format!("v1/{place}/endpoints/openapi/chat/completions");
            (Speech::Chat, model, rest, None)
        }
    };
    let rules = match publisher {
        "mistralai" => Slug::Mistral,
        _ => Slug::GoogleVertexAi,
    };
    Ok(Way {
        speech,
        rules,
        model: name.to_owned(),
        rest,
        query,
    })
}

fn bedrock(client: Dialect, model: &str, stream: bool, site: &Site) -> Result<Way, Invalid> {
    let region = bedrock_region(model, site);
    let invokes = client == Dialect::Messages && model.contains("claude");
    let (speech, operation) = match (invokes, stream) {
        (true, false) => (Speech::MessagesOnBedrock, "invoke"),
        (true, true) => (Speech::MessagesOnBedrock, "invoke-with-response-stream"),
        (false, false) => (Speech::Converse, "converse"),
        (false, true) => (Speech::Converse, "converse-stream"),
    };
    Ok(Way {
        speech,
        rules: Slug::AwsBedrock,
        model: model.to_owned(),
        rest: format!(
            "bedrock-runtime/{region}/model/{}/{operation}",
            segment(model)
        ),
        query: None,
    })
}

fn bedrock_region<'a>(model: &'a str, site: &'a Site) -> &'a str {
    /// Where an API key says nothing else (spec: providers 7.1).
    const REGION: &str = "us-east-1";
    let stated = region_of_arn(model).or(site.region.as_deref());
    stated.unwrap_or(REGION)
}

/// `arn:aws:bedrock:{region}:...`.
fn region_of_arn(model: &str) -> Option<&str> {
    let region = model.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then_some(region)
}

fn missing(what: &str) -> Invalid {
    Invalid {
        code: Some("model_not_found"),
        ..Invalid::at("model", format!("The model needs {what}"))
    }
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@');

/// One segment of a path.
fn segment(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, UNRESERVED)
}

/// Several segments.
fn path(text: &str) -> impl std::fmt::Display + '_ {
    const SEGMENTS: &AsciiSet = &UNRESERVED.remove(b'/');
    utf8_percent_encode(text, SEGMENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            region: Some("europe-west1".to_owned()),
            project: Some("p-1".to_owned()),
            ..Site::default()
        }
    }

    #[test]
    fn every_model_has_one_way() {
        use Dialect::{Chat, Messages, Responses};
        let cases = [
            (Chat, "openai", "gpt-5", "chat v1/chat/completions"),
            (Messages, "openai", "gpt-5", "chat v1/chat/completions"),
            (Responses, "openai", "gpt-5", "responses v1/responses"),
            (
                Responses,
                "groq",
                "openai/gpt-oss-20b",
                "responses v1/responses",
            ),
            (Responses, "mistral", "m", "chat v1/chat/completions"),
            (
                Responses,
                "workers-ai",
                "@cf/openai/gpt-oss-120b",
                "responses v1/responses",
            ),
            (
                Responses,
                "workers-ai",
                "@cf/meta/llama",
                "chat v1/chat/completions",
            ),
            (Chat, "anthropic", "claude", "messages v1/messages"),
            (Messages, "grok", "grok-4", "messages v1/messages"),
            (Chat, "grok", "grok-4", "chat v1/chat/completions"),
            (
                Messages,
                "deepseek",
                "deepseek-chat",
                "messages anthropic/v1/messages",
            ),
            (Chat, "deepseek", "deepseek-chat", "chat chat/completions"),
            (Chat, "perplexity", "sonar", "chat chat/completions"),
            (Chat, "cohere", "command-a", "cohere v2/chat"),
            (
                Chat,
                "google",
                "gemini-2.5-pro",
                "gemini v1beta/models/gemini-2.5-pro:generateContent",
            ),
            (
                Chat,
                "google",
                "tunedModels/x-1",
                "gemini v1beta/tunedModels/x-1:generateContent",
            ),
            (
                Chat,
                "google-vertex",
                "google/gemini-2.5-pro",
                "gemini v1/projects/p-1/locations/europe-west1/publishers/google/models/gemini-2.5-pro:generateContent",
            ),
            (
                Responses,
                "google-vertex",
                "anthropic/claude-haiku-4-5@20251001",
                "messages v1/projects/p-1/locations/europe-west1/publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict",
            ),
            (
                Chat,
                "google-vertex",
                "meta/llama-4",
                "chat v1/projects/p-1/locations/europe-west1/endpoints/openapi/chat/completions",
            ),
            (
                Chat,
                "bedrock",
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "converse bedrock-runtime/europe-west1/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse",
            ),
            (
                Messages,
                "bedrock",
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                "messages bedrock-runtime/europe-west1/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke",
            ),
            (
                Messages,
                "bedrock",
                "arn:aws:bedrock:eu-north-1:1:inference-profile/eu.amazon.nova-lite-v1:0",
                "converse bedrock-runtime/eu-north-1/model/arn%3Aaws%3Abedrock%3Aeu-north-1%3A1%3Ainference-profile%2Feu.amazon.nova-lite-v1%3A0/converse",
            ),
            (
                Chat,
                "azure",
                "res/gpt-4o",
                "chat res/openai/v1/chat/completions",
            ),
            (
                Responses,
                "azure",
                "res/gpt-4o",
                "responses res/openai/v1/responses",
            ),
        ];
        for (client, slug, model, expected) in cases {
            let slug = Slug::parse(slug).expect("a slug");
            let way = way(client, slug, model, false, &site()).expect(model);
            let speech = format!("{:?}", way.speech.dialect()).to_lowercase();
            assert_eq!(format!("{speech} {}", way.rest), expected);
        }
    }

    #[test]
    fn streams_have_operations_of_their_own_where_the_body_does_not_say_it() {
        let streamed =
            |slug, model| way(Dialect::Messages, slug, model, true, &site()).expect(model);
        let gemini = streamed(Slug::GoogleAiStudio, "gemini-3-flash");
        assert!(gemini.rest.ends_with(":streamGenerateContent"));
        assert_eq!(gemini.query.as_deref(), Some("alt=sse"));
        let claude = streamed(Slug::AwsBedrock, "anthropic.claude-v2");
        assert!(claude.rest.ends_with("/invoke-with-response-stream"));
        let nova = streamed(Slug::AwsBedrock, "amazon.nova-pro-v1:0");
        assert!(nova.rest.ends_with("/converse-stream"));
        let vertex = streamed(Slug::GoogleVertexAi, "claude-sonnet-4-5");
        assert!(vertex.rest.ends_with(":streamRawPredict"));
    }

    #[test]
    fn models_of_vertex_may_have_full_names_and_be_tuned() {
        let to = |model: &str, site: &Site| {
            let way = way(Dialect::Chat, Slug::GoogleVertexAi, model, false, site);
            way.map(|way| (way.speech, way.rest))
        };
        let tuned = "v1/projects/p-1/locations/europe-west1/endpoints/123:generateContent";
        let found = to("endpoints/123", &site()).expect("a way");
        assert_eq!(found, (Speech::Gemini, tuned.to_owned()));
        // A full name says more than a credential, and is enough beside a token that says nothing.
        let nowhere = Site::default();
        for site in [&site(), &nowhere] {
            let named = "projects/example.com:mine/locations/us-east4";
            let (_, rest) = to(&format!("{named}/endpoints/123"), site).expect("a way");
            assert_eq!(rest, format!("v1/{named}/endpoints/123:generateContent"));
            let claude = format!("{named}/publishers/anthropic/models/claude-haiku-4-5");
            let (speech, rest) = to(&claude, site).expect("a way");
            assert_eq!(speech, Speech::MessagesOnVertex);
            assert_eq!(rest, format!("v1/{claude}:rawPredict"));
        }
        let embed = "projects/p/locations/r/publishers/google/models/text-embedding-005";
        let way = embedding_way(Slug::GoogleVertexAi, embed, &nowhere).expect("a way");
        assert_eq!(
            (&*way.model, &*way.rest),
            ("google/text-embedding-005", "v1/projects/p/locations/r/")
        );
        for model in [
            "google/gemini-2.5-pro",
            "endpoints/123",
            "projects/p/locations/evil.com/endpoints/1",
            "projects/../locations/r/endpoints/1",
            "projects/p%2f/locations/r/endpoints/1",
            "projects//locations/r/endpoints/1",
            "projects/p/locations/r/models/1",
            "projects/p/endpoints/1",
        ] {
            let refused = to(model, &nowhere).expect_err(model);
            assert_eq!(refused.param.as_deref(), Some("model"));
        }
        let escaped = to("endpoints/1/../2", &site()).expect("a way").1;
        assert!(escaped.contains("endpoints/1%2F..%2F2:"), "{escaped}");
    }

    #[test]
    fn places_come_from_credential_and_configuration() {
        let stored = Site {
            resource: Some("mine".to_owned()),
            api_version: Some("2024-12-01-preview".to_owned()),
            ..Site::default()
        };
        let classic =
            way(Dialect::Chat, Slug::AzureOpenAi, "gpt-4o", false, &stored).expect("a way");
        assert_eq!(classic.rest, "mine/deployments/gpt-4o/chat/completions");
        assert_eq!(
            classic.query.as_deref(),
            Some("api-version=2024-12-01-preview")
        );
        let nowhere = Site::default();
        let custom = |versioned| {
            let site = Site {
                versioned,
                ..Site::default()
            };
            way(Dialect::Chat, Slug::Custom, "m", false, &site)
                .expect("a way")
                .rest
        };
        assert_eq!(custom(true), "chat/completions");
        assert_eq!(custom(false), "v1/chat/completions");
        for (slug, model) in [
            (Slug::AzureOpenAi, "gpt-4o"),
            (Slug::GoogleVertexAi, "google/gemini-2.5-pro"),
            (Slug::GoogleVertexAi, "palm"),
            (Slug::ElevenLabs, "voice"),
            (Slug::Replicate, "owner/name"),
        ] {
            let refused = way(Dialect::Chat, slug, model, false, &nowhere).expect_err(model);
            assert_eq!(refused.param.as_deref(), Some("model"), "{slug:?}");
        }
    }
}
