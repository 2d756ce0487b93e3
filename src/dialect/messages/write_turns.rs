//! The conversation of a request for Claude.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::super::changes::Changes;
use super::super::failure::Invalid;
use super::super::ids::{IdRule, fit};
use super::super::models::claude::Claude;
use super::super::neutral::{
    Media, Origin, Part, PartKind, Request, Role, Signature, ToolUse, Turn,
};
use super::super::{Dialect, Upstream};
use super::takes_url;
use super::wire::{Block, CacheControl, Message, Source};

/// What stands for a turn of the user where the conversation has to begin with one.
const OPENING_TEXT: &str = ".";

/// System text and turns.
pub(super) struct Conversation<'a> {
    pub system: Vec<Block<'a>>,
    pub messages: Vec<Message<'a>>,
    /// Calls or results of tools occur.
    pub uses_tools: bool,
}

/// Writes system text and turns.
pub(super) fn write<'a>(
    request: &'a Request,
    upstream: &'a Upstream<'a>,
    claude: Claude,
    changes: &mut Changes,
) -> Result<Conversation<'a>, Invalid> {
    let mut writer = TurnWriter {
        request,
        upstream,
        claude,
        changes,
        messages: Vec::with_capacity(request.turns.len()),
        calls: HashSet::new(),
        uses_tools: false,
    };
    let system = writer.system()?;
    for (at, turn) in request.turns.iter().enumerate() {
        writer.turn(at, turn)?;
    }
    writer.finish();
    if writer.messages.is_empty() {
        return Err(Invalid::at(
            "messages",
            "The conversation has no message that says anything",
        ));
    }
    Ok(Conversation {
        system,
        uses_tools: writer.uses_tools,
        messages: writer.messages,
    })
}

/// Takes marks away beyond those that the provider allows: the earliest of the conversation first, as a later one covers them.
pub(super) fn limit_cache_marks(
    messages: &mut [Message<'_>],
    allowed: usize,
    changes: &mut Changes,
) {
    let blocks = messages.iter_mut().flat_map(|message| &mut message.content);
    let mut marks: Vec<_> = blocks
        .filter_map(Block::cache_control)
        .filter(|mark| mark.is_some())
        .collect();
    let surplus = marks.len().saturating_sub(allowed);
    for mark in &mut marks[..surplus] {
        **mark = None;
        changes.dropped("cache_control");
    }
}

struct TurnWriter<'a, 'c> {
    request: &'a Request,
    upstream: &'a Upstream<'a>,
    claude: Claude,
    changes: &'c mut Changes,
    messages: Vec<Message<'a>>,
    /// Ids of calls up to here.
    calls: HashSet<&'a str>,
    uses_tools: bool,
}

impl<'a> TurnWriter<'a, '_> {
    fn system(&mut self) -> Result<Vec<Block<'a>>, Invalid> {
        let mut blocks = Vec::new();
        for (at, part) in self.request.system.iter().enumerate() {
            match &part.kind {
                PartKind::Text { text, .. } => push_text(&mut blocks, text, part),
                PartKind::Foreign(block) => self.foreign(&mut blocks, block),
                _ => {
                    let place = format!("messages[{at}].content");
                    return Err(Invalid::unsupported(
                        place,
                        "System messages can hold nothing but text",
                    ));
                }
            }
        }
        Ok(blocks)
    }

    fn turn(&mut self, at: usize, turn: &'a Turn) -> Result<(), Invalid> {
        if turn.name.is_some() {
            self.changes.dropped("name");
        }
        let mut blocks = Vec::with_capacity(turn.parts.len());
        for (number, part) in turn.parts.iter().enumerate() {
            self.part(&mut blocks, turn.role, part, (at, number))?;
        }
        match turn.role {
            Role::User => self.push("user", blocks),
            Role::Assistant => self.push("assistant", blocks),
            Role::System => self.push_system(blocks),
        }
        Ok(())
    }

    /// Turns of one speaker that follow each other become one.
    fn push(&mut self, role: &'static str, content: Vec<Block<'a>>) {
        match self.messages.last_mut() {
            _ if content.is_empty() => {}
            Some(last) if last.role == role => last.content.extend(content),
            _ => self.messages.push(Message { role, content }),
        }
    }

    /// Models that heed the role take it right after the user; for others it stays where it was said, as text of the user: further
    /// up it would be said earlier than it was, and end the prompt cache there.
    fn push_system(&mut self, blocks: Vec<Block<'a>>) {
        let after_user = self.messages.last().is_some_and(|last| last.role == "user");
        if self.claude.heeds_system_turns() && after_user {
            return self.push("system", blocks);
        }
        let wrap = |block| match block {
            Block::Text {
                text,
                cache_control,
            } => Block::Text {
                text: Cow::Owned(format!("<system>\n{text}\n</system>")),
                cache_control,
            },
            block => block,
        };
        self.push("user", blocks.into_iter().map(wrap).collect());
    }

    fn finish(&mut self) {
        if self
            .messages
            .first()
            .is_some_and(|first| first.role == "assistant")
        {
            let content = vec![Block::text(OPENING_TEXT)];
            self.messages.insert(
                0,
                Message {
                    role: "user",
                    content,
                },
            );
            self.changes.added("messages");
        }
        for message in &mut self.messages {
            let is_result = |block: &Block<'_>| matches!(block, Block::ToolResult { .. });
            let is_call = |block: &Block<'_>| matches!(block, Block::ToolUse { .. });
            match message.role {
                "user" => message.content.sort_by_key(|block| !is_result(block)),
                "assistant" => {
                    // Calls stand last; thoughts must not be moved, so nothing is sorted that need not.
                    let first_call = message.content.iter().position(is_call);
                    let last_text = message
                        .content
                        .iter()
                        .rposition(|block| matches!(block, Block::Text { .. }));
                    if first_call.is_some_and(|call| last_text > Some(call)) {
                        message.content.sort_by_key(is_call);
                    }
                }
                _ => {}
            }
        }
        self.trim_prefill();
    }

    /// White space at the end of what the model shall go on from is refused.
    fn trim_prefill(&mut self) {
        let Some(last) = self
            .messages
            .last_mut()
            .filter(|last| last.role == "assistant")
        else {
            return;
        };
        if let Some(Block::Text { text, .. }) = last.content.last_mut() {
            let length = text.trim_end().len();
            if length < text.len() {
                *text = Cow::Owned(text[..length].to_owned());
            }
        }
    }

    fn part(
        &mut self,
        blocks: &mut Vec<Block<'a>>,
        role: Role,
        part: &'a Part,
        at: (usize, usize),
    ) -> Result<(), Invalid> {
        let cache_control = part.cache.as_ref().map(CacheControl::of);
        match &part.kind {
            PartKind::Text {
                text, citations, ..
            } => {
                if !citations.is_empty() {
                    self.changes.dropped("annotations");
                }
                push_text(blocks, text, part);
            }
            PartKind::Refusal(text) => push_text(blocks, text, part),
            PartKind::Thinking { text, signature } => match own(signature.as_ref()) {
                Some(signature) => blocks.push(Block::Thinking {
                    thinking: text,
                    signature,
                }),
                None => self.changes.dropped("reasoning_content"),
            },
            PartKind::Redacted(signature) => match own(Some(signature)) {
                Some(data) => blocks.push(Block::RedactedThinking { data }),
                None => self.changes.dropped("reasoning_details"),
            },
            PartKind::ToolUse(call) => {
                self.uses_tools = true;
                self.calls.insert(&call.id);
                blocks.push(Block::ToolUse {
                    id: fit(&call.id, IdRule::ANTHROPIC),
                    name: &call.name,
                    input: self.input(call, at)?,
                    cache_control,
                });
            }
            PartKind::ToolResult {
                id,
                content,
                is_error,
            } => {
                self.uses_tools = true;
                if !self.calls.contains(id.as_str()) {
                    let place = self.place(at.0);
                    let message =
                        format!("The tool result answers {id}, which no earlier message calls");
                    return Err(Invalid::at(format!("{place}.tool_call_id"), message));
                }
                let mut inner = Vec::with_capacity(content.len());
                for part in content {
                    self.part(&mut inner, Role::User, part, at)?;
                }
                // An error can hold nothing but text.
                let only_text = inner
                    .iter()
                    .all(|block| matches!(block, Block::Text { .. }));
                if *is_error && !only_text {
                    self.changes.dropped("is_error");
                }
                blocks.push(Block::ToolResult {
                    tool_use_id: fit(id, IdRule::ANTHROPIC),
                    content: inner,
                    is_error: *is_error && only_text,
                    cache_control,
                });
            }
            PartKind::Foreign(block) => self.foreign(blocks, block),
            PartKind::Image { .. }
            | PartKind::Audio(_)
            | PartKind::Video(_)
            | PartKind::Document { .. }
                if role == Role::Assistant =>
            {
                self.changes.dropped("images");
            }
            PartKind::Image { media, detail } => {
                if detail.as_ref().is_some_and(|detail| detail != "auto") {
                    self.changes.dropped("detail");
                }
                let source = self.image(media, part, at)?;
                blocks.push(Block::Image {
                    source,
                    cache_control,
                });
            }
            PartKind::Document { media, name } => {
                blocks.push(self.document(media, name.as_deref(), part, at)?);
            }
            PartKind::Audio(_) => return Err(self.refuse(at, "Claude does not take audio")),
            PartKind::Video(_) => return Err(self.refuse(at, "Claude does not take video")),
        }
        Ok(())
    }

    fn foreign(&mut self, blocks: &mut Vec<Block<'a>>, block: &'a Value) {
        match self.request.from {
            Dialect::Messages => blocks.push(Block::Foreign(block)),
            _ => {
                let kind = block.get("type").and_then(Value::as_str);
                self.changes.dropped(kind.unwrap_or("content"));
            }
        }
    }

    fn input(
        &self,
        call: &ToolUse,
        (turn, _): (usize, usize),
    ) -> Result<Map<String, Value>, Invalid> {
        if call.custom {
            let text = Value::String(call.arguments.clone());
            return Ok(Map::from_iter([("input".to_owned(), text)]));
        }
        let text = call.arguments.trim();
        if text.is_empty() || text == "null" {
            return Ok(Map::new());
        }
        serde_json::from_str(text).map_err(|error| {
            let place = format!("{}.tool_calls", self.place(turn));
            Invalid::at(
                place,
                format!(
                    "The arguments of the call {} are no JSON object: {error}",
                    call.id
                ),
            )
        })
    }

    fn image(
        &self,
        media: &'a Media,
        part: &Part,
        at: (usize, usize),
    ) -> Result<Source<'a>, Invalid> {
        match media {
            Media::Inline { mime, data } => match image_type(mime) {
                Some(media_type) => Ok(Source::Base64 { media_type, data }),
                None => Err(self.refuse(at, "Claude takes images as JPEG, PNG, GIF and WebP")),
            },
            media => self.elsewhere(media, part, at),
        }
    }

    fn document(
        &self,
        media: &'a Media,
        title: Option<&'a str>,
        part: &'a Part,
        at: (usize, usize),
    ) -> Result<Block<'a>, Invalid> {
        let cache_control = part.cache.as_ref().map(CacheControl::of);
        let text = |data| Source::Text {
            media_type: "text/plain",
            data,
        };
        let source = match media {
            Media::Text(data) => text(Cow::Borrowed(data.as_str())),
            Media::Inline { mime, data } if bare(mime) == "application/pdf" => Source::Base64 {
                media_type: "application/pdf",
                data,
            },
            Media::Inline { mime, data } if image_type(mime).is_some() => {
                let source = Source::Base64 {
                    media_type: bare(mime),
                    data,
                };
                return Ok(Block::Image {
                    source,
                    cache_control,
                });
            }
            Media::Inline { mime, data } if is_text(mime) => {
                let bytes = STANDARD.decode(data).ok();
                let decoded = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                let decoded = decoded
                    .ok_or_else(|| self.refuse(at, "The file is no text in UTF-8, in base64"))?;
                text(Cow::Owned(decoded))
            }
            Media::Inline { .. } => {
                return Err(self.refuse(at, "Claude takes files as PDF and as text"));
            }
            media => self.elsewhere(media, part, at)?,
        };
        Ok(Block::Document {
            source,
            title,
            cache_control,
        })
    }

    fn elsewhere(
        &self,
        media: &'a Media,
        part: &Part,
        at: (usize, usize),
    ) -> Result<Source<'a>, Invalid> {
        match media {
            Media::Url { url, .. } if takes_url(&part.kind, url, self.upstream) => Ok(Source::Url { url }),
            Media::Url { .. } => Err(self.refuse(
                at,
                "The provider does not fetch this address, and the gateway does so only with the setting media.fetch; \
                 send the bytes in base64",
            )),
            Media::File(file_id) if self.request.from == Dialect::Messages => Ok(Source::File { file_id }),
            _ => Err(self.refuse(at, "A file in another provider's store cannot be read; send its bytes in base64")),
        }
    }

    fn refuse(&self, (turn, part): (usize, usize), message: &str) -> Invalid {
        Invalid::unsupported(format!("{}.content[{part}]", self.place(turn)), message)
    }

    /// The client's name of a turn: in chat the system messages are counted too.
    fn place(&self, turn: usize) -> String {
        let before = match self.request.from {
            Dialect::Chat => self.request.system.len(),
            _ => 0,
        };
        format!("messages[{}]", before + turn)
    }
}

/// Empty texts are refused; the cache mark of one goes to what stands before it.
fn push_text<'a>(blocks: &mut Vec<Block<'a>>, text: &'a str, part: &'a Part) {
    let cache_control = part.cache.as_ref().map(CacheControl::of);
    if !text.trim().is_empty() {
        let text = Cow::Borrowed(text);
        blocks.push(Block::Text {
            text,
            cache_control,
        });
    } else if let Some(mark) = cache_control
        && let Some(place) = blocks.last_mut().and_then(Block::cache_control)
    {
        *place = Some(mark);
    }
}

/// The signature, if it is Claude's: no other means anything here.
fn own(signature: Option<&Signature>) -> Option<&str> {
    let own = signature.filter(|signature| signature.origin == Origin::Anthropic);
    own.map(|signature| signature.data.as_str())
}

fn bare(mime: &str) -> &str {
    mime.split(';').next().unwrap_or(mime).trim()
}

fn image_type(mime: &str) -> Option<&'static str> {
    match bare(mime) {
        "image/jpeg" | "image/jpg" => Some("image/jpeg"),
        "image/png" => Some("image/png"),
        "image/gif" => Some("image/gif"),
        "image/webp" => Some("image/webp"),
        _ => None,
    }
}

fn is_text(mime: &str) -> bool {
    let mime = bare(mime);
    mime.starts_with("text/")
        || matches!(
            mime,
            "application/json" | "application/xml" | "application/x-yaml"
        )
}
