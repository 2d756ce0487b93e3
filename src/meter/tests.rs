//! Every dialect's answers, whole and streamed, cut anywhere. The shapes are the providers', the values are ours.

use proptest::prelude::*;

use super::coding::tests::encode;
use super::*;
use crate::http::eventstream::tests::message;
use crate::limits::METER_TAIL;

const SSE: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

/// A dialect's answer: content type, body, then input, output, cached, written, reasoning and total tokens, and the model.
struct Case {
    name: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    counts: Option<[u64; 6]>,
    model: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |name, content_type, body: &str, counts, model| Case {
        name,
        content_type,
        body: body.as_bytes().to_vec(),
        counts,
        model,
    };
    let frames = |name, body, counts, model| Case {
        name,
        content_type: eventstream::CONTENT_TYPE,
        body,
        counts,
        model,
    };
    vec![
        case(
            "chat",
            JSON,
            r#"{"id":"c","model":"gpt-a","choices":[{"message":{"content":"the \"usage\": {\"prompt_tokens\": 1}"}}],"usage":{"prompt_tokens":78,"completion_tokens":9,"total_tokens":87,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
            Some([78, 9, 64, 0, 3, 87]),
            Some("gpt-a"),
        ),
        case(
            "chat, streamed",
            SSE,
            "data: {\"model\":\"gpt-a\",\"choices\":[{\"delta\":{\"content\":\"é\\n\\n\"}}],\"usage\":null,\"obfuscation\":\"xx\"}\n\n\
             data: {\"model\":\"gpt-a\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
             data: {\"model\":\"gpt-a\",\"choices\":[],\"usage\":{\"prompt_tokens\":78,\"completion_tokens\":9,\"total_tokens\":87}}\n\n\
             data: [DONE]\n\n",
            Some([78, 9, 0, 0, 0, 87]),
            Some("gpt-a"),
        ),
        case(
            "chat, streamed without usage",
            SSE,
            ": waiting\r\n\r\ndata: {\"model\":\"\",\"choices\":[]}\r\n\r\ndata: {\"model\":\"gpt-b\",\"choices\":[{}]}\r\n\r\ndata: [DONE]\r\n\r\n",
            None,
            Some("gpt-b"),
        ),
        case(
            "responses, streamed",
            SSE,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-5\",\"usage\":null}}\n\n\
             event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n\
             event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5-mini\",\"output\":[],\"usage\":{\"input_tokens\":600,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens\":47,\"output_tokens_details\":{\"reasoning_tokens\":21},\"total_tokens\":647}}}\n\n",
            Some([600, 47, 5, 0, 21, 647]),
            Some("gpt-5-mini"),
        ),
        case(
            "messages",
            JSON,
            r#"{"model":"claude-a","content":[{"type":"tool_use","input":{"usage":{"input_tokens":99,"output_tokens":99}}}],"usage":{"cache_creation":{"ephemeral_1h_input_tokens":4,"ephemeral_5m_input_tokens":6},"cache_creation_input_tokens":10,"cache_read_input_tokens":20,"input_tokens":30,"output_tokens":40}}"#,
            Some([60, 40, 20, 10, 0, 100]),
            Some("claude-a"),
        ),
        case(
            "messages, streamed",
            SSE,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-a\",\"content\":[],\"usage\":{\"input_tokens\":20,\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":0,\"output_tokens\":1}}   }\n\n\
             event:ping\ndata:{\"type\":\"ping\"}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"usage\\\":1}\"} }\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"input_tokens\":21,\"cache_read_input_tokens\":3,\"output_tokens\":31}  }\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\" }\n\n",
            Some([31, 31, 3, 7, 0, 62]),
            Some("claude-a"),
        ),
        case(
            "gemini, streamed with CR LF and no last empty line",
            SSE,
            "data: {\"candidates\":[{}],\"usageMetadata\":{\"promptTokenCount\":29,\"totalTokenCount\":98,\"thoughtsTokenCount\":69},\"modelVersion\":\"gemini-3\"}\r\n\r\n\
             data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":29,\"candidatesTokenCount\":12,\"totalTokenCount\":110,\"thoughtsTokenCount\":69},\"modelVersion\":\"gemini-3\"}",
            Some([29, 81, 0, 0, 69, 110]),
            Some("gemini-3"),
        ),
        case(
            "gemini, as a list",
            "application/json; charset=UTF-8",
            "[{\"usageMetadata\":{\"promptTokenCount\":5}}\n,\n{\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":6,\"totalTokenCount\":11},\"modelVersion\":\"gemini-2\"}\n]",
            Some([5, 6, 0, 0, 0, 11]),
            Some("gemini-2"),
        ),
        case(
            "groq, streamed with CR",
            SSE,
            "data: {\"model\":\"llama\",\"choices\":[],\"x_groq\":{\"id\":\"r\"}}\r\rdata: {\"model\":\"llama\",\"choices\":[{}],\"x_groq\":{\"id\":\"r\",\"usage\":{\"prompt_tokens\":304,\"prompt_time\":0.01,\"completion_tokens\":49,\"total_tokens\":353,\"completion_tokens_details\":{\"reasoning_tokens\":23}}}}\r\rdata: [DONE]\r\r",
            Some([304, 49, 0, 0, 23, 353]),
            Some("llama"),
        ),
        case(
            "cohere, streamed",
            SSE,
            "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"i\"}\n\nevent: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":33,\"output_tokens\":22},\"tokens\":{\"input_tokens\":1452,\"output_tokens\":33},\"cached_tokens\":144}}}\n\n",
            Some([1452, 33, 144, 0, 0, 1485]),
            None,
        ),
        case(
            "cohere of old, by lines",
            "application/stream+json",
            "{\"event_type\":\"text-generation\",\"text\":\"a\"}\n{\"event_type\":\"stream-end\",\"response\":{\"meta\":{\"billed_units\":{\"input_tokens\":5,\"output_tokens\":6}}}}\n",
            Some([5, 6, 0, 0, 0, 11]),
            None,
        ),
        case(
            "workers ai, streamed",
            SSE,
            "data: {\"response\":\"He\",\"p\":\"abc\"}\n\ndata: {\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n",
            Some([3, 4, 0, 0, 0, 7]),
            None,
        ),
        frames(
            "converse, streamed",
            converse(),
            Some([473, 91, 1, 1, 0, 564]),
            None,
        ),
        frames(
            "invoke, streamed",
            invoke(),
            Some([27, 31, 0, 7, 0, 58]),
            Some("claude-b"),
        ),
        case(
            "an error",
            JSON,
            r#"{"error":{"message":"no"},"message":"usage"}"#,
            None,
            None,
        ),
        case("no body", JSON, "", None, None),
        case(
            "text",
            "text/plain",
            r#"{"usage":{"prompt_tokens":1}}"#,
            None,
            None,
        ),
    ]
}

fn frame(kind: &str, payload: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [(":event-type", kind), (":message-type", "event")] {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.extend_from_slice(&[7, 0, value.len() as u8]);
        headers.extend_from_slice(value.as_bytes());
    }
    message(&headers, payload.as_bytes())
}

fn converse() -> Vec<u8> {
    [
        frame("messageStart", r#"{"p":"abc","role":"assistant"}"#),
        frame("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"usage"},"p":"a"}"#),
        frame("messageStop", r#"{"p":"abc","stopReason":"end_turn"}"#),
        frame("metadata", r#"{"metrics":{"latencyMs":422},"p":"ab","usage":{"inputTokens":471,"outputTokens":91,"totalTokens":564,"cacheReadInputTokens":1,"cacheWriteInputTokens":1}}"#),
    ]
    .concat()
}

fn invoke() -> Vec<u8> {
    let events = [
        r#"{"type":"message_start","message":{"model":"claude-b","usage":{"input_tokens":20,"cache_creation_input_tokens":7,"output_tokens":1}}}"#,
        r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}"#,
        r#"{"type":"message_delta","usage":{"output_tokens":31}}"#,
        r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":1,"outputTokenCount":2}}"#,
    ];
    let chunk = |event| format!(r#"{{"bytes":"{}","p":"abcd"}}"#, STANDARD.encode(event));
    events.map(|event| frame("chunk", &chunk(event))).concat()
}

fn meter<'a>(
    content_type: &str,
    coding: Option<&str>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Metered {
    let mut meter = Meter::new(Some(content_type.as_bytes()), coding.map(str::as_bytes));
    pieces.into_iter().for_each(|piece| meter.feed(piece));
    meter.finish()
}

fn expected(case: &Case) -> Metered {
    let usage = case.counts.map(
        |[input, output, cached_input, cache_write, reasoning, total]| Usage {
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            total,
        },
    );
    Metered {
        usage,
        model: case.model.map(str::to_owned),
        // What they are is tested where they are read; here they must be the same however the bytes come.
        extras: meter(case.content_type, None, [case.body.as_slice()]).extras,
        gap: None,
    }
}

#[test]
fn every_dialect_is_read_whole_and_byte_by_byte() {
    for case in cases() {
        let whole = meter(case.content_type, None, [case.body.as_slice()]);
        assert_eq!(whole, expected(&case), "{}", case.name);
        let kind = Some(case.content_type.as_bytes());
        let mut in_place = Meter::new(kind, None).of_length(case.body.len() as u64);
        in_place.feed(&case.body);
        assert_eq!(in_place.held_bytes(), 0, "{}", case.name);
        assert_eq!(in_place.finish(), whole, "{}", case.name);
        let single = meter(case.content_type, None, case.body.chunks(1));
        assert_eq!(single, whole, "{}", case.name);
    }
}

#[test]
fn every_coding_is_undone() {
    for case in cases()
        .iter()
        .filter(|case| case.content_type != "text/plain" && !case.body.is_empty())
    {
        for (encoder, coding) in [
            ("gzip", "gzip"),
            ("zlib", "Deflate"),
            ("deflate", "deflate"),
            ("br", "br"),
            ("zstd", "zstd"),
        ] {
            let body = encode(encoder, &case.body);
            let metered = meter(case.content_type, Some(coding), body.chunks(7));
            assert_eq!(metered, expected(case), "{} as {coding}", case.name);
        }
        let plain = meter(case.content_type, Some("identity"), [case.body.as_slice()]);
        assert_eq!(plain, expected(case));
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let gap = |content_type, coding, body: &[u8]| {
        let metered = meter(content_type, coding, [body]);
        assert_eq!(metered.usage, None);
        metered.gap
    };
    let broken = br#"{"model":"a","usage":{"prompt_tokens":1,"#;
    assert_eq!(gap(JSON, None, broken), Some(Gap::Malformed));
    let event = [b"data: ".as_slice(), broken, b"\n\n"].concat();
    assert_eq!(gap(SSE, None, &event), Some(Gap::Malformed));
    assert_eq!(
        gap(SSE, None, b"data: {not json}\n\n"),
        None,
        "it states no usage"
    );
    assert_eq!(gap(JSON, Some("compress"), broken), Some(Gap::Coding));
    assert_eq!(gap(JSON, Some("gzip"), broken), Some(Gap::Coding));
    let mut frames = converse();
    frames[9] ^= 1;
    assert_eq!(
        gap(eventstream::CONTENT_TYPE, None, &frames),
        Some(Gap::Malformed)
    );
}

#[test]
fn a_stream_cut_short_keeps_what_it_stated() {
    let all = cases();
    let messages = all
        .iter()
        .find(|case| case.name == "messages, streamed")
        .expect("a case");
    let start = messages
        .body
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .expect("an event")
        + 2;
    let metered = meter(SSE, None, [&messages.body[..start + 9]]);
    assert_eq!(
        metered.usage.map(|usage| (usage.input, usage.output)),
        Some((27, 1))
    );
}

#[test]
fn large_answers_are_read_at_their_end_within_bounds() {
    let filler = "0.123456789,".repeat(METER_BODY_MAX / 10);
    let body = format!(
        r#"{{"object":"list","data":[{filler}0],"model":"embed","usage":{{"prompt_tokens":4,"total_tokens":4}}}}"#
    );
    let mut large = Meter::new(Some(JSON.as_bytes()), None);
    for piece in body.as_bytes().chunks(9000) {
        large.feed(piece);
        assert!(large.held_bytes() <= METER_BODY_MAX);
    }
    assert!(large.held_bytes() <= 2 * METER_TAIL);
    let metered = large.finish();
    assert_eq!(metered.usage.map(|usage| usage.total), Some(4));
    assert_eq!(metered.model.as_deref(), Some("embed"));
    let event = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{filler}0],\"usage\":{{\"input_tokens\":4,\"output_tokens\":1}}}}}}\n\ndata: [DONE]\n\n"
    );
    let metered = meter(SSE, None, event.as_bytes().chunks(9000));
    assert_eq!(metered.usage.map(|usage| usage.total), Some(5));
}

#[test]
fn a_meter_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Meter>();
}

proptest! {
    #[test]
    fn an_answer_cut_anywhere_reads_the_same(
        choice in any::<prop::sample::Index>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let cases = cases();
        let case = &cases[choice.index(cases.len())];
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(case.body.len() + 1)).collect();
        cuts.extend([0, case.body.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &case.body[pair[0]..pair[1]]);
        prop_assert_eq!(meter(case.content_type, None, pieces), expected(case), "{}", case.name);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..4usize, coding in 0..5usize) {
        let kind = [SSE, JSON, "application/stream+json", eventstream::CONTENT_TYPE][kind];
        let coding = [None, Some("gzip"), Some("deflate"), Some("br"), Some("zstd")][coding];
        let _ = meter(kind, coding, bytes.chunks(11));
    }
}

#[test]
fn searches_that_no_usage_counts_are_found_beside_it() {
    let body = r#"{"model":"gpt-4.1","output":[{"type":"web_search_call","id":"ws"},{"type":"message"}],"usage":{"input_tokens":5,"output_tokens":2,"total_tokens":7}}"#;
    let completed = format!(
        "data: {{\"type\":\"response.output_item.done\",\"item\":{{\"type\":\"web_search_call\"}}}}\n\ndata: {{\"type\":\"response.completed\",\"response\":{body}}}\n\n"
    );
    let gemini = r#"{"candidates":[{"groundingMetadata":{"webSearchQueries":["a"]}}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2}}"#;
    let stream = format!(
        "data: {gemini}\n\ndata: {{\"usageMetadata\":{{\"promptTokenCount\":5,\"candidatesTokenCount\":2}}}}\n\n"
    );
    for (kind, text) in [
        ("application/json", body),
        ("text/event-stream", &completed),
        ("application/json", gemini),
        ("text/event-stream", &stream),
    ] {
        let mut meter = Meter::new(Some(kind.as_bytes()), None).of_length(text.len() as u64);
        meter.feed(text.as_bytes());
        let metered = meter.finish();
        assert_eq!(metered.extras.searches, 1, "{text}");
        assert_eq!(metered.usage.map(|usage| usage.input), Some(5), "{text}");
    }
}
