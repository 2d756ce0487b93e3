//! No JSON makes the route parser panic; what it accepts ends whatever is drawn, and is the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::route::{Field, FieldValue, Graph, Request, Step, Walk};
use serde_json::{Value, json};

/// Elements made of bytes, eight for each: random text is seldom a route.
fn elements(bytes: &[u8], extra: &Value) -> Value {
    let count = bytes.chunks_exact(8).len();
    let made = bytes.chunks_exact(8).enumerate().map(|(at, bytes)| {
        // Most outputs lead forward.
        let to = |byte: u8| match byte {
            0..8 => json!({"elementId": byte.to_string()}),
            _ => json!({"elementId": (at + 1 + usize::from(byte) % (count - at)).to_string()}),
        };
        let (one, other, third) = (to(bytes[1]), to(bytes[2]), to(bytes[3]));
        let mut element = match bytes[0] % 8 {
            0 => json!({"type": "conditional", "properties": {"condition": extra}, "outputs": {"true": one, "false": other}}),
            1 => json!({"type": "conditional", "properties": {"conditions": {"metadata.x": {"$gte": bytes[4]}, "$or": [extra]}},
                "outputs": {"true": one, "false": other}}),
            2 => json!({"type": "percentage", "outputs": {format!("{}%", bytes[4] % 110): one, "7.5%": other, "else": third}}),
            3 => json!({"type": "rate_limit", "outputs": {"success": one, "fallback": other},
                "properties": {"limitType": "count", "key": "metadata.x", "limit": bytes[4], "interval": bytes[5]}}),
            4 => extra.clone(),
            _ => json!({"type": "model", "properties": {"provider": "p", "model": "m", "retries": bytes[4] % 8},
                "outputs": {"success": one, "fallback": other}}),
        };
        if let Some(members) = element.as_object_mut() {
            members.insert("id".to_owned(), json!(at.to_string()));
        }
        element
    });
    let start = json!({"id": "start", "type": "start", "outputs": {"next": {"elementId": "0"}}});
    let end = json!({"id": count.to_string(), "type": "end"});
    std::iter::once(start).chain(made).chain([end]).collect()
}

struct Made<'m> {
    document: &'m Value,
    draws: std::cell::RefCell<std::slice::Iter<'m, u8>>,
}

impl Made<'_> {
    fn next(&self) -> u8 {
        self.draws.borrow_mut().next().copied().unwrap_or_default()
    }
}

impl Request for Made<'_> {
    fn field(&self, field: &Field) -> Option<FieldValue<'_>> {
        match field {
            Field::Body(names) => FieldValue::find(self.document, names),
            Field::Metadata(_) => Some(FieldValue::from(self.document)),
            Field::Header(_) => self.document.as_str().map(FieldValue::Text),
        }
    }

    fn draw(&self) -> u64 {
        u64::from(self.next()) * (u64::MAX / 255)
    }
}

/// Whatever is drawn and whatever models and limits say, a walk ends and can be told.
fn walk(graph: &Graph, request: &Made<'_>) {
    let mut walk = Walk::new(graph);
    let mut step = walk.begin(graph, request);
    for _ in 0..graph.elements().len() {
        let says = request.next().is_multiple_of(2);
        step = match step {
            Step::Count(_) => walk.counted(says, graph, request),
            Step::Ask(_) => walk.asked(says, graph, request),
            Step::End(_) => {
                let trail = walk.passages(0, graph, request);
                assert!(trail.len() >= 2 && trail.len() <= graph.elements().len());
                return;
            }
        };
    }
    panic!("a path without an end");
}

fuzz_target!(|input: (bool, &[u8], &str)| {
    let (made, bytes, text) = input;
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return;
    };
    let elements = if made {
        elements(bytes, &value)
    } else {
        value.clone()
    };
    match Graph::parse(&elements) {
        Ok(graph) => {
            assert_eq!(Graph::parse(&graph.to_elements()).as_ref(), Ok(&graph));
            let request = Made {
                document: &value,
                draws: std::cell::RefCell::new(bytes.iter()),
            };
            walk(&graph, &request);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert_eq!(error.path[..2], ["body", "elements"]);
                assert!(error.to_string().len() < 1024);
            }
        }
    }
});
