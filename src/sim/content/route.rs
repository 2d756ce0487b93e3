//! From a path to an endpoint: every API at the root and under `/{slug}/`.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::bedrock::{self, Converse};
use super::chat::{self, Chat};
use super::cohere;
use super::endpoints;
use super::errors::Envelope;
use super::gemini::{self, Gemini};
use super::messages::{self, Carrier, Messages};
use super::plain_text::{self, Completions, Generation, Replicate, Task, Workers};
use super::request::Request;
use super::responses::{self, Responses};
use super::{Answer, Call, not_found};
use crate::limits::SIM_BYTES_MAX;
use crate::sim::pace::Dice;

/// Prefixes and the provider each stands for.
const SLUGS: [(&str, &str); 34] = [
    ("openai", "openai"),
    ("anthropic", "anthropic"),
    ("google-ai-studio", "google-ai-studio"),
    ("google", "google-ai-studio"),
    ("google-vertex-ai", "google-vertex-ai"),
    ("google-vertex", "google-vertex-ai"),
    ("aws-bedrock", "aws-bedrock"),
    ("bedrock", "aws-bedrock"),
    ("azure-openai", "azure-openai"),
    ("azure", "azure-openai"),
    ("workers-ai", "workers-ai"),
    ("mistral", "mistral"),
    ("cohere", "cohere"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("perplexity-ai", "perplexity-ai"),
    ("perplexity", "perplexity-ai"),
    ("grok", "grok"),
    ("xai", "grok"),
    ("openrouter", "openrouter"),
    ("cerebras", "cerebras"),
    ("huggingface", "huggingface"),
    ("replicate", "replicate"),
    ("baseten", "baseten"),
    ("parallel", "parallel"),
    ("fireworks", "fireworks"),
    ("fal", "fal"),
    ("ideogram", "ideogram"),
    ("cartesia", "cartesia"),
    ("deepgram", "deepgram"),
    ("elevenlabs", "elevenlabs"),
    ("alibaba", "alibaba"),
    ("minimax", "minimax"),
    ("adobe-firefly", "adobe-firefly"),
];

/// Parts of real host names, for a client that was pointed here by name resolution.
const HOSTS: [(&str, &str); 22] = [
    ("openai.azure.com", "azure-openai"),
    ("api.openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("generativelanguage", "google-ai-studio"),
    ("aiplatform", "google-vertex-ai"),
    ("bedrock", "aws-bedrock"),
    ("cloudflare.com", "workers-ai"),
    ("mistral.ai", "mistral"),
    ("cohere.", "cohere"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("perplexity.ai", "perplexity-ai"),
    ("x.ai", "grok"),
    ("openrouter.ai", "openrouter"),
    ("cerebras.ai", "cerebras"),
    ("huggingface.co", "huggingface"),
    ("replicate.com", "replicate"),
    ("fal.run", "fal"),
    ("ideogram.ai", "ideogram"),
    ("cartesia.ai", "cartesia"),
    ("deepgram.com", "deepgram"),
    ("elevenlabs.io", "elevenlabs"),
];

/// Finds provider, path and model, and reads the body where it is JSON.
pub fn call(request: &Request) -> Call<'_> {
    let (slug, path) = split_prefix(request);
    let body = json_body(request);
    let model = match model_in_path(path) {
        Some(model) => model,
        None => body["model"].as_str().unwrap_or_default().to_owned(),
    };
    Call {
        request,
        slug,
        path,
        model,
        body,
        envelope: envelope(slug, path),
    }
}

/// Every key a request offers, in any provider's way.
pub fn keys(request: &Request) -> impl Iterator<Item = &str> {
    let bearer = request
        .header("authorization")
        .map(|value| value.split_once(' ').map_or(value, |(_, key)| key));
    let named = ["x-api-key", "api-key", "x-goog-api-key", "xi-api-key"];
    let headers = named.into_iter().filter_map(|name| request.header(name));
    bearer
        .into_iter()
        .chain(headers)
        .chain(request.parameter("key"))
}

/// Calls the endpoint that serves the path.
pub fn dispatch(call: &Call, tokens: u64, dice: &mut Dice) -> Answer {
    if let Some(answer) = tools(call) {
        return answer;
    }
    if call.request.method == "GET" || call.request.method == "HEAD" {
        return reading(call, tokens, dice);
    }
    if expects_json(call) && !call.body.is_object() {
        return call.refuse(400, &unreadable(call));
    }
    let found = generation(call).or_else(|| other(call, tokens, dice));
    found.unwrap_or_else(|| not_found(call))
}

/// `/echo`, `/bytes/N`, `/upload`.
fn tools(call: &Call) -> Option<Answer> {
    let path = call.path;
    if path == "/echo"
        || path.starts_with("/echo/")
        || path == "/upload"
        || path.starts_with("/upload/")
    {
        return Some(endpoints::echo(call));
    }
    let count = path.strip_prefix("/bytes/")?;
    match count.parse::<u64>() {
        Ok(length) if length <= SIM_BYTES_MAX => {
            let chunked = call.request.parameter("chunked").is_some();
            Some(Answer::noise(length, chunked, "application/octet-stream"))
        }
        _ => Some(call.refuse(
            400,
            &format!("/bytes/N takes a number of bytes up to {SIM_BYTES_MAX}, not {count:?}"),
        )),
    }
}

fn reading(call: &Call, tokens: u64, dice: &mut Dice) -> Answer {
    let path = call.path;
    if path.contains("/predictions/") {
        return match path.ends_with("/stream") {
            true => Answer::generate(plain_text::ask(&call.body, "simulated", true), Replicate),
            false => endpoints::prediction(call, tokens, dice),
        };
    }
    if path.ends_with("/models") || path.contains("/models/") {
        let google = matches!(call.slug, "google-ai-studio" | "google-vertex-ai")
            || path.starts_with("/v1beta");
        if google && !path.contains("/openai/") {
            return endpoints::gemini_models(path);
        }
        if call.slug == "anthropic" || call.request.header("anthropic-version").is_some() {
            return endpoints::anthropic_models();
        }
        return endpoints::openai_models(path);
    }
    not_found(call)
}

/// The endpoints that generate text.
fn generation(call: &Call) -> Option<Answer> {
    let (path, body, model) = (call.path, &call.body, call.model.as_str());
    if path.ends_with("/chat/completions") {
        let slug = if path.contains("/deployments/") {
            "azure-openai"
        } else {
            call.slug
        };
        let mut ask = chat::ask(body);
        ask.model = model.to_owned();
        return Some(Answer::generate(ask, Chat::new(slug, body)));
    }
    if path.ends_with("/completions") {
        return Some(Answer::generate(
            plain_text::ask(body, model, false),
            Completions,
        ));
    }
    if path.ends_with("/responses") {
        return Some(Answer::generate(
            responses::ask(body),
            Responses::new(call.slug),
        ));
    }
    if path.ends_with("/messages") {
        return Some(Answer::generate(
            messages::ask(body, None),
            Messages::new(Carrier::Sse),
        ));
    }
    // Vertex has tuned models at endpoints of their own.
    let is_model = path.contains("/models/") || path.contains("/endpoints/");
    if let Some((_, verb)) = path.rsplit_once(':').filter(|_| is_model) {
        return gemini_verb(call, verb);
    }
    if let Some(operation) = bedrock_operation(path) {
        return bedrock_generation(call, operation);
    }
    if path.ends_with("/v2/chat") {
        return Some(Answer::generate(cohere::ask(body), cohere::Version2));
    }
    if path.ends_with("/v1/chat") || (call.slug == "cohere" && path.ends_with("/chat")) {
        return Some(Answer::generate(cohere::ask(body), cohere::Version1));
    }
    let runs = path.contains("/run/") || path.contains("/@cf/") || path.contains("/@hf/");
    if runs && (body["messages"].is_array() || (body["prompt"].is_string() && !paints(model))) {
        return Some(Answer::generate(
            plain_text::ask(body, model, false),
            Workers,
        ));
    }
    if call.slug == "huggingface" {
        return Some(Answer::generate(plain_text::ask(body, model, false), Task));
    }
    None
}

fn gemini_verb(call: &Call, verb: &str) -> Option<Answer> {
    let (body, model) = (&call.body, call.model.as_str());
    let vertex = call.path.contains("/locations/");
    let sse = call.request.parameter("alt") == Some("sse");
    match verb {
        "generateContent" => Some(Answer::generate(
            gemini::ask(body, model, false),
            Gemini::new(true, vertex),
        )),
        "streamGenerateContent" => Some(Answer::generate(
            gemini::ask(body, model, true),
            Gemini::new(sse, vertex),
        )),
        "rawPredict" | "streamRawPredict" if call.path.contains("/mistralai/") => Some(
            Answer::generate(chat::ask(body), Chat::new("mistral", body)),
        ),
        "rawPredict" | "streamRawPredict" => Some(Answer::generate(
            messages::ask(body, Some(model)),
            Messages::new(Carrier::Sse),
        )),
        _ => None,
    }
}

fn bedrock_generation(call: &Call, operation: &str) -> Option<Answer> {
    let (body, model) = (&call.body, call.model.as_str());
    let streamed = operation.ends_with("stream");
    if operation.starts_with("converse") {
        return Some(Answer::generate(
            bedrock::ask(body, model, streamed),
            Converse::new(false),
        ));
    }
    if body["anthropic_version"].is_string() || model.contains("anthropic") {
        let mut ask = messages::ask(body, Some(model));
        ask.stream = streamed;
        return Some(Answer::generate(ask, Messages::new(Carrier::Bedrock)));
    }
    if body["inputText"].is_string() || body["texts"].is_array() {
        return None;
    }
    if body["messages"].is_array() {
        return Some(Answer::generate(
            bedrock::ask(body, model, streamed),
            Converse::new(true),
        ));
    }
    Some(Answer::generate(
        plain_text::ask(body, model, streamed),
        Generation,
    ))
}

/// The endpoints that answer at once.
fn other(call: &Call, tokens: u64, dice: &mut Dice) -> Option<Answer> {
    let path = call.path;
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| path.ends_with(suffix));
    let answer = if ends(&["/messages/count_tokens", ":countTokens", "/count-tokens"]) {
        endpoints::count(call)
    } else if let Some(verb) = ["embedContent", "batchEmbedContents", "predict"]
        .iter()
        .find(|verb| path.ends_with(&format!(":{verb}")))
    {
        endpoints::gemini_embeddings(call, verb, dice)
    } else if bedrock_operation(path).is_some() {
        endpoints::bedrock_embeddings(call, dice)
    } else if ends(&["/embeddings"]) {
        endpoints::embeddings(call, dice)
    } else if ends(&["/embed"]) {
        endpoints::cohere_embed(call, dice)
    } else if ends(&["/rerank"]) {
        endpoints::cohere_rerank(call, dice)
    } else if path.contains("/images/") || call.slug == "ideogram" || call.slug == "fal" {
        endpoints::images(call)
    } else if ends(&["/audio/speech", "/speak", "/tts/bytes", "/tts"])
        || path.contains("/text-to-speech/")
    {
        endpoints::speech(call)
    } else if ends(&[
        "/audio/transcriptions",
        "/audio/translations",
        "/listen",
        "/speech-to-text",
        "/stt",
    ]) {
        endpoints::transcription(call, dice)
    } else if ends(&["/files"]) {
        endpoints::file(call, dice)
    } else if ends(&["/moderations"]) {
        endpoints::moderation(call, dice)
    } else if ends(&["/predictions"]) || path.contains("/predictions/") {
        endpoints::prediction(call, tokens, dice)
    } else if path.contains("/run/") || path.contains("/@cf/") || path.contains("/@hf/") {
        endpoints::workers(call, dice)
    } else if matches!(call.slug, "parallel" | "baseten" | "adobe-firefly") {
        endpoints::echo(call)
    } else {
        return None;
    };
    Some(answer)
}

fn paints(model: &str) -> bool {
    [
        "stable-diffusion",
        "flux",
        "dreamshaper",
        "phoenix",
        "lucid",
    ]
    .iter()
    .any(|name| model.contains(name))
}

/// Uploads and speech to text take anything; all else takes JSON.
fn expects_json(call: &Call) -> bool {
    let kind = call
        .request
        .header("content-type")
        .unwrap_or("application/json");
    !kind.starts_with("multipart/")
        && !kind.starts_with("audio/")
        && !kind.starts_with("application/octet-stream")
}

fn unreadable(call: &Call) -> String {
    let request = call.request;
    if !request.whole() {
        return format!(
            "the body of {} bytes is longer than the simulator keeps",
            request.body_length
        );
    }
    match serde_json::from_slice::<Value>(&request.body) {
        Ok(_) => {
            "We could not parse the JSON body of your request: an object is expected.".to_owned()
        }
        Err(error) => format!("We could not parse the JSON body of your request: {error}"),
    }
}

fn json_body(request: &Request) -> Value {
    let first = request.body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') || !request.whole() {
        return Value::Null;
    }
    serde_json::from_slice(&request.body).unwrap_or(Value::Null)
}

fn split_prefix(request: &Request) -> (&str, &str) {
    let path = request.path.as_str();
    let first = path[1.min(path.len())..]
        .split('/')
        .next()
        .unwrap_or_default();
    if let Some((_, slug)) = SLUGS.iter().find(|(prefix, _)| *prefix == first) {
        return (slug, &path[1 + first.len()..]);
    }
    if first.starts_with("custom-") {
        return (first, &path[1 + first.len()..]);
    }
    let host = request.header("host").unwrap_or_default();
    let named = HOSTS.iter().find(|(part, _)| host.contains(part));
    (named.map_or("", |(_, slug)| slug), path)
}

/// `converse`, `converse-stream`, `invoke` or `invoke-with-response-stream` of `/model/{id}/{operation}`.
fn bedrock_operation(path: &str) -> Option<&str> {
    let (_, rest) = path.split_once("/model/")?;
    let (_, operation) = rest.rsplit_once('/')?;
    matches!(
        operation,
        "converse" | "converse-stream" | "invoke" | "invoke-with-response-stream"
    )
    .then_some(operation)
}

fn model_in_path(path: &str) -> Option<String> {
    let found = if bedrock_operation(path).is_some() || path.ends_with("/count-tokens") {
        let (_, rest) = path.split_once("/model/")?;
        rest.rsplit_once('/')?.0
    } else if let Some((_, rest)) = path.split_once("/deployments/") {
        rest.split('/').next()?
    } else if let Some((before, _)) = path
        .rsplit_once(':')
        .filter(|(before, _)| before.contains("/models/"))
    {
        before.rsplit_once("/models/")?.1
    } else if let Some((_, tuned)) = path.rsplit_once("/endpoints/") {
        tuned.split_once(':')?.0
    } else if let Some(at) = ["/@cf/", "/@hf/"].iter().find_map(|mark| path.find(mark)) {
        &path[at + 1..]
    } else if let Some((_, rest)) = path.split_once("/run/") {
        rest
    } else {
        return None;
    };
    Some(percent_decode_str(found).decode_utf8_lossy().into_owned())
}

fn envelope(slug: &str, path: &str) -> Envelope {
    if path.contains("/messages") || path.contains("RawPredict") || path.ends_with(":rawPredict") {
        return Envelope::Anthropic;
    }
    if path.contains("/model/") {
        return Envelope::Bedrock;
    }
    if path.ends_with("/v2/chat") || path.ends_with("/v1/chat") || path.ends_with("/embed") {
        return Envelope::Cohere;
    }
    if path.starts_with("/v1beta/models")
        || path.contains("/publishers/")
        || path.contains("/endpoints/")
    {
        return Envelope::Google;
    }
    if path.contains("/ai/run/") {
        return Envelope::Workers;
    }
    match slug {
        "anthropic" => Envelope::Anthropic,
        "google-ai-studio" | "google-vertex-ai" => Envelope::Google,
        "aws-bedrock" => Envelope::Bedrock,
        "cohere" => Envelope::Cohere,
        "replicate" => Envelope::Replicate,
        slug => chat::envelope(slug),
    }
}
