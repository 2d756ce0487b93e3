//! Answers that are made at once: embeddings, models, images, audio, files, counts and the providers without chat.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::request::Request;
use super::sigv4::hex;
use super::text::{embedding, json_tokens, prose, tokens};
use super::{Answer, Call, bedrock, gemini, messages};
use crate::limits::{SIM_CHOICES_MAX, SIM_EMBEDDINGS_MAX};
use crate::sim::pace::Dice;

/// Names that `GET /models` lists; any other name is answered as well.
const MODELS: [&str; 6] = [
    "simulated",
    "simulated-small",
    "sim-tokens-200",
    "sim-status-429",
    "sim-hang",
    "sim-reset-after-3",
];

/// A PNG of one transparent pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// `GET /models` in OpenAI's shape, or one of them.
pub fn openai_models(path: &str) -> Answer {
    let model = |id: &str| json!({"id": id, "object": "model", "created": 1_768_478_400, "owned_by": "simulated"});
    match path.rsplit_once("/models/") {
        Some((_, id)) if !id.is_empty() => Answer::json(200, &model(id)),
        _ => Answer::json(200, &json!({"object": "list", "data": MODELS.map(model)})),
    }
}

/// `GET /v1/models` in Anthropic's shape.
pub fn anthropic_models() -> Answer {
    let model = |id: &str| json!({"type": "model", "id": id, "display_name": id, "created_at": "2026-01-15T12:00:00Z"});
    let body = json!({
        "data": MODELS.map(model), "has_more": false, "first_id": MODELS[0], "last_id": MODELS[MODELS.len() - 1],
    });
    Answer::json(200, &body)
}

/// `GET /v1beta/models` in Gemini's shape, or one of them.
pub fn gemini_models(path: &str) -> Answer {
    let model = |id: &str| {
        json!({
            "name": format!("models/{id}"), "displayName": id, "version": "001", "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65536, "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
        })
    };
    match path.rsplit_once("/models/") {
        Some((_, id)) if !id.is_empty() => Answer::json(200, &model(id)),
        _ => Answer::json(200, &json!({"models": MODELS.map(model)})),
    }
}

/// OpenAI embeddings, floats or base64 of little-endian 32-bit floats.
pub fn embeddings(call: &Call, dice: &mut Dice) -> Answer {
    let inputs = match &call.body["input"] {
        Value::Array(items) if items.first().is_some_and(Value::is_number) => 1,
        Value::Array(items) => items.len(),
        Value::String(_) => 1,
        _ => {
            return call.refuse(
                400,
                "'input' must be a string, an array of strings or an array of tokens",
            );
        }
    };
    if inputs > SIM_EMBEDDINGS_MAX {
        return call.refuse(400, "'input' holds more than 4096 items");
    }
    let dimensions = call.body["dimensions"]
        .as_u64()
        .or(call.body["output_dimension"].as_u64())
        .unwrap_or(1536);
    let base64 = call.body["encoding_format"] == "base64";
    let data: Vec<Value> = (0..inputs)
        .map(|index| {
            let vector = embedding(dimensions, dice);
            let written = if base64 {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                json!(STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": written})
        })
        .collect();
    let count = json_tokens(&call.body["input"]);
    Answer::json(
        200,
        &json!({
            "object": "list", "data": data, "model": call.model,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }),
    )
}

/// Gemini `embedContent`, `batchEmbedContents` and Vertex `predict`.
pub fn gemini_embeddings(call: &Call, verb: &str, dice: &mut Dice) -> Answer {
    let size = |request: &Value| request["outputDimensionality"].as_u64().unwrap_or(768);
    let empty = Vec::new();
    let body = match verb {
        "embedContent" => json!({"embedding": {"values": embedding(size(&call.body), dice)}}),
        "batchEmbedContents" => {
            let requests = call.body["requests"].as_array().unwrap_or(&empty);
            let vectors = requests.iter().take(SIM_EMBEDDINGS_MAX);
            let vectors: Vec<Value> = vectors
                .map(|request| json!({"values": embedding(size(request), dice)}))
                .collect();
            json!({"embeddings": vectors})
        }
        _ => {
            let instances = call.body["instances"].as_array().unwrap_or(&empty);
            let size = size(&call.body["parameters"]);
            let predictions: Vec<Value> = instances
                .iter()
                .take(SIM_EMBEDDINGS_MAX)
                .map(|instance| {
                    let statistics = json!({"token_count": json_tokens(&instance["content"]), "truncated": false});
                    json!({"embeddings": {"values": embedding(size, dice), "statistics": statistics}})
                })
                .collect();
            let characters: usize = instances
                .iter()
                .filter_map(|instance| instance["content"].as_str())
                .map(str::len)
                .sum();
            json!({"predictions": predictions, "metadata": {"billableCharacterCount": characters}})
        }
    };
    Answer::json(200, &body)
}

/// Cohere `embed` (the shape of version 2, which version 1 callers with `embedding_types` get too).
pub fn cohere_embed(call: &Call, dice: &mut Dice) -> Answer {
    let Some(texts) = call.body["texts"]
        .as_array()
        .filter(|texts| texts.len() <= SIM_EMBEDDINGS_MAX)
    else {
        return call.refuse(
            400,
            "invalid request: 'texts' must be an array of at most 4096 strings",
        );
    };
    let size = call.body["output_dimension"].as_u64().unwrap_or(1024);
    let vectors: Vec<Vec<f32>> = texts.iter().map(|_| embedding(size, dice)).collect();
    let count = json_tokens(&call.body["texts"]);
    let mut answer = Answer::json(
        200,
        &json!({
            "id": dice.letters(24), "embeddings": {"float": vectors}, "texts": texts,
            "response_type": "embeddings_by_type",
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": count}},
        }),
    );
    answer.header("num_tokens", count.to_string());
    answer
}

/// Cohere `rerank`: the documents in their order.
pub fn cohere_rerank(call: &Call, dice: &mut Dice) -> Answer {
    let count = call.body["documents"]
        .as_array()
        .map_or(0, Vec::len)
        .min(SIM_EMBEDDINGS_MAX);
    let top = call.body["top_n"]
        .as_u64()
        .map_or(count, |n| count.min(n as usize));
    let results: Vec<Value> = (0..top)
        .map(|index| json!({"index": index, "relevance_score": 1.0 / (index as f64 + 1.0)}))
        .collect();
    let meta = json!({"api_version": {"version": "2"}, "billed_units": {"search_units": 1}});
    Answer::json(
        200,
        &json!({"id": dice.letters(24), "results": results, "meta": meta}),
    )
}

/// InvokeModel of embedding models: Titan's shape or Cohere's.
pub fn bedrock_embeddings(call: &Call, dice: &mut Dice) -> Answer {
    let (body, count) = match call.body["inputText"].as_str() {
        Some(text) => {
            let vector = embedding(call.body["dimensions"].as_u64().unwrap_or(1024), dice);
            (
                json!({"embedding": vector, "inputTextTokenCount": tokens(text)}),
                tokens(text),
            )
        }
        None => {
            let texts = call.body["texts"]
                .as_array()
                .map_or(1, Vec::len)
                .min(SIM_EMBEDDINGS_MAX);
            let vectors: Vec<Vec<f32>> = (0..texts).map(|_| embedding(1024, dice)).collect();
            (
                json!({"embeddings": {"float": vectors}, "id": dice.letters(24)}),
                json_tokens(&call.body["texts"]),
            )
        }
    };
    let mut answer = Answer::json(200, &body);
    answer.header("x-amzn-bedrock-input-token-count", count.to_string());
    answer
}

/// `count_tokens`, `countTokens`, Bedrock's count-tokens: what a generation would be charged for its prompt.
pub fn count(call: &Call) -> Answer {
    let body = if call.path.ends_with("/messages/count_tokens") {
        json!({"input_tokens": messages::prompt_tokens(&call.body)})
    } else if call.path.ends_with(":countTokens") {
        let request = call
            .body
            .get("generateContentRequest")
            .unwrap_or(&call.body);
        json!({"totalTokens": gemini::prompt_tokens(request)})
    } else {
        json!({"inputTokens": bedrock::prompt_tokens(&call.body["input"]["converse"])})
    };
    Answer::json(200, &body)
}

/// OpenAI images: pictures of one pixel.
pub fn images(call: &Call) -> Answer {
    let count = call.body["n"]
        .as_u64()
        .unwrap_or(1)
        .clamp(1, SIM_CHOICES_MAX);
    let by_url =
        call.body["response_format"] == "url" || call.slug == "ideogram" || call.slug == "fal";
    let picture = match by_url {
        true => json!({"url": "https://example.com/simulated.png", "content_type": "image/png"}),
        false => json!({"b64_json": PIXEL}),
    };
    let pictures: Vec<Value> = (0..count).map(|_| picture.clone()).collect();
    if call.slug == "fal" {
        return Answer::json(
            200,
            &json!({"images": pictures, "seed": 1, "has_nsfw_concepts": [false]}),
        );
    }
    let prompt = json_tokens(&call.body["prompt"]);
    let usage = json!({
        "input_tokens": prompt, "output_tokens": 272 * count, "total_tokens": prompt + 272 * count,
        "input_tokens_details": {"text_tokens": prompt, "image_tokens": 0},
    });
    Answer::json(
        200,
        &json!({"created": 1_768_478_400, "data": pictures, "usage": usage}),
    )
}

/// Speech: pseudo-random bytes, 512 for each character, with an audio content type.
pub fn speech(call: &Call) -> Answer {
    let text = ["input", "text", "transcript"]
        .iter()
        .find_map(|name| call.body[*name].as_str())
        .unwrap_or_default();
    let characters = text.chars().count() as u64;
    let kind = match call.body["response_format"].as_str() {
        Some("wav") => "audio/wav",
        Some("opus") => "audio/opus",
        Some("flac") => "audio/flac",
        Some("aac") => "audio/aac",
        Some("pcm") => "audio/pcm",
        _ => "audio/mpeg",
    };
    let mut answer = Answer::noise(4096 + 512 * characters, true, kind);
    if call.slug == "elevenlabs" {
        answer.header("character-cost", characters.to_string());
    }
    answer
}

/// Transcription of a multipart upload.
pub fn transcription(call: &Call, dice: &mut Dice) -> Answer {
    let kind = call.request.header("content-type").unwrap_or_default();
    if call.slug != "deepgram" && !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        return call.refuse(
            400,
            "the request must be multipart/form-data with a part named 'file'",
        );
    }
    let (text, _) = prose(12, dice);
    // An hour of telephone audio is about 28 MB; what matters is that it grows with the upload.
    let seconds = (call.request.body_length / 8000).max(1);
    if call.slug == "deepgram" {
        let channel =
            json!({"alternatives": [{"transcript": text, "confidence": 0.99, "words": []}]});
        let metadata =
            json!({"request_id": dice.letters(24), "duration": seconds as f64, "channels": 1});
        return Answer::json(
            200,
            &json!({"metadata": metadata, "results": {"channels": [channel]}}),
        );
    }
    match form_field(&call.request.body, "response_format").as_deref() {
        Some("text" | "srt" | "vtt") => {
            Answer::plain(200, "text/plain; charset=utf-8", Bytes::from(text + "\n"))
        }
        _ => Answer::json(
            200,
            &json!({"text": text, "usage": {"type": "duration", "seconds": seconds}}),
        ),
    }
}

/// Bytes of the part that is a file; where the body was too long to be kept, the file is taken to be its last part.
fn file_length(request: &Request) -> u64 {
    let find = |bytes: &[u8], part: &[u8]| memchr::memmem::find(bytes, part);
    let boundary = request
        .header("content-type")
        .and_then(|kind| kind.split_once("boundary="))
        .map(|(_, boundary)| format!("\r\n--{}", boundary.trim_matches('"')));
    let start = find(&request.body, b"filename=")
        .and_then(|at| Some(at + find(&request.body[at..], b"\r\n\r\n")? + 4));
    let (Some(boundary), Some(start)) = (boundary, start) else {
        return request.body_length;
    };
    match find(&request.body[start..], boundary.as_bytes()) {
        Some(length) => length as u64,
        None => request
            .body_length
            .saturating_sub(start as u64 + boundary.len() as u64 + 4),
    }
}

/// A file upload: what arrived, counted and hashed.
pub fn file(call: &Call, dice: &mut Dice) -> Answer {
    let request = call.request;
    Answer::json(
        200,
        &json!({
            "id": format!("file-{}", dice.letters(24)), "object": "file", "bytes": file_length(request),
            "created_at": 1_768_478_400, "filename": file_name(&request.body).unwrap_or_else(|| "upload".into()),
            "purpose": form_field(&request.body, "purpose").unwrap_or_else(|| "assistants".into()),
            "status": "processed", "sha256": hex(&request.body_sha256),
        }),
    )
}

/// OpenAI moderations: nothing is flagged.
pub fn moderation(call: &Call, dice: &mut Dice) -> Answer {
    let result = json!({
        "flagged": false, "categories": {"harassment": false, "violence": false},
        "category_scores": {"harassment": 0.0001, "violence": 0.0001},
    });
    Answer::json(
        200,
        &json!({"id": format!("modr-{}", dice.letters(24)), "model": call.model, "results": [result]}),
    )
}

/// A Replicate prediction: done at once with `Prefer: wait` or when fetched, else started.
pub fn prediction(call: &Call, tokens: u64, dice: &mut Dice) -> Answer {
    let created = call.request.method == "POST";
    let fetched = call
        .path
        .rsplit('/')
        .find(|part| *part != "cancel")
        .unwrap_or_default();
    let id = if created {
        dice.letters(26)
    } else {
        fetched.to_owned()
    };
    let canceled = call.path.ends_with("/cancel");
    let waits = call
        .request
        .header("prefer")
        .is_some_and(|value| value.starts_with("wait"));
    let done = !created || waits;
    let (text, ends) = prose(tokens, dice);
    let mut start = 0;
    let pieces: Vec<&str> = ends
        .iter()
        .map(|&end| {
            let piece = &text[start..end as usize];
            start = end as usize;
            piece
        })
        .collect();
    let base = format!(
        "http://{}/replicate/v1/predictions/{id}",
        call.request.header("host").unwrap_or("localhost")
    );
    let status = match (canceled, done) {
        (true, _) => "canceled",
        (false, true) => "succeeded",
        (false, false) => "starting",
    };
    let body = json!({
        "id": id, "model": call.model, "version": call.body["version"], "input": call.body["input"], "logs": "", "error": null,
        "status": status, "output": if done { json!(pieces) } else { Value::Null }, "created_at": "2026-01-15T12:00:00Z",
        "urls": {"get": base, "cancel": format!("{base}/cancel"), "stream": format!("{base}/stream")},
        "metrics": {"predict_time": 0.1, "input_token_count": json_tokens(&call.body["input"]), "output_token_count": tokens},
    });
    Answer::json(if created && !canceled { 201 } else { 200 }, &body)
}

/// Workers AI `run` of models that write no text.
pub fn workers(call: &Call, dice: &mut Dice) -> Answer {
    if call.body["prompt"].is_string() {
        let pixel = STANDARD.decode(PIXEL).unwrap_or_default();
        return Answer::plain(200, "image/png", Bytes::from(pixel));
    }
    let count = call.body["text"]
        .as_array()
        .map_or(1, Vec::len)
        .min(SIM_EMBEDDINGS_MAX);
    let vectors: Vec<Vec<f32>> = (0..count).map(|_| embedding(768, dice)).collect();
    let result = json!({"shape": [count, 768], "data": vectors});
    Answer::json(
        200,
        &json!({"result": result, "success": true, "errors": [], "messages": []}),
    )
}

/// What arrived, as JSON.
pub fn echo(call: &Call) -> Answer {
    let request = call.request;
    let headers: Vec<[&str; 2]> = request
        .headers
        .iter()
        .map(|(name, value)| [name.as_str(), value.as_str()])
        .collect();
    let body = json!({
        "method": request.method, "path": request.path, "query": request.query, "headers": headers,
        "body_bytes": request.body_length, "body_sha256": hex(&request.body_sha256),
    });
    Answer::json(200, &body)
}

/// A text field of a multipart form, if it lies in what was kept of the body.
fn form_field(body: &[u8], name: &str) -> Option<String> {
    let marker = format!("name=\"{name}\"");
    let at = memchr::memmem::find(body, marker.as_bytes())?;
    let start = at + memchr::memmem::find(&body[at..], b"\r\n\r\n")? + 4;
    let end = start + memchr::memmem::find(&body[start..], b"\r\n")?;
    String::from_utf8(body[start..end].to_vec()).ok()
}

fn file_name(body: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(body, b"filename=\"")? + 10;
    let end = at + memchr::memchr(b'"', &body[at..])?;
    String::from_utf8(body[at..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipart_fields_are_found() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{}\r\n--b--\r\n";
        assert_eq!(form_field(form, "purpose").as_deref(), Some("batch"));
        assert_eq!(form_field(form, "model"), None);
        assert_eq!(file_name(form).as_deref(), Some("a.jsonl"));
    }
}
