//! The conversation as Cohere's `messages` (spec: providers 11).

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::{Media, Part, PartKind, Request, Role, ToolUse};
use crate::dialect::{Dialect, Upstream};

/// One message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: Cow<'a, str> },
    Thinking { thinking: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: Cow<'a, str>,
}

impl<'a> Message<'a> {
    fn new(role: &'static str, content: Option<Content<'a>>) -> Self {
        Self {
            role,
            tool_call_id: None,
            content,
            tool_plan: None,
            tool_calls: Vec::new(),
        }
    }
}

/// Whether Cohere itself fetches what is at this address: pictures of the web.
pub fn takes_url(kind: &PartKind, url: &str, _upstream: &Upstream<'_>) -> bool {
    matches!(kind, PartKind::Image { .. }) && is_web(url)
}

/// Writes the conversation. `reasons`: the model thinks, and takes its thoughts back.
pub(super) fn write<'a>(
    request: &'a Request,
    reasons: bool,
    changes: &mut Changes,
) -> Result<Vec<Message<'a>>, Invalid> {
    // Chat's places count the system messages that stand before all turns.
    let before = match request.from {
        Dialect::Chat => request.system.len(),
        _ => 0,
    };
    let mut writer = Writer {
        reasons,
        changes,
        called: HashSet::new(),
        messages: Vec::with_capacity(request.turns.len() + 1),
    };
    writer.user("system", request.system.iter(), "messages[0]")?;
    for (at, turn) in request.turns.iter().enumerate() {
        let place = format!("messages[{}]", before + at);
        if turn.name.is_some() {
            writer.changes.dropped("messages.name");
        }
        match turn.role {
            Role::System => writer.user("system", turn.parts.iter(), &place)?,
            Role::User => writer.answers(&turn.parts, &place)?,
            Role::Assistant => writer.assistant(&turn.parts, &place)?,
        }
    }
    match writer.messages.is_empty() {
        true => Err(Invalid::at("messages", "The conversation is empty")),
        false => Ok(writer.messages),
    }
}

struct Writer<'a, 'w> {
    reasons: bool,
    changes: &'w mut Changes,
    /// Ids of the calls so far.
    called: HashSet<&'a str>,
    messages: Vec<Message<'a>>,
}

impl<'a> Writer<'a, '_> {
    /// What tools answered, each a message of its own, and what the user says beside.
    fn answers(&mut self, parts: &'a [Part], place: &str) -> Result<(), Invalid> {
        for part in parts {
            let PartKind::ToolResult {
                id,
                content,
                is_error,
            } = &part.kind
            else {
                continue;
            };
            self.mark(part);
            if !self.called.contains(id.as_str()) {
                return Err(Invalid::at(
                    format!("{place}.tool_call_id"),
                    format!("No earlier call has the id {id:?}"),
                ));
            }
            if *is_error {
                self.changes.dropped("is_error");
            }
            let text = self.returned(content, place)?;
            self.messages.push(Message {
                tool_call_id: Some(id),
                ..Message::new("tool", Some(Content::Text(text)))
            });
        }
        let others = parts
            .iter()
            .filter(|part| !matches!(part.kind, PartKind::ToolResult { .. }));
        self.user("user", others, place)
    }

    fn returned(&mut self, content: &'a [Part], place: &str) -> Result<Cow<'a, str>, Invalid> {
        let mut text = Cow::Borrowed("");
        for (at, part) in content.iter().enumerate() {
            self.mark(part);
            match &part.kind {
                PartKind::Text { text: piece, .. }
                | PartKind::Document {
                    media: Media::Text(piece),
                    ..
                } => append(&mut text, piece),
                PartKind::Foreign(block) => self.foreign(block),
                _ => {
                    return Err(Invalid::unsupported(
                        format!("{place}.content[{at}]"),
                        "Cohere takes only text from a tool",
                    ));
                }
            }
        }
        Ok(text)
    }

    fn user(
        &mut self,
        role: &'static str,
        parts: impl Iterator<Item = &'a Part>,
        place: &str,
    ) -> Result<(), Invalid> {
        let mut blocks = Vec::new();
        for (at, part) in parts.enumerate() {
            self.mark(part);
            let place = format!("{place}.content[{at}]");
            blocks.extend(self.block(&part.kind, role, &place)?);
        }
        if let Some(content) = content(blocks) {
            self.messages.push(Message::new(role, Some(content)));
        }
        Ok(())
    }

    fn block(
        &mut self,
        kind: &'a PartKind,
        role: &str,
        place: &str,
    ) -> Result<Option<Block<'a>>, Invalid> {
        Ok(match kind {
            PartKind::Text {
                text, citations, ..
            } => {
                if !citations.is_empty() {
                    self.changes.dropped("messages.annotations");
                }
                block_of(text)
            }
            PartKind::Refusal(text) => block_of(text),
            PartKind::Image { media, detail } if role == "user" => Some(Block::ImageUrl {
                image_url: self.image(media, detail.as_deref(), place)?,
            }),
            PartKind::Document {
                media: Media::Text(text),
                name,
            } => Some(Block::Text {
                text: match name {
                    Some(name) => format!("{name}\n\n{text}").into(),
                    None => text.into(),
                },
            }),
            PartKind::Foreign(block) => {
                self.foreign(block);
                None
            }
            _ => {
                return Err(Invalid::unsupported(
                    place,
                    "Cohere takes text, and from the user pictures",
                ));
            }
        })
    }

    fn image(
        &mut self,
        media: &'a Media,
        detail: Option<&'a str>,
        place: &str,
    ) -> Result<ImageUrl<'a>, Invalid> {
        let url = match media {
            Media::Inline { mime, data } => format!("data:{mime};base64,{data}").into(),
            Media::Url { url, .. } if is_web(url) => url.into(),
            Media::Url { .. } => {
                return Err(Invalid::unsupported(
                    place,
                    "Cohere fetches pictures from the web only, and the setting media.fetch, which lets the gateway do it, is \
                     off or does not allow this address; send the bytes as a data: URL",
                ));
            }
            Media::File(_) | Media::Text(_) => {
                return Err(Invalid::unsupported(
                    place,
                    "The id of a file belongs to another provider's store; send the bytes themselves",
                ));
            }
        };
        let known = ["auto", "low", "high"];
        if detail.is_some_and(|detail| !known.contains(&detail)) {
            self.changes.dropped("image_url.detail");
        }
        Ok(ImageUrl {
            url,
            detail: detail.filter(|detail| known.contains(detail)),
        })
    }

    fn assistant(&mut self, parts: &'a [Part], place: &str) -> Result<(), Invalid> {
        let (mut blocks, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            self.mark(part);
            match &part.kind {
                PartKind::Thinking { text, .. } if !text.is_empty() => thoughts.push(text.as_str()),
                PartKind::Thinking { .. } => {}
                PartKind::Redacted(_) => self.changes.dropped("reasoning_details"),
                PartKind::ToolUse(call) => {
                    let place = format!("{place}.tool_calls[{}]", calls.len());
                    calls.push(self.call(call, &place)?);
                }
                kind => {
                    let place = format!("{place}.content[{at}]");
                    blocks.extend(self.block(kind, "assistant", &place)?);
                }
            }
        }
        let mut message = Message::new("assistant", None);
        if !calls.is_empty() {
            // Cohere says before a call what it plans; that is the only text there.
            message.tool_plan = joined(std::mem::take(&mut blocks));
            if message.tool_plan.is_none() && !self.reasons && !thoughts.is_empty() {
                message.tool_plan = Some(std::mem::take(&mut thoughts).join("\n").into());
            }
        }
        match self.reasons {
            true => {
                let thoughts = thoughts.into_iter();
                let thoughts = thoughts.map(|thinking| Block::Thinking { thinking });
                blocks.splice(0..0, thoughts);
            }
            false if !thoughts.is_empty() => self.changes.dropped("reasoning_content"),
            false => {}
        }
        message.content = content(blocks);
        message.tool_calls = calls;
        if message.content.is_some() || !message.tool_calls.is_empty() {
            self.messages.push(message);
        }
        Ok(())
    }

    fn call(&mut self, call: &'a ToolUse, place: &str) -> Result<Call<'a>, Invalid> {
        let is_object = || serde_json::from_str::<Map<String, Value>>(&call.arguments).is_ok();
        let arguments = match () {
            () if call.custom => json!({"input": call.arguments}).to_string().into(),
            () if call.arguments.trim().is_empty() => "{}".into(),
            () if is_object() => call.arguments.as_str().into(),
            () => {
                return Err(Invalid::at(
                    format!("{place}.function.arguments"),
                    "The arguments of a call must be the JSON text of an object",
                ));
            }
        };
        self.called.insert(&call.id);
        Ok(Call {
            id: &call.id,
            r#type: "function",
            function: CalledFunction {
                name: &call.name,
                arguments,
            },
        })
    }

    fn foreign(&mut self, block: &Value) {
        let kind = block["type"].as_str().unwrap_or("block");
        self.changes.dropped(&format!("messages.content.{kind}"));
    }

    fn mark(&mut self, part: &Part) {
        if part.cache.is_some() {
            self.changes.dropped("cache_control");
        }
    }
}

fn is_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

fn block_of(text: &str) -> Option<Block<'_>> {
    (!text.is_empty()).then_some(Block::Text { text: text.into() })
}

/// Plain text where that is all there is.
fn content(mut blocks: Vec<Block<'_>>) -> Option<Content<'_>> {
    match blocks.as_mut_slice() {
        [] => None,
        [Block::Text { text }] => Some(Content::Text(std::mem::take(text))),
        _ => Some(Content::Blocks(blocks)),
    }
}

fn joined(blocks: Vec<Block<'_>>) -> Option<Cow<'_, str>> {
    let texts = blocks.into_iter().filter_map(|block| match block {
        Block::Text { text } => Some(text),
        _ => None,
    });
    texts.reduce(|before, after| before + "\n" + after)
}

fn append<'a>(text: &mut Cow<'a, str>, piece: &'a str) {
    match text.is_empty() {
        true => *text = Cow::Borrowed(piece),
        false => {
            let text = text.to_mut();
            text.push('\n');
            text.push_str(piece);
        }
    }
}
