//! Embeddings: asked for as at OpenAI, made by any provider that has them (spec: providers 18). A request becomes one call or
//! several, and their answers one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::Upstream;
use super::changes::Changes;
use super::failure::{Failure, Invalid};
use super::fields::{Fields, wrong};
use crate::limits::{
    COHERE_EMBED_TEXTS, EMBEDDING_TEXTS_MAX, GEMINI_EMBED_TEXTS, VERTEX_EMBED_TEXTS,
};
use crate::providers::Slug;

/// What [`Invalid::code`] says where a provider has no embeddings: the status is 404 then.
pub const UNSUPPORTED_ENDPOINT: &str = "unsupported_endpoint";

/// The calls that a request takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order of their texts. Each answers for itself; they may run side by side.
    pub calls: Vec<Call>,
    /// What was done to the request.
    pub changes: Changes,
    /// Tokens that the answers' headers state (`x-amzn-bedrock-input-token-count`, `num_tokens`), for providers whose bodies do
    /// not. To be set before the answers are merged.
    pub header_tokens: Option<u64>,
    shape: Shape,
    model: String,
    texts: usize,
    base64: bool,
}

/// One call of a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The native path: behind the provider's segment; on Vertex behind `v1/projects/{project}/locations/{region}/`, on Bedrock
    /// behind `bedrock-runtime/{region}/`, on Azure behind the deployment or `openai/v1/`.
    pub path: String,
    /// JSON.
    pub body: Value,
}

/// How a provider asks and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As OpenAI.
    OpenAi,
    Gemini,
    Vertex,
    Cohere,
    Titan,
    Nova,
    BedrockCohere,
    HuggingFace,
}

/// Plans the calls for a request.
pub fn plan(body: Value, upstream: &Upstream<'_>) -> Result<Plan, Invalid> {
    let shape = shape(upstream)?;
    let mut fields = Fields::of(body, "")?;
    fields.take("model");
    let base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            return Err(Invalid::at(
                "encoding_format",
                format!("{other:?} is neither float nor base64"),
            ));
        }
    };
    if shape == Shape::OpenAi {
        return relay(fields, base64, upstream);
    }
    let texts = texts(&mut fields)?;
    let options = Options {
        dimensions: fields.count("dimensions")?,
        purpose: purpose(&mut fields)?,
        truncate: fields.text("truncate")?,
    };
    let mut changes = Changes::default();
    fields
        .rest()
        .keys()
        .for_each(|field| changes.dropped(field));
    let count = texts.len();
    let calls = calls(shape, texts, &options, upstream, &mut changes)?;
    Ok(Plan {
        calls,
        changes,
        header_tokens: None,
        shape,
        model: upstream.model.to_owned(),
        texts: count,
        base64,
    })
}

impl Plan {
    /// Whether the only answer can go down as it comes.
    pub fn is_untouched(&self) -> bool {
        self.shape == Shape::OpenAi
    }

    /// The client's answer out of the calls' answers, in their order.
    pub fn merge(&self, answers: Vec<Value>) -> Result<Value, Failure> {
        if self.shape == Shape::OpenAi {
            return self.relayed(answers);
        }
        let tokens = answers.iter().map(|answer| tokens(self.shape, answer));
        let tokens = tokens.sum::<Option<u64>>().or(self.header_tokens);
        let mut vectors = Vec::with_capacity(self.texts);
        for answer in answers {
            vectors.extend(read(self.shape, answer)?);
        }
        if vectors.len() != self.texts {
            return Err(Failure::broken(format!(
                "The provider answered {} embeddings for {} texts",
                vectors.len(),
                self.texts
            )));
        }
        let data: Result<Vec<Value>, Failure> = vectors
            .into_iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = written(vector, self.base64)?;
                Ok(json!({"object": "embedding", "index": index, "embedding": embedding}))
            })
            .collect();
        // The clients' types want numbers; where the provider states none, none are counted.
        let tokens = tokens.unwrap_or_default();
        Ok(json!({
            "object": "list",
            "data": data?,
            "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }))
    }

    /// An answer in the client's own form, in which the provider may not have minded how numbers were to be written.
    fn relayed(&self, answers: Vec<Value>) -> Result<Value, Failure> {
        let only = answers.into_iter().next();
        let mut answer = only.ok_or_else(|| Failure::broken("The provider did not answer"))?;
        let data = answer.get_mut("data").and_then(Value::as_array_mut);
        for entry in data.into_iter().flatten() {
            if let Some(place) = entry.get_mut("embedding") {
                *place = written(place.take(), self.base64)?;
            }
        }
        Ok(answer)
    }
}

/// What a request asks for beside its texts.
struct Options {
    dimensions: Option<u64>,
    /// What the embeddings are for, in the provider's word.
    purpose: Option<String>,
    truncate: Option<String>,
}

fn shape(upstream: &Upstream<'_>) -> Result<Shape, Invalid> {
    let name = upstream.slug.as_str();
    Ok(match upstream.slug {
        Slug::OpenAi
        | Slug::AzureOpenAi
        | Slug::Mistral
        | Slug::Fireworks
        | Slug::WorkersAi
        | Slug::OpenRouter
        | Slug::Baseten
        | Slug::Alibaba
        | Slug::Custom => Shape::OpenAi,
        Slug::GoogleAiStudio => Shape::Gemini,
        Slug::GoogleVertexAi => Shape::Vertex,
        Slug::Cohere => Shape::Cohere,
        Slug::HuggingFace => Shape::HuggingFace,
        Slug::AwsBedrock if upstream.model.contains("titan-embed") => Shape::Titan,
        Slug::AwsBedrock if upstream.model.contains("cohere.embed") => Shape::BedrockCohere,
        Slug::AwsBedrock if upstream.model.contains("nova") => Shape::Nova,
        Slug::AwsBedrock => {
            return Err(unsupported(format!(
                "Of Bedrock's models, Titan, Cohere and Nova make embeddings; {:?} does not",
                upstream.model
            )));
        }
        _ => return Err(unsupported(format!("{name} makes no embeddings"))),
    })
}

fn unsupported(message: String) -> Invalid {
    Invalid {
        message,
        param: Some("model".to_owned()),
        code: Some(UNSUPPORTED_ENDPOINT),
    }
}

/// The request as it is, but for the model's name and Mistral's own words.
fn relay(mut fields: Fields, base64: bool, upstream: &Upstream<'_>) -> Result<Plan, Invalid> {
    let mut changes = Changes::default();
    let mut body = Map::new();
    body.insert("model".to_owned(), Value::from(upstream.model));
    if upstream.slug == Slug::Mistral {
        // Its schema is closed, and floats are what it always gives.
        for field in ["input", "metadata", "output_dimension", "output_dtype"] {
            if let Some(value) = fields.take(field) {
                body.insert(field.to_owned(), value);
            }
        }
        if let Some(dimensions) = fields.take("dimensions") {
            body.entry("output_dimension").or_insert(dimensions);
            changes.renamed("dimensions", "output_dimension");
        }
        fields
            .rest()
            .keys()
            .for_each(|field| changes.dropped(field));
    } else {
        body.extend(fields.rest());
        if base64 {
            body.insert("encoding_format".to_owned(), Value::from("base64"));
        }
    }
    let path = match upstream.slug {
        Slug::AzureOpenAi => "embeddings",
        _ => "v1/embeddings",
    };
    Ok(Plan {
        calls: vec![Call {
            path: path.to_owned(),
            body: Value::Object(body),
        }],
        changes,
        header_tokens: None,
        shape: Shape::OpenAi,
        model: upstream.model.to_owned(),
        texts: 0,
        base64,
    })
}

fn texts(fields: &mut Fields) -> Result<Vec<String>, Invalid> {
    const FIELD: &str = "input";
    let list = match fields.take(FIELD) {
        Some(Value::String(text)) => return Ok(vec![text]),
        Some(Value::Array(list)) => list,
        None => return Err(Invalid::at(FIELD, "input is missing")),
        Some(other) => return Err(wrong(FIELD, "a string or a list of strings", &other)),
    };
    if list.is_empty() {
        return Err(Invalid::at(FIELD, "input holds no text"));
    }
    if matches!(list[0], Value::Number(_) | Value::Array(_)) {
        return Err(Invalid::unsupported(
            FIELD,
            "Tokens are those of OpenAI's models: send this provider texts",
        ));
    }
    if list.len() > EMBEDDING_TEXTS_MAX {
        return Err(Invalid::at(
            FIELD,
            format!("input holds more than {EMBEDDING_TEXTS_MAX} texts"),
        ));
    }
    let text = |(at, value)| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(&format!("{FIELD}[{at}]"), "a string", &other)),
    };
    list.into_iter().enumerate().map(text).collect()
}

/// What OpenAI's request has no word for and the others have: what the embeddings are for.
fn purpose(fields: &mut Fields) -> Result<Option<String>, Invalid> {
    let mut purpose = None;
    for field in ["input_type", "task_type", "taskType"] {
        purpose = purpose.or(fields.text(field)?);
    }
    Ok(purpose)
}

fn calls(
    shape: Shape,
    texts: Vec<String>,
    options: &Options,
    upstream: &Upstream<'_>,
    changes: &mut Changes,
) -> Result<Vec<Call>, Invalid> {
    let model = upstream.model;
    if options.truncate.is_some() && !matches!(shape, Shape::Cohere | Shape::BedrockCohere) {
        changes.dropped("truncate");
    }
    let no_purpose = matches!(shape, Shape::Titan | Shape::Nova | Shape::HuggingFace);
    if options.purpose.is_some() && no_purpose {
        changes.dropped("input_type");
    }
    let one = |path: &str, make: &dyn Fn(String) -> Value| -> Vec<Call> {
        let texts = texts.iter().cloned();
        texts
            .map(|text| Call {
                path: path.to_owned(),
                body: make(text),
            })
            .collect()
    };
    let many = |path: &str, most: usize, make: &dyn Fn(&[String]) -> Value| -> Vec<Call> {
        let groups = texts.chunks(most);
        groups
            .map(|texts| Call {
                path: path.to_owned(),
                body: make(texts),
            })
            .collect()
    };
    Ok(match shape {
        Shape::Gemini => {
            let name = model.strip_prefix("models/").unwrap_or(model);
            let path = |verb: &str| format!("v1beta/models/{}:{verb}", segment(name));
            let content = |text: &str| {
                let mut content = json!({"content": {"parts": [{"text": text}]}});
                put(
                    &mut content,
                    "taskType",
                    options.purpose.as_deref().map(str::to_uppercase),
                );
                put(&mut content, "outputDimensionality", options.dimensions);
                content
            };
            match texts.as_slice() {
                [text] => vec![Call {
                    path: path("embedContent"),
                    body: content(text),
                }],
                _ => many(&path("batchEmbedContents"), GEMINI_EMBED_TEXTS, &|texts| {
                    let requests = texts.iter().map(|text| {
                        let mut request = content(text);
                        request["model"] = Value::from(format!("models/{name}"));
                        request
                    });
                    json!({"requests": requests.collect::<Vec<_>>()})
                }),
            }
        }
        Shape::Vertex => {
            let name = model.strip_prefix("google/").unwrap_or(model);
            let path = format!("publishers/google/models/{}:predict", segment(name));
            let most = match name.starts_with("gemini") {
                true => 1,
                false => VERTEX_EMBED_TEXTS,
            };
            many(&path, most, &|texts| {
                let instances = texts.iter().map(|text| {
                    let mut instance = json!({"content": text});
                    put(
                        &mut instance,
                        "task_type",
                        options.purpose.as_deref().map(str::to_uppercase),
                    );
                    instance
                });
                let mut body = json!({"instances": instances.collect::<Vec<_>>()});
                if let Some(dimensions) = options.dimensions {
                    body["parameters"] = json!({"outputDimensionality": dimensions});
                }
                body
            })
        }
        Shape::Cohere => many("v2/embed", COHERE_EMBED_TEXTS, &|texts| {
            let mut body = cohere(texts, options);
            body["model"] = Value::from(model);
            body["embedding_types"] = json!(["float"]);
            put(&mut body, "output_dimension", options.dimensions);
            body
        }),
        Shape::BedrockCohere => {
            // Version 3 knows one length only, and answers in floats unless asked for types.
            let newer = !model.contains("-v3");
            if options.dimensions.is_some() && !newer {
                return Err(one_length(model));
            }
            many(&invoke(model), COHERE_EMBED_TEXTS, &|texts| {
                let mut body = cohere(texts, options);
                if newer {
                    body["embedding_types"] = json!(["float"]);
                }
                put(&mut body, "output_dimension", options.dimensions);
                body
            })
        }
        Shape::Titan => {
            let pictures = model.contains("titan-embed-image");
            let newer = model.contains("titan-embed-text-v2");
            if options.dimensions.is_some() && !pictures && !newer {
                return Err(one_length(model));
            }
            one(&invoke(model), &|text| {
                let mut body = json!({"inputText": text});
                match (options.dimensions, pictures) {
                    (Some(length), true) => {
                        body["embeddingConfig"] = json!({"outputEmbeddingLength": length})
                    }
                    (length, _) => put(&mut body, "dimensions", length),
                }
                body
            })
        }
        Shape::Nova => one(&invoke(model), &|text| {
            let mut single = json!({
                "embeddingPurpose": "GENERIC_INDEX",
                "text": {"value": text, "truncationMode": "END"},
            });
            put(&mut single, "embeddingDimension", options.dimensions);
            json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": single})
        }),
        Shape::HuggingFace => {
            if options.dimensions.is_some() {
                return Err(one_length(model));
            }
            // Behind a colon the router takes the name of a backend.
            let name = model.split(':').next().unwrap_or_default();
            let path = format!("{name}/pipeline/feature-extraction");
            many(
                &path,
                EMBEDDING_TEXTS_MAX,
                &|texts| json!({"inputs": texts}),
            )
        }
        // Was relayed.
        Shape::OpenAi => Vec::new(),
    })
}

fn cohere(texts: &[String], options: &Options) -> Value {
    let purpose = options.purpose.as_deref().unwrap_or("search_document");
    let mut body = json!({"texts": texts, "input_type": purpose.to_lowercase()});
    put(
        &mut body,
        "truncate",
        options.truncate.as_deref().map(str::to_uppercase),
    );
    body
}

fn one_length(model: &str) -> Invalid {
    Invalid::unsupported(
        "dimensions",
        format!("Embeddings of {model} have one length: leave dimensions out"),
    )
}

fn put<T: Into<Value>>(body: &mut Value, field: &str, value: Option<T>) {
    if let Some(value) = value {
        body[field] = value.into();
    }
}

fn invoke(model: &str) -> String {
    format!("model/{}/invoke", segment(model))
}

fn segment(name: &str) -> String {
    /// What may stand in a segment as it is.
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(name, KEPT).to_string()
}

/// The embeddings of one answer.
fn read(shape: Shape, mut answer: Value) -> Result<Vec<Value>, Failure> {
    let found = match shape {
        Shape::Gemini if answer.get("embedding").is_some() => {
            vec![take(&mut answer, "/embedding/values")]
        }
        Shape::Gemini => each(&mut answer, "/embeddings", "/values"),
        Shape::Vertex => each(&mut answer, "/predictions", "/embeddings/values"),
        Shape::Cohere | Shape::BedrockCohere if answer["embeddings"].is_object() => {
            each(&mut answer, "/embeddings/float", "")
        }
        Shape::Cohere | Shape::BedrockCohere => each(&mut answer, "/embeddings", ""),
        Shape::Titan => vec![take(&mut answer, "/embedding")],
        Shape::Nova => each(&mut answer, "/embeddings", "/embedding"),
        // One text gives its vector alone on some backends.
        Shape::HuggingFace if answer[0].is_number() => vec![answer],
        Shape::HuggingFace => each(&mut answer, "", ""),
        Shape::OpenAi => each(&mut answer, "/data", "/embedding"),
    };
    match found.iter().all(|vector| vector[0].is_number()) {
        true => Ok(found),
        false => Err(Failure::broken("The provider's answer holds no embeddings")),
    }
}

/// What stands at `inner` of each entry of the list at `outer`.
fn each(answer: &mut Value, outer: &str, inner: &str) -> Vec<Value> {
    let list = answer.pointer_mut(outer).and_then(Value::as_array_mut);
    let entries = list.into_iter().flatten();
    entries.map(|entry| take(entry, inner)).collect()
}

fn take(answer: &mut Value, pointer: &str) -> Value {
    answer
        .pointer_mut(pointer)
        .map(Value::take)
        .unwrap_or_default()
}

/// Tokens that an answer states.
fn tokens(shape: Shape, answer: &Value) -> Option<u64> {
    let count = |value: &Value| value.as_u64().or(value.as_f64().map(|float| float as u64));
    match shape {
        Shape::Vertex => {
            let predictions = answer["predictions"].as_array()?;
            let counts = predictions
                .iter()
                .map(|entry| count(&entry["embeddings"]["statistics"]["token_count"]));
            counts.sum()
        }
        Shape::Cohere | Shape::BedrockCohere => {
            count(&answer["meta"]["billed_units"]["input_tokens"])
        }
        Shape::Titan => count(&answer["inputTextTokenCount"]),
        Shape::Nova => count(&answer["inputTokenCount"]),
        Shape::Gemini => count(&answer["usageMetadata"]["promptTokenCount"]),
        Shape::HuggingFace | Shape::OpenAi => None,
    }
}

/// A vector as the client wants it: numbers, or 32-bit floats in base64, the lowest byte first.
fn written(vector: Value, base64: bool) -> Result<Value, Failure> {
    match vector {
        Value::Array(numbers) if base64 => {
            let bytes = numbers.iter().flat_map(|number| {
                let number = number.as_f64().unwrap_or_default() as f32;
                number.to_le_bytes()
            });
            Ok(Value::String(STANDARD.encode(bytes.collect::<Vec<u8>>())))
        }
        Value::String(text) if !base64 => {
            let bytes = STANDARD.decode(&text);
            let bytes =
                bytes.map_err(|_| Failure::broken("The provider's embedding is no base64"))?;
            let floats = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            Ok(floats.map(Value::from).collect())
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(slug: Slug, model: &str) -> Upstream<'_> {
        Upstream {
            slug,
            model,
            max_output: None,
        }
    }

    fn planned(slug: Slug, model: &str, body: Value) -> Plan {
        plan(body, &upstream(slug, model)).unwrap_or_else(|invalid| panic!("{invalid:?}"))
    }

    fn refused(slug: Slug, model: &str, body: Value) -> Invalid {
        plan(body, &upstream(slug, model)).expect_err("is not to be planned")
    }

    fn calls(plan: &Plan) -> Vec<(&str, Value)> {
        let calls = plan.calls.iter();
        calls
            .map(|call| (call.path.as_str(), call.body.clone()))
            .collect()
    }

    fn merged(plan: &Plan, answers: Value) -> Value {
        let Value::Array(answers) = answers else {
            panic!("no list");
        };
        plan.merge(answers)
            .unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    /// One text, two texts and a length, as OpenAI's SDK asks.
    fn two() -> Value {
        json!({"model": "x/y", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float", "user": "u"})
    }

    fn list(model: &str, tokens: u64) -> Value {
        json!({
            "object": "list", "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
                {"object": "embedding", "index": 1, "embedding": [0.25, 2.0]},
            ],
        })
    }

    #[test]
    fn relayed_requests_keep_all_but_the_model() {
        for (slug, path) in [
            (Slug::OpenAi, "v1/embeddings"),
            (Slug::AzureOpenAi, "embeddings"),
            (Slug::Fireworks, "v1/embeddings"),
            (Slug::WorkersAi, "v1/embeddings"),
            (Slug::OpenRouter, "v1/embeddings"),
            (Slug::Custom, "v1/embeddings"),
        ] {
            let body = json!({"model": "x/y", "input": [[1, 2]], "dimensions": 8, "encoding_format": "base64", "odd": 1});
            let plan = planned(slug, "y", body);
            let sent = json!({"model": "y", "input": [[1, 2]], "dimensions": 8, "odd": 1, "encoding_format": "base64"});
            assert_eq!(calls(&plan), [(path, sent)], "{slug:?}");
            assert!(plan.is_untouched() && plan.changes.is_empty());
        }
    }

    #[test]
    fn mistral_has_its_own_words() {
        let body = json!({"model": "x/y", "input": "a", "dimensions": 8, "encoding_format": "base64", "user": "u"});
        let plan = planned(Slug::Mistral, "mistral-embed", body);
        let sent = json!({"model": "mistral-embed", "input": "a", "output_dimension": 8});
        assert_eq!(calls(&plan), [("v1/embeddings", sent)]);
        assert_eq!(
            plan.changes.to_string(),
            "rename:dimensions=output_dimension,drop:user"
        );
        // It gave floats; base64 was asked for.
        let answer = json!([{"object": "list", "data": [{"index": 0, "embedding": [0.5, -1.0]}], "usage": {"prompt_tokens": 3}}]);
        let answer = merged(&plan, answer);
        assert_eq!(answer["data"][0]["embedding"], "AAAAPwAAgL8=");
        assert_eq!(answer["usage"]["prompt_tokens"], 3);
    }

    #[test]
    fn numbers_are_written_as_they_were_asked_for() {
        let base64 = json!({"input": "a", "encoding_format": "base64"});
        let floats = json!({"input": "a"});
        let answer = |embedding: Value| json!([{"data": [{"embedding": embedding}]}]);
        let numbers = json!([0.5, -1.0]);
        let text = json!("AAAAPwAAgL8=");
        for (body, given, expected) in [
            (&base64, &numbers, &text),
            (&base64, &text, &text),
            (&floats, &numbers, &numbers),
            (&floats, &text, &numbers),
        ] {
            let plan = planned(Slug::Custom, "y", body.clone());
            let merged = merged(&plan, answer(given.clone()));
            assert_eq!(&merged["data"][0]["embedding"], expected, "{body} {given}");
        }
        let odd = refused(
            Slug::OpenAi,
            "y",
            json!({"input": "a", "encoding_format": "int8"}),
        );
        assert_eq!(odd.param.as_deref(), Some("encoding_format"));
    }

    #[test]
    fn gemini_takes_one_or_many() {
        let one = json!({"input": "a", "task_type": "retrieval_query"});
        let plan = planned(Slug::GoogleAiStudio, "models/gemini-embedding-001", one);
        let sent = json!({"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY"});
        assert_eq!(
            calls(&plan),
            [("v1beta/models/gemini-embedding-001:embedContent", sent)]
        );
        let answer = merged(&plan, json!([{"embedding": {"values": [0.5, -1.0]}}]));
        assert_eq!(answer["data"][0]["embedding"], json!([0.5, -1.0]));
        assert_eq!(
            answer["usage"],
            json!({"prompt_tokens": 0, "total_tokens": 0})
        );
        let plan = planned(Slug::GoogleAiStudio, "e", two());
        let request = |text: &str| json!({"model": "models/e", "content": {"parts": [{"text": text}]}, "outputDimensionality": 2});
        let sent = json!({"requests": [request("a"), request("b")]});
        assert_eq!(calls(&plan), [("v1beta/models/e:batchEmbedContents", sent)]);
        let answer = json!([{"embeddings": [{"values": [0.5, -1.0]}, {"values": [0.25, 2.0]}]}]);
        assert_eq!(merged(&plan, answer), list("e", 0));
        assert_eq!(plan.changes.to_string(), "drop:user");
        let many = json!({"input": vec!["x"; GEMINI_EMBED_TEXTS + 1]});
        assert_eq!(planned(Slug::GoogleAiStudio, "e", many).calls.len(), 2);
    }

    #[test]
    fn vertex_predicts() {
        let plan = planned(Slug::GoogleVertexAi, "google/text-embedding-005", two());
        let sent = json!({"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 2}});
        let path = "publishers/google/models/text-embedding-005:predict";
        assert_eq!(calls(&plan), [(path, sent)]);
        let prediction = |values: Value, count: u64| json!({"embeddings": {"values": values, "statistics": {"token_count": count, "truncated": false}}});
        let answer = json!([{"predictions": [prediction(json!([0.5, -1.0]), 3), prediction(json!([0.25, 2.0]), 4)]}]);
        assert_eq!(merged(&plan, answer), list("google/text-embedding-005", 7));
        let plan = planned(Slug::GoogleVertexAi, "gemini-embedding-001", two());
        assert_eq!(plan.calls.len(), 2);
        let answers = json!([{"predictions": [prediction(json!([0.5, -1.0]), 1)]}, {"predictions": [prediction(json!([0.25, 2.0]), 1)]}]);
        assert_eq!(merged(&plan, answers), list("gemini-embedding-001", 2));
    }

    #[test]
    fn cohere_wants_a_purpose() {
        let plan = planned(Slug::Cohere, "embed-v4.0", two());
        let sent = json!({"texts": ["a", "b"], "input_type": "search_document", "model": "embed-v4.0",
            "embedding_types": ["float"], "output_dimension": 2});
        assert_eq!(calls(&plan), [("v2/embed", sent)]);
        let answer = json!([{"embeddings": {"float": [[0.5, -1.0], [0.25, 2.0]]}, "meta": {"billed_units": {"input_tokens": 4.0}}}]);
        assert_eq!(merged(&plan, answer), list("embed-v4.0", 4));
        let body =
            json!({"input": vec!["x"; 97], "input_type": "classification", "truncate": "end"});
        let plan = planned(Slug::Cohere, "e", body);
        let sizes: Vec<usize> = plan
            .calls
            .iter()
            .map(|call| call.body["texts"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [96, 1]);
        assert_eq!(plan.calls[1].body["input_type"], "classification");
        assert_eq!(plan.calls[1].body["truncate"], "END");
        let one = |count: usize| json!({"embeddings": {"float": vec![[0.5]; count]}, "meta": {"billed_units": {"input_tokens": 2}}});
        let answer = merged(&plan, json!([one(96), one(1)]));
        assert_eq!(answer["data"].as_array().unwrap().len(), 97);
        assert_eq!(answer["data"][96]["index"], 96);
        assert_eq!(answer["usage"]["total_tokens"], 4);
    }

    #[test]
    fn bedrock_is_asked_as_its_models_are() {
        let titan = "amazon.titan-embed-text-v2:0";
        let plan = planned(Slug::AwsBedrock, titan, two());
        let path = "model/amazon.titan-embed-text-v2%3A0/invoke";
        let sent = |text: &str| (path, json!({"inputText": text, "dimensions": 2}));
        assert_eq!(calls(&plan), [sent("a"), sent("b")]);
        let answers = json!([
            {"embedding": [0.5, -1.0], "inputTextTokenCount": 3}, {"embedding": [0.25, 2.0], "inputTextTokenCount": 4}]);
        assert_eq!(merged(&plan, answers), list(titan, 7));
        let older = refused(Slug::AwsBedrock, "amazon.titan-embed-text-v1", two());
        assert_eq!(older.param.as_deref(), Some("dimensions"));
        let pictures = planned(Slug::AwsBedrock, "amazon.titan-embed-image-v1", two());
        let sent = json!({"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": 2}});
        assert_eq!(pictures.calls[0].body, sent);

        let mut plan = planned(Slug::AwsBedrock, "us.cohere.embed-v4:0", two());
        let sent = json!({"texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"], "output_dimension": 2});
        assert_eq!(
            calls(&plan),
            [("model/us.cohere.embed-v4%3A0/invoke", sent)]
        );
        plan.header_tokens = Some(9);
        let answer = json!([{"embeddings": {"float": [[0.5, -1.0], [0.25, 2.0]]}, "response_type": "embeddings_by_type"}]);
        assert_eq!(merged(&plan, answer), list("us.cohere.embed-v4:0", 9));
        let plan = planned(
            Slug::AwsBedrock,
            "cohere.embed-english-v3",
            json!({"input": ["a", "b"]}),
        );
        assert_eq!(
            plan.calls[0].body,
            json!({"texts": ["a", "b"], "input_type": "search_document"})
        );
        let answer = json!([{"embeddings": [[0.5, -1.0], [0.25, 2.0]], "response_type": "embeddings_floats"}]);
        assert_eq!(merged(&plan, answer), list("cohere.embed-english-v3", 0));
        let older = refused(Slug::AwsBedrock, "cohere.embed-english-v3", two());
        assert_eq!(older.param.as_deref(), Some("dimensions"));

        let plan = planned(
            Slug::AwsBedrock,
            "amazon.nova-2-multimodal-embeddings-v1:0",
            two(),
        );
        let sent = json!({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"embeddingPurpose": "GENERIC_INDEX",
            "text": {"value": "a", "truncationMode": "END"}, "embeddingDimension": 2}});
        assert_eq!(plan.calls[0].body, sent);
        assert_eq!(plan.calls.len(), 2);
        let answers = json!([
            {"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, -1.0]}]}, {"embeddings": [{"embedding": [0.25, 2.0]}]}]);
        assert_eq!(
            merged(&plan, answers)["data"][1]["embedding"],
            json!([0.25, 2.0])
        );
    }

    #[test]
    fn huggingface_extracts_features() {
        let plan = planned(
            Slug::HuggingFace,
            "BAAI/bge-m3:hf-inference",
            json!({"input": ["a", "b"]}),
        );
        let sent = json!({"inputs": ["a", "b"]});
        assert_eq!(
            calls(&plan),
            [("BAAI/bge-m3/pipeline/feature-extraction", sent)]
        );
        let answer = merged(&plan, json!([[[0.5, -1.0], [0.25, 2.0]]]));
        assert_eq!(answer, list("BAAI/bge-m3:hf-inference", 0));
        let plan = planned(Slug::HuggingFace, "m", json!({"input": "a"}));
        assert_eq!(
            merged(&plan, json!([[0.5, -1.0]]))["data"][0]["embedding"],
            json!([0.5, -1.0])
        );
        // Embeddings of single tokens are none of texts.
        assert!(plan.merge(vec![json!([[[0.5], [1.0]]])]).is_err());
    }

    #[test]
    fn who_has_none_says_so() {
        for slug in [
            Slug::Anthropic,
            Slug::Groq,
            Slug::DeepSeek,
            Slug::PerplexityAi,
            Slug::Cerebras,
            Slug::Grok,
            Slug::Replicate,
        ] {
            let refused = refused(slug, "m", json!({"input": "a"}));
            assert_eq!(refused.code, Some(UNSUPPORTED_ENDPOINT), "{slug:?}");
        }
        let other = refused(
            Slug::AwsBedrock,
            "anthropic.claude-haiku-4-5",
            json!({"input": "a"}),
        );
        assert_eq!(other.code, Some(UNSUPPORTED_ENDPOINT));
    }

    #[test]
    fn inputs_are_texts() {
        for (input, place) in [
            (json!([1, 2]), "input"),
            (json!([[1, 2]]), "input"),
            (json!([]), "input"),
            (json!(null), "input"),
            (json!({}), "input"),
            (json!(["a", 1]), "input[1]"),
            (json!(vec!["x"; EMBEDDING_TEXTS_MAX + 1]), "input"),
        ] {
            let refused = refused(Slug::Cohere, "m", json!({"input": input}));
            assert_eq!(refused.param.as_deref(), Some(place));
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_failures() {
        let plan = planned(Slug::Cohere, "m", json!({"input": ["a", "b"]}));
        for answer in [
            json!({}),
            json!([]),
            json!({"embeddings": {"float": [[0.5]]}}),
            json!({"embeddings": {"float": [[0.5], ["x"]]}}),
            json!({"embeddings": {"float": [[0.5], []]}}),
            json!({"embeddings": {"float": 7}}),
        ] {
            assert_eq!(
                plan.merge(vec![answer.clone()]).unwrap_err().status,
                502,
                "{answer}"
            );
        }
        let relayed = planned(Slug::OpenAi, "m", json!({"input": "a"}));
        assert!(relayed.merge(Vec::new()).is_err());
    }
}
