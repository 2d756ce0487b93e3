//! The conversation in Converse's form (spec: providers 7.3): two speakers in turn, blocks that are never blank, the results of
//! tools in one turn and where the family wants it alone.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::media::{self, Names};
use super::wire::{Block, CachePoint, Message, Reasoning, Speaker, ToolResult, ToolUse};
use crate::dialect::Dialect;
use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::ids::fit;
use crate::dialect::models::others::{Abilities, Beside, Caching, History, Model};
use crate::dialect::neutral::{
    CacheMark, Origin, Part, PartKind, Request, Role, Signature, ToolUse as Call, Turn,
};

/// Stands where a text must stand and there is none; blank ones are refused.
const PLACEHOLDER: &str = ".";

/// System text and turns.
pub(super) struct Conversation<'a> {
    pub system: Vec<Block<'a>>,
    pub messages: Vec<Message<'a>>,
}

impl Conversation<'_> {
    /// Whether tools were called: then `toolConfig` must be there.
    pub fn has_calls(&self) -> bool {
        let mut blocks = self.messages.iter().flat_map(|message| &message.content);
        blocks.any(|block| matches!(block, Block::ToolUse(_) | Block::ToolResult(_)))
    }

    /// Whether the model called tools since the user last spoke and the thoughts before the call are gone: Claude, told to think
    /// with a budget, refuses to go on without them.
    pub fn lost_thoughts(&self) -> bool {
        let is_call = |block: &Block<'_>| matches!(block, Block::ToolUse(_));
        let since =
            self.messages.iter().rev().take_while(|message| {
                message.speaks_for_tools() || message.role == Speaker::Assistant
            });
        let mut calls = since.filter(|message| message.content.iter().any(is_call));
        calls.any(|message| !matches!(message.content.first(), Some(Block::ReasoningContent(_))))
    }
}

impl Message<'_> {
    fn speaks_for_tools(&self) -> bool {
        let is_result = |block: &Block<'_>| matches!(block, Block::ToolResult(_));
        self.role == Speaker::User && self.content.iter().any(is_result)
    }
}

/// Writes the conversation.
pub(super) fn write<'a>(
    request: &'a Request,
    model: &Model<'_>,
    abilities: &Abilities,
    changes: &mut Changes,
) -> Result<Conversation<'a>, Invalid> {
    let mut writer = Writer {
        abilities: *abilities,
        origin: model.origin(),
        changes,
        names: Names::default(),
        called: HashSet::new(),
    };
    let system = writer.system(&request.system);
    // Chat's places count the system messages that stand before all turns.
    let before = match request.from {
        Dialect::Chat => request.system.len(),
        _ => 0,
    };
    let mut messages: Vec<Message<'a>> = Vec::with_capacity(request.turns.len());
    for (at, turn) in request.turns.iter().enumerate() {
        let message = writer.turn(turn, &format!("messages[{}]", before + at))?;
        match messages.last_mut() {
            _ if message.content.is_empty() => {}
            Some(last) if last.role == message.role => last.content.extend(message.content),
            _ => messages.push(message),
        }
    }
    if messages.is_empty() && system.is_empty() {
        return Err(Invalid::at("messages", "The conversation is empty"));
    }
    let messages = arrange(messages, abilities, writer.changes);
    Ok(Conversation { system, messages })
}

/// What depends on the place among the other turns and blocks.
fn arrange<'a>(
    messages: Vec<Message<'a>>,
    abilities: &Abilities,
    changes: &mut Changes,
) -> Vec<Message<'a>> {
    let placeholder = |role| Message {
        role,
        content: vec![Block::text(PLACEHOLDER)],
    };
    let mut arranged = Vec::with_capacity(messages.len() + 1);
    let begins_well = messages
        .first()
        .is_some_and(|first| first.role == Speaker::User || abilities.leading_assistant);
    if !begins_well {
        changes.added("messages");
        arranged.push(placeholder(Speaker::User));
    }
    for mut message in messages {
        if message.speaks_for_tools() {
            let (results, others) = split_results(message.content);
            let fits = |block: &Block<'_>| match abilities.beside_results {
                Beside::Anything => true,
                Beside::TextAndImages => matches!(
                    block,
                    Block::Text(_) | Block::Image(_) | Block::CachePoint(_)
                ),
                Beside::Nothing => matches!(block, Block::CachePoint(_)),
            };
            message.content = results;
            if others.iter().all(fits) {
                message.content.extend(others);
            } else {
                // Turns of one speaker would be joined again.
                changes.added("messages");
                arranged.push(message);
                arranged.push(placeholder(Speaker::Assistant));
                message = Message {
                    role: Speaker::User,
                    content: others,
                };
            }
        }
        let has = |wanted: fn(&Block<'_>) -> bool| message.content.iter().any(wanted);
        if has(|block| matches!(block, Block::Document(_)))
            && !has(|block| matches!(block, Block::Text(_)))
        {
            changes.added("messages.content");
            message.content.insert(0, Block::text(PLACEHOLDER));
        }
        arranged.push(message);
    }
    if let Some(Message { role, content }) = arranged.last_mut()
        && *role == Speaker::Assistant
        && let Some(Block::Text(text)) = content.last_mut()
    {
        // The answer goes on from here; blanks at its end are refused.
        *text = Cow::Owned(text.trim_end().to_owned());
    }
    arranged
}

/// Results come first; a cache point stays behind what it stood behind.
fn split_results(content: Vec<Block<'_>>) -> (Vec<Block<'_>>, Vec<Block<'_>>) {
    let (mut results, mut others) = (Vec::new(), Vec::new());
    let mut after_result = false;
    for block in content {
        if !matches!(block, Block::CachePoint(_)) {
            after_result = matches!(block, Block::ToolResult(_));
        }
        match after_result {
            true => results.push(block),
            false => others.push(block),
        }
    }
    (results, others)
}

struct Writer<'c> {
    abilities: Abilities,
    origin: Origin,
    changes: &'c mut Changes,
    names: Names,
    called: HashSet<String>,
}

impl Writer<'_> {
    fn system<'a>(&mut self, parts: &'a [Part]) -> Vec<Block<'a>> {
        let mut system = Vec::with_capacity(parts.len());
        for part in parts {
            match part.as_text() {
                Some(text) if is_blank(text) => {}
                Some(text) => system.push(Block::text(text)),
                None => self.changes.dropped("messages.content"),
            }
            self.mark(part.cache.as_ref(), &mut system);
        }
        system
    }

    fn turn<'a>(&mut self, turn: &'a Turn, place: &str) -> Result<Message<'a>, Invalid> {
        if turn.name.is_some() {
            self.changes.dropped("messages.name");
        }
        if turn.role == Role::System {
            return Ok(Message {
                role: Speaker::User,
                content: self.later_system(turn),
            });
        }
        let role = match turn.role {
            Role::Assistant => Speaker::Assistant,
            _ => Speaker::User,
        };
        let (mut content, mut later) = (Vec::with_capacity(turn.parts.len()), Vec::new());
        for (at, part) in turn.parts.iter().enumerate() {
            let place = Place {
                turn: place,
                part: at,
                role,
            };
            self.part(part, &place, &mut content, &mut later)?;
            self.mark(part.cache.as_ref(), &mut content);
        }
        content.append(&mut later);
        Ok(Message { role, content })
    }

    /// No model on Converse is known to heed a third speaker; hoisted to the top the text would move in time and spoil the
    /// prompt's cache.
    fn later_system<'a>(&mut self, turn: &'a Turn) -> Vec<Block<'a>> {
        let texts: Vec<&str> = turn.parts.iter().filter_map(Part::as_text).collect();
        let text = texts.join("\n");
        if texts.len() < turn.parts.len() {
            self.changes.dropped("messages.content");
        }
        let mut content = Vec::new();
        if !is_blank(&text) {
            content.push(Block::text(format!("<system>\n{text}\n</system>")));
        }
        let mark = turn.parts.iter().find_map(|part| part.cache.as_ref());
        self.mark(mark, &mut content);
        content
    }

    fn part<'a>(
        &mut self,
        part: &'a Part,
        place: &Place<'_>,
        content: &mut Vec<Block<'a>>,
        later: &mut Vec<Block<'a>>,
    ) -> Result<(), Invalid> {
        match &part.kind {
            PartKind::Text {
                text, citations, ..
            } => {
                if !citations.is_empty() {
                    self.changes.dropped("messages.annotations");
                }
                push_text(text, content);
            }
            PartKind::Refusal(text) => push_text(text, content),
            PartKind::Thinking { text, signature } => {
                content.extend(self.thought(text, signature.as_ref()));
            }
            PartKind::Redacted(signature) => content.extend(self.redacted(signature)),
            PartKind::ToolUse(call) => content.push(self.call(call, place)?),
            PartKind::ToolResult {
                id,
                content: parts,
                is_error,
            } => {
                if !self.called.contains(id) {
                    return Err(Invalid::at(
                        format!("{}.tool_call_id", place.turn),
                        format!("The tool's result is for {id:?}, and no earlier turn calls that"),
                    ));
                }
                let result = self.result(id, parts, *is_error, place, later)?;
                content.push(Block::ToolResult(result));
            }
            PartKind::Foreign(block) => {
                let kind = block.get("type").and_then(Value::as_str);
                self.changes.dropped(kind.unwrap_or("messages.content"));
            }
            // What a model drew is no input that Converse takes from it.
            _ if place.role == Speaker::Assistant => self.changes.dropped("messages.content"),
            kind => content.push(self.media(kind, &place.of_part())?),
        }
        Ok(())
    }

    fn media<'a>(&mut self, kind: &'a PartKind, place: &str) -> Result<Block<'a>, Invalid> {
        if let PartKind::Image {
            detail: Some(detail),
            ..
        } = kind
            && detail != "auto"
        {
            self.changes.dropped("detail");
        }
        let refused = match kind {
            PartKind::Audio(_) if !self.abilities.audio => Some("sound"),
            PartKind::Video(_) if !self.abilities.video => Some("films"),
            _ => None,
        };
        match refused {
            Some(what) => Err(Invalid::unsupported(
                place,
                format!("The model takes no {what}"),
            )),
            None => media::write(kind, place, &mut self.names),
        }
    }

    fn thought<'a>(
        &mut self,
        text: &'a str,
        signature: Option<&'a Signature>,
    ) -> Option<Block<'a>> {
        let own = signature.filter(|signature| signature.origin == self.origin);
        if own.is_none() && (self.abilities.history != History::All || is_blank(text)) {
            self.changes.dropped("reasoning_content");
            return None;
        }
        Some(Block::ReasoningContent(Reasoning::ReasoningText {
            text,
            signature: own.map(|signature| signature.data.as_str()),
        }))
    }

    fn redacted<'a>(&mut self, signature: &'a Signature) -> Option<Block<'a>> {
        let data = match (signature.origin, self.origin) {
            // What Anthropic's own endpoint calls its data is here the text inside the bytes.
            (Origin::Anthropic, Origin::Anthropic) => Cow::Owned(STANDARD.encode(&signature.data)),
            (Origin::Bedrock, _) => Cow::Borrowed(signature.data.as_str()),
            _ => {
                self.changes.dropped("reasoning_details");
                return None;
            }
        };
        Some(Block::ReasoningContent(Reasoning::RedactedContent(data)))
    }

    fn call<'a>(&mut self, call: &'a Call, place: &Place<'_>) -> Result<Block<'a>, Invalid> {
        self.called.insert(call.id.clone());
        let input = match call.custom {
            true => Map::from_iter([("input".to_owned(), Value::from(call.arguments.as_str()))]),
            false => arguments(&call.arguments).ok_or_else(|| {
                Invalid::at(
                    format!("{}.tool_calls", place.turn),
                    format!(
                        "The arguments of the call of {} are no JSON object",
                        call.name
                    ),
                )
            })?,
        };
        Ok(Block::ToolUse(ToolUse {
            tool_use_id: fit(&call.id, self.abilities.ids),
            name: tool_name(&call.name),
            input,
        }))
    }

    /// The result of a tool; what the family takes only outside of results goes to `later`.
    fn result<'a>(
        &mut self,
        id: &'a str,
        parts: &'a [Part],
        is_error: bool,
        place: &Place<'_>,
        later: &mut Vec<Block<'a>>,
    ) -> Result<ToolResult<'a>, Invalid> {
        let mut content = Vec::with_capacity(parts.len());
        for (at, part) in parts.iter().enumerate() {
            match &part.kind {
                PartKind::Text { text, .. } => match json_object(text) {
                    Some(object) if self.abilities.json_results => {
                        content.push(Block::Json(Value::Object(object)));
                    }
                    _ => push_text(text, &mut content),
                },
                PartKind::Image { .. } if self.abilities.image_results => {
                    content.push(self.media(&part.kind, &place.inside(at))?);
                }
                PartKind::Document { .. } if self.abilities.document_results => {
                    content.push(self.media(&part.kind, &place.inside(at))?);
                }
                PartKind::Image { .. }
                | PartKind::Document { .. }
                | PartKind::Video(_)
                | PartKind::Audio(_) => {
                    content.push(Block::text("The result follows in the user's message."));
                    let id = fit(id, self.abilities.ids);
                    later.push(Block::text(format!("The result of the tool call {id}:")));
                    later.push(self.media(&part.kind, &place.inside(at))?);
                }
                _ => self.changes.dropped("messages.content"),
            }
        }
        if content.is_empty() {
            content.push(Block::text(PLACEHOLDER));
        }
        let status = if is_error { "error" } else { "success" };
        if is_error && !self.abilities.result_status {
            self.changes.dropped("is_error");
        }
        Ok(ToolResult {
            tool_use_id: fit(id, self.abilities.ids),
            content,
            status: self.abilities.result_status.then_some(status),
        })
    }

    /// A cache may end behind what was written last.
    fn mark<'a>(&mut self, mark: Option<&'a CacheMark>, content: &mut Vec<Block<'a>>) {
        let Some(mark) = mark else { return };
        // A cache point right behind a document or a film is refused but for Claude's PDFs.
        let refused = |block: &Block<'_>| match block {
            Block::Document(document) => {
                self.origin != Origin::Anthropic || document.format != "pdf"
            }
            Block::Video(_) => true,
            _ => false,
        };
        let trailing = content.iter().rev().take_while(|block| refused(block));
        let at = content.len() - trailing.count();
        let behind = at.checked_sub(1).and_then(|before| content.get(before));
        match behind {
            None | Some(Block::CachePoint(_)) | Some(Block::ReasoningContent(_)) => {
                self.changes.dropped("cache_control");
            }
            Some(_) => {
                let point = cache_point(mark, self.abilities.caching, self.changes);
                content.splice(at..at, point.map(Block::CachePoint));
            }
        }
    }
}

/// A cache point as the family takes it.
pub(super) fn cache_point<'a>(
    mark: &'a CacheMark,
    caching: Caching,
    changes: &mut Changes,
) -> Option<CachePoint<'a>> {
    let ttl = match caching {
        Caching::No => {
            changes.dropped("cache_control");
            return None;
        }
        Caching::All { hour: true } => mark.ttl.as_deref(),
        Caching::All { hour: false } | Caching::Conversation => {
            if mark.ttl.as_deref().is_some_and(|ttl| ttl != "5m") {
                changes.dropped("cache_control.ttl");
            }
            None
        }
    };
    Some(CachePoint {
        kind: "default",
        ttl,
    })
}

/// Where a part stands in the client's request.
struct Place<'p> {
    turn: &'p str,
    part: usize,
    role: Speaker,
}

impl Place<'_> {
    fn of_part(&self) -> String {
        format!("{}.content[{}]", self.turn, self.part)
    }

    fn inside(&self, at: usize) -> String {
        format!("{}.content[{at}]", self.of_part())
    }
}

fn push_text<'a>(text: &'a str, content: &mut Vec<Block<'a>>) {
    if !is_blank(text) {
        content.push(Block::text(text));
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn arguments(text: &str) -> Option<Map<String, Value>> {
    match is_blank(text) {
        true => Some(Map::new()),
        false => json_object(text),
    }
}

fn json_object(text: &str) -> Option<Map<String, Value>> {
    let begins = text.trim_start().starts_with('{');
    begins.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Names of tools that only the history knows may be other providers'.
fn tool_name(name: &str) -> Cow<'_, str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Cow::Borrowed(name);
    }
    let letters = name.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '-' => letter,
        _ => '_',
    });
    let fitted: String = letters.take(64).collect();
    Cow::Owned(if fitted.is_empty() {
        "_".to_owned()
    } else {
        fitted
    })
}
