//! The rows and cells of the provider pages, as chat sees them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::changes::Changes;
use super::super::failure::{Failure, FailureKind, Invalid};
use super::super::neutral::*;
use super::super::stream::{Reader, Transform, Translator, Writer};
use super::super::{Dialect, Terms, Upstream};
use super::*;
use crate::providers::Slug;

fn upstream(slug: Slug, model: &str) -> Upstream<'_> {
    Upstream {
        slug,
        model,
        max_output: None,
    }
}

fn terms() -> Terms {
    Terms {
        model: "m".to_owned(),
        id: "abc".to_owned(),
        created: 7,
        include_usage: true,
        ..Terms::default()
    }
}

/// What becomes of a chat client's request, and what is told of it.
fn edited(slug: Slug, model: &str, body: Value) -> (Value, String) {
    let mut changes = Changes::default();
    let body = body.to_string();
    let edited = edit_request(body.as_bytes(), &upstream(slug, model), &mut changes).unwrap();
    let value = serde_json::from_slice(&edited.body).unwrap();
    (value, changes.to_string())
}

fn refused(slug: Slug, body: Value) -> Invalid {
    let body = body.to_string();
    let upstream = upstream(slug, "m");
    edit_request(body.as_bytes(), &upstream, &mut Changes::default()).unwrap_err()
}

fn hello(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

mod edits {
    use super::*;

    #[test]
    fn a_request_that_needs_nothing_keeps_every_byte_but_the_model() {
        let body = "{ \"model\" : \"openai/gpt-4o\",\"temperature\":1.0e0, \"seed\":123456789012345678901234567890,\n\"odd\":{\"b\":1,\"a\":[ ]},\"messages\":[{\"role\":\"developer\",\"content\":\"\\u00e9\"}] } ";
        let mut changes = Changes::default();
        let slug = upstream(Slug::OpenAi, "gpt-4o");
        let edited = edit_request(body.as_bytes(), &slug, &mut changes).unwrap();
        let expected = body.replace("openai/gpt-4o", "gpt-4o");
        assert_eq!(String::from_utf8(edited.body).unwrap(), expected);
        assert!(changes.is_empty());
        assert!(!edited.stream && !edited.include_usage);
    }

    #[test]
    fn the_bound_of_tokens_has_the_name_that_the_provider_knows() {
        let old = hello(json!({"max_tokens": 5}));
        let new = hello(json!({"max_completion_tokens": 5}));
        let both = hello(json!({"max_tokens": 4, "max_completion_tokens": 5}));
        for (slug, model, body, field, told) in [
            (Slug::OpenAi, "gpt-4o", &old, "max_tokens", ""),
            (Slug::OpenAi, "gpt-4o", &new, "max_completion_tokens", ""),
            (
                Slug::OpenAi,
                "o3",
                &old,
                "max_completion_tokens",
                "rename:max_tokens=max_completion_tokens",
            ),
            (
                Slug::AzureOpenAi,
                "gpt-5-mini",
                &old,
                "max_completion_tokens",
                "rename:max_tokens=max_completion_tokens",
            ),
            (
                Slug::OpenAi,
                "gpt-4o",
                &both,
                "max_completion_tokens",
                "drop:max_tokens",
            ),
            (Slug::Groq, "m", &new, "max_completion_tokens", ""),
            (Slug::Cerebras, "m", &old, "max_tokens", ""),
            (
                Slug::DeepSeek,
                "m",
                &new,
                "max_tokens",
                "rename:max_completion_tokens=max_tokens",
            ),
            (
                Slug::Mistral,
                "m",
                &both,
                "max_tokens",
                "drop:max_tokens,rename:max_completion_tokens=max_tokens",
            ),
            (
                Slug::Custom,
                "m",
                &new,
                "max_tokens",
                "rename:max_completion_tokens=max_tokens",
            ),
            (Slug::Custom, "o3", &new, "max_completion_tokens", ""),
        ] {
            let (body, changes) = edited(slug, model, body.clone());
            assert_eq!(body[field], 5, "{slug:?} {body}");
            let other = match field {
                "max_tokens" => "max_completion_tokens",
                _ => "max_tokens",
            };
            assert!(body.get(other).is_none(), "{slug:?} {body}");
            assert_eq!(changes, told, "{slug:?}");
        }
    }

    #[test]
    fn developers_are_systems_but_for_openai() {
        let body = json!({"model": "m", "messages": [{"role": "developer", "content": "x"}]});
        for slug in [Slug::OpenAi, Slug::AzureOpenAi] {
            assert_eq!(
                edited(slug, "m", body.clone()),
                (body.clone(), String::new())
            );
        }
        for slug in [
            Slug::Groq,
            Slug::Mistral,
            Slug::WorkersAi,
            Slug::Custom,
            Slug::PerplexityAi,
        ] {
            let (body, changes) = edited(slug, "m", body.clone());
            assert_eq!(body["messages"][0]["role"], "system", "{slug:?}");
            assert_eq!(changes, "set:messages.role=system");
        }
    }

    #[test]
    fn fields_go_where_the_row_says_so() {
        for (slug, fields) in [
            (
                Slug::Groq,
                &["logit_bias", "prompt_cache_key", "top_logprobs"][..],
            ),
            (
                Slug::WorkersAi,
                &[
                    "logit_bias",
                    "metadata",
                    "user",
                    "parallel_tool_calls",
                    "service_tier",
                    "store",
                    "prediction",
                    "verbosity",
                    "prompt_cache_key",
                    "web_search_options",
                ],
            ),
            (
                Slug::PerplexityAi,
                &["stop", "seed", "logit_bias", "parallel_tool_calls"],
            ),
            (
                Slug::Cerebras,
                &[
                    "frequency_penalty",
                    "presence_penalty",
                    "logit_bias",
                    "parallel_tool_calls",
                    "service_tier",
                ],
            ),
            (
                Slug::Mistral,
                &[
                    "user",
                    "logit_bias",
                    "store",
                    "service_tier",
                    "verbosity",
                    "prompt_cache_key",
                    "web_search_options",
                    "unheard_of",
                ],
            ),
            (
                Slug::Parallel,
                &["temperature", "stop", "seed", "user", "unheard_of"],
            ),
        ] {
            let given: serde_json::Map<String, Value> = fields
                .iter()
                .map(|field| ((*field).to_owned(), json!(1)))
                .collect();
            let (body, changes) = edited(slug, "m", hello(Value::Object(given)));
            assert_eq!(body, hello(json!({})), "{slug:?}");
            for field in fields {
                assert!(
                    changes.contains(&format!("drop:{field}")),
                    "{slug:?}: {changes}"
                );
            }
        }
        let odd = hello(
            json!({"search_domain_filter": ["a"], "provider": {"only": ["x"]}, "top_k": 3, "unheard_of": null}),
        );
        for slug in [
            Slug::PerplexityAi,
            Slug::OpenRouter,
            Slug::Custom,
            Slug::Groq,
            Slug::OpenAi,
        ] {
            assert_eq!(edited(slug, "m", odd.clone()), (odd.clone(), String::new()));
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused_and_named() {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
        let custom = json!({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]});
        let with = |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]});
        let audio =
            with(json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}));
        let file = with(json!({"type": "file", "file": {"file_id": "f"}}));
        for (slug, more, param) in [
            (Slug::Groq, json!({"n": 2}), "n"),
            (Slug::WorkersAi, json!({"n": 2}), "n"),
            (Slug::PerplexityAi, json!({"n": 2}), "n"),
            (Slug::Parallel, json!({"n": 2}), "n"),
            (Slug::Groq, json!({"logprobs": true}), "logprobs"),
            (Slug::WorkersAi, json!({"logprobs": true}), "logprobs"),
            (Slug::Parallel, tools, "tools"),
            (Slug::WorkersAi, custom.clone(), "tools[1].type"),
            (Slug::Mistral, custom, "tools[1].type"),
            (
                Slug::WorkersAi,
                json!({"modalities": ["text", "audio"]}),
                "modalities",
            ),
            (
                Slug::Mistral,
                json!({"modalities": ["audio"]}),
                "modalities",
            ),
            (Slug::WorkersAi, audio, "messages[0].content[1].type"),
            (Slug::WorkersAi, file.clone(), "messages[0].content[1].type"),
            (Slug::Mistral, file, "messages[0].content[1].file.file_id"),
            (
                Slug::Mistral,
                json!({"functions": [{"name": "f"}]}),
                "functions",
            ),
        ] {
            let refused = refused(slug, hello(more));
            assert_eq!(refused.param.as_deref(), Some(param), "{slug:?}");
            assert_eq!(refused.code, Some("unsupported_parameter"));
        }
        let (body, changes) = edited(Slug::Groq, "m", hello(json!({"n": 1, "logprobs": false})));
        assert_eq!((body, changes.as_str()), (hello(json!({"n": 1})), ""));
    }
}
