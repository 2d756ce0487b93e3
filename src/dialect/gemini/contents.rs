//! The conversation as Gemini's `contents`: turns that alternate, calls and what they returned side by side (spec: providers 5.2).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::changes::Changes;
use crate::dialect::failure::Invalid;
use crate::dialect::models::gemini::Gemini;
use crate::dialect::neutral::{Media, Origin, Part, PartKind, Request, Role, Signature, ToolUse};
use crate::dialect::{Dialect, Upstream};
use crate::providers::Slug;

/// Stands for a signature that the client lost; the documented word that switches the check off, at some cost in quality.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// A turn that says nothing, where Gemini wants one: it refuses empty parts.
const FILLER: &str = ".";

/// One turn.
#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    role: &'static str,
    parts: Vec<WirePart<'a>>,
}

/// A piece of it; one of the first five fields is set.
#[derive(Debug, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct WirePart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    file_uri: &'a str,
    mime_type: &'a str,
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Map<String, Value>,
}

#[derive(Debug, Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<WirePart<'a>>,
}

impl<'a> WirePart<'a> {
    /// Plain text.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..Self::default()
        }
    }
}

/// Whether the provider itself fetches what is at this address.
pub fn takes_url(_kind: &PartKind, url: &str, upstream: &Upstream<'_>) -> bool {
    let scheme = |name: &str| {
        url.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    match upstream.slug {
        Slug::GoogleVertexAi => scheme("https://") || scheme("http://") || scheme("gs://"),
        _ => is_googles(url),
    }
}

/// Addresses that AI Studio takes: its own files and YouTube's films.
fn is_googles(url: &str) -> bool {
    [
        "https://generativelanguage.googleapis.com/",
        "https://www.youtube.com/",
        "https://youtube.com/",
        "https://youtu.be/",
    ]
    .iter()
    .any(|start| url.starts_with(start))
}

/// Writes the conversation.
pub(super) fn write<'a>(
    request: &'a Request,
    upstream: &'a Upstream<'_>,
    model: Gemini,
    changes: &mut Changes,
) -> Result<Vec<Content<'a>>, Invalid> {
    // Chat's places count the system messages that stand before all turns.
    let before = match request.from {
        Dialect::Chat => request.system.len(),
        _ => 0,
    };
    let mut writer = Writer {
        upstream,
        model,
        changes,
        names: HashMap::new(),
        calls: Vec::new(),
        groups: Vec::new(),
    };
    for (at, turn) in request.turns.iter().enumerate() {
        let place = format!("messages[{}]", before + at);
        if turn.name.is_some() {
            writer.changes.dropped("messages.name");
        }
        if turn.role == Role::System {
            // Gemini has one instruction, before everything.
            writer.changes.set(&format!("{place}.role"), "user");
        }
        writer.turn(turn.role, &turn.parts, &place)?;
    }
    writer.finish()
}

struct Writer<'a, 'w> {
    upstream: &'a Upstream<'a>,
    model: Gemini,
    changes: &'w mut Changes,
    /// Which function each call was for, the latest call of an id last.
    names: HashMap<&'a str, &'a str>,
    /// Ids of the calls in the model's latest turn, with their places.
    calls: Vec<(&'a str, String)>,
    groups: Vec<Group<'a>>,
}

/// Turns of one role that follow each other.
struct Group<'a> {
    model: bool,
    parts: Vec<WirePart<'a>>,
    results: Vec<Returned<'a>>,
    /// Calls that the results have to answer.
    calls: Vec<(&'a str, String)>,
}

/// What a function returned.
struct Returned<'a> {
    id: &'a str,
    response: WirePart<'a>,
    /// What does not fit into the response.
    beside: Vec<WirePart<'a>>,
}

impl<'a> Writer<'a, '_> {
    fn turn(&mut self, role: Role, parts: &'a [Part], place: &str) -> Result<(), Invalid> {
        let model = role == Role::Assistant;
        self.open(model);
        let mut calls = 0;
        for (at, part) in parts.iter().enumerate() {
            if part.cache.is_some() {
                self.changes.dropped("cache_control");
            }
            match &part.kind {
                PartKind::ToolUse(call) => {
                    let place = format!("{place}.tool_calls[{calls}]");
                    calls += 1;
                    let part = self.call(call, &place)?;
                    self.calls.push((&call.id, place));
                    self.push(part);
                }
                PartKind::ToolResult {
                    id,
                    content,
                    is_error,
                } => {
                    let result = self.result(id, content, *is_error, place)?;
                    if let Some(group) = self.groups.last_mut() {
                        group.results.push(result);
                    }
                }
                kind => {
                    let place = format!("{place}.content[{at}]");
                    if let Some(part) = self.part(kind, &place)? {
                        self.push(part);
                    }
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, model: bool) {
        if self.groups.last().is_some_and(|last| last.model == model) {
            return;
        }
        // A turn of which nothing is left does not divide its neighbours.
        if self.groups.last().is_some_and(Group::is_empty) {
            self.groups.pop();
            return self.open(model);
        }
        let calls = match model {
            true => {
                self.calls.clear();
                Vec::new()
            }
            false => std::mem::take(&mut self.calls),
        };
        self.groups.push(Group {
            model,
            parts: Vec::new(),
            results: Vec::new(),
            calls,
        });
    }

    fn push(&mut self, part: WirePart<'a>) {
        if let Some(group) = self.groups.last_mut() {
            group.parts.push(part);
        }
    }

    fn call(&mut self, call: &'a ToolUse, place: &str) -> Result<WirePart<'a>, Invalid> {
        let args = match call.custom {
            true => Map::from_iter([("input".to_owned(), json!(call.arguments))]),
            false => arguments(&call.arguments).ok_or_else(|| {
                Invalid::at(
                    format!("{place}.function.arguments"),
                    "The arguments of a call must be the JSON text of an object",
                )
            })?,
        };
        self.names.insert(&call.id, &call.name);
        Ok(WirePart {
            function_call: Some(FunctionCall {
                id: self.own_id(&call.id),
                name: &call.name,
                args,
            }),
            thought_signature: self.own_signature(call.signature.as_ref()),
            ..WirePart::default()
        })
    }

    fn result(
        &mut self,
        id: &'a str,
        content: &'a [Part],
        is_error: bool,
        place: &str,
    ) -> Result<Returned<'a>, Invalid> {
        let Some(name) = self.names.get(id).copied() else {
            return Err(Invalid::at(
                format!("{place}.tool_call_id"),
                format!("No earlier call has the id {id:?}"),
            ));
        };
        let (mut text, mut inside, mut beside) = (None, Vec::new(), Vec::new());
        for (at, part) in content.iter().enumerate() {
            if part.cache.is_some() {
                self.changes.dropped("cache_control");
            }
            if let Some(piece) = part.as_text() {
                append(&mut text, piece);
                continue;
            }
            let fits = self.model.media_in_results() && fits_inside(&part.kind);
            if let Some(part) = self.part(&part.kind, &format!("{place}.content[{at}]"))? {
                match fits {
                    true => inside.push(part),
                    false => beside.push(part),
                }
            }
        }
        let response = FunctionResponse {
            id: self.own_id(id),
            name,
            response: response(text.unwrap_or_default(), is_error),
            parts: inside,
        };
        Ok(Returned {
            id,
            response: WirePart {
                function_response: Some(response),
                ..WirePart::default()
            },
            beside,
        })
    }

    fn part(&mut self, kind: &'a PartKind, place: &str) -> Result<Option<WirePart<'a>>, Invalid> {
        Ok(match kind {
            PartKind::Text {
                text,
                citations,
                signature,
            } => {
                if !citations.is_empty() {
                    self.changes.dropped("messages.annotations");
                }
                let signature = self.own_signature(signature.as_ref());
                (!text.is_empty() || signature.is_some()).then(|| WirePart {
                    thought_signature: signature,
                    ..WirePart::text(text)
                })
            }
            PartKind::Refusal(text) => (!text.is_empty()).then(|| WirePart::text(text)),
            PartKind::Image { media, detail } => {
                if detail.as_deref().is_some_and(|detail| detail != "auto") {
                    self.changes.dropped("image_url.detail");
                }
                Some(self.media(media, "image/jpeg", place)?)
            }
            PartKind::Audio(media) => Some(self.media(media, "audio/mp3", place)?),
            PartKind::Video(media) => Some(self.media(media, "video/mp4", place)?),
            PartKind::Document { media, name } => match (media, name) {
                (Media::Text(text), Some(name)) => {
                    Some(WirePart::text(format!("{name}\n\n{text}")))
                }
                (media, _) => Some(self.media(media, "application/pdf", place)?),
            },
            // Thoughts are for people to read; what Gemini wants back is their signature.
            PartKind::Thinking { text, signature } => {
                let signature = self.own_signature(signature.as_ref());
                if signature.is_none() {
                    self.changes.dropped("reasoning_content");
                }
                signature.map(|signature| WirePart {
                    thought: Some(true),
                    thought_signature: Some(signature),
                    ..WirePart::text(text)
                })
            }
            PartKind::Redacted(signature) => {
                let signature = self.own_signature(Some(signature));
                if signature.is_none() {
                    self.changes.dropped("reasoning_details");
                }
                signature.map(|signature| WirePart {
                    thought_signature: Some(signature),
                    ..WirePart::text("")
                })
            }
            PartKind::Foreign(block) => {
                let kind = block["type"].as_str().unwrap_or("block");
                self.changes.dropped(&format!("messages.content.{kind}"));
                None
            }
            PartKind::ToolUse(_) | PartKind::ToolResult { .. } => {
                return Err(Invalid::at(place, "A call cannot stand here"));
            }
        })
    }

    fn media(
        &self,
        media: &'a Media,
        usual: &'static str,
        place: &str,
    ) -> Result<WirePart<'a>, Invalid> {
        match media {
            Media::Inline { mime, data } => Ok(WirePart {
                inline_data: Some(Blob {
                    mime_type: mime,
                    data,
                }),
                ..WirePart::default()
            }),
            Media::Text(text) => Ok(WirePart::text(text)),
            Media::Url { url, mime } => match takes_url_of(url, self.upstream) {
                true => Ok(WirePart::file(url, mime.as_deref(), usual)),
                false => Err(Invalid::unsupported(
                    place,
                    "This provider does not fetch from addresses, and the setting media.fetch, which lets the gateway do it, is \
                     off or does not allow this address; send the bytes as a data: URL",
                )),
            },
            Media::File(id) if takes_url_of(id, self.upstream) => {
                Ok(WirePart::file(id, None, usual))
            }
            Media::File(_) => Err(Invalid::unsupported(
                place,
                "The id of a file belongs to another provider's store; send the bytes themselves",
            )),
        }
    }

    /// The id as Gemini gave it. It did not give ids of the forms that others, or this gateway, make.
    fn own_id(&self, id: &'a str) -> Option<&'a str> {
        let foreign = [
            "call_",
            "toolu_",
            "tooluse_",
            "chatcmpl-tool-",
            "functions.",
        ]
        .iter()
        .any(|start| id.starts_with(start));
        (self.model.knows_call_ids() && !foreign && !id.is_empty()).then_some(id)
    }

    fn own_signature(&self, signature: Option<&'a Signature>) -> Option<&'a str> {
        signature
            .filter(|signature| signature.origin == Origin::Google)
            .map(|signature| signature.data.as_str())
    }

    fn finish(mut self) -> Result<Vec<Content<'a>>, Invalid> {
        self.groups.retain(|group| !group.is_empty());
        if self.model.demands_signatures() {
            self.sign();
        }
        let mut contents = Vec::with_capacity(self.groups.len() + 1);
        if self.groups.first().is_none_or(|group| group.model) {
            self.changes.added("messages");
            contents.push(Content {
                role: "user",
                parts: vec![WirePart::text(FILLER)],
            });
        }
        for group in self.groups {
            contents.push(group.content()?);
        }
        Ok(contents)
    }

    /// Gives the first call of each turn of the model since the user's last words a signature, if the client lost it.
    fn sign(&mut self) {
        let words = |group: &Group<'_>| !group.model && !group.parts.is_empty();
        let current = self.groups.iter().rposition(words).unwrap_or(0);
        for group in self.groups[current..]
            .iter_mut()
            .filter(|group| group.model)
        {
            let call = group
                .parts
                .iter_mut()
                .find(|part| part.function_call.is_some());
            if let Some(call) = call.filter(|call| call.thought_signature.is_none()) {
                call.thought_signature = Some(NO_SIGNATURE);
                self.changes.added("thought_signature");
            }
        }
    }
}

impl<'a> Group<'a> {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.results.is_empty()
    }

    /// Results come first, in the order of the calls, as many as there were calls.
    fn content(mut self) -> Result<Content<'a>, Invalid> {
        let order: HashMap<&str, usize> = self
            .calls
            .iter()
            .enumerate()
            .map(|(at, (id, _))| (*id, at))
            .collect();
        if !self.results.is_empty() {
            let answered: std::collections::HashSet<&str> =
                self.results.iter().map(|result| result.id).collect();
            if let Some((id, place)) = self.calls.iter().find(|(id, _)| !answered.contains(id)) {
                return Err(Invalid::at(
                    place.clone(),
                    format!(
                        "No result follows for the call {id:?}, although others of its turn have one"
                    ),
                ));
            }
        }
        self.results
            .sort_by_key(|result| order.get(result.id).copied().unwrap_or(usize::MAX));
        let mut parts = Vec::with_capacity(self.results.len() + self.parts.len());
        let mut beside = Vec::new();
        for result in self.results {
            parts.push(result.response);
            beside.extend(result.beside);
        }
        parts.extend(beside);
        parts.extend(self.parts);
        Ok(Content {
            role: if self.model { "model" } else { "user" },
            parts,
        })
    }
}

impl<'a> WirePart<'a> {
    fn file(url: &'a str, mime: Option<&'a str>, usual: &'static str) -> Self {
        Self {
            file_data: Some(FileData {
                file_uri: url,
                mime_type: mime.unwrap_or_else(|| mime_of(url, usual)),
            }),
            ..Self::default()
        }
    }
}

fn takes_url_of(url: &str, upstream: &Upstream<'_>) -> bool {
    // The kind of the part plays no role.
    takes_url(&PartKind::Refusal(String::new()), url, upstream)
}

/// The type that an address's ending stands for.
fn mime_of(url: &str, usual: &'static str) -> &'static str {
    if is_googles(url) && url.contains("youtu") {
        return "video/mp4";
    }
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit(['.', '/']).next().unwrap_or_default();
    match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "mp4" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        _ => usual,
    }
}

/// The kinds of media that may stand within what a function returned.
fn fits_inside(kind: &PartKind) -> bool {
    let mime = match kind {
        PartKind::Image {
            media: Media::Inline { mime, .. },
            ..
        }
        | PartKind::Document {
            media: Media::Inline { mime, .. },
            ..
        } => mime,
        _ => return false,
    };
    matches!(
        mime.as_str(),
        "image/png" | "image/jpeg" | "image/webp" | "application/pdf" | "text/plain"
    )
}

fn append<'a>(text: &mut Option<Cow<'a, str>>, piece: &'a str) {
    match text {
        None => *text = Some(Cow::Borrowed(piece)),
        Some(text) => {
            let text = text.to_mut();
            text.push('\n');
            text.push_str(piece);
        }
    }
}

fn arguments(text: &str) -> Option<Map<String, Value>> {
    match text.trim().is_empty() {
        true => Some(Map::new()),
        false => serde_json::from_str(text).ok(),
    }
}

fn response(text: Cow<'_, str>, is_error: bool) -> Map<String, Value> {
    let object = || serde_json::from_str::<Map<String, Value>>(&text).ok();
    match is_error {
        false => object().unwrap_or_else(|| {
            let text = text.clone().into_owned();
            Map::from_iter([("output".to_owned(), Value::String(text))])
        }),
        true => {
            let said = object().map(Value::Object);
            let said = said.unwrap_or_else(|| Value::String(text.clone().into_owned()));
            Map::from_iter([("error".to_owned(), said)])
        }
    }
}
