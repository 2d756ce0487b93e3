//! The list of models (resolutions 24).

use serde_json::{Value, json};

/// The body of a list of these models, in their order. Each is owned by the provider that its name begins with.
pub fn models<'a>(ids: impl IntoIterator<Item = &'a str>) -> Value {
    let data = ids.into_iter().map(|id| {
        let owner = id.split('/').next().unwrap_or_default();
        json!({"id": id, "object": "model", "created": 0, "owned_by": owner})
    });
    json!({"object": "list", "data": data.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_models_and_their_providers() {
        let body = models(["anthropic/claude-sonnet-4-5", "dynamic/cheap"]);
        let expected = json!({"object": "list", "data": [
            {"id": "anthropic/claude-sonnet-4-5", "object": "model", "created": 0, "owned_by": "anthropic"},
            {"id": "dynamic/cheap", "object": "model", "created": 0, "owned_by": "dynamic"},
        ]});
        assert_eq!(body, expected);
        assert_eq!(models([])["data"], json!([]));
    }
}
