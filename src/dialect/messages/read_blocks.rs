//! Content blocks of a client's request.

use serde_json::Value;

use super::super::failure::Invalid;
use super::super::fields::{Fields, wrong};
use super::super::neutral::{
    CacheMark, Citation, Media, Origin, Part, PartKind, Signature, ToolUse,
};
use super::carried::Carried;
use super::read_request::Notes;

/// Reads a content: text, or blocks.
pub(super) fn read_content(
    content: Value,
    place: &str,
    notes: &mut Notes,
) -> Result<Vec<Part>, Invalid> {
    let blocks = match content {
        Value::String(text) => return Ok(vec![Part::text(text)]),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(place, "a string or a list of blocks", &other)),
    };
    let mut parts = Vec::with_capacity(blocks.len());
    let mut carried = Carried::default();
    for (at, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        let from = parts.len();
        read_block(block, &place, &mut parts, notes)?;
        carried.settle(&mut parts, from);
    }
    Ok(parts)
}

/// Takes `cache_control`.
pub(super) fn read_cache(fields: &mut Fields) -> Result<Option<CacheMark>, Invalid> {
    match fields.inner("cache_control")? {
        None => Ok(None),
        Some(mut control) => Ok(Some(CacheMark {
            ttl: control.text("ttl")?,
        })),
    }
}

/// Appends what a block is. Some are more than one part.
fn read_block(
    block: Value,
    place: &str,
    parts: &mut Vec<Part>,
    notes: &mut Notes,
) -> Result<(), Invalid> {
    let kind = match block.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(other) => return Err(wrong(&format!("{place}.type"), "a string", other)),
        None if block.is_object() => {
            return Err(Invalid::at(
                format!("{place}.type"),
                format!("{place}.type is missing"),
            ));
        }
        None => return Err(wrong(place, "an object", &block)),
    };
    if is_foreign(&kind, &block) {
        parts.push(PartKind::Foreign(block).into());
        return Ok(());
    }
    let mut fields = Fields::of(block, place)?;
    let cache = read_cache(&mut fields)?;
    let from = parts.len();
    match kind.as_str() {
        "text" => parts.push(read_text(&mut fields)?.into()),
        "image" => {
            let media = read_source(&mut fields)?;
            parts.push(
                PartKind::Image {
                    media,
                    detail: None,
                }
                .into(),
            );
        }
        "document" => read_document(&mut fields, parts, notes)?,
        "search_result" => parts.push(read_search_result(&mut fields, notes)?.into()),
        "thinking" => {
            let text = fields.text("thinking")?.unwrap_or_default();
            let signature = fields.text("signature")?.filter(|data| !data.is_empty());
            let signature = signature.map(|data| Signature::from_tagged(&data, Origin::Anthropic));
            parts.push(PartKind::Thinking { text, signature }.into());
        }
        "redacted_thinking" => {
            let data = fields.required_text("data")?;
            parts.push(PartKind::Redacted(Signature::from_tagged(&data, Origin::Anthropic)).into());
        }
        "tool_use" => parts.push(read_tool_use(&mut fields)?.into()),
        // What the model knows of what was said before, where the client does not send that any more.
        "compaction" => parts.push(Part::text(fields.text("content")?.unwrap_or_default())),
        _ => {
            let id = fields.required_text("tool_use_id")?;
            let place = fields.place("content");
            let content = match fields.take("content") {
                Some(content) => read_content(content, &place, notes)?,
                None => Vec::new(),
            };
            let is_error = fields.truth("is_error")?.unwrap_or_default();
            parts.push(
                PartKind::ToolResult {
                    id,
                    content,
                    is_error,
                }
                .into(),
            );
        }
    }
    if let Some(last) = parts[from..].last_mut() {
        last.cache = cache;
    }
    Ok(())
}

/// Blocks of tools that run at Anthropic, and those to come: nobody else knows them.
fn is_foreign(kind: &str, block: &Value) -> bool {
    match kind {
        // It changes with every request; at another provider it would end the prompt cache before it begins.
        "text" => {
            let text = block.get("text").and_then(Value::as_str);
            text.is_some_and(|text| text.starts_with("x-anthropic-billing-header:"))
        }
        "image" | "document" | "search_result" | "thinking" | "redacted_thinking" | "tool_use"
        | "compaction" | "tool_result" => false,
        _ => true,
    }
}

fn read_text(fields: &mut Fields) -> Result<PartKind, Invalid> {
    let citations = fields.list("citations")?.unwrap_or_default();
    Ok(PartKind::Text {
        text: fields.required_text("text")?,
        citations: citations.iter().filter_map(read_citation).collect(),
        signature: None,
    })
}

/// A citation, if it says where on the web it is from.
pub(super) fn read_citation(citation: &Value) -> Option<Citation> {
    let text = |key| citation.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Citation {
        url: text("url").or_else(|| text("source").filter(|source| source.starts_with("http")))?,
        title: text("title"),
        range: None,
        quote: text("cited_text"),
    })
}

fn read_source(fields: &mut Fields) -> Result<Media, Invalid> {
    let missing = Invalid::at(
        fields.place("source"),
        format!("{} is missing", fields.place("source")),
    );
    let mut source = fields.inner("source")?.ok_or(missing)?;
    match source.required_text("type")?.as_str() {
        "base64" => Ok(Media::Inline {
            mime: source.required_text("media_type")?,
            data: source.required_text("data")?,
        }),
        "url" => Ok(Media::Url {
            url: source.required_text("url")?,
            mime: None,
        }),
        "file" => Ok(Media::File(source.required_text("file_id")?)),
        "text" => Ok(Media::Text(source.required_text("data")?)),
        other => Err(Invalid::at(
            source.place("type"),
            format!("There is no source of type {other}"),
        )),
    }
}

fn read_document(
    fields: &mut Fields,
    parts: &mut Vec<Part>,
    notes: &mut Notes,
) -> Result<(), Invalid> {
    let name = fields.text("title")?;
    if let Some(context) = fields.text("context")? {
        parts.push(Part::text(context));
    }
    if fields
        .take("citations")
        .is_some_and(|citations| citations["enabled"] == true)
    {
        notes.add("citations");
    }
    let is_content = fields
        .peek("source")
        .is_some_and(|source| source["type"] == "content");
    if !is_content {
        let media = read_source(fields)?;
        parts.push(PartKind::Document { media, name }.into());
        return Ok(());
    }
    let Some(mut source) = fields.inner("source")? else {
        return Ok(());
    };
    let place = source.place("content");
    let content = source.take("content").unwrap_or_default();
    let inner = match content {
        Value::String(text) => vec![Part::text(text)],
        content => read_content(content, &place, notes)?,
    };
    let (texts, others): (Vec<Part>, Vec<Part>) =
        inner.into_iter().partition(|part| part.as_text().is_some());
    let text: Vec<&str> = texts.iter().filter_map(Part::as_text).collect();
    if !text.is_empty() {
        let media = Media::Text(text.join("\n"));
        parts.push(PartKind::Document { media, name }.into());
    }
    parts.extend(others);
    Ok(())
}

fn read_search_result(fields: &mut Fields, notes: &mut Notes) -> Result<PartKind, Invalid> {
    let source = fields.text("source")?.unwrap_or_default();
    let name = fields.text("title")?;
    let place = fields.place("content");
    let content = read_content(fields.take("content").unwrap_or_default(), &place, notes)?;
    let texts = content.iter().filter_map(Part::as_text);
    let text: Vec<&str> = std::iter::once(source.as_str()).chain(texts).collect();
    let media = Media::Text(text.join("\n"));
    Ok(PartKind::Document { media, name })
}

fn read_tool_use(fields: &mut Fields) -> Result<PartKind, Invalid> {
    let place = fields.place("input");
    let arguments = match fields.take("input") {
        None => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(other) => return Err(wrong(&place, "an object", &other)),
    };
    Ok(PartKind::ToolUse(ToolUse {
        id: fields.required_text("id")?,
        name: fields.required_text("name")?,
        arguments,
        custom: false,
        signature: None,
    }))
}
