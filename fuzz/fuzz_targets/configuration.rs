//! No configuration file makes the parser panic, and every complaint names the file and a line of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::config::parse_file;

fuzz_target!(|text: &str| {
    let lines = text.matches('\n').count() + 1;
    match parse_file(text, "f.toml") {
        Ok(entries) => assert!(entries.iter().all(|entry| (1..=lines).contains(&entry.line))),
        Err(error) => {
            for complaint in &error.0 {
                let rest = complaint.strip_prefix("f.toml:").expect("the file's name");
                let line: usize = rest.split(':').next().and_then(|line| line.parse().ok()).expect("a line");
                assert!((1..=lines).contains(&line), "{complaint}");
            }
        }
    }
});
