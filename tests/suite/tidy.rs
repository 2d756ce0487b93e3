//! Walks the tree: layers, dead files, stray prints, bounds in their place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rooms from the lowest to the highest; those of one line do not import each other.
const LAYERS: [&[&str]; 12] = [
    &["limits", "memory"],
    &["http"],
    &["net"],
    &["providers", "route", "meter"],
    &["dialect"],
    &["config", "record", "access", "aggregate", "tables"],
    &["seal"],
    &["snapshot"],
    &["gateway", "sim", "load", "telemetry", "store"],
    &["manage"],
    &["server"],
    &["cli"],
];

/// Rooms that know no socket and no runtime.
const SANS_IO: [&str; 12] = [
    "http",
    "net/outlier",
    "providers",
    "route",
    "meter",
    "dialect",
    "record",
    "aggregate",
    "tables/rate",
    "tables/spend",
    "snapshot",
    "sim/content",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let (mut found, source) = (Vec::new(), root().join("src"));
    walk(&source, &mut found);
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&source)
            .expect("below src")
            .display()
            .to_string();
        let text = std::fs::read_to_string(&path).expect("text");
        (name, text)
    };
    found.into_iter().map(read).collect()
}

/// What stands before a file's tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

fn room(file: &str) -> &str {
    file.split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs")
}

fn height(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

#[test]
fn no_import_points_up() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(own) = height(room(&file)) else {
            assert!(
                matches!(file.as_str(), "lib.rs" | "main.rs"),
                "{file} is in no layer"
            );
            continue;
        };
        for (_, rest) in without_tests(&text)
            .match_indices("crate::")
            .map(|(at, mark)| (at, &text[at + mark.len()..]))
        {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let upward = height(&name)
                .is_some_and(|other| other > own || other == own && name != room(&file));
            if upward {
                wrong.push(format!("{file} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sans_io_rooms_know_no_runtime() {
    for (file, text) in sources() {
        let is_test = file.contains("/tests/") || file.ends_with("/tests.rs");
        if is_test || !SANS_IO.iter().any(|room| file.starts_with(room)) {
            continue;
        }
        for word in [
            "monoio",
            "tokio",
            "std::net::Tcp",
            "std::fs",
            "std::thread",
            "async fn",
        ] {
            assert!(
                !without_tests(&text).contains(word),
                "{file} mentions {word}"
            );
        }
    }
}

#[test]
fn every_file_is_part_of_the_house() {
    let sources = sources();
    for (file, _) in &sources {
        let path = Path::new(file);
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        if matches!(file.as_str(), "lib.rs" | "main.rs") {
            continue;
        }
        let folder = path
            .parent()
            .map(|folder| folder.display().to_string())
            .unwrap_or_default();
        let (parent, module) = match stem {
            "mod" => {
                let module = folder.rsplit('/').next().expect("a folder").to_owned();
                (
                    folder[..folder.len() - module.len()]
                        .trim_end_matches('/')
                        .to_owned(),
                    module,
                )
            }
            stem => (folder, stem.to_owned()),
        };
        let declaring = match parent.as_str() {
            "" => ["lib.rs".to_owned(), String::new()],
            parent => [format!("{parent}/mod.rs"), format!("{parent}.rs")],
        };
        let declared = sources.iter().any(|(name, text)| {
            declaring.contains(name) && text.contains(&format!("mod {module};"))
        });
        assert!(declared, "{file} is declared nowhere");
    }
    let map = &sources
        .iter()
        .find(|(name, _)| name == "lib.rs")
        .expect("the map")
        .1;
    for room in LAYERS.iter().flat_map(|layer| layer.iter()) {
        assert!(
            map.contains(&format!("[`{room}`]")),
            "{room} is not on the map"
        );
    }
}

#[test]
fn nothing_is_left_over() {
    for (file, text) in sources() {
        let code = without_tests(&text);
        for word in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!("] {
            assert!(!code.contains(word), "{file} holds {word}");
        }
        if !file.starts_with("cli/") {
            for word in ["println!(", "eprintln!(", " print!("] {
                assert!(!code.contains(word), "{file} holds {word}");
            }
        }
        for (index, line) in text.lines().enumerate() {
            assert!(
                line.chars().count() <= 160 || line.contains("r#\"") || line.contains('"'),
                "{file}:{} is long",
                index + 1
            );
            assert_eq!(
                line.trim_end(),
                line,
                "{file}:{} ends with white space",
                index + 1
            );
        }
        assert!(
            text.ends_with('\n') && !text.ends_with("\n\n"),
            "{file} ends wrongly"
        );
    }
}

#[test]
fn unsafe_code_says_why_it_is_safe() {
    for (file, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if code.contains("unsafe {") || code.contains("unsafe impl") {
                let above = lines[index.saturating_sub(4)..index].join("\n");
                assert!(above.contains("SAFETY:"), "{file}:{}", index + 1);
            }
        }
    }
}

#[test]
fn every_bound_is_used() {
    let sources = sources();
    let limits = &sources
        .iter()
        .find(|(name, _)| name == "limits.rs")
        .expect("the bounds")
        .1;
    let names: BTreeSet<&str> = limits
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    for name in names {
        let used = sources
            .iter()
            .any(|(file, text)| file != "limits.rs" && text.contains(name))
            || limits.matches(name).count() > 1;
        assert!(used, "{name} bounds nothing");
    }
}

#[test]
fn only_the_task_room_spawns_and_only_the_transport_cancels() {
    for (file, text) in sources() {
        let code = without_tests(&text);
        assert!(
            file == "net/task.rs" || !code.contains("monoio::spawn("),
            "{file}"
        );
        for word in ["monoio::select!", "monoio::time::timeout", "Canceller"] {
            assert!(!code.contains(word), "{file} holds {word}");
        }
    }
}

#[test]
fn the_linter_keeps_foreign_wakers_off_the_data_path() {
    let rules = std::fs::read_to_string(root().join("clippy.toml")).expect("clippy.toml");
    for word in [
        "tokio::sync::Notify",
        "flume::Sender",
        "futures_channel::oneshot::Sender",
        "monoio::spawn",
        "monoio::time::timeout",
        "dashmap::mapref::one::Ref\"",
    ] {
        assert!(rules.contains(word), "clippy.toml lacks {word}");
    }
    for (file, text) in sources() {
        let excused = [
            "server/control.rs",
            "store/mod.rs",
            "net/task.rs",
            "telemetry/analytics/mod.rs",
            "telemetry/logs/mod.rs",
        ]
        .contains(&file.as_str());
        let allows = text.contains("allow(clippy::disallowed")
            || text.contains("allow(clippy::await_holding_invalid");
        assert_eq!(allows, excused, "{file}");
    }
}
