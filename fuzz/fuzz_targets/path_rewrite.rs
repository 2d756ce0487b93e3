//! No path of a client leads out of its place: what goes up is one request target without line ends or dot segments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::providers::{Provider, Slug};

fuzz_target!(|input: (u8, bool, &str, Option<&str>)| {
    let (slug, configured, rest, query) = input;
    // A request's head lets no other bytes into a target.
    let is_target = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_target(rest) || rest.contains('?') || !query.is_none_or(is_target) {
        return;
    }
    let slug = Slug::ALL[usize::from(slug) % Slug::ALL.len()];
    let base = configured.then(|| {
        "https://example.com:8443/base/v1"
            .parse()
            .expect("a base URL")
    });
    let provider = Provider::new(slug, base);
    let Ok(target) = provider.target("local", rest, query) else {
        return;
    };
    let mut path = Vec::new();
    target.write_path(&mut path);
    assert_eq!(path.first(), Some(&b'/'));
    assert!(path.iter().all(u8::is_ascii_graphic), "{path:?}");
    let path = String::from_utf8(path).expect("ASCII");
    let (path, written_query) = path
        .split_once('?')
        .map_or((path.as_str(), None), |(path, query)| (path, Some(query)));
    assert_eq!(written_query, query);
    for segment in path.split('/') {
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        assert!(decoded != "." && decoded != "..", "{path}");
    }
});
