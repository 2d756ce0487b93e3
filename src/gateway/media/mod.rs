//! Pictures and files that a request names by address and the provider does not fetch itself (spec: providers 1.10, resolutions
//! 18): fetched here where that is allowed, else the request is refused. An address that a client writes is a way into the network
//! that this machine stands in, so little of it is believed.

mod address;
mod fetch;
mod kind;
mod webhook;

use std::cell::RefCell;
use std::collections::HashMap;

use quanta::Instant;

pub(super) use self::webhook::Webhook;

use self::fetch::{FetchError, Fetched, Fetcher, Rules};
use super::body::Share;
use super::together::together;
use super::{GatewayError, Thread};
use crate::dialect::Dialect;
use crate::dialect::failure::Invalid;
use crate::dialect::neutral::{Media, Part, PartKind, Request};
use crate::limits::{MEDIA_AT_ONCE, MEDIA_FILES_MAX};
use crate::snapshot::Settings;

/// Why a request cannot go on.
#[derive(Debug)]
pub enum Refused {
    /// The client has to mend it.
    Invalid(Invalid),
    /// There is no memory for it now.
    Gateway(GatewayError),
}

/// The memory that fetched media take. To be kept as long as the request's body.
#[must_use]
pub struct Kept<'a> {
    _share: Option<Share<'a>>,
}

/// Fetches what the request names by addresses that the provider does not fetch itself, and puts it in their place.
pub async fn inline<'a>(
    thread: &'a Thread,
    settings: &Settings,
    request: &mut Request,
    takes_url: impl Fn(&PartKind, &str) -> bool,
) -> Result<Kept<'a>, Refused> {
    let remote = remote(request, &takes_url);
    if remote.is_empty() {
        return Ok(Kept { _share: None });
    }
    let urls = distinct(&remote, settings.media_fetch).map_err(Refused::Invalid)?;
    let share = RefCell::new(Share::of(&thread.shared.buffered));
    let connector = thread.connector(settings, Rules::PUBLIC.wait);
    let fetcher = Fetcher {
        connector: &connector,
        rules: Rules::PUBLIC,
        begin: Instant::now(),
        grow: &|bytes| share.borrow_mut().grow(bytes),
    };
    let mut fetched = HashMap::with_capacity(urls.len());
    let fetching = urls.iter().map(|(first, _)| fetcher.fetch(&first.url));
    let mut found = Vec::with_capacity(urls.len());
    together(MEDIA_AT_ONCE, fetching, &mut found, Result::is_err).await;
    for ((first, uses), found) in urls.iter().zip(found) {
        // One that was not waited for comes beside one that failed.
        let Some(found) = found else { continue };
        let found = found.map_err(|error| refused(first, error))?;
        fetched.insert(first.url.as_str(), (found, *uses));
    }
    for remote in &remote {
        let Some((found, uses)) = fetched.get_mut(remote.url.as_str()) else {
            continue;
        };
        *uses -= 1;
        let data = match uses {
            0 => std::mem::take(&mut found.data),
            _ => {
                let grown = share.borrow_mut().grow(found.data.len());
                grown.map_err(Refused::Gateway)?;
                found.data.clone()
            }
        };
        put(request, remote, found, data).map_err(Refused::Invalid)?;
    }
    Ok(Kept {
        _share: Some(share.into_inner()),
    })
}

/// Something to fetch, and where in the request it stands.
#[derive(Debug, PartialEq, Eq)]
struct Remote {
    url: String,
    turn: usize,
    part: usize,
    /// Inside a tool's result.
    inside: Option<usize>,
    /// The same, as the client knows it.
    place: String,
}

fn remote(request: &Request, takes_url: &impl Fn(&PartKind, &str) -> bool) -> Vec<Remote> {
    // Chat's places count the system messages that stand before all turns.
    let before = match request.from {
        Dialect::Chat => request.system.len(),
        _ => 0,
    };
    let mut found = Vec::new();
    for (turn, parts) in request.turns.iter().map(|turn| &turn.parts).enumerate() {
        for (part, outer) in parts.iter().enumerate() {
            let place = format!("messages[{}].content[{part}]", before + turn);
            let mut note = |kind: &PartKind, inside: Option<usize>, place: String| {
                if let Some(Media::Url { url, .. }) = media(kind)
                    && !takes_url(kind, url)
                {
                    let url = url.clone();
                    found.push(Remote {
                        url,
                        turn,
                        part,
                        inside,
                        place,
                    });
                }
            };
            match &outer.kind {
                PartKind::ToolResult { content, .. } => {
                    for (at, inner) in content.iter().enumerate() {
                        note(&inner.kind, Some(at), format!("{place}.content[{at}]"));
                    }
                }
                kind => note(kind, None, place),
            }
        }
    }
    found
}

fn media(kind: &PartKind) -> Option<&Media> {
    match kind {
        PartKind::Image { media, .. } | PartKind::Document { media, .. } => Some(media),
        PartKind::Audio(media) | PartKind::Video(media) => Some(media),
        _ => None,
    }
}

/// Each address once, with how often it is named: a conversation repeats its pictures.
fn distinct(remote: &[Remote], allowed: bool) -> Result<Vec<(&Remote, usize)>, Invalid> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut urls: Vec<(&Remote, usize)> = Vec::new();
    for one in remote {
        if !allowed {
            return Err(Invalid::unsupported(
                one.place.as_str(),
                "The provider fetches nothing from addresses, and neither may this gateway: send the data itself, or have media.fetch = true set in the gateway's configuration",
            ));
        }
        let at = *places.entry(&one.url).or_insert(urls.len());
        match urls.get_mut(at) {
            Some((_, uses)) => *uses += 1,
            None if at >= MEDIA_FILES_MAX => {
                return Err(Invalid::at(
                    one.place.as_str(),
                    format!("At most {MEDIA_FILES_MAX} addresses of one request are fetched"),
                ));
            }
            None => urls.push((one, 1)),
        }
    }
    Ok(urls)
}

fn refused(remote: &Remote, error: FetchError) -> Refused {
    match error {
        FetchError::Memory(error) => Refused::Gateway(error),
        error => Refused::Invalid(Invalid {
            code: Some("invalid_media_url"),
            ..Invalid::at(
                remote.place.as_str(),
                format!("What stands at this address cannot be fetched: {error}"),
            )
        }),
    }
}

/// Puts what was fetched where its address stood.
fn put(
    request: &mut Request,
    remote: &Remote,
    found: &Fetched,
    data: String,
) -> Result<(), Invalid> {
    let part = request
        .turns
        .get_mut(remote.turn)
        .and_then(|turn| turn.parts.get_mut(remote.part));
    let part: Option<&mut Part> = match (part, remote.inside) {
        (Some(part), None) => Some(part),
        (Some(part), Some(at)) => match &mut part.kind {
            PartKind::ToolResult { content, .. } => content.get_mut(at),
            _ => None,
        },
        (None, _) => None,
    };
    let Some(part) = part else { return Ok(()) };
    let stated = match media(&part.kind) {
        Some(Media::Url { mime, .. }) => mime.clone(),
        _ => None,
    };
    let told = found.told.as_deref().or(stated.as_deref());
    let mime = kind::media_type(&part.kind, &found.begin, told);
    let mime = mime.ok_or_else(|| Invalid {
        code: Some("invalid_media_url"),
        ..Invalid::at(
            remote.place.as_str(),
            "What stands at this address is not what this part is for",
        )
    })?;
    let inline = Media::Inline { mime, data };
    match &mut part.kind {
        PartKind::Image { media, .. } | PartKind::Document { media, .. } => *media = inline,
        PartKind::Audio(media) | PartKind::Video(media) => *media = inline,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::neutral::{Role, Turn};

    fn picture(url: &str) -> Part {
        PartKind::Image {
            media: Media::Url {
                url: url.to_owned(),
                mime: None,
            },
            detail: None,
        }
        .into()
    }

    fn request(parts: Vec<Part>) -> Request {
        let mut request = Request::new(Dialect::Chat, "m");
        request.system = vec![Part::text("Be brief")];
        request.turns = vec![Turn::new(Role::User, parts)];
        request
    }

    fn inside(part: Part) -> Part {
        PartKind::ToolResult {
            id: "t".to_owned(),
            content: vec![Part::text("see"), part],
            is_error: false,
        }
        .into()
    }

    #[test]
    fn addresses_that_the_provider_does_not_fetch_are_found_wherever_they_stand() {
        let request = request(vec![
            Part::text("https://example.com/"),
            picture("https://example.com/a"),
            inside(picture("https://example.com/b")),
            picture("s3://bucket/c"),
        ]);
        let found = remote(&request, &|_, url| url.starts_with("s3:"));
        let places: Vec<&str> = found.iter().map(|one| one.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "messages[1].content[1]",
                "messages[1].content[2].content[1]"
            ]
        );
        assert_eq!(
            (found[1].url.as_str(), found[1].inside),
            ("https://example.com/b", Some(1))
        );
    }

    #[test]
    fn nothing_is_fetched_unless_it_is_allowed_and_each_address_once() {
        let one = || picture("https://example.com/a");
        let request = request(vec![one(), picture("https://example.com/b"), one()]);
        let found = remote(&request, &|_, _| false);
        let refusal = distinct(&found, false).expect_err("a refusal");
        assert!(refusal.message.contains("media.fetch"));
        assert_eq!(refusal.param.as_deref(), Some("messages[1].content[0]"));
        let urls = distinct(&found, true).expect("addresses");
        let uses: Vec<(&str, usize)> = urls
            .iter()
            .map(|(first, uses)| (first.url.as_str(), *uses))
            .collect();
        assert_eq!(
            uses,
            [("https://example.com/a", 2), ("https://example.com/b", 1)]
        );
    }

    #[test]
    fn a_request_names_no_more_than_so_many_addresses() {
        let parts =
            |count: usize| (0..count).map(|at| picture(&format!("https://example.com/{at}")));
        let enough = request(parts(MEDIA_FILES_MAX).collect());
        assert!(distinct(&remote(&enough, &|_, _| false), true).is_ok());
        let many = request(parts(MEDIA_FILES_MAX + 1).collect());
        assert!(distinct(&remote(&many, &|_, _| false), true).is_err());
    }

    #[test]
    fn what_was_fetched_stands_where_its_address_stood() {
        let mut request = request(vec![
            picture("https://example.com/a"),
            inside(picture("https://example.com/b")),
        ]);
        let found = remote(&request, &|_, _| false);
        let fetched = |begin: &[u8]| Fetched {
            begin: begin.to_vec(),
            data: String::new(),
            told: Some("text/html".to_owned()),
        };
        let png = fetched(b"\x89PNG\r\n\x1a\n");
        for one in &found {
            put(&mut request, one, &png, "aGk=".to_owned()).expect("a picture");
        }
        let inline = Media::Inline {
            mime: "image/png".to_owned(),
            data: "aGk=".to_owned(),
        };
        let mut parts = request
            .parts_mut()
            .filter(|part| media(&part.kind).is_some());
        assert!(parts.all(|part| media(&part.kind) == Some(&inline)));
        drop(parts);
        let page = fetched(b"<html>");
        let refusal = put(&mut request, &found[0], &page, String::new()).expect_err("a refusal");
        assert_eq!(refusal.param.as_deref(), Some("messages[1].content[0]"));
    }
}
