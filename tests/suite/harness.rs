//! A gateway in a process of its own, a simulator in this one, and a client that writes and reads bytes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringgate::providers::Slug;
use ringgate::sim;
use serde_json::Value;
use tempfile::TempDir;

/// The drivers on which everything must pass; `mixed` puts one of each side by side.
pub const DRIVERS: [&str; 3] = ["auto", "epoll", "mixed"];

/// Longer than anything takes that works; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a gateway is started.
#[derive(Default)]
pub struct Setup {
    /// Lines of the configuration file.
    pub config: String,
    /// `RINGGATE_DRIVER`.
    pub driver: Option<&'static str>,
    /// More of the environment.
    pub environment: Vec<(&'static str, String)>,
    /// The account, where it is not `acc`.
    pub account: Option<&'static str>,
    /// More arguments of `serve`.
    pub arguments: Vec<&'static str>,
}

/// A running gateway.
pub struct Gateway {
    child: Child,
    /// The data listener.
    pub address: SocketAddr,
    /// The management listener.
    pub management: SocketAddr,
    /// Its standard error so far.
    pub notices: Lines,
    /// Its access lines so far.
    pub access: Lines,
    /// Configuration file and data directory.
    pub folder: TempDir,
}

/// Lines that a thread gathers.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn gather(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let gathered = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                gathered.0.lock().expect("not poisoned").push(line);
            }
        });
        lines
    }

    /// All so far, joined.
    pub fn text(&self) -> String {
        self.0.lock().expect("not poisoned").join("\n")
    }

    /// The first line that holds `part`, waited for.
    pub fn wait_for(&self, part: &str) -> String {
        eventually(&format!("a line with {part:?}"), || {
            let lines = self.0.lock().expect("not poisoned");
            lines.iter().find(|line| line.contains(part)).cloned()
        })
    }

    /// The access line of the request on `path`, waited for.
    pub fn record(&self, path: &str) -> Value {
        let line = self.wait_for(&format!("\"path\":\"{path}"));
        serde_json::from_str(&line).expect("a JSON line")
    }
}

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Setup {
    /// Every provider behind `simulator`, on one thread unless the configuration says otherwise.
    pub fn over(simulator: &sim::Running) -> Self {
        Self::at(&format!("http://{}", simulator.addr()))
    }

    /// Some providers behind one base URL.
    pub fn at(url: &str) -> Self {
        let mut config = String::new();
        for provider in [
            "openai",
            "anthropic",
            "google-ai-studio",
            "aws-bedrock",
            "azure-openai",
            "workers-ai",
            "groq",
            "fal",
            "custom-sim",
        ] {
            let _ = writeln!(config, "[providers.{provider}]\nbase_url = \"{url}\"");
        }
        Self {
            config,
            ..Self::default()
        }
    }

    /// Every provider of the table at `url`, each with `lines` more, and `custom-sim`.
    pub fn every(url: &str, lines: &str) -> Self {
        let mut config = String::new();
        for slug in Slug::ALL {
            let name = match slug {
                Slug::Custom => "custom-sim",
                slug => slug.as_str(),
            };
            let _ = writeln!(config, "[providers.{name}]\nbase_url = \"{url}\"\n{lines}");
        }
        Self {
            config,
            ..Self::default()
        }
    }

    /// Adds lines to the configuration.
    pub fn with(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Forces a driver.
    pub fn on(mut self, driver: &'static str) -> Self {
        self.driver = Some(driver);
        self
    }

    /// Adds to the environment.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Names the account.
    pub fn account(mut self, id: &'static str) -> Self {
        self.account = Some(id);
        self
    }

    /// Adds an argument of `serve`.
    pub fn argument(mut self, argument: &'static str) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Gateway {
        self.start_in(tempfile::tempdir().expect("a folder"))
    }

    /// The same on a folder that may have been used before.
    pub fn start_in(self, folder: TempDir) -> Gateway {
        let mut command = self.command(&folder);
        let mut child = command.spawn().expect("the binary");
        let notices = Lines::gather(child.stderr.take().expect("stderr"));
        let access = Lines::gather(child.stdout.take().expect("stdout"));
        let line = eventually("the start-up line", || {
            let text = notices.text();
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("ended with {status}:\n{text}");
            }
            text.lines()
                .find(|line| line.contains(" serves "))
                .map(str::to_owned)
        });
        Gateway {
            child,
            address: address_after(&line, " serves "),
            management: address_after(&line, "management "),
            notices,
            access,
            folder,
        }
    }

    /// The command that starts it.
    pub fn command(&self, folder: &TempDir) -> Command {
        let file = folder.path().join("ringgate.toml");
        std::fs::write(&file, opened(&self.config)).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--management-listen",
                "127.0.0.1:0",
            ])
            .args(["--account-id", self.account.unwrap_or("acc")])
            .args(["--access-log", "json"])
            .args(&self.arguments)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .env("RINGGATE_DRIVER", self.driver.unwrap_or("auto"))
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.config.contains("threads") {
            command.args([
                "--threads",
                if self.driver == Some("mixed") {
                    "2"
                } else {
                    "1"
                },
            ]);
        }
        command
    }
}

/// With the gateway `default` open to all, where the configuration does not speak of it.
fn opened(config: &str) -> String {
    match config.contains("[gateways.default]") {
        true => config.to_owned(),
        false => format!("{config}\n[gateways.default]\nauthentication = false\n"),
    }
}

fn address_after(line: &str, mark: &str) -> SocketAddr {
    let rest = &line[line.find(mark).expect("the mark") + mark.len()..];
    let rest = &rest[rest.find("://").expect("a URL") + 3..];
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    rest[..end].parse().expect("an address")
}

impl Gateway {
    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn send(&self, request: &str) -> Answer {
        let mut client = self.connect();
        client.write(request.as_bytes());
        client.answer()
    }

    /// GET on the management listener.
    pub fn manage(&self, path: &str) -> Answer {
        let mut client = Client::connect(self.management);
        client.write(format!("GET {path} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes());
        client.answer()
    }

    /// One of the numbers of `/metrics`.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.manage("/metrics").text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("ringgate_{name} ")));
        line.expect("the metric").parse().expect("a number")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill(2) on a child of ours that was not waited for, so that its id is still its own.
        assert_eq!(
            unsafe { libc::kill(self.child.id() as libc::pid_t, signal) },
            0
        );
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by `signal` and leaves its folder.
    pub fn end(mut self, signal: libc::c_int) -> TempDir {
        self.signal(signal);
        self.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// A call of the management API.
    pub fn call(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut client = Client::connect(self.management);
        client.write(call(token, method, path, body).as_bytes());
        client.answer()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the gateway", || {
            self.child.try_wait().expect("a child")
        })
    }

    /// Changes how many descriptors it may have; returns what it might before.
    pub fn limit_files(&self, soft: u64) -> u64 {
        self.limit(libc::RLIMIT_NOFILE, soft)
    }

    /// Changes one of its limits; returns what it was before.
    pub fn limit(&self, which: libc::__rlimit_resource_t, soft: u64) -> u64 {
        let pid = self.child.id() as libc::pid_t;
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the pointers are to a live rlimit of this frame, the process is a child of ours that was not waited for.
        unsafe {
            assert_eq!(libc::prlimit(pid, which, std::ptr::null(), &mut limit), 0);
            let before = std::mem::replace(&mut limit.rlim_cur, soft);
            assert_eq!(libc::prlimit(pid, which, &limit, std::ptr::null_mut()), 0);
            before
        }
    }

    /// Resident memory, bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("its status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes: u64 = line
            .expect("RssAnon")
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kilobytes * 1024
    }

    /// The folder, for another start once this one has ended.
    pub fn take_folder(&mut self) -> TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    /// Changes the configuration file.
    pub fn reconfigure(&self, config: &str) {
        std::fs::write(self.folder.path().join("ringgate.toml"), opened(config)).expect("written");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "gateway notices:\n{}\naccess lines:\n{}",
                self.notices.text(),
                self.access.text()
            );
        }
    }
}

/// A connection of bytes.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    /// What came and was not taken yet.
    pub received: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head as text.
    pub head: String,
    /// Its body, dechunked.
    pub body: Vec<u8>,
    /// Whether it ended as its framing said.
    pub whole: bool,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The code of the gateway's envelope.
    pub fn code(&self) -> u64 {
        let body = self.json();
        assert_eq!(body["name"], "AiGatewayError", "{body}");
        assert_eq!(body["httpCode"], self.status, "{body}");
        assert_eq!(body["error"][0]["code"], body["internalCode"], "{body}");
        body["internalCode"].as_u64().expect("a code")
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("written");
    }

    /// Bytes received and not yet looked at.
    pub fn buffered(&self) -> usize {
        self.received.len()
    }

    /// Whether the other side has closed, waited for; bytes that come first are a failure.
    pub fn closed(&mut self) -> bool {
        assert!(
            self.received.is_empty(),
            "unread: {:?}",
            String::from_utf8_lossy(&self.received)
        );
        let mut byte = [0; 256];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(count) => panic!("more bytes: {:?}", String::from_utf8_lossy(&byte[..count])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                false
            }
            Err(_) => true,
        }
    }

    /// Reads until `text` was received; returns all up to its end.
    pub fn read_until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = find(&self.received, text.as_bytes()) {
                let taken: Vec<u8> = self.received.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(
                self.fill(),
                "ended before {text:?}: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// One final answer to anything but HEAD; interim ones are skipped.
    pub fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    /// One final answer.
    pub fn answer_to(&mut self, head_request: bool) -> Answer {
        let (head, status) = loop {
            let head = self.read_until("\r\n\r\n");
            let status: u16 = head[9..12].parse().expect("a status");
            if status >= 200 {
                break (head.trim_end().to_owned(), status);
            }
        };
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
            whole: true,
        };
        if head_request || matches!(status, 204 | 304) {
            return answer;
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.received.len() < length && self.fill() {}
            answer.whole = self.received.len() >= length;
            answer.body = self
                .received
                .drain(..length.min(self.received.len()))
                .collect();
        } else if answer.header("transfer-encoding").is_some() {
            answer.whole = self.chunks(&mut answer.body);
        } else {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.received);
        }
        answer
    }

    /// Reads chunks into `body`; false where they break off.
    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line() else {
                return false;
            };
            let size = usize::from_str_radix(line.split(';').next().expect("a size"), 16)
                .expect("hexadecimal");
            while self.received.len() < size + 2 {
                if !self.fill() {
                    body.append(&mut self.received);
                    return false;
                }
            }
            body.extend(self.received.drain(..size));
            self.received.drain(..2);
            if size == 0 {
                return true;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let line: Vec<u8> = self.received.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads more; false at the end, clean or not.
    fn fill(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!(
                    "nothing came; so far {:?}",
                    String::from_utf8_lossy(&self.received)
                )
            }
            Err(_) => false,
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A simulator on a free port.
pub fn simulator() -> sim::Running {
    sim::start(&sim::Options::default()).expect("a simulator")
}

/// What the simulator received, oldest first.
pub fn received(simulator: &sim::Running) -> Vec<Value> {
    let mut client = Client::connect(simulator.addr());
    client.write(b"GET /sim/requests HTTP/1.1\r\nHost: s\r\n\r\n");
    client.answer().json()["requests"]
        .as_array()
        .expect("a list")
        .clone()
}

/// A header of a received request.
pub fn sent_header<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    let headers = request["headers"].as_array().expect("headers");
    let found = headers.iter().find(|pair| {
        pair[0]
            .as_str()
            .is_some_and(|key| key.eq_ignore_ascii_case(name))
    });
    found.and_then(|pair| pair[1].as_str())
}

/// A POST of JSON below `/v1/acc/default/`.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /v1/acc/default/{path} HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A call of the management API as text.
pub fn call(token: &str, method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} /client/v4{path} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of a new gateway.
pub fn new_gateway(id: &str, authentication: bool) -> String {
    serde_json::json!({
        "id": id, "authentication": authentication, "cache_invalidate_on_update": true, "cache_ttl": 0,
        "collect_logs": true, "rate_limiting_interval": 0, "rate_limiting_limit": 0,
    })
    .to_string()
}

/// The body of a new token that may run every gateway of `acc`.
pub fn new_token(name: &str) -> String {
    serde_json::json!({
        "name": name,
        "policies": [{
            "effect": "allow",
            "permission_groups": [{"id": "644535f4ed854494a59cb289d634b257"}],
            "resources": {"com.cloudflare.api.account.acc": "*"},
        }],
    })
    .to_string()
}

/// A chat request to OpenAI's endpoint.
pub fn chat(model: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    post("openai/chat/completions", "", &body)
}
