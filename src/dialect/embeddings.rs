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
        for entry in answer["data"].as_array_mut().into_iter().flatten() {
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
            vec![answer["embedding"]["values"].take()]
        }
        Shape::Gemini => each(&mut answer["embeddings"], |entry| entry["values"].take()),
        Shape::Vertex => each(&mut answer["predictions"], |entry| {
            entry["embeddings"]["values"].take()
        }),
        Shape::Cohere | Shape::BedrockCohere if answer["embeddings"].is_object() => {
            each(&mut answer["embeddings"]["float"], Value::take)
        }
        Shape::Cohere | Shape::BedrockCohere => each(&mut answer["embeddings"], Value::take),
        Shape::Titan => vec![answer["embedding"].take()],
        Shape::Nova => each(&mut answer["embeddings"], |entry| entry["embedding"].take()),
        // One text gives its vector alone on some backends.
        Shape::HuggingFace if answer[0].is_number() => vec![answer],
        Shape::HuggingFace => each(&mut answer, Value::take),
        Shape::OpenAi => each(&mut answer["data"], |entry| entry["embedding"].take()),
    };
    match found.iter().all(|vector| vector[0].is_number()) {
        true => Ok(found),
        false => Err(Failure::broken("The provider's answer holds no embeddings")),
    }
}

fn each(list: &mut Value, take: impl Fn(&mut Value) -> Value) -> Vec<Value> {
    list.as_array_mut()
        .into_iter()
        .flatten()
        .map(take)
        .collect()
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
