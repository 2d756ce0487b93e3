//! What a million log entries cost: writing them, the questions of a dashboard, memory. `cargo bench --bench logs`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ringgate::config::{Flags, load};
use ringgate::manage::{Declared, publish};
use ringgate::meter::Usage;
use ringgate::meter::cost::Money;
use ringgate::record::{Captured, CapturedBody, End, Id, Logged, PaidBy, Record, Timings};
use ringgate::seal::Sealer;
use ringgate::snapshot::Published;
use ringgate::store::Database;
use ringgate::telemetry::logs::{
    Bounds, Condition, Key, Logs, Operator, Order, OrderBy, Query, Selection, Tally, Value,
    between, condition,
};

/// Entries: over twenty hours, so that they lie in one segment or in two.
const ENTRIES: u64 = 1_000_000;
const HOURS: u64 = 20;
/// Entries with bodies of 2 KB each way.
const WITH_BODIES: u64 = 200_000;
/// Times that each question is asked; the slowest counts too.
const ASKED: usize = 7;

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let published = published(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let bounds = Bounds::on(folder.path(), Some(1 << 40), None, None);
    let logs =
        Logs::start(&folder.path().join("logs"), bounds, published.clone()).expect("started");
    println!("memory at the start: {} MB", memory());
    write("without bodies", &logs, ENTRIES, |_| None);
    println!("memory after writing: {} MB", memory());
    for (name, query) in questions() {
        let mut times: Vec<Duration> = Vec::new();
        let mut total = 0;
        for _ in 0..ASKED {
            let begin = Instant::now();
            let found = runtime.block_on(logs.find(query.clone())).expect("found");
            times.push(begin.elapsed());
            total = found.total;
        }
        let first = times[0];
        times.sort_unstable();
        println!(
            "{name:48} {total:>8} found   first {:>6.1} ms   median {:>6.1} ms",
            milliseconds(first),
            milliseconds(times[ASKED / 2])
        );
    }
    for (name, conditions) in evaluations() {
        runtime.block_on(evaluate(name, &logs, conditions));
    }
    println!("memory after reading: {} MB", memory());
    write("with bodies of 2 KB", &logs, WITH_BODIES, |number| {
        Some(bodies(number))
    });
    println!(
        "memory at the end: {} MB; disk {} MB",
        memory(),
        disk(&folder.path().join("logs")) >> 20
    );
    logs.stop();
}

/// What an evaluation does: one walk in pieces, each of which another question may have to wait for.
async fn evaluate(name: &str, logs: &Logs, conditions: Vec<Condition>) {
    let selection = Arc::new(Selection {
        gateway: "prod".to_owned(),
        questions: vec![conditions],
        until: u64::MAX >> 20,
    });
    let (begin, mut longest, mut pieces) = (Instant::now(), Duration::ZERO, 0);
    let (mut sum, mut place) = (Tally::default(), None);
    loop {
        let asked = Instant::now();
        let piece = logs.tally(selection.clone(), place).await;
        let (tally, next) = piece.expect("summed");
        longest = longest.max(asked.elapsed());
        sum.join(tally);
        pieces += 1;
        place = next;
        if place.is_none() {
            break;
        }
    }
    println!(
        "{name:48} {:>8} found   {pieces} pieces in {:.1} ms, the longest {:.1} ms",
        sum.entries,
        milliseconds(begin.elapsed()),
        milliseconds(longest)
    );
}

fn evaluations() -> Vec<(&'static str, Vec<Condition>)> {
    let holds = |key, operator, text: &str| {
        condition(key, operator, &[Value::Text(text.to_owned())]).expect("a condition")
    };
    vec![
        ("evaluation of all", Vec::new()),
        (
            "evaluation of a model's dear successes",
            vec![
                holds(Key::Model, Operator::Contains, "gpt"),
                holds(Key::Success, Operator::Eq, "true"),
                holds(Key::Cost, Operator::Gt, "0.01"),
            ],
        ),
    ]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn published(folder: &Path) -> Arc<Published> {
    let file = folder.join("ringgate.toml");
    std::fs::write(&file, "[gateways.prod]\n[gateways.other]\n").expect("written");
    let flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let (config, _) = load(&flags, &|_| None).expect("a configuration");
    let database = Database::open(folder).expect("opened");
    let sealer = Arc::new(Sealer::create(&folder.join("key")).expect("a key"));
    let declared = Declared::of(&config).expect("declared");
    let snapshot = publish::build("acc", &declared, sealer, database.connection()).expect("built");
    Arc::new(Published::new(snapshot))
}

/// Hands over entries as fast as they are taken.
fn write(name: &str, logs: &Logs, count: u64, captured: impl Fn(u64) -> Option<Captured>) {
    let stats = logs.stats();
    let before = stats.stored.load(Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_millis() as u64;
    let since = now - HOURS * 3_600_000;
    let begin = Instant::now();
    for number in 0..count {
        while number % 1024 == 0 && logs.waiting() > 16_384 {
            std::thread::sleep(Duration::from_millis(1));
        }
        logs.push(record(
            number,
            since + number * (now - since) / count,
            captured(number),
        ));
    }
    while stats.stored.load(Ordering::Relaxed) < before + count {
        assert_eq!(
            stats.dropped.load(Ordering::Relaxed),
            0,
            "{}",
            stats.last_failure()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = begin.elapsed();
    println!(
        "{name}: {count} entries in {:.1} s, {:.0} a second",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64()
    );
}

fn record(number: u64, at: u64, captured: Option<Captured>) -> Record {
    // Scattered, and the same each time.
    let pick = |salt: u64, of: u64| {
        let mixed = (number ^ salt << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % of
    };
    let mut id = Id::lowest_at(at).to_bytes();
    id[8..].copy_from_slice(&(number | 1 << 63).to_be_bytes());
    let models = [
        "gpt-4o",
        "gpt-4o-mini",
        "claude-sonnet-4-5",
        "gemini-2.5-pro",
        "llama-3.3-70b",
    ];
    let providers = ["openai", "openai", "anthropic", "google-ai-studio", "groq"];
    let model = pick(1, 5) as usize;
    let failed = pick(2, 50) == 0;
    let total = Duration::from_micros(200_000 + pick(3, 5_000_000));
    let log = Logged {
        metadata: (pick(4, 3) == 0).then(|| {
            format!(
                r#"{{"user_id":"u{}","team":"t{}"}}"#,
                pick(5, 5000),
                pick(6, 20)
            )
            .into()
        }),
        user_agent: Some("OpenAI/Python 1.99.0".into()),
        request_content_type: Some("application/json".into()),
        response_content_type: Some("text/event-stream; charset=utf-8".into()),
        paid_by: PaidBy::Stored("default".into()),
        captured,
        ..Logged::default()
    };
    Record {
        method: "POST".into(),
        path: "/v1/acc/prod/openai/chat/completions".into(),
        gateway: Some(if pick(8, 20) == 0 {
            "other".into()
        } else {
            "prod".into()
        }),
        provider: Some(providers[model].into()),
        model: Some(models[model].into()),
        answered_model: Some(models[model].into()),
        usage: Some(Usage {
            input: 100 + pick(9, 4000),
            output: pick(10, 2000),
            ..Usage::default()
        }),
        cost: Some(Money(i128::from(pick(7, 20_000)) * 1_000_000)),
        status: if failed { 429 } else { 200 },
        end: End::Complete,
        request_bytes: 2048,
        response_bytes: 4096,
        attempts: 1,
        reused: true,
        timings: Timings {
            total,
            upstream: total / 2,
            stream: total / 2,
            ..Timings::default()
        },
        log: Some(Box::new(log)),
        ..Record::new(Id::from_bytes(id), "192.0.2.1".parse().expect("an address"))
    }
}

fn bodies(number: u64) -> Captured {
    let body = |front: &str| {
        let words = [
            "the ", "gateway ", "answers ", "with ", "tokens ", "of ", "text ", "and ", "numbers ",
        ];
        let mut text = format!(r#"{{"{front}":{number},"content":""#);
        let mut state = number;
        while text.len() < 2000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(words[(state >> 33) as usize % words.len()]);
        }
        text.push_str("\"}");
        let mut body = CapturedBody::default();
        body.share(Bytes::from(text));
        body
    };
    Captured {
        request: body("request"),
        response: body("response"),
    }
}

fn questions() -> Vec<(&'static str, Query)> {
    let now = jiff::Timestamp::now();
    let ago = |hours: i64| (now - jiff::SignedDuration::from_hours(hours)).to_string();
    let is = |key, text: &str| {
        condition(key, Operator::Eq, &[Value::Text(text.to_owned())]).expect("a condition")
    };
    let more = |key, text: &str| {
        condition(key, Operator::Gt, &[Value::Text(text.to_owned())]).expect("a condition")
    };
    let part = |key, text: &str| {
        condition(key, Operator::Contains, &[Value::Text(text.to_owned())]).expect("a condition")
    };
    let since = |hours| between(Some(&ago(hours)), None).expect("a condition");
    let query = |conditions: Vec<Condition>| Query {
        gateway: "prod".to_owned(),
        conditions,
        order: Order {
            by: OrderBy::CreatedAt,
            descending: true,
        },
        offset: 0,
        limit: 20,
        extremes: false,
    };
    let by = |by| Query {
        order: Order {
            by,
            descending: true,
        },
        ..query(Vec::new())
    };
    vec![
        ("the newest", query(vec![])),
        (
            "page 1000 of the newest",
            Query {
                offset: 50_000,
                limit: 50,
                ..query(vec![])
            },
        ),
        ("the last hour", query(vec![since(1)])),
        ("failures", query(vec![is(Key::Success, "false")])),
        ("successes", query(vec![is(Key::Success, "true")])),
        (
            "failures of the last hour",
            query(vec![since(1), is(Key::Success, "false")]),
        ),
        ("a model", query(vec![is(Key::Model, "gpt-4o")])),
        (
            "a provider and successes",
            query(vec![is(Key::Provider, "openai"), is(Key::Success, "true")]),
        ),
        (
            "more than a second",
            query(vec![more(Key::Duration, "1000")]),
        ),
        ("more than a cent", query(vec![more(Key::Cost, "0.01")])),
        (
            "a user's, by metadata",
            query(vec![
                is(Key::MetadataKey, "user_id"),
                is(Key::MetadataValue, "u77"),
            ]),
        ),
        ("a user agent", query(vec![part(Key::UserAgent, "python")])),
        ("cached", query(vec![is(Key::Cached, "true")])),
        (
            "search for a model's name",
            query(vec![Condition::Search("sonnet".to_owned())]),
        ),
        (
            "search for a user",
            query(vec![Condition::Search("u4999".to_owned())]),
        ),
        (
            "least and most of each figure",
            Query {
                extremes: true,
                ..query(vec![])
            },
        ),
        ("ordered by model", by(OrderBy::Model)),
        ("ordered by success", by(OrderBy::Success)),
    ]
}

/// Resident memory, MB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.expect("a number") / 1024
}

fn disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").metadata().expect("facts").len())
        .sum()
}
