//! Real exchanges, where the environment names a folder that holds some.

use super::streams::{data, fed};
use super::*;

struct Exchange {
    id: String,
    slug: Slug,
    status: u16,
    request: String,
    answer: String,
}

fn exchanges() -> Vec<Exchange> {
    let Some(folder) = std::env::var_os("RINGGATE_RECORDED") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            let Some(slug) = Slug::parse(&text("provider")) else {
                continue;
            };
            if text("path").contains("chat/completions") {
                found.push(Exchange {
                    id: text("id"),
                    slug,
                    status: line["status"].as_u64().unwrap() as u16,
                    request: text("req_body"),
                    answer: text("resp_body"),
                });
            }
        }
    }
    assert!(!found.is_empty(), "the folder holds no exchanges");
    found
}

#[test]
fn recorded_requests_are_read_edited_and_written() {
    for exchange in exchanges() {
        let body: Value = serde_json::from_str(&exchange.request).unwrap();
        let Ok(request) = read_request(body.clone()) else {
            // Azure's path names the model.
            assert!(body.get("model").is_none(), "{}", exchange.id);
            continue;
        };
        let model = request.model.clone();
        for slug in Slug::ALL {
            let upstream = upstream(slug, &model);
            let mut changes = Changes::default();
            let edited = edit_request(exchange.request.as_bytes(), &upstream, &mut changes);
            let written = write_request(&request, &upstream, &mut changes);
            if slug == exchange.slug {
                let edited = edited.unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
                let written = written.unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
                let again = read_request(serde_json::from_slice(&edited.body).unwrap());
                assert!(again.is_ok() || slug == Slug::Mistral, "{}", exchange.id);
                assert!(serde_json::from_slice::<Value>(&written.body).is_ok());
            }
        }
    }
}

#[test]
fn recorded_answers_are_read_and_repaired() {
    for exchange in exchanges() {
        let is_stream = exchange.answer.starts_with("data:") || exchange.answer.starts_with(':');
        if exchange.status >= 400 {
            let failure = read_error(exchange.status, None, exchange.answer.as_bytes());
            assert_eq!(failure.status, exchange.status);
            assert!(
                !failure.message.starts_with("The provider answered"),
                "{}",
                exchange.id
            );
        } else if is_stream {
            let fails = exchange.answer.contains("event: error");
            let reader = Box::new(StreamReader::new(&terms()));
            let mut translator = Translator::of_sse(reader, Box::new(StreamWriter::new(&terms())));
            let (out, failure) = fed(&mut translator, exchange.answer.as_bytes(), &[]);
            assert_eq!(failure.is_some(), fails, "{}: {failure:?}", exchange.id);
            assert!(data(&out).len() > 2);
            let mut repair = Repair::new(exchange.slug, true, "abc");
            let (_, failure) = fed(&mut repair, exchange.answer.as_bytes(), &[]);
            assert_eq!(failure.is_some(), fails, "{}: {failure:?}", exchange.id);
        } else {
            let body: Value = serde_json::from_str(&exchange.answer).unwrap();
            let read = read_answer(body.clone(), &terms());
            let read = read.unwrap_or_else(|error| panic!("{}: {error:?}", exchange.id));
            let written = write_answer(&read, &terms());
            let repaired = repair_answer(exchange.slug, body.clone(), "abc").unwrap();
            for (at, choice) in written["choices"].as_array().unwrap().iter().enumerate() {
                let (given, repaired) = (&body["choices"][at], &repaired["choices"][at]);
                let text = |choice: &Value| {
                    choice["message"]["content"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                };
                assert_eq!(text(choice), text(repaired), "{}", exchange.id);
                let calls = |choice: &Value| {
                    choice["message"]["tool_calls"]
                        .as_array()
                        .map_or(0, Vec::len)
                };
                assert_eq!(calls(choice), calls(given), "{}", exchange.id);
            }
        }
    }
}
