//! OpenAI's chat completions and the many providers that speak it with quirks of their own.

use serde_json::{Map, Value, json};

use super::errors::{self, Envelope};
use super::reply::{Ask, Dialect, Finish, Frames, Kind, Piece, Reply, Tool, ToolChoice, Usage};
use super::text::json_tokens;
use crate::limits::SIM_CHOICES_MAX;

/// Where a stream tells its usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UsagePlace {
    /// A last chunk without choices, when `include_usage` asks for it.
    Asked,
    /// The chunk with the finish reason, unasked.
    LastChoice,
    /// Every chunk, cumulative (Perplexity).
    Every,
    /// `x_groq.usage` on the chunk with the finish reason, and a last chunk when asked.
    Groq,
    /// A last chunk that still has a choice, unasked (OpenRouter).
    WithChoice,
    /// A last chunk without choices, unasked (xAI).
    Unasked,
}

/// How one provider's chat completions differ from OpenAI's (spec: providers, sections 8 to 12).
#[derive(Debug, Clone, Copy)]
struct Quirks {
    usage: UsagePlace,
    /// The field of shown reasoning, if it is shown.
    reasoning: Option<&'static str>,
    comment: Option<&'static str>,
    envelope: Envelope,
    /// Tool calls come whole in one delta.
    whole_calls: bool,
}

/// Chat completions of one provider.
pub struct Chat {
    slug: String,
    quirks: Quirks,
    include_usage: bool,
    opening: String,
}

/// The error envelope of a provider that speaks chat completions.
pub fn envelope(slug: &str) -> Envelope {
    quirks(slug).envelope
}

fn quirks(slug: &str) -> Quirks {
    let plain = Quirks {
        usage: UsagePlace::Asked,
        reasoning: None,
        comment: None,
        envelope: Envelope::OpenAi,
        whole_calls: false,
    };
    match slug {
        "groq" => Quirks {
            usage: UsagePlace::Groq,
            reasoning: Some("reasoning"),
            ..plain
        },
        "deepseek" => Quirks {
            usage: UsagePlace::LastChoice,
            reasoning: Some("reasoning_content"),
            comment: Some(": keep-alive\n\n"),
            ..plain
        },
        "perplexity-ai" => Quirks {
            usage: UsagePlace::Every,
            ..plain
        },
        "grok" => Quirks {
            usage: UsagePlace::Unasked,
            reasoning: Some("reasoning_content"),
            envelope: Envelope::Xai,
            ..plain
        },
        "openrouter" => Quirks {
            usage: UsagePlace::WithChoice,
            reasoning: Some("reasoning"),
            comment: Some(": OPENROUTER PROCESSING\n\n"),
            envelope: Envelope::OpenRouter,
            ..plain
        },
        "cerebras" => Quirks {
            reasoning: Some("reasoning"),
            ..plain
        },
        "workers-ai" => Quirks {
            reasoning: Some("reasoning_content"),
            envelope: Envelope::Workers,
            ..plain
        },
        "mistral" => Quirks {
            usage: UsagePlace::LastChoice,
            envelope: Envelope::Mistral,
            whole_calls: true,
            ..plain
        },
        "huggingface" => Quirks {
            usage: UsagePlace::LastChoice,
            envelope: Envelope::Plain,
            ..plain
        },
        "fireworks" => Quirks {
            usage: UsagePlace::LastChoice,
            ..plain
        },
        _ => plain,
    }
}

/// Reads a chat completions request.
pub fn ask(body: &Value) -> Ask {
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    let last = messages.last();
    let from_user = last.is_some_and(|message| message["role"] == "user");
    let prompt = ["messages", "tools", "functions", "response_format"]
        .iter()
        .map(|name| json_tokens(&body[*name]))
        .sum::<u64>()
        + 3;
    let tools = body["tools"].as_array().unwrap_or(&empty);
    Ask {
        model: body["model"].as_str().unwrap_or("simulated").to_owned(),
        stream: body["stream"] == true,
        prompt,
        max_tokens: body["max_completion_tokens"]
            .as_u64()
            .or(body["max_tokens"].as_u64()),
        tools: tools
            .iter()
            .filter(|tool| tool["function"].is_object())
            .map(|tool| Tool {
                name: tool["function"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                schema: tool["function"]["parameters"].clone(),
            })
            .collect(),
        tool_choice: tool_choice(&body["tool_choice"]),
        question: last
            .filter(|_| from_user)
            .map(|m| content_text(&m["content"]))
            .unwrap_or_default(),
        schema: response_schema(&body["response_format"]),
        reasoning: body["reasoning_effort"]
            .as_str()
            .is_some_and(|effort| effort != "none")
            || body["reasoning"].is_object()
            || body["thinking"]["type"] == "enabled",
        choices: body["n"].as_u64().unwrap_or(1).clamp(1, SIM_CHOICES_MAX),
    }
}

/// `content` as text: a string, or the `text` of its parts.
pub fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

fn tool_choice(choice: &Value) -> ToolChoice {
    match choice {
        Value::String(word) => match word.as_str() {
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            _ => ToolChoice::Auto,
        },
        Value::Object(fields) => match fields.get("function").and_then(|f| f["name"].as_str()) {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None if fields
                .get("allowed_tools")
                .is_some_and(|a| a["mode"] == "required") =>
            {
                ToolChoice::Required
            }
            None => ToolChoice::Auto,
        },
        _ => ToolChoice::Auto,
    }
}

fn response_schema(format: &Value) -> Option<Value> {
    match format["type"].as_str()? {
        "json_schema" => {
            let inner = &format["json_schema"];
            Some(inner.get("schema").unwrap_or(inner).clone())
        }
        "json_object" => {
            Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}}))
        }
        _ => None,
    }
}

impl Chat {
    /// The dialect of `slug` for this request.
    pub fn new(slug: &str, body: &Value) -> Self {
        Self {
            slug: slug.to_owned(),
            quirks: quirks(slug),
            include_usage: body["stream_options"]["include_usage"] == true,
            opening: String::new(),
        }
    }

    /// The fields that every chunk shares, written once.
    fn open(&mut self, reply: &Reply) {
        let mut opening = format!(
            "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{},",
            reply.id,
            reply.created,
            Value::from(reply.model.as_str()),
        );
        match self.slug.as_str() {
            "openrouter" => opening.push_str("\"provider\":\"Simulated\","),
            "perplexity-ai" => opening.push_str("\"citations\":[\"https://example.com/\"],"),
            _ => opening.push_str("\"system_fingerprint\":\"fp_simulated\","),
        }
        self.opening = opening;
    }

    /// One chunk: `choices` and what stands beside them.
    fn chunk(&self, choices: &str, beside: &str, out: &mut Frames) {
        out.push(format!(
            "{}\"choices\":[{choices}]{beside}}}\n\n",
            self.opening
        ));
    }

    fn delta(
        &self,
        reply: &Reply,
        delta: &str,
        finish: Option<&str>,
        beside: &str,
        out: &mut Frames,
    ) {
        let finish = finish.map_or("null".to_owned(), |reason| format!("\"{reason}\""));
        let extra = match self.slug.as_str() {
            "azure-openai" => ",\"content_filter_results\":{}",
            "perplexity-ai" => ",\"message\":{\"role\":\"assistant\",\"content\":\"\"}",
            "openrouter" => ",\"native_finish_reason\":null",
            _ => "",
        };
        let shared = match self.quirks.usage {
            UsagePlace::Every => format!(",\"usage\":{}", self.usage(reply)),
            _ if self.include_usage && beside.is_empty() => ",\"usage\":null".to_owned(),
            _ => String::new(),
        };
        for choice in 0..reply.choices {
            let body = format!(
                "{{\"index\":{choice},\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}{extra}}}"
            );
            self.chunk(&body, &format!("{beside}{shared}"), out);
        }
    }

    fn token(&self, reply: &Reply, block: usize, token: usize, out: &mut Frames) {
        let text = Value::from(reply.delta(block, token));
        match &reply.blocks[block].kind {
            Kind::Text => self.delta(
                reply,
                &format!("{{{}\"content\":{text}}}", self.role()),
                None,
                "",
                out,
            ),
            Kind::Reasoning => {
                let Some(field) = self.quirks.reasoning else {
                    return;
                };
                let null = if self.slug == "deepseek" {
                    ",\"content\":null"
                } else {
                    ""
                };
                let channel = if self.slug == "groq" {
                    ",\"channel\":\"analysis\""
                } else {
                    ""
                };
                self.delta(
                    reply,
                    &format!("{{{}\"{field}\":{text}{null}{channel}}}", self.role()),
                    None,
                    "",
                    out,
                );
            }
            Kind::Tool { .. } if self.quirks.whole_calls => {}
            Kind::Tool { .. } => {
                let call = format!(
                    "{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{text}}}}}]}}"
                );
                self.delta(reply, &call, None, "", out);
            }
        }
    }

    /// OpenRouter repeats the role in every delta.
    fn role(&self) -> &'static str {
        if self.slug == "openrouter" {
            "\"role\":\"assistant\","
        } else {
            ""
        }
    }

    fn finish(&self, reply: &Reply, out: &mut Frames) {
        let usage = self.usage(reply);
        let told = reply.usage_told;
        let beside = match self.quirks.usage {
            UsagePlace::LastChoice if told => format!(",\"usage\":{usage}"),
            UsagePlace::Groq if told => format!(
                ",\"x_groq\":{{\"id\":\"req_{}\",\"usage\":{usage}}}",
                reply.id
            ),
            _ => String::new(),
        };
        self.delta(reply, "{}", Some(self.reason(reply)), &beside, out);
        let last = match self.quirks.usage {
            UsagePlace::Asked | UsagePlace::Groq => told && self.include_usage,
            UsagePlace::Unasked | UsagePlace::WithChoice => told,
            UsagePlace::LastChoice | UsagePlace::Every => false,
        };
        if last {
            let choices = match self.quirks.usage {
                UsagePlace::WithChoice => {
                    "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}"
                }
                _ => "",
            };
            self.chunk(choices, &format!(",\"usage\":{usage}"), out);
        }
        out.push("data: [DONE]\n\n");
    }

    fn error(&self, out: &mut Frames) {
        const MESSAGE: &str = "The simulated model failed midway.";
        let error = errors::openai(500, MESSAGE);
        match self.slug.as_str() {
            "groq" => out.named("error", &error),
            "openrouter" => {
                let choice =
                    "{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}";
                let beside = format!(",\"error\":{{\"code\":502,\"message\":\"{MESSAGE}\"}}");
                self.chunk(choice, &beside, out);
                out.push("data: [DONE]\n\n");
            }
            _ => out.data(&error),
        }
    }

    fn reason(&self, reply: &Reply) -> &'static str {
        match reply.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Tool => "tool_calls",
            Finish::Filter => "content_filter",
        }
    }

    fn calls(&self, reply: &Reply, indexed: bool) -> Vec<Value> {
        let calls = reply.calls().enumerate();
        calls
            .map(|(index, (id, name, arguments))| {
                let mut call = json!({
                    "id": self.call_id(id), "type": "function",
                    "function": {"name": name, "arguments": arguments},
                });
                if indexed {
                    call["index"] = json!(index);
                }
                call
            })
            .collect()
    }

    /// Mistral's identifiers are exactly nine letters and digits.
    fn call_id(&self, id: &str) -> String {
        if self.slug == "mistral" {
            id[..9].to_owned()
        } else {
            format!("call_{id}")
        }
    }

    fn usage(&self, reply: &Reply) -> Value {
        usage(&self.slug, &reply.usage)
    }
}

/// The usage object in the provider's arithmetic.
fn usage(slug: &str, usage: &Usage) -> Value {
    // xAI's completion tokens leave reasoning out; the total holds it.
    let completion = if slug == "grok" {
        usage.visible
    } else {
        usage.output()
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("prompt_tokens", json!(usage.prompt));
    put("completion_tokens", json!(completion));
    put("total_tokens", json!(usage.total()));
    put(
        "prompt_tokens_details",
        json!({"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write, "audio_tokens": 0}),
    );
    put(
        "completion_tokens_details",
        json!({"reasoning_tokens": usage.reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}),
    );
    match slug {
        "deepseek" => {
            put("prompt_cache_hit_tokens", json!(usage.cached));
            put(
                "prompt_cache_miss_tokens",
                json!(usage.prompt - usage.cached),
            );
        }
        "openrouter" => {
            put("cost", json!(dollars(usage)));
            put("is_byok", json!(false));
        }
        "perplexity-ai" => {
            put("search_context_size", json!("low"));
            put("num_search_queries", json!(1));
            put("cost", json!({"total_cost": dollars(usage)}));
        }
        "grok" => {
            put(
                "cost_in_usd_ticks",
                json!((usage.prompt + 4 * usage.output()) * 10_000),
            );
            put("num_sources_used", json!(0));
        }
        "groq" => {
            put("prompt_time", json!(0.001));
            put("completion_time", json!(0.01));
            put("queue_time", json!(0.0001));
            put("total_time", json!(0.011));
        }
        _ => {}
    }
    Value::Object(fields)
}

/// A dollar a million prompt tokens, four a million completion tokens.
fn dollars(usage: &Usage) -> f64 {
    (usage.prompt + 4 * usage.output()) as f64 / 1e6
}

impl Dialect for Chat {
    fn whole(&self, reply: &Reply) -> Value {
        let calls = self.calls(reply, self.slug == "mistral");
        let text = reply.text();
        let mut message = json!({
            "role": "assistant",
            "content": if calls.is_empty() { json!(text) } else { Value::Null },
            "refusal": null,
        });
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        if let Some(field) = self
            .quirks
            .reasoning
            .filter(|_| !reply.reasoning().is_empty())
        {
            message[field] = json!(reply.reasoning());
        }
        let choice = |index: u64| {
            let mut choice = json!({
                "index": index, "message": message, "logprobs": null, "finish_reason": self.reason(reply),
            });
            if self.slug == "azure-openai" {
                choice["content_filter_results"] = safe();
            }
            choice
        };
        let mut body = json!({
            "id": format!("chatcmpl-{}", reply.id), "object": "chat.completion", "created": reply.created,
            "model": reply.model, "choices": (0..reply.choices).map(choice).collect::<Vec<_>>(),
        });
        if reply.usage_told {
            body["usage"] = self.usage(reply);
        }
        match self.slug.as_str() {
            "azure-openai" => {
                body["prompt_filter_results"] =
                    json!([{"prompt_index": 0, "content_filter_results": safe()}]);
            }
            "groq" => body["x_groq"] = json!({"id": format!("req_{}", reply.id)}),
            "perplexity-ai" => body["citations"] = json!(["https://example.com/"]),
            "openrouter" => body["provider"] = json!("Simulated"),
            "cerebras" => body["time_info"] = json!({"queue_time": 0.0001, "total_time": 0.01}),
            _ => body["system_fingerprint"] = json!("fp_simulated"),
        }
        body
    }

    fn headers(&self, reply: &Reply) -> Vec<(&'static str, String)> {
        vec![("x-request-id", format!("req_{}", reply.id))]
    }

    fn comments(&self) -> bool {
        self.quirks.comment.is_some()
    }

    fn piece(&mut self, reply: &Reply, piece: Piece, out: &mut Frames) {
        match piece {
            Piece::Comment => out.push(self.quirks.comment.unwrap_or(":\n\n")),
            Piece::Open => {
                self.open(reply);
                if self.slug == "azure-openai" {
                    out.data(&json!({
                        "id": "", "object": "", "created": 0, "model": "", "choices": [],
                        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe()}],
                    }));
                }
                let beside = match self.slug.as_str() {
                    "groq" => format!(",\"x_groq\":{{\"id\":\"req_{}\"}}", reply.id),
                    _ => String::new(),
                };
                self.delta(
                    reply,
                    "{\"role\":\"assistant\",\"content\":\"\"}",
                    None,
                    &beside,
                    out,
                );
            }
            Piece::BlockOpen(block) => {
                if let Kind::Tool { id, name } = &reply.blocks[block].kind {
                    let arguments = if self.quirks.whole_calls {
                        reply.blocks[block].text.as_str()
                    } else {
                        ""
                    };
                    let call = json!({"tool_calls": [{
                        "index": 0, "id": self.call_id(id), "type": "function",
                        "function": {"name": name, "arguments": arguments},
                    }]});
                    self.delta(reply, &call.to_string(), None, "", out);
                }
            }
            Piece::Delta(block, token) => self.token(reply, block, token, out),
            Piece::BlockClose(_) => {}
            Piece::Finish => self.finish(reply, out),
            Piece::Error => self.error(out),
        }
    }
}

/// Azure's verdict on harmless text.
fn safe() -> Value {
    let verdict = json!({"filtered": false, "severity": "safe"});
    json!({"hate": verdict, "self_harm": verdict, "sexual": verdict, "violence": verdict})
}
