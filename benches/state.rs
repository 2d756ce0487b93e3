//! What a large state costs (10,000 gateways, each with a stored key and a deployed route; 100,000 tokens; 100 custom
//! providers): lookups, writes until they are seen, the start, memory. `cargo bench --bench state`.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ringgate::access::generate_token;
use ringgate::config::{Flags, load};
use ringgate::manage::{Declared, publish};
use ringgate::seal::Sealer;
use ringgate::snapshot::Snapshot;
use ringgate::store::{Database, FILE};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const GATEWAYS: usize = 10_000;
const TOKENS: usize = 100_000;
const PROVIDERS: usize = 100;
/// Writes of each kind.
const WRITES: usize = 200;
const TOKEN: &str = "the-first-token-of-the-bench-0123456789-0123456789";

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let values = seed(folder.path());
    let snapshot = build(folder.path());
    lookups(&snapshot, &values);
    drop((snapshot, values));
    let in_memory = tempfile::tempdir_in("/dev/shm").ok();
    if let Some(copy) = &in_memory {
        for name in [FILE, "master-key"] {
            let to = copy.path().join(name);
            std::fs::copy(folder.path().join(name), to).expect("copied");
        }
    }
    serve("on disk", folder.path());
    if let Some(copy) = &in_memory {
        serve("in memory", copy.path());
    }
}

/// Makes the state: one of everything through the API, the others as copies of its rows. Returns the tokens' values.
fn seed(folder: &Path) -> Vec<String> {
    let server = Server::start(folder);
    let mut client = Client::connect(&server);
    let gateways = "/accounts/acc/ai-gateway/gateways";
    let gateway = json!({
        "id": "g0", "cache_invalidate_on_update": true, "cache_ttl": 0, "collect_logs": true,
        "rate_limiting_interval": 0, "rate_limiting_limit": 0,
    });
    client.call("POST", gateways, &gateway);
    let key = json!({
        "provider_slug": "openai", "alias": "default", "default_config": true,
        "secret": "sk-0123456789abcdef0123456789abcdef0123456789abcdef",
    });
    client.call("POST", &format!("{gateways}/g0/provider_configs"), &key);
    let model = |model: &str, next: [(&str, &str); 2]| {
        let outputs = next.map(|(name, to)| (name.to_owned(), json!({"elementId": to})));
        json!({"id": model, "type": "model", "properties": {"provider": "openai", "model": model},
            "outputs": serde_json::Map::from_iter(outputs)})
    };
    let route = json!({"name": "support", "elements": [
        {"id": "s", "type": "start", "outputs": {"next": {"elementId": "gpt-4o"}}},
        model("gpt-4o", [("success", "e"), ("fallback", "gpt-4o-mini")]),
        model("gpt-4o-mini", [("success", "e"), ("fallback", "e")]),
        {"id": "e", "type": "end", "outputs": {}},
    ]});
    client.call("POST", &format!("{gateways}/g0/routes"), &route);
    for number in 0..PROVIDERS {
        let provider = json!({
            "slug": format!("p{number}"), "name": "P", "base_url": "https://p.example", "enable": true,
        });
        client.call(
            "POST",
            "/accounts/acc/ai-gateway/custom-providers",
            &provider,
        );
    }
    drop(server);
    let mut database = Connection::open(folder.join(FILE)).expect("opened");
    let change = database.transaction().expect("begun");
    let copies = |statement: &str| {
        let numbers = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) ",
            GATEWAYS - 1
        );
        change
            .execute_batch(&format!("{numbers}{statement}"))
            .expect("copied");
    };
    copies(
        "INSERT INTO gateways SELECT 'g' || n, internal_id || n, settings, created_at, modified_at
            FROM gateways, numbers WHERE id = 'g0'",
    );
    copies(
        "INSERT INTO secrets SELECT id || n, store_id, name || n, comment, scopes, key_id, sealed, preview, created, modified
            FROM secrets, numbers",
    );
    copies(
        "INSERT INTO provider_configs SELECT id || n, 'g' || n, provider_slug, alias, default_config, secret_id || n, rate_limit,
            rate_limit_period, modified_at FROM provider_configs, numbers",
    );
    copies(
        "INSERT INTO routes SELECT id || n, 'g' || n, name, created_at, modified_at FROM routes, numbers",
    );
    copies(
        "INSERT INTO route_versions SELECT id || n, route_id || n, number, elements, created_at FROM route_versions, numbers",
    );
    copies(
        "INSERT INTO route_deployments SELECT id || n, route_id || n, number, version_id || n, created_at
            FROM route_deployments, numbers",
    );
    let mut values = Vec::with_capacity(TOKENS);
    {
        let statement =
            "INSERT INTO tokens (id, name, digest, disabled, policies, issued_on, modified_on)
            VALUES (?1, ?2, ?3, 0, ?4, 1, 1)";
        let mut statement = change.prepare(statement).expect("a statement");
        for number in 0..TOKENS {
            let value = generate_token().expect("random");
            let resource = format!(
                "com.cloudflare.api.account.acc.ai-gateway.gateway.g{}",
                number % GATEWAYS
            );
            let policies = json!([{"id": "p", "effect": "allow", "resources": {resource: "*"},
                "permission_groups": [{"id": "644535f4ed854494a59cb289d634b257"}]}]);
            let digest: [u8; 32] = Sha256::digest(&value).into();
            let row = (
                format!("{number:032x}"),
                format!("team {number}"),
                digest,
                policies.to_string(),
            );
            statement.execute(row).expect("inserted");
            values.push(value);
        }
    }
    change.commit().expect("committed");
    values
}

/// The first snapshot, as a start makes it.
fn build(folder: &Path) -> Snapshot {
    let database = Database::open(folder).expect("opened");
    let flags = Flags {
        data_dir: Some(folder.display().to_string()),
        ..Flags::default()
    };
    let (config, _) = load(&flags, &|_| None).expect("a configuration");
    let declared = Declared::of(&config).expect("declared");
    let sealer = Sealer::of_file(&folder.join("master-key"))
        .expect("a key")
        .expect("a key");
    let begin = Instant::now();
    let snapshot = publish::build("acc", &declared, Arc::new(sealer), database.connection());
    let snapshot = snapshot.expect("built");
    println!("database to first snapshot: {:.2?}", begin.elapsed());
    let found = snapshot.gateways.len();
    assert!(found >= GATEWAYS, "{found} gateways");
    let support = snapshot
        .gateways
        .get("g7")
        .expect("g7")
        .routes
        .get("support");
    assert!(support.is_some() && snapshot.providers.contains_key("custom-p7"));
    snapshot
}

/// Each lookup once with the same key again and again, which the processor keeps close, and once with all keys in turn.
fn lookups(snapshot: &Snapshot, values: &[String]) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    // In an order that has nothing to do with the one in which they were stored.
    let mut values: Vec<&str> = values.iter().map(|value| &value[..]).collect();
    values.sort_unstable();
    let unknown: Vec<String> = (0..values.len())
        .map(|_| generate_token().expect("random"))
        .collect();
    let unknown: Vec<&str> = unknown.iter().map(|value| &value[..]).collect();
    let other: Vec<String> = (0..values.len())
        .map(|number| format!("sk-proj-{number:0100}"))
        .collect();
    let other: Vec<&str> = other.iter().map(|value| &value[..]).collect();
    let mut names: Vec<String> = (0..GATEWAYS).map(|number| format!("g{number}")).collect();
    names.sort_by_cached_key(|name| Sha256::digest(name)[..8].to_vec());
    let ids: Vec<&str> = names.iter().map(|name| &name[..]).collect();
    let providers: Vec<String> = (0..PROVIDERS)
        .map(|number| format!("custom-p{number}"))
        .collect();
    let providers: Vec<&str> = providers.iter().map(|name| &name[..]).collect();
    let gateway = |id: &str| snapshot.gateways.get(id);
    let mut measure = |name: &str, keys: &[&str], found: bool, lookup: &dyn Fn(&str) -> bool| {
        for (way, keys) in [("the same", &keys[..1]), ("all in turn", keys)] {
            criterion.bench_function(&format!("{name}, {way}"), |bencher| {
                let mut next = 0;
                bencher.iter(|| {
                    next = if next + 1 < keys.len() { next + 1 } else { 0 };
                    assert_eq!(lookup(black_box(keys[next])), found);
                });
            });
        }
    };
    let token = |value: &str| snapshot.tokens.find(value.as_bytes()).is_some();
    measure("token", &values, true, &token);
    measure("token, unknown", &unknown, false, &token);
    measure("token, a provider's key instead", &other, false, &token);
    measure("gateway", &ids, true, &|id| gateway(id).is_some());
    measure("gateway and its key", &ids, true, &|id| {
        gateway(id).is_some_and(|gateway| gateway.key("openai", None).is_some())
    });
    measure("gateway and its route", &ids, true, &|id| {
        gateway(id).is_some_and(|gateway| gateway.routes.contains_key("support"))
    });
    measure("custom provider", &providers, true, &|name| {
        snapshot.providers.contains_key(name)
    });
}

/// Starts the program itself on the state, writes to it, and tells times and memory.
fn serve(place: &str, folder: &Path) {
    let begin = Instant::now();
    let server = Server::start(folder);
    println!("{place}: start until it serves: {:.2?}", begin.elapsed());
    println!(
        "{place}: memory after the start: {} MB, at most {} MB",
        server.memory("VmRSS"),
        server.memory("VmHWM")
    );
    let mut client = Client::connect(&server);
    let mut write = |name: &str, path: &dyn Fn(usize) -> String, body: &dyn Fn(usize) -> Value| {
        let mut times: Vec<Duration> = (0..WRITES)
            .map(|round| {
                let (path, body) = (path(round), body(round));
                let begin = Instant::now();
                client.call("PUT", &path, &body);
                begin.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!(
            "{place}: {name}, request to published answer: median {:.2?}, p99 {:.2?}, longest {:.2?}",
            times[WRITES / 2],
            times[WRITES * 99 / 100],
            times[WRITES - 1]
        );
    };
    write(
        "token roll",
        &|round| format!("/accounts/acc/tokens/{:032x}/value", round * 37),
        &|_| json!({}),
    );
    write(
        "gateway change",
        &|round| format!("/accounts/acc/ai-gateway/gateways/g{}", round * 37),
        &|round| {
            json!({
                "cache_invalidate_on_update": true, "cache_ttl": round, "collect_logs": true,
                "rate_limiting_interval": 0, "rate_limiting_limit": 0,
            })
        },
    );
    println!(
        "{place}: memory after the writes: {} MB, at most {} MB",
        server.memory("VmRSS"),
        server.memory("VmHWM")
    );
}

/// The program, ended when this goes.
struct Server {
    child: Child,
    management: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args([
                "serve",
                "--account-id",
                "acc",
                "--threads",
                "2",
                "--access-log",
                "off",
            ])
            .args([
                "--listen",
                "127.0.0.1:0",
                "--management-listen",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(folder)
            .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut notices = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let mut line = String::new();
        while !line.contains(" serves ") {
            line.clear();
            let read = notices.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended: {said}");
            said.push_str(&line);
        }
        // What it says later must not stop it.
        std::thread::spawn(move || std::io::copy(&mut notices, &mut std::io::sink()));
        let (_, rest) = line.split_once("management http://").expect("the address");
        let management = rest.split(' ').next().expect("the address").to_owned();
        Self { child, management }
    }

    /// A figure of the process's status, in MB.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("its status");
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
        let text = lines
            .next()
            .expect("the figure")
            .trim_matches([':', ' ', '\t', 'k', 'B']);
        text.parse::<u64>().expect("a number") / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: kill(2) on a child of ours that was not waited for, so that its id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// One connection to the management listener.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.management).expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Self { stream }
    }

    fn call(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "{method} /client/v4{path} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("written");
        let mut answer = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut buffer).expect("read");
            assert!(read > 0, "closed");
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then_some(value)
            });
            let length: usize = length.expect("a length").parse().expect("a number");
            if body.len() < length {
                continue;
            }
            assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {text}");
            return serde_json::from_str(body).expect("JSON");
        }
    }
}
