//! Generation that is little more than text: legacy completions, Workers AI `run`, Replicate's stream, and models of
//! InvokeModel with a format of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::eventstream;
use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply};
use super::text::{json_tokens, tokens};
use super::{chat, errors};

/// OpenAI's `/completions`.
pub struct Completions;

/// Workers AI `run`.
pub struct Workers;

/// Replicate's event stream.
pub struct Replicate;

/// InvokeModel of models that answer `{"generation"}` (Llama and others).
pub struct Generation;

/// HuggingFace's task API.
pub struct Task;

/// Reads a request whose prompt is one text: `prompt`, `inputs`, `input.prompt` or chat messages.
pub fn ask(body: &Value, model: &str, stream: bool) -> Ask {
    let mut ask = chat::ask(body);
    let texts = [&body["prompt"], &body["inputs"], &body["input"]["prompt"]];
    ask.prompt += texts.iter().map(|text| json_tokens(text)).sum::<u64>();
    ask.max_tokens = ask
        .max_tokens
        .or(body["max_gen_len"].as_u64())
        .or(body["parameters"]["max_new_tokens"].as_u64());
    if let Some(text) = body["prompt"].as_str() {
        ask.prompt = tokens(text);
    }
    ask.model = model.to_owned();
    ask.stream |= stream;
    ask
}

impl Dialect for Completions {
    fn whole(&self, reply: &Reply) -> Value {
        let mut body = completion(reply, reply.text(), Some(reason(reply)));
        if reply.usage_told {
            body["usage"] = counts(reply);
        }
        body
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                out.data(&completion(reply, reply.delta(block, token), None));
            }
            Piece::Finish => {
                let mut last = completion(reply, "", Some(reason(reply)));
                if reply.usage_told {
                    last["usage"] = counts(reply);
                }
                out.data(&last);
                out.push("data: [DONE]\n\n");
            }
            Piece::Error => out.data(&errors::openai(500, "The simulated model failed midway.")),
            _ => {}
        }
    }
}

fn completion(reply: &Reply, text: &str, finish: Option<&str>) -> Value {
    json!({
        "id": format!("cmpl-{}", reply.id), "object": "text_completion", "created": reply.created, "model": reply.model,
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
    })
}

fn reason(reply: &Reply) -> &'static str {
    if reply.finish == Finish::Length {
        "length"
    } else {
        "stop"
    }
}

fn counts(reply: &Reply) -> Value {
    let usage = &reply.usage;
    json!({"prompt_tokens": usage.prompt, "completion_tokens": usage.output(), "total_tokens": usage.total()})
}

impl Dialect for Workers {
    fn whole(&self, reply: &Reply) -> Value {
        let calls: Vec<Value> = reply
            .calls()
            .map(|(_, name, arguments)| {
                json!({"name": name, "arguments": serde_json::from_str::<Value>(arguments).unwrap_or_default()})
            })
            .collect();
        let mut result = json!({"response": reply.text()});
        if !calls.is_empty() {
            result["tool_calls"] = Value::Array(calls);
        }
        if reply.usage_told {
            result["usage"] = counts(reply);
        }
        json!({"result": result, "success": true, "errors": [], "messages": []})
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                out.data(&json!({"response": reply.delta(block, token), "p": "abcdefgh"}));
            }
            Piece::Finish => {
                let calls = &self.whole(reply)["result"]["tool_calls"];
                if calls.is_array() {
                    out.data(&json!({"response": "", "tool_calls": calls}));
                }
                if reply.usage_told {
                    out.data(&json!({"response": "", "usage": counts(reply)}));
                }
                out.push("data: [DONE]\n\n");
            }
            Piece::Error => {
                out.data(&errors::body(errors::Envelope::Workers, 500, "failed midway").0)
            }
            _ => {}
        }
    }
}

impl Dialect for Replicate {
    fn whole(&self, reply: &Reply) -> Value {
        json!({"output": reply.text()})
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                out.named("output", &reply.delta(block, token));
            }
            Piece::Finish => out.named("done", &"{}"),
            Piece::Error => {
                out.named("error", &"The simulated model failed midway.");
                out.named("done", &"{\"reason\":\"error\"}");
            }
            _ => {}
        }
    }
}

impl Dialect for Generation {
    fn whole(&self, reply: &Reply) -> Value {
        json!({
            "generation": reply.text(), "stop_reason": reason(reply), "prompt_token_count": reply.usage.prompt,
            "generation_token_count": reply.usage.output(),
        })
    }

    fn headers(&self, reply: &Reply) -> Vec<(&'static str, String)> {
        super::bedrock::count_headers(&reply.usage)
    }

    fn stream_type(&self) -> &'static str {
        eventstream::CONTENT_TYPE
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        let inner = match piece {
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                json!({"generation": reply.delta(block, token), "prompt_token_count": null, "stop_reason": null})
            }
            Piece::Finish => {
                let usage = &reply.usage;
                let metrics = json!({
                    "inputTokenCount": usage.prompt, "outputTokenCount": usage.output(), "invocationLatency": 100,
                    "firstByteLatency": 10,
                });
                json!({
                    "generation": "", "stop_reason": reason(reply), "generation_token_count": usage.output(),
                    "amazon-bedrock-invocationMetrics": metrics,
                })
            }
            Piece::Error => {
                let payload = br#"{"message":"The simulated model failed midway."}"#;
                out.push(eventstream::exception("modelStreamErrorException", payload));
                return;
            }
            _ => return,
        };
        let payload = json!({"bytes": STANDARD.encode(inner.to_string()), "p": "abc"});
        out.push(eventstream::event("chunk", payload.to_string().as_bytes()));
    }
}

impl Dialect for Task {
    fn whole(&self, reply: &Reply) -> Value {
        json!([{"generated_text": reply.text()}])
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Delta(block, token) if reply.blocks[block].kind == Kind::Text => {
                let text = reply.delta(block, token);
                out.data(&json!({"token": {"id": token, "text": text, "special": false}, "generated_text": null}));
            }
            Piece::Finish => out.data(&json!({"token": null, "generated_text": reply.text()})),
            Piece::Error => out.data(&json!({"error": "The simulated model failed midway."})),
            _ => {}
        }
    }
}
