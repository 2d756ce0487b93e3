//! OpenAI's streams: chat (and its many kin), the older completions, responses.

use serde_json::{Value, json};

use super::Maker;
use super::merge::{Parts, append, grow, member, push, replace, take};

/// Chunks with choices.
#[derive(Default)]
pub struct Chat {
    answer: Value,
    choices: Parts,
}

impl Maker for Chat {
    fn take(&mut self, _: &str, mut chunk: Value) {
        if let Value::Array(choices) = take(&mut chunk, "choices") {
            for mut choice in choices {
                let delta = take(&mut choice, "delta");
                if let Some(known) = self.choices.at(&choice["index"]) {
                    if delta.is_object() {
                        grow(member(known, "message"), delta);
                    }
                    grow(known, choice);
                }
            }
        }
        take(&mut chunk, "obfuscation");
        replace(&mut self.answer, chunk);
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut answer = self.answer;
        let mut choices = self.choices.into_list();
        for choice in &mut choices {
            let message = choice.get_mut("message");
            let calls = message.and_then(|message| message.get_mut("tool_calls"));
            for call in calls.and_then(Value::as_array_mut).into_iter().flatten() {
                // It told the pieces of one call from those of another.
                take(call, "index");
            }
        }
        *member(&mut answer, "choices") = Value::Array(choices);
        if answer["object"] == "chat.completion.chunk" {
            answer["object"] = "chat.completion".into();
        }
        Some(answer)
    }
}

/// Events of a response, of which the last one tells all of it. Of a stream that broke off the items are put together.
#[derive(Default)]
pub struct Responses {
    response: Value,
    is_whole: bool,
    items: Parts,
}

impl Maker for Responses {
    fn take(&mut self, _: &str, mut event: Value) {
        let response = take(&mut event, "response");
        if response.is_object() {
            self.response = response;
        }
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        if matches!(
            kind.as_str(),
            "response.completed" | "response.incomplete" | "response.failed"
        ) {
            self.is_whole = true;
            return;
        }
        if event["output_index"].is_null() {
            return;
        }
        let Some(item) = self.items.at(&event["output_index"]) else {
            return;
        };
        match kind.as_str() {
            "response.output_item.added" | "response.output_item.done" => {
                *item = take(&mut event, "item");
            }
            "response.content_part.added" | "response.content_part.done" => {
                let whole = take(&mut event, "part");
                part(item, "content", &event["content_index"], whole);
            }
            "response.output_text.delta" => {
                let piece = json!({"type": "output_text", "text": event["delta"]});
                part(item, "content", &event["content_index"], piece);
            }
            "response.refusal.delta" => {
                let piece = json!({"type": "refusal", "refusal": event["delta"]});
                part(item, "content", &event["content_index"], piece);
            }
            "response.reasoning_summary_text.delta" => {
                let piece = json!({"type": "summary_text", "text": event["delta"]});
                part(item, "summary", &event["summary_index"], piece);
            }
            "response.function_call_arguments.delta" => append(item, "arguments", &event["delta"]),
            "response.custom_tool_call_input.delta" => append(item, "input", &event["delta"]),
            _ => {}
        }
    }

    fn finish(self: Box<Self>) -> Option<Value> {
        let mut response = self.response;
        if !self.is_whole && !self.items.is_empty() {
            if response.is_null() {
                response = json!({"object": "response", "status": "in_progress"});
            }
            *member(&mut response, "output") = Value::Array(self.items.into_list());
        }
        response.is_object().then_some(response)
    }
}

/// Adds to one of the parts of an item; they come in order.
fn part(item: &mut Value, list: &str, index: &Value, piece: Value) {
    let is_whole = piece.get("annotations").is_some();
    let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
    let known = item.get_mut(list).and_then(Value::as_array_mut);
    let known = known.and_then(|parts| index.and_then(|index| parts.get_mut(index)));
    match known {
        Some(known) if is_whole => *known = piece,
        Some(known) => grow(known, piece),
        None => push(item, list, piece),
    }
}
