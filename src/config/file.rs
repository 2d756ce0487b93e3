//! The file: TOML taken apart into keys, texts and lines.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::providers::Slug;

/// A value of the file, or one of the tables below `providers` and `gateways`, which mean something even when empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key, one element a table.
    pub path: Vec<String>,
    /// Its value, or its elements, as text; none of a table.
    pub texts: Vec<String>,
    /// Whether it is an array.
    pub list: bool,
    /// Where it stands, from 1.
    pub line: usize,
    /// The value itself, of a gateway's settings alone.
    pub json: serde_json::Value,
}

/// Keys of the fixed tables.
pub(super) const KEYS: [&str; 47] = [
    "account.id",
    "analytics.user_key",
    "data.access_log",
    "data.body_max",
    "cache.disk_bytes",
    "cache.memory_bytes",
    "data.client_body_idle",
    "data.client_head",
    "data.client_write_stall",
    "data.connections",
    "data.drain",
    "data.driver",
    "data.error_status",
    "data.head_bytes",
    "data.headers",
    "data.house_keys_unauthenticated",
    "data.keep_alive",
    "data.listen",
    "data.proxy_protocol",
    "data.threads",
    "data.tls.certificate",
    "data.tls.key",
    "data.trusted_proxies",
    "data_dir",
    "gateways",
    "gateways.auto_create_default",
    "logs.body_max_age_days",
    "logs.disk_max",
    "logs.max_age_days",
    "management.allow_plaintext",
    "management.listen",
    "media.fetch",
    "metrics.max_series",
    "prices",
    "providers",
    "public_url",
    "upstream.ca_file",
    "upstream.connect",
    "upstream.connections_per_origin",
    "upstream.connections_per_origin_total",
    "upstream.hosts",
    "upstream.keep_alive",
    "upstream.proxy",
    "upstream.response_head",
    "upstream.roots",
    "upstream.stream_idle",
    "upstream.total",
];

const PROVIDER_KEYS: [&str; 3] = ["allow_insecure", "api_key", "base_url"];

/// Of the providers whose paths name a region.
const REGIONAL_KEYS: [&str; 4] = ["allow_insecure", "api_key", "base_url", "region"];

/// Of the provider whose paths name a project as well.
const PROJECT_KEYS: [&str; 5] = ["allow_insecure", "api_key", "base_url", "project", "region"];

/// What a price names: dollars for a million tokens, and for one search and one request.
pub(super) const PRICE_KEYS: [&str; 13] = [
    "match",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_in",
    "audio_out",
    "image_in",
    "image_out",
    "search",
    "request",
];

/// The settings of a gateway, named as in the management API.
pub const GATEWAY_KEYS: [&str; 34] = [
    "authentication",
    "byok_only",
    "cache_invalidate_on_update",
    "cache_streams",
    "cache_ttl",
    "cache_ttl_header_opts_in",
    "coalesce",
    "collect_log_payload",
    "collect_logs",
    "dlp",
    "guardrails",
    "hedge_after_ms",
    "hedge_budget_percent",
    "log_classification",
    "log_management",
    "log_management_strategy",
    "log_redaction",
    "logpush",
    "logpush_public_key",
    "otel",
    "prefer_stored_keys",
    "rate_limiting_interval",
    "rate_limiting_limit",
    "rate_limiting_technique",
    "retry_backoff",
    "retry_delay",
    "retry_jitter",
    "retry_max_attempts",
    "server_timing",
    "spend_limits",
    "store_id",
    "stripe",
    "workers_ai_billing_mode",
    "zdr",
];

/// Takes a file apart. Every key is known; what is wrong is told with its line and the nearest key that exists.
pub fn parse_file(text: &str, name: &str) -> Result<Vec<Entry>, ConfigError> {
    let mut reader = Reader {
        text,
        name,
        entries: Vec::new(),
        errors: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(table) => reader.table(table.get_ref(), &mut Vec::new()),
        Err(error) => {
            let line = error.span().map_or(1, |span| reader.line(&span));
            reader
                .errors
                .push(format!("{name}:{line}: {}", error.message()));
        }
    }
    match reader.errors.is_empty() {
        true => Ok(reader.entries),
        false => Err(ConfigError(reader.errors)),
    }
}

struct Reader<'a> {
    text: &'a str,
    name: &'a str,
    entries: Vec<Entry>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let line = self.line(&key.span());
            match unknown(path) {
                Some(problem) => {
                    let shown = path.join(".");
                    self.errors
                        .push(format!("{}:{line}: {shown}: {problem}", self.name));
                }
                None => self.value(value.get_ref(), path, line),
            }
            path.pop();
        }
    }

    fn value(&mut self, value: &DeValue<'_>, path: &mut Vec<String>, line: usize) {
        // What a gateway's settings may be is for the management API to say.
        if path.len() == 3 && path[0] == "gateways" {
            let (path, json) = (path.clone(), json(value));
            let texts = vec![scalar(value).unwrap_or_else(|| json.to_string())];
            return self.entries.push(Entry {
                path,
                texts,
                list: false,
                line,
                json,
            });
        }
        let expected = is_table(path);
        match value {
            DeValue::Table(table) if expected => {
                let is_named = match path[0].as_str() {
                    "prices" => path.len() == 3,
                    _ => path.len() == 2,
                };
                if is_named {
                    self.push(path, Vec::new(), false, line);
                }
                self.table(table, path);
            }
            _ if expected => {
                let shown = path.join(".");
                self.errors.push(format!(
                    "{}:{line}: {shown}: must be a table, [{shown}] with its keys below",
                    self.name
                ));
            }
            DeValue::Table(_) => {
                let shown = path.join(".");
                self.errors.push(format!(
                    "{}:{line}: {shown}: takes a value, not a table",
                    self.name
                ));
            }
            DeValue::Array(array) => {
                let texts: Option<Vec<String>> = array
                    .iter()
                    .map(|element| scalar(element.get_ref()))
                    .collect();
                match texts {
                    Some(texts) => self.push(path, texts, true, line),
                    None => {
                        let shown = path.join(".");
                        self.errors.push(format!(
                            "{}:{line}: {shown}: must be a list of simple values",
                            self.name
                        ));
                    }
                }
            }
            value => {
                let text = scalar(value).unwrap_or_default();
                self.push(path, vec![text], false, line);
            }
        }
    }

    fn push(&mut self, path: &[String], texts: Vec<String>, list: bool, line: usize) {
        self.entries.push(Entry {
            path: path.to_vec(),
            texts,
            list,
            line,
            json: serde_json::Value::Null,
        });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            let parsed = i128::from_str_radix(digits, number.radix()).ok();
            Some(parsed.map_or_else(|| digits.to_owned(), |number| number.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// A value as JSON. Numbers that JSON cannot hold, and times, stay texts.
fn json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(_) | DeValue::Float(_) => {
            let text = scalar(value).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        DeValue::Array(array) => array
            .iter()
            .map(|element| json(element.get_ref()))
            .collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())))
            .collect(),
        DeValue::String(_) | DeValue::Datetime(_) => {
            Value::String(scalar(value).unwrap_or_default())
        }
    }
}

/// Whether a known key holds further keys.
fn is_table(path: &[String]) -> bool {
    match path {
        [first] if first == "providers" || first == "gateways" => true,
        [first, rest @ ..] if first == "prices" => rest.len() < 3,
        [first, name] if first == "gateways" => name != "auto_create_default",
        [first, _] if first == "providers" => true,
        _ => {
            let prefix = format!("{}.", path.join("."));
            KEYS.iter().any(|key| key.starts_with(&prefix))
        }
    }
}

/// What is wrong with a key, if anything.
fn unknown(path: &[String]) -> Option<String> {
    let (last, parents) = path.split_last()?;
    let candidates: Vec<&str> = match parents {
        [first] if first == "providers" || first == "prices" => {
            if last
                .strip_prefix("custom-")
                .is_some_and(|slug| !slug.is_empty())
            {
                return (!is_path_segment(last))
                    .then(|| "must be custom- and then A-Z a-z 0-9 . _ -".to_owned());
            }
            if let Some(slug) = Slug::parse(last).filter(|slug| slug.as_str() != last) {
                return Some(suggestion(slug.as_str()));
            }
            let slugs = Slug::ALL.into_iter().filter(|slug| *slug != Slug::Custom);
            slugs.map(Slug::as_str).collect()
        }
        [first, name] if first == "providers" => match name.as_str() {
            "aws-bedrock" => REGIONAL_KEYS.to_vec(),
            "google-vertex-ai" => PROJECT_KEYS.to_vec(),
            _ => PROVIDER_KEYS.to_vec(),
        },
        [first, _] if first == "prices" => return super::value::model(last).err(),
        [first, _, _] if first == "prices" => PRICE_KEYS.to_vec(),
        [first] if first == "gateways" => return super::value::id(last).err(),
        [first, _] if first == "gateways" => GATEWAY_KEYS.to_vec(),
        _ => {
            let prefix = parents
                .iter()
                .map(|part| format!("{part}."))
                .collect::<String>();
            let below = KEYS
                .iter()
                .filter_map(|key| key.strip_prefix(prefix.as_str()));
            below
                .map(|key| key.split('.').next().unwrap_or(key))
                .collect()
        }
    };
    if candidates.contains(&last.as_str()) {
        return None;
    }
    let elsewhere = KEYS
        .iter()
        .find(|key| key.rsplit_once('.').is_some_and(|(_, leaf)| leaf == last));
    if let Some(key) = elsewhere {
        return Some(suggestion(key));
    }
    let nearest = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(candidate, last), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(last.len()) / 2);
    Some(match nearest {
        Some((_, candidate)) => suggestion(candidate),
        None => "unknown key".to_owned(),
    })
}

fn suggestion(key: &str) -> String {
    format!("unknown key; did you mean {key:?}?")
}

fn is_path_segment(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn errors(text: &str) -> Vec<String> {
        parse_file(text, "r.toml").expect_err("refused").0
    }

    #[test]
    fn values_keep_their_lines() {
        let text = "data_dir = \"x\"\n[data]\nlisten = [\"a\", \"b\"]\nthreads = 0x10\n[providers.openai]\nbase_url = \"u\"\n";
        let entries = parse_file(text, "r.toml").expect("right");
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.path.join("."), entry.texts.join("|"), entry.line))
            .collect();
        let expected = [
            ("data_dir", "x", 1),
            ("data.listen", "a|b", 3),
            ("data.threads", "16", 4),
            ("providers.openai.base_url", "u", 6),
        ];
        for (key, text, line) in expected {
            assert!(
                shown.contains(&(key.to_owned(), text.to_owned(), line)),
                "{key}: {shown:?}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_told_with_the_nearest_name() {
        assert_eq!(
            errors("[data]\nlisen = 1"),
            ["r.toml:2: data.lisen: unknown key; did you mean \"listen\"?"]
        );
        assert_eq!(
            errors("[dta]\nx = 1"),
            ["r.toml:1: dta: unknown key; did you mean \"data\"?"]
        );
        assert_eq!(
            errors("[providers.opnai]\nx = 1"),
            ["r.toml:1: providers.opnai: unknown key; did you mean \"openai\"?"]
        );
        assert_eq!(
            errors("[providers.openai]\nbaseurl = 1"),
            ["r.toml:2: providers.openai.baseurl: unknown key; did you mean \"base_url\"?"]
        );
        assert_eq!(
            errors("[gateways.x]\ncache_tl = 1"),
            ["r.toml:2: gateways.x.cache_tl: unknown key; did you mean \"cache_ttl\"?"]
        );
        assert_eq!(errors("[gateways.\"a b\"]\n").len(), 1);
        assert_eq!(
            errors("[data]\nzzzzzzzzzzzzzzzzzzzzzz = 1"),
            ["r.toml:2: data.zzzzzzzzzzzzzzzzzzzzzz: unknown key"]
        );
    }

    #[test]
    fn keys_of_other_tables_and_aliases_are_told_by_their_right_name() {
        assert_eq!(
            errors("listen = 1"),
            ["r.toml:1: listen: unknown key; did you mean \"data.listen\"?"]
        );
        assert_eq!(
            errors("[data]\nstream_idle = 1"),
            ["r.toml:2: data.stream_idle: unknown key; did you mean \"upstream.stream_idle\"?"]
        );
        assert_eq!(
            errors("[providers.google]"),
            ["r.toml:1: providers.google: unknown key; did you mean \"google-ai-studio\"?"]
        );
        assert_eq!(
            errors("[providers.openai]\nregion = \"x\"").len(),
            1,
            "no path of OpenAI's names a region"
        );
    }

    #[test]
    fn prices_are_named_by_provider_and_model() {
        let text = "[prices.openai.\"gpt-4.1\"]\ninput = 2\n[prices.custom-x.m]";
        let entries = parse_file(text, "r.toml").expect("right");
        let places: Vec<_> = entries
            .iter()
            .map(|entry| (entry.path.join("/"), entry.line))
            .collect();
        assert!(
            places.contains(&("prices/openai/gpt-4.1".to_owned(), 1)),
            "{places:?}"
        );
        assert!(
            places.contains(&("prices/openai/gpt-4.1/input".to_owned(), 2)),
            "{places:?}"
        );
        assert_eq!(
            errors("[prices.opnai.m]\ninput = 1"),
            ["r.toml:1: prices.opnai: unknown key; did you mean \"openai\"?"]
        );
        assert_eq!(
            errors("[prices.openai.m]\ninpt = 1"),
            ["r.toml:2: prices.openai.m.inpt: unknown key; did you mean \"input\"?"]
        );
        for wrong in [
            "prices = 1",
            "[prices]\nopenai = 1",
            "[prices.openai]\nm = 1",
        ] {
            assert!(errors(wrong)[0].contains("must be a table"), "{wrong}");
        }
    }

    #[test]
    fn tables_are_tables_and_values_are_values() {
        for wrong in [
            "data = 5",
            "providers = 3",
            "gateways = \"x\"",
            "[providers]\nopenai = \"https://h\"",
            "[gateways]\nprod = true",
            "[[data]]\nlisten = \"x\"",
        ] {
            let errors = errors(wrong);
            assert!(errors[0].contains("must be a table"), "{wrong}: {errors:?}");
        }
        for wrong in [
            "[data.listen]",
            "[data]\nthreads = {}",
            "[providers.openai.base_url]",
            "[account.id]",
        ] {
            let errors = errors(wrong);
            assert!(errors[0].contains("not a table"), "{wrong}: {errors:?}");
        }
        let entries = parse_file("[gateways.prod]\n\n[providers.openai]", "r.toml");
        let entries = entries.expect("right");
        let places: Vec<_> = entries
            .iter()
            .map(|entry| (entry.path.join("."), entry.line))
            .collect();
        assert!(
            places.contains(&("gateways.prod".to_owned(), 1)),
            "{places:?}"
        );
        assert!(
            places.contains(&("providers.openai".to_owned(), 3)),
            "{places:?}"
        );
    }

    #[test]
    fn all_unknown_keys_are_told_at_once_and_broken_toml_with_its_line() {
        assert_eq!(errors("a = 1\nb = 2").len(), 2);
        let broken = errors("[data]\nlisten = [\n");
        assert!(
            broken[0].starts_with("r.toml:2: ") || broken[0].starts_with("r.toml:3: "),
            "{broken:?}"
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z\\[\\]\\.=\"'\n# 0-9{}]{0,200}") {
            let _ = parse_file(&text, "r.toml");
        }
    }
}
