//! What single steps of the data path cost: `cargo bench --bench micro`.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate::dialect::changes::Changes;
use ringgate::dialect::stream::{Transform, Translator};
use ringgate::dialect::{Terms, Upstream, chat, json};
use ringgate::http::chunked::ChunkedDecoder;
use ringgate::http::sse::SseParser;
use ringgate::http::{HeadLimits, Method, RequestHead, ResponseHead};
use ringgate::meter::Meter;
use ringgate::providers::{Provider, Slug};
use ringgate::route::{End, Field, FieldValue, Graph, Request, Step, Walk};
use serde_json::json;

const REQUEST: &[u8] = b"POST /v1/local/default/openai/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8787\r\n\
Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
User-Agent: OpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.0\r\nX-Stainless-OS: Linux\r\n\
X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.0\r\nAuthorization: Bearer sk-example\r\n\
X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nContent-Length: 812\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nopenai-organization: example\r\nopenai-processing-ms: 212\r\n\
openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n\
x-request-id: req_0123456789abcdef\r\nStrict-Transport-Security: max-age=31536000\r\nServer: example\r\n\r\n";
/// An event of a chat stream asked for its usage, as OpenAI sends it.
const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1780000000,\
\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,\
\"delta\":{\"content\":\" gateway\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"abcdefgh\"}\n\n";
const LAST_EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1780000000,\
\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[],\"usage\":{\"prompt_tokens\":78,\"completion_tokens\":9,\"total_tokens\":87,\
\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}}\n\n";

fn heads(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    criterion.bench_function("request head, 17 fields", |bencher| {
        bencher.iter(|| {
            let mut buffer = BytesMut::from(black_box(REQUEST));
            RequestHead::take(&mut buffer, &mut 0, &limits)
        });
    });
    criterion.bench_function("response head, 12 fields", |bencher| {
        bencher.iter(|| {
            let mut buffer = BytesMut::from(black_box(RESPONSE));
            ResponseHead::take(&mut buffer, &mut 0, Method::Post, &limits)
        });
    });
}

fn chunks(criterion: &mut Criterion) {
    let mut event = format!("{:x}\r\n", EVENT.len()).into_bytes();
    event.extend_from_slice(EVENT);
    event.extend_from_slice(b"\r\n");
    let mut group = criterion.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(event.len() as u64));
    group.bench_function("one event a chunk", |bencher| {
        let mut decoder = ChunkedDecoder::default();
        bencher.iter(|| {
            decoder.scan(black_box(&event), |run| {
                black_box(run);
            })
        });
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("server-sent events");
    group.throughput(Throughput::Bytes(EVENT.len() as u64));
    group.bench_function("parse one", |bencher| {
        let mut parser = SseParser::default();
        bencher.iter(|| {
            parser.feed(black_box(EVENT), |event| {
                black_box(event.data);
            })
        });
    });
    group.finish();
}

fn paths(criterion: &mut Criterion) {
    let openai = Provider::new(Slug::OpenAi, None);
    let bedrock = Provider::new(Slug::AwsBedrock, None);
    let claude =
        "bedrock-runtime/us-east-1/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse";
    for (name, provider, rest) in [
        ("path, openai", &openai, "chat/completions"),
        ("path, bedrock", &bedrock, claude),
    ] {
        let mut out = Vec::with_capacity(256);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                let target = provider.target("local", black_box(rest), None);
                target.map(|target| target.write_path(&mut out)).is_ok()
            });
        });
    }
}

fn meters(criterion: &mut Criterion) {
    let sse = Some(b"text/event-stream".as_slice());
    let mut group = criterion.benchmark_group("meter");
    let mut feed = |name: &str, event: &[u8], pieces: usize| {
        group.throughput(Throughput::Bytes(event.len() as u64));
        group.bench_function(name, |bencher| {
            let mut meter = Meter::new(sse, None);
            meter.feed(LAST_EVENT);
            let piece = event.len().div_ceil(pieces);
            bencher.iter(|| {
                black_box(event)
                    .chunks(piece)
                    .for_each(|part| meter.feed(part))
            });
        });
    };
    feed("one event", EVENT, 1);
    feed("one event cut in two", EVENT, 2);
    feed("sixteen events in one read", &EVENT.repeat(16), 1);
    feed("an event with usage", LAST_EVENT, 1);
    group.bench_function("a stream of no events", |bencher| {
        bencher.iter(|| Meter::new(black_box(sse), None).finish());
    });
    let body = format!(
        r#"{{"model":"m","choices":[{{"message":{{"content":"{}"}}}}],"usage":{{"prompt_tokens":78,"completion_tokens":9,"total_tokens":87}}}}"#,
        "text ".repeat(400)
    );
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("a JSON answer of 2 KB", |bencher| {
        bencher.iter(|| {
            let mut meter = Meter::new(Some(b"application/json"), None);
            meter.feed(black_box(body.as_bytes()));
            meter.finish()
        });
    });
    group.finish();
}

/// A conversation with tools of about so many bytes.
fn conversation(bytes: usize) -> Vec<u8> {
    let tool = json!({"type": "function", "function": {"name": "look_up", "description": "Looks something up", "parameters": {
        "type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["query"],
    }}});
    let mut messages = vec![
        json!({"role": "system", "content": "Answer briefly.\nUse \"tools\" where they help."}),
    ];
    let mut length = 512;
    for at in 0.. {
        let words = "Some more words that fill the line. ".repeat(6);
        let turn = [
            json!({"role": "user", "content": format!("Question {at}: what is a \"gateway\"?\n{words}")}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": format!("call_{at}"), "type": "function", "function": {"name": "look_up", "arguments": "{\"query\":\"gateway\",\"limit\":5}"}},
            ]}),
            json!({"role": "tool", "tool_call_id": format!("call_{at}"), "content": "{\"results\":[\"a thing between things\"]}"}),
        ];
        length += turn
            .iter()
            .map(|message| message.to_string().len())
            .sum::<usize>();
        messages.extend(turn);
        if length >= bytes {
            break;
        }
    }
    json!({"model": "openai/gpt-4o", "messages": messages, "tools": [tool], "temperature": 0.7, "max_tokens": 1000})
        .to_string()
        .into_bytes()
}

fn translations(criterion: &mut Criterion) {
    let upstream = |slug| Upstream {
        slug,
        model: "m",
        max_output: None,
    };
    for (size, bytes) in [("2 KB", 2_000), ("20 KB", 20_000), ("200 KB", 200_000)] {
        let body = conversation(bytes);
        let mut group = criterion.benchmark_group(format!("chat request of {size}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parsed", |bencher| {
            bencher.iter(|| json::request(black_box(&body)));
        });
        for slug in [Slug::OpenAi, Slug::Groq, Slug::Mistral] {
            group.bench_function(format!("edited for {}", slug.as_str()), |bencher| {
                let upstream = upstream(slug);
                bencher.iter(|| {
                    chat::edit_request(black_box(&body), &upstream, &mut Changes::default())
                });
            });
        }
        group.bench_function("from chat to chat", |bencher| {
            let upstream = upstream(Slug::OpenAi);
            bencher.iter(|| {
                let request = json::request(black_box(&body)).and_then(chat::read_request);
                let request = request.expect("a chat request");
                chat::write_request(&request, &upstream, &mut Changes::default())
            });
        });
        group.finish();
    }
    let mut group = criterion.benchmark_group("chat stream of 64 events");
    let stream = EVENT.repeat(64);
    group.throughput(Throughput::Bytes(stream.len() as u64));
    let terms = Terms::default();
    let mut out = Vec::new();
    group.bench_function("from chat to chat", |bencher| {
        bencher.iter(|| {
            let reader = Box::new(chat::StreamReader::new(&terms));
            let writer = Box::new(chat::StreamWriter::new(&terms));
            out.clear();
            Translator::of_sse(reader, writer).feed(black_box(&stream), &mut out);
        });
    });
    for slug in [Slug::OpenAi, Slug::OpenRouter] {
        group.bench_function(format!("repaired, {}", slug.as_str()), |bencher| {
            bencher.iter(|| {
                out.clear();
                chat::Repair::new(slug, false, "a").feed(black_box(&stream), &mut out);
            });
        });
    }
    group.finish();
}

/// A request of a route: two fields of its metadata.
struct Asking(serde_json::Value);

impl Request for Asking {
    fn field(&self, field: &Field) -> Option<FieldValue<'_>> {
        match field {
            Field::Metadata(key) => self.0.get(&**key).map(FieldValue::from),
            Field::Body(_) | Field::Header(_) => None,
        }
    }

    fn draw(&self) -> u64 {
        u64::MAX / 3
    }
}

/// Through all of ten elements: conditions, a split, limits, a model that fails and one that answers.
fn routes(criterion: &mut Criterion) {
    let to = |at: usize| json!({"elementId": at.to_string()});
    let condition = |conditions: serde_json::Value, at: usize| json!({"type": "conditional", "properties": {"conditions": conditions}, "outputs": {"true": to(at), "false": to(9)}});
    let rate = |at: usize| {
        json!({"type": "rate", "properties": {"limitType": "count", "key": "metadata.user", "limit": 9, "window": 60},
            "outputs": {"success": to(at), "fallback": to(9)}})
    };
    let model = |at: usize| json!({"type": "model", "properties": {"provider": "openai", "model": "m"}, "outputs": {"success": to(9), "fallback": to(at)}});
    let mut elements = vec![
        json!({"type": "start", "outputs": {"next": to(1)}}),
        condition(
            json!({"metadata.plan": {"$in": ["pro", "team", "free"]}}),
            2,
        ),
        condition(
            json!({"$or": [{"metadata.seats": {"$gt": 10}}, {"metadata.user": {"$ne": "root"}}]}),
            3,
        ),
        json!({"type": "percentage", "outputs": {"50%": to(4), "else": to(9)}}),
        rate(5),
        condition(json!({"$not": {"headers.x-test": "1"}}), 6),
        model(7),
        rate(8),
        model(9),
        json!({"type": "end"}),
    ];
    for (at, element) in elements.iter_mut().enumerate() {
        element["id"] = json!(at.to_string());
    }
    let graph = Graph::parse(&json!(elements)).expect("a route");
    let request = Asking(json!({"plan": "free", "user": "u-17"}));
    criterion.bench_function("route of 10 elements", |bencher| {
        bencher.iter(|| {
            let mut walk = Walk::new(&graph);
            let mut step = walk.begin(&graph, black_box(&request));
            loop {
                step = match step {
                    Step::Count(_) => walk.counted(true, &graph, &request),
                    Step::Ask(ask) => walk.asked(ask.number > 0, &graph, &request),
                    Step::End(end) => break black_box(end).eq(&End::Nothing),
                }
            }
        })
    });
}

criterion_group!(
    benches,
    heads,
    chunks,
    events,
    paths,
    meters,
    translations,
    routes
);
criterion_main!(benches);
