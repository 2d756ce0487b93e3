//! The list of models (resolutions 24).

use std::collections::BTreeMap;

/// The body of a list of models: what stands before the names (`openai/`), and the names behind it. Each is owned by what its id
/// begins with.
pub fn models(owners: &BTreeMap<String, Vec<&str>>) -> Vec<u8> {
    let count: usize = owners.values().map(Vec::len).sum();
    let mut out = Vec::with_capacity(64 + 128 * count);
    out.extend_from_slice(br#"{"object":"list","data":["#);
    let mut first = true;
    for (prefix, names) in owners {
        let owner = quoted(prefix.strip_suffix('/').unwrap_or(prefix));
        for name in names {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            let id = quoted(&format!("{prefix}{name}"));
            let model = format!(r#"{{"id":{id},"object":"model","created":0,"owned_by":{owner}}}"#);
            out.extend_from_slice(model.as_bytes());
        }
    }
    out.extend_from_slice(b"]}");
    out
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_list_names_models_and_their_providers() {
        let owners = [
            ("anthropic/", vec!["claude-sonnet-4-5"]),
            ("custom-x/", vec![]),
            ("dynamic/", vec!["a \"b\"", "cheap"]),
        ];
        let owners = owners
            .map(|(owner, names)| (owner.to_owned(), names))
            .into();
        let expected = json!({"object": "list", "data": [
            {"id": "anthropic/claude-sonnet-4-5", "object": "model", "created": 0, "owned_by": "anthropic"},
            {"id": "dynamic/a \"b\"", "object": "model", "created": 0, "owned_by": "dynamic"},
            {"id": "dynamic/cheap", "object": "model", "created": 0, "owned_by": "dynamic"},
        ]});
        let body: Value = serde_json::from_slice(&models(&owners)).unwrap();
        assert_eq!(body, expected);
        let none: Value = serde_json::from_slice(&models(&BTreeMap::new())).unwrap();
        assert_eq!(none["data"], json!([]));
    }
}
