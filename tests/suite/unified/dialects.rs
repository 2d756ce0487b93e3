//! What clients say and hear in each dialect.

use serde_json::{Value, json};

use crate::harness::Answer;

/// A client's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Chat,
    Messages,
    Responses,
}

pub const CLIENTS: [Client; 3] = [Client::Chat, Client::Messages, Client::Responses];

/// What an answer said, streamed or not.
#[derive(Debug, Default)]
pub struct Said {
    pub text: String,
    /// Names and arguments.
    pub calls: Vec<(String, Value)>,
    pub stop: String,
    pub usage: Value,
}

impl Client {
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "compat/chat/completions",
            Self::Messages => "compat/v1/messages",
            Self::Responses => "compat/responses",
        }
    }

    /// A question, with a tool where one is to be called.
    pub fn body(self, model: &str, stream: bool, tool: bool) -> String {
        let schema = json!({
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        });
        let said = json!([{"role": "user", "content": "What is the weather in Paris?"}]);
        let mut body = match self {
            Self::Chat => json!({
                "model": model, "messages": said, "max_tokens": 500,
                "stream_options": {"include_usage": true},
            }),
            Self::Messages => json!({"model": model, "messages": said, "max_tokens": 500}),
            Self::Responses => json!({"model": model, "input": said, "max_output_tokens": 500}),
        };
        if self == Self::Chat && !stream {
            body.as_object_mut()
                .expect("an object")
                .remove("stream_options");
        }
        body["stream"] = json!(stream);
        if tool {
            body["tools"] = match self {
                Self::Chat => json!([{"type": "function", "function": {
                    "name": "weather", "description": "Tells the weather", "parameters": schema}}]),
                Self::Messages => json!([{
                    "name": "weather", "description": "Tells the weather", "input_schema": schema}]),
                Self::Responses => json!([{"type": "function",
                    "name": "weather", "description": "Tells the weather", "parameters": schema}]),
            };
        }
        body.to_string()
    }

    /// Reads an answer; panics where it is not of the dialect.
    pub fn read(self, answer: &Answer, stream: bool) -> Said {
        match (self, stream) {
            (Self::Chat, false) => chat(&answer.json()),
            (Self::Chat, true) => chat_stream(&answer.text()),
            (Self::Messages, false) => message(&answer.json()),
            (Self::Messages, true) => message(&accumulated(&answer.text())),
            (Self::Responses, false) => response(&answer.json()),
            (Self::Responses, true) => response_stream(&answer.text()),
        }
    }

    /// The message of an error in the dialect.
    pub fn error(self, body: &Value) -> String {
        if self == Self::Messages {
            assert_eq!(body["type"], "error", "{body}");
        }
        assert!(body["error"]["type"].is_string(), "{body}");
        let message = body["error"]["message"].as_str();
        message.unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

/// The data of each event of a stream.
pub fn events(text: &str) -> Vec<String> {
    text.split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .map(str::to_owned)
        .collect()
}

fn read(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

fn chat(body: &Value) -> Said {
    assert_eq!(body["object"], "chat.completion", "{body}");
    assert!(body["id"].is_string() && body["created"].is_u64(), "{body}");
    let choice = &body["choices"][0];
    let calls = choice["message"]["tool_calls"].as_array().cloned();
    Said {
        text: choice["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        calls: calls
            .unwrap_or_default()
            .iter()
            .map(|call| {
                assert!(call["id"].is_string(), "{body}");
                let function = &call["function"];
                (text(&function["name"]), read(&text(&function["arguments"])))
            })
            .collect(),
        stop: text(&choice["finish_reason"]),
        usage: body["usage"].clone(),
    }
}

fn chat_stream(stream: &str) -> Said {
    let mut events = events(stream);
    assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{stream}");
    let mut said = Said::default();
    let mut calls: Vec<(String, String)> = Vec::new();
    for event in events.iter().map(|event| read(event)) {
        assert_eq!(event["object"], "chat.completion.chunk", "{event}");
        if event["usage"].is_object() {
            said.usage = event["usage"].clone();
        }
        let choice = &event["choices"][0];
        said.text += choice["delta"]["content"].as_str().unwrap_or_default();
        for call in choice["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = call["index"].as_u64().expect("an index") as usize;
            if index == calls.len() {
                calls.push((text(&call["function"]["name"]), String::new()));
            }
            calls[index].1 += call["function"]["arguments"].as_str().unwrap_or_default();
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert!(said.stop.is_empty(), "two ends: {stream}");
            said.stop = reason.to_owned();
        }
    }
    let calls = calls.into_iter();
    said.calls = calls
        .map(|(name, arguments)| (name, read(&arguments)))
        .collect();
    said
}

fn message(body: &Value) -> Said {
    assert_eq!(
        (&body["type"], &body["role"]),
        (&json!("message"), &json!("assistant")),
        "{body}"
    );
    let mut said = Said {
        stop: text(&body["stop_reason"]),
        usage: body["usage"].clone(),
        ..Said::default()
    };
    for block in body["content"].as_array().expect("blocks") {
        match block["type"].as_str() {
            Some("text") => said.text += &text(&block["text"]),
            Some("tool_use") => said
                .calls
                .push((text(&block["name"]), block["input"].clone())),
            Some("thinking" | "redacted_thinking") => {}
            _ => panic!("{block}"),
        }
    }
    said
}

/// As the vendor's SDK puts a stream together, strictly in the order of its events.
fn accumulated(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut open: Option<(usize, String)> = None;
    let mut ended = false;
    for event in events(stream).iter().map(|event| read(event)) {
        assert!(!ended, "behind the end: {event}");
        let index = event["index"].as_u64().unwrap_or_default() as usize;
        match event["type"].as_str().expect("a type") {
            "message_start" => message = event["message"].clone(),
            "ping" => {}
            "content_block_start" => {
                assert!(open.is_none(), "{event}");
                let blocks = message["content"].as_array_mut().expect("blocks");
                assert_eq!(index, blocks.len());
                blocks.push(event["content_block"].clone());
                open = Some((index, String::new()));
            }
            "content_block_delta" => {
                let (at, input) = open.as_mut().expect("an open block");
                assert_eq!(*at, index);
                let (block, delta) = (&mut message["content"][index], &event["delta"]);
                match delta["type"].as_str() {
                    Some("text_delta") => {
                        let joined = text(&block["text"]) + &text(&delta["text"]);
                        block["text"] = json!(joined);
                    }
                    Some("input_json_delta") => *input += &text(&delta["partial_json"]),
                    _ => {}
                }
            }
            "content_block_stop" => {
                let (at, input) = open.take().expect("an open block");
                assert_eq!(at, index);
                if !input.is_empty() {
                    message["content"][index]["input"] = read(&input);
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                for (name, count) in event["usage"].as_object().expect("usage") {
                    message["usage"][name] = count.clone();
                }
            }
            "message_stop" => ended = true,
            other => panic!("{other}"),
        }
    }
    assert!(ended, "{stream}");
    message
}

fn response(body: &Value) -> Said {
    assert_eq!(body["object"], "response", "{body}");
    let mut said = Said {
        stop: text(&body["status"]),
        usage: body["usage"].clone(),
        ..Said::default()
    };
    for item in body["output"].as_array().expect("items") {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().expect("parts") {
                    said.text += &text(&part["text"]);
                }
            }
            Some("function_call") => {
                let call = (text(&item["name"]), read(&text(&item["arguments"])));
                said.calls.push(call);
            }
            Some("reasoning") => {}
            _ => panic!("{item}"),
        }
    }
    said
}

fn response_stream(stream: &str) -> Said {
    let mut events = events(stream);
    // Some providers that speak the dialect end it as chat ends.
    events.retain(|event| event != "[DONE]");
    let events: Vec<Value> = events.iter().map(|event| read(event)).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let first = events.first().expect("events");
    assert_eq!(first["type"], "response.created");
    let last = events.last().expect("events");
    let kind = text(&last["type"]);
    assert!(
        matches!(&*kind, "response.completed" | "response.incomplete"),
        "{kind}"
    );
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| text(&event["delta"]))
        .collect();
    let said = response(&last["response"]);
    assert_eq!(said.text, deltas);
    said
}
