//! Pictures, documents, films and sound in a Converse request: by bytes or by an address in S3, with a format's name in place of
//! a media type.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Block, Document, File, Source};
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::{Media, PartKind};

/// Whether Bedrock fetches the address itself: only from S3.
pub(super) fn fetches(kind: &PartKind, url: &str) -> bool {
    url.starts_with("s3://") && !matches!(kind, PartKind::Audio(_))
}

/// Writes a picture, document, film or sound that stands at `place`.
pub(super) fn write<'a>(
    kind: &'a PartKind,
    place: &str,
    names: &mut Names,
) -> Result<Block<'a>, Invalid> {
    Ok(match kind {
        PartKind::Image { media, .. } => Block::Image(file(media, &IMAGES, kind, place)?),
        PartKind::Video(media) => Block::Video(file(media, &VIDEOS, kind, place)?),
        PartKind::Audio(media) => Block::Audio(file(media, &AUDIOS, kind, place)?),
        PartKind::Document { media, name } => {
            let name = name.as_deref().unwrap_or_default();
            Block::Document(Document {
                format: document_format(media, name, place)?,
                name: names.give(name),
                source: source(media, kind, place)?,
            })
        }
        _ => return Err(Invalid::at(place, "Bedrock takes no such content")),
    })
}

/// Media types and the names of formats.
type Formats = [(&'static str, &'static str)];

const IMAGES: [(&str, &str); 5] = [
    ("image/png", "png"),
    ("image/jpeg", "jpeg"),
    ("image/jpg", "jpeg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
];

const VIDEOS: [(&str, &str); 9] = [
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
    ("video/webm", "webm"),
    ("video/x-flv", "flv"),
    ("video/mpeg", "mpeg"),
    ("video/mpg", "mpg"),
    ("video/x-ms-wmv", "wmv"),
    ("video/3gpp", "three_gp"),
];

const AUDIOS: [(&str, &str); 11] = [
    ("audio/mp3", "mp3"),
    ("audio/mpeg", "mp3"),
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/aac", "aac"),
    ("audio/flac", "flac"),
    ("audio/mp4", "m4a"),
    ("audio/webm", "webm"),
    ("audio/pcm", "pcm"),
];

const DOCUMENTS: [(&str, &str); 11] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("application/msword", "doc"),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    ("application/vnd.ms-excel", "xls"),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    ("text/html", "html"),
    ("text/plain", "txt"),
    ("text/markdown", "md"),
    ("text/x-markdown", "md"),
    ("application/json", "txt"),
];

fn file<'a>(
    media: &'a Media,
    formats: &Formats,
    kind: &PartKind,
    place: &str,
) -> Result<File<'a>, Invalid> {
    let format = match media {
        Media::Inline { mime, .. } => by_type(mime, formats),
        Media::Url { url, mime } => mime
            .as_deref()
            .and_then(|mime| by_type(mime, formats))
            .or_else(|| by_extension(url, formats)),
        Media::Text(_) | Media::File(_) => None,
    };
    let source = source(media, kind, place)?;
    let format = format.ok_or_else(|| unknown_format(media, formats, place))?;
    Ok(File { format, source })
}

fn document_format(media: &Media, name: &str, place: &str) -> Result<&'static str, Invalid> {
    let by_name = by_extension(name, &DOCUMENTS);
    let found = match media {
        Media::Text(_) => Some(by_name.filter(|format| *format == "md").unwrap_or("txt")),
        Media::Inline { mime, .. } => by_type(mime, &DOCUMENTS)
            .or(by_name)
            .or(mime.starts_with("text/").then_some("txt")),
        Media::Url { url, mime } => mime
            .as_deref()
            .and_then(|mime| by_type(mime, &DOCUMENTS))
            .or(by_name)
            .or_else(|| by_extension(url, &DOCUMENTS)),
        // Refused for what it is.
        Media::File(_) => Some("pdf"),
    };
    // An address is refused for what it is, before its unknown format.
    let remote = matches!(media, Media::Url { url, .. } if !url.starts_with("s3://"));
    found
        .or(remote.then_some("pdf"))
        .ok_or_else(|| unknown_format(media, &DOCUMENTS, place))
}

fn source<'a>(media: &'a Media, kind: &PartKind, place: &str) -> Result<Source<'a>, Invalid> {
    match media {
        Media::Inline { data, .. } => Ok(Source::Bytes(Cow::Borrowed(data))),
        Media::Text(text) => Ok(Source::Bytes(Cow::Owned(STANDARD.encode(text)))),
        Media::Url { url, .. } if fetches(kind, url) => Ok(Source::S3Location { uri: url }),
        Media::Url { .. } => Err(Invalid::unsupported(
            place,
            "Bedrock fetches nothing from addresses outside of S3: send the bytes, or let the gateway fetch them (media.fetch = true)",
        )),
        Media::File(_) => Err(Invalid::unsupported(
            place,
            "Bedrock has no store of files: send the bytes",
        )),
    }
}

fn by_type(mime: &str, formats: &Formats) -> Option<&'static str> {
    let mime = mime.split(';').next().unwrap_or_default().trim();
    let found = formats
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(mime));
    found.map(|(_, format)| *format)
}

fn by_extension(name: &str, formats: &Formats) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    let extension = match extension.to_ascii_lowercase().as_str() {
        "jpg" => "jpeg".to_owned(),
        "3gp" => "three_gp".to_owned(),
        "htm" => "html".to_owned(),
        other => other.to_owned(),
    };
    let found = formats.iter().find(|(_, format)| *format == extension);
    found.map(|(_, format)| *format)
}

fn unknown_format(media: &Media, formats: &Formats, place: &str) -> Invalid {
    let mut names: Vec<&str> = formats.iter().map(|(_, format)| *format).collect();
    names.dedup();
    let names = names.join(", ");
    let found = match media {
        Media::Inline { mime, .. } => mime.as_str(),
        Media::Url { mime, .. } => mime.as_deref().unwrap_or("something unnamed"),
        Media::Text(_) => "text",
        Media::File(_) => "a file",
    };
    Invalid::unsupported(place, format!("Bedrock takes {names} here, not {found}"))
}

/// Most characters of a document's name.
const NAME_MAX: usize = 200;

/// The names of a request's documents, each once and in letters that Bedrock takes.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// How often a name was wanted or given.
    given: HashMap<String, usize>,
}

impl Names {
    fn give(&mut self, wanted: &str) -> String {
        let name = plain_name(wanted);
        let count = self.given.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            return name;
        }
        let mut number = *count;
        loop {
            let tail = format!(" {number}");
            let front = name[..name.len().min(NAME_MAX - tail.len())].trim_end();
            let numbered = format!("{front}{tail}");
            number += 1;
            if !self.given.contains_key(&numbered) {
                self.given.insert(name, number - 1);
                self.given.insert(numbered.clone(), 1);
                return numbered;
            }
        }
    }
}

/// Letters, digits, single spaces, hyphens, round and square brackets, without the ending that the format says anyway.
fn plain_name(name: &str) -> String {
    let name = match by_extension(name, &DOCUMENTS) {
        Some(_) => name.rsplit_once('.').map_or(name, |(front, _)| front),
        None => name,
    };
    let mut plain = String::with_capacity(name.len().min(NAME_MAX));
    for letter in name.chars() {
        let letter = match letter {
            letter if letter.is_ascii_alphanumeric() || "-()[]".contains(letter) => letter,
            letter if letter.is_whitespace() => ' ',
            _ => '-',
        };
        if plain.len() >= NAME_MAX {
            break;
        }
        if letter != ' ' || !plain.is_empty() && !plain.ends_with(' ') {
            plain.push(letter);
        }
    }
    plain.truncate(plain.trim_end().len());
    match plain.is_empty() {
        true => "document".to_owned(),
        false => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_each_is_given_once() {
        let mut names = Names::default();
        let long = "x".repeat(300);
        for (wanted, given) in [
            ("report.pdf", "report"),
            ("report.pdf", "report 2"),
            ("report 2.pdf", "report 2 2"),
            ("report", "report 3"),
            ("  Q3   (draft) [v1].2.xlsx", "Q3 (draft) [v1]-2"),
            ("../../etc/passwd", "------etc-passwd"),
            ("Übersicht.docx", "-bersicht"),
            ("", "document"),
            (" ", "document 2"),
            (&long, &long[..200]),
            (&long, &format!("{} 2", &long[..198])),
        ] {
            assert_eq!(names.give(wanted), given, "{wanted}");
        }
    }

    #[test]
    fn a_thousand_documents_of_one_name_are_named_quickly() {
        let mut names = Names::default();
        let given: std::collections::HashSet<String> =
            (0..10_000).map(|_| names.give("a.pdf")).collect();
        assert_eq!(given.len(), 10_000);
    }
}
