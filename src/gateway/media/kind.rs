//! What fetched bytes are: their first bytes say it better than the server (spec: providers 1.10).

use crate::dialect::neutral::PartKind;

/// How many bytes tell.
pub(super) const SNIFFED: usize = 32;

/// The media type of something that begins so and was said to be `told`; `None`: it is not what the part wants.
pub(super) fn media_type(wanted: &PartKind, begin: &[u8], told: Option<&str>) -> Option<String> {
    let told = told.map(|told| {
        let bare = told.split(';').next().unwrap_or_default().trim();
        bare.to_ascii_lowercase()
    });
    let told = told.filter(|told| !told.is_empty() && told != "application/octet-stream");
    let sniffed = sniff(begin);
    match wanted {
        // A picture that does not begin as one is none, whatever the server calls it.
        PartKind::Image { .. } => sniffed
            .filter(|kind| kind.starts_with("image/"))
            .map(str::to_owned),
        PartKind::Audio(_) => fitting("audio/", sniffed, told),
        PartKind::Video(_) => fitting("video/", sniffed, told),
        PartKind::Document { .. } => sniffed
            .map(str::to_owned)
            .or(told)
            .filter(|kind| !kind.contains(|letter: char| !letter.is_ascii_graphic())),
        _ => None,
    }
}

fn fitting(class: &str, sniffed: Option<&str>, told: Option<String>) -> Option<String> {
    match sniffed {
        // One container holds sound and films.
        Some("video/mp4") if class == "audio/" => Some("audio/mp4".to_owned()),
        Some("video/webm") if class == "audio/" => Some("audio/webm".to_owned()),
        Some("audio/ogg") if class == "video/" => Some("video/ogg".to_owned()),
        Some(kind) => kind.starts_with(class).then(|| kind.to_owned()),
        None => told.filter(|kind| kind.starts_with(class)),
    }
}

fn sniff(begin: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 15] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"%PDF-", "application/pdf"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"\xff\xf3", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"FLV\x01", "video/x-flv"),
        (b"\0\0\x01\xba", "video/mpeg"),
    ];
    let inner = begin.get(8..12);
    if begin.starts_with(b"RIFF") {
        return match inner? {
            b"WEBP" => Some("image/webp"),
            b"WAVE" => Some("audio/wav"),
            b"AVI " => Some("video/x-msvideo"),
            _ => None,
        };
    }
    if begin.get(4..8) == Some(b"ftyp") {
        return match inner? {
            b"M4A " => Some("audio/mp4"),
            b"qt  " => Some("video/quicktime"),
            b"avif" | b"avis" => Some("image/avif"),
            b"heic" | b"heix" | b"mif1" => Some("image/heic"),
            brand if brand.starts_with(b"3g") => Some("video/3gpp"),
            _ => Some("video/mp4"),
        };
    }
    let found = MAGIC.iter().find(|(magic, _)| begin.starts_with(magic));
    found.map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::neutral::Media;

    #[test]
    fn first_bytes_win_over_what_the_server_says() {
        let nothing = || Media::Text(String::new());
        let image = PartKind::Image {
            media: nothing(),
            detail: None,
        };
        let document = PartKind::Document {
            media: nothing(),
            name: None,
        };
        let (audio, video) = (PartKind::Audio(nothing()), PartKind::Video(nothing()));
        let png = b"\x89PNG\r\n\x1a\n....".as_slice();
        for (wanted, begin, told, kind) in [
            (&image, png, Some("text/html"), Some("image/png")),
            (
                &image,
                b"\xff\xd8\xff\xe0".as_slice(),
                None,
                Some("image/jpeg"),
            ),
            (&image, b"RIFF\0\0\0\0WEBPVP8 ", None, Some("image/webp")),
            (&image, b"<html>", Some("image/png"), None),
            (&image, b"%PDF-1.7", Some("image/png"), None),
            (&image, b"", Some("image/png"), None),
            (
                &document,
                b"%PDF-1.7",
                Some("text/plain"),
                Some("application/pdf"),
            ),
            (
                &document,
                b"a,b",
                Some("Text/CSV; charset=utf-8"),
                Some("text/csv"),
            ),
            (&document, b"a,b", Some("application/octet-stream"), None),
            (&document, b"a,b", Some("text/a b"), None),
            (&audio, b"RIFF\0\0\0\0WAVEfmt ", None, Some("audio/wav")),
            (&audio, b"\0\0\0\x18ftypisom", None, Some("audio/mp4")),
            (&audio, b"????", Some("audio/aac"), Some("audio/aac")),
            (&audio, png, Some("audio/aac"), None),
            (
                &video,
                b"\0\0\0\x18ftypisom",
                Some("audio/aac"),
                Some("video/mp4"),
            ),
            (&video, b"????", Some("audio/aac"), None),
        ] {
            let found = media_type(wanted, begin, told);
            assert_eq!(found.as_deref(), kind, "{begin:?} {told:?}");
        }
    }
}
