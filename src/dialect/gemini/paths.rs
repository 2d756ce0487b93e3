//! Where a model is called: the rest of a native path below the provider's root (spec: providers 5.1, 6.1, 6.3 and 6.4).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::dialect::Dialect;

/// What may stand in a path segment as it is. Vertex's Claude has a version behind `@`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b':');

/// AI Studio's path of a model.
pub fn studio_path(model: &str, stream: bool) -> String {
    let (folder, name) = match model.split_once('/') {
        Some(("models", name)) => ("models", name),
        Some(("tunedModels", name)) => ("tunedModels", name),
        _ => ("models", model),
    };
    format!("v1beta/{folder}/{}:{}", segment(name), generate(stream))
}

/// How a model on Vertex is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexPlace {
    /// Below the root.
    pub path: String,
    /// What is spoken there.
    pub dialect: Dialect,
    /// The model's name as that dialect's writer shall have it.
    pub model: String,
}

/// Vertex's path of a model that is named with its publisher: `google/gemini-2.5-pro`. Without one it is Google's, or Anthropic's
/// where the name says so.
pub fn vertex_place(project: &str, location: &str, model: &str, stream: bool) -> VertexPlace {
    let root = format!(
        "v1/projects/{}/locations/{}",
        segment(project),
        segment(location)
    );
    let place = |path: String, dialect, model: &str| VertexPlace {
        path: format!("{root}/{path}"),
        dialect,
        model: model.to_owned(),
    };
    let (publisher, name) = match model.split_once('/') {
        Some(pair) => pair,
        None if model.starts_with("claude") => ("anthropic", model),
        None => ("google", model),
    };
    let name = name.strip_prefix("models/").unwrap_or(name);
    let raw = match stream {
        true => "streamRawPredict",
        false => "rawPredict",
    };
    match publisher {
        // A tuned model has an endpoint of its own.
        "endpoints" => place(
            format!("endpoints/{}:{}", segment(name), generate(stream)),
            Dialect::Gemini,
            name,
        ),
        "google" | "models" => place(
            format!(
                "publishers/google/models/{}:{}",
                segment(name),
                generate(stream)
            ),
            Dialect::Gemini,
            name,
        ),
        "anthropic" => place(
            format!("publishers/anthropic/models/{}:{raw}", segment(name)),
            Dialect::Messages,
            name,
        ),
        "mistralai" => place(
            format!("publishers/mistralai/models/{}:{raw}", segment(name)),
            Dialect::Chat,
            name,
        ),
        _ => place(
            "endpoints/openapi/chat/completions".to_owned(),
            Dialect::Chat,
            model,
        ),
    }
}

fn generate(stream: bool) -> &'static str {
    match stream {
        true => "streamGenerateContent?alt=sse",
        false => "generateContent",
    }
}

fn segment(name: &str) -> String {
    match name {
        // A dot segment would climb.
        "." | ".." => name.replace('.', "%2E"),
        name => utf8_percent_encode(name, SEGMENT).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn studio_wants_the_beta_and_events() {
        for (model, stream, expected) in [
            (
                "gemini-2.5-pro",
                false,
                "v1beta/models/gemini-2.5-pro:generateContent",
            ),
            (
                "models/gemini-3-flash-preview",
                true,
                "v1beta/models/gemini-3-flash-preview:streamGenerateContent?alt=sse",
            ),
            (
                "tunedModels/mine-1",
                false,
                "v1beta/tunedModels/mine-1:generateContent",
            ),
            (
                "../x?key=1#",
                false,
                "v1beta/models/..%2Fx%3Fkey%3D1%23:generateContent",
            ),
            ("..", false, "v1beta/models/%2E%2E:generateContent"),
        ] {
            assert_eq!(studio_path(model, stream), expected);
        }
    }

    #[test]
    fn vertex_has_a_place_for_each_publisher() {
        let root = "v1/projects/p-1/locations/europe-west4/";
        for (model, stream, path, dialect, named) in [
            (
                "google/gemini-2.5-pro",
                false,
                "publishers/google/models/gemini-2.5-pro:generateContent",
                Dialect::Gemini,
                "gemini-2.5-pro",
            ),
            (
                "gemini-2.5-flash",
                true,
                "publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
                Dialect::Gemini,
                "gemini-2.5-flash",
            ),
            (
                "endpoints/123",
                false,
                "endpoints/123:generateContent",
                Dialect::Gemini,
                "123",
            ),
            (
                "anthropic/claude-haiku-4-5@20251001",
                true,
                "publishers/anthropic/models/claude-haiku-4-5@20251001:streamRawPredict",
                Dialect::Messages,
                "claude-haiku-4-5@20251001",
            ),
            (
                "claude-opus-4-6",
                false,
                "publishers/anthropic/models/claude-opus-4-6:rawPredict",
                Dialect::Messages,
                "claude-opus-4-6",
            ),
            (
                "mistralai/mistral-medium-3",
                false,
                "publishers/mistralai/models/mistral-medium-3:rawPredict",
                Dialect::Chat,
                "mistral-medium-3",
            ),
            (
                "meta/llama-3.3-70b-instruct-maas",
                true,
                "endpoints/openapi/chat/completions",
                Dialect::Chat,
                "meta/llama-3.3-70b-instruct-maas",
            ),
        ] {
            let place = vertex_place("p-1", "europe-west4", model, stream);
            assert_eq!(place.path, format!("{root}{path}"));
            assert_eq!((place.dialect, place.model.as_str()), (dialect, named));
        }
        let place = vertex_place("../p", "l/..", "google/g", false);
        assert!(
            place
                .path
                .starts_with("v1/projects/..%2Fp/locations/l%2F../")
        );
    }
}
