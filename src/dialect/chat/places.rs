//! Small things that stand in several places of the dialect: data URLs, whose signatures are whose.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{alphabet, engine};

use super::super::neutral::{Media, Origin};

/// The `format` that tells whose an entry of `reasoning_details` is, in OpenRouter's words where it has some.
pub fn format_of(origin: Origin) -> &'static str {
    match origin {
        Origin::Anthropic => "anthropic-claude-v1",
        Origin::Google => "google-gemini-v1",
        Origin::OpenAi => "openai-responses-v1",
        Origin::Bedrock => "amazon-bedrock-v1",
        Origin::Other => "unknown",
    }
}

/// Reads [`format_of`].
pub fn origin_of(format: &str) -> Option<Origin> {
    match format {
        "anthropic-claude-v1" => Some(Origin::Anthropic),
        "google-gemini-v1" => Some(Origin::Google),
        "openai-responses-v1" | "azure-openai-responses-v1" => Some(Origin::OpenAi),
        "amazon-bedrock-v1" => Some(Origin::Bedrock),
        _ => None,
    }
}

/// Whose model it is, by OpenRouter's name of it.
pub fn vendor(model: &str) -> Option<Origin> {
    match model.split('/').next()? {
        "anthropic" => Some(Origin::Anthropic),
        "google" => Some(Origin::Google),
        "openai" => Some(Origin::OpenAi),
        _ => None,
    }
}

/// Reads a `data:` URL; `None` where it is none or what it holds is not base64. Where the URL does not say what it holds, its
/// first bytes do.
pub fn data_url(url: String) -> Option<Media> {
    let rest = strip_data(&url)?;
    let comma = rest.find(',')?;
    let head = &rest[..comma];
    let start = url.len() - rest.len() + comma + 1;
    let mut fields = head.split(';');
    let mime = fields
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_base64 = fields.any(|field| field.trim().eq_ignore_ascii_case("base64"));
    let mut data = url;
    data.drain(..start);
    let data = match is_base64 {
        true => standard(data)?,
        false => STANDARD.encode(percent_decoded(&data)),
    };
    let mime = match mime.is_empty() {
        true => sniffed(&data).unwrap_or("text/plain").to_owned(),
        false => mime,
    };
    Some(Media::Inline { mime, data })
}

fn strip_data(url: &str) -> Option<&str> {
    let scheme = url.get(..5)?;
    scheme.eq_ignore_ascii_case("data:").then(|| &url[5..])
}

/// Whether it is a `data:` URL.
pub fn is_data_url(url: &str) -> bool {
    strip_data(url).is_some()
}

/// Base64 in the standard alphabet with its padding, from what clients write: without padding, in the alphabet of URLs, with
/// line ends.
pub fn standard(data: String) -> Option<String> {
    let is_plain = data.len().is_multiple_of(4)
        && data
            .trim_end_matches('=')
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && !data.ends_with("===");
    if is_plain {
        return Some(data);
    }
    const FORGIVING: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, FORGIVING);
    let cleaned: String = data
        .chars()
        .filter(|letter| !letter.is_ascii_whitespace())
        .map(|letter| match letter {
            '-' => '+',
            '_' => '/',
            letter => letter,
        })
        .collect();
    let bytes = ENGINE.decode(cleaned).ok()?;
    Some(STANDARD.encode(bytes))
}

/// The type of what stands in base64, by its first bytes.
pub fn sniffed(data: &str) -> Option<&'static str> {
    const STARTS: [(&str, &str); 6] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
        ("SUQz", "audio/mpeg"),
    ];
    let found = STARTS.iter().find(|(start, _)| data.starts_with(start));
    found.map(|(_, mime)| *mime)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_read_however_clients_write_them() {
        for (url, mime, data) in [
            ("data:image/png;base64,AAAA", "image/png", "AAAA"),
            ("DATA:Image/PNG;charset=x;BASE64,AAE", "image/png", "AAE="),
            ("data:image/png;base64,-_8=", "image/png", "+/8="),
            ("data:image/png;base64,AA\nAA", "image/png", "AAAA"),
            ("data:;base64,JVBERi0x", "application/pdf", "JVBERi0x"),
            ("data:text/plain,a%20b", "text/plain", "YSBi"),
            ("data:,", "text/plain", ""),
        ] {
            let inline = Media::Inline {
                mime: mime.to_owned(),
                data: data.to_owned(),
            };
            assert_eq!(data_url(url.to_owned()), Some(inline), "{url}");
        }
        for url in [
            "https://a/b",
            "data:image/png;base64",
            "data:a;base64,%%%",
            "é",
        ] {
            assert_eq!(data_url(url.to_owned()), None, "{url}");
        }
    }

    #[test]
    fn formats_tell_whose_thoughts_they_are() {
        for origin in [
            Origin::Anthropic,
            Origin::Google,
            Origin::OpenAi,
            Origin::Bedrock,
        ] {
            assert_eq!(origin_of(format_of(origin)), Some(origin));
        }
        assert_eq!(origin_of(format_of(Origin::Other)), None);
    }
}
