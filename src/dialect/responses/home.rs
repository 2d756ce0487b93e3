//! Conversations that go on at a provider that speaks this dialect itself.

use memchr::memmem;
use serde_json::Value;

use super::super::changes::Changes;
use super::seal::Seal;

/// The body without reasoning that another provider made and this one would refuse to read; `None`: there is none, and the body
/// stays byte for byte as it is.
pub fn without_foreign_reasoning(body: &[u8], changes: &mut Changes) -> Option<Vec<u8>> {
    if !holds_foreign(body) {
        return None;
    }
    let mut request: Value = serde_json::from_slice(body).ok()?;
    let items = request.get_mut("input")?.as_array_mut()?;
    let before = items.len();
    items.retain(|item| {
        let seal = item["encrypted_content"].as_str();
        item["type"] != "reasoning" || seal.is_none_or(|seal| !Seal::is_foreign(seal))
    });
    if items.len() == before {
        return None;
    }
    changes.dropped("input.reasoning");
    serde_json::to_vec(&request).ok()
}

/// Whether a value of that name begins as only a foreign one does. What OpenAI makes holds no colon.
fn holds_foreign(body: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"encrypted_content\"";
    memmem::find_iter(body, FIELD).any(|at| {
        let value = body[at + FIELD.len()..]
            .iter()
            .skip_while(|byte| b" \t\r\n:".contains(byte));
        let text = value.skip(1).take_while(|byte| **byte != b'"');
        text.take(TAG_MAX).any(|byte| *byte == b':')
    })
}

/// Bytes within which the first tag ends.
const TAG_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_foreign_reasoning_is_left_out() {
        let own = json!({"input": [
            {"type": "reasoning", "encrypted_content": "gAAAAABq", "summary": []},
            {"type": "reasoning", "encrypted_content": null, "summary": []},
            {"role": "user", "content": "\"encrypted_content\":\"anthropic:x\""},
        ]});
        let mut changes = Changes::default();
        assert_eq!(
            without_foreign_reasoning(own.to_string().as_bytes(), &mut changes),
            None
        );
        assert!(changes.is_empty());
        let mut mixed = own.clone();
        for seal in [
            "anthropic:Eq",
            "redacted:anthropic:Eq",
            "call:google:Ci",
            "text:google:Ci",
        ] {
            let item = json!({"type": "reasoning", "encrypted_content": seal, "summary": []});
            mixed["input"].as_array_mut().unwrap().push(item);
            let kept = without_foreign_reasoning(mixed.to_string().as_bytes(), &mut changes);
            let kept: Value = serde_json::from_slice(&kept.unwrap()).unwrap();
            assert_eq!(kept, own, "{seal}");
        }
        assert_eq!(changes.to_string(), "drop:input.reasoning");
        assert_eq!(
            without_foreign_reasoning(b"\"encrypted_content\":\"a:", &mut changes),
            None
        );
    }
}
