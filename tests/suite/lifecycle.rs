//! Start, reload, drain, and what stands in front of the gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::harness::{
    Client, DRIVERS, Setup, chat, eventually, new_gateway, post, received, simulator,
};

fn ringgate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary")
}

#[test]
fn health_readiness_and_metrics_are_told() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    for path in ["/health", "/healthz", "/ready", "/readyz"] {
        assert_eq!(gateway.manage(path).status, 200, "{path}");
    }
    assert_eq!(gateway.manage("/nothing").status, 404);
    gateway.send(&chat("gpt-4o", false));
    let record = gateway.access.record("/v1/acc");
    let page = gateway.manage("/metrics").text();
    assert!(
        page.contains("ringgate_responses_total{status=\"2xx\"} 1"),
        "{page}"
    );
    // The parts of the time add up.
    let part = |name: &str| record["timings_us"][name].as_u64().expect("a number");
    let sum = part("own") + part("connect") + part("upstream") + part("stream");
    assert!(
        sum.abs_diff(part("total")) <= part("total") / 20 + 4,
        "{record}"
    );
    assert!(part("own") > 0 && part("upstream") > 0);
}

/// The text format as Prometheus's own parser reads it.
#[test]
fn the_metrics_page_is_in_prometheus_format() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    gateway.send(&chat("gpt-4o", false));
    gateway.access.record("/v1/acc");
    let answer = gateway.manage("/metrics");
    let kind = answer.header("content-type").expect("a type");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let page = answer.text();
    assert!(page.ends_with('\n'));
    let name_is_right = |name: &str| {
        let right = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        name.starts_with("ringgate_") && name.chars().all(right)
    };
    let (mut family, mut kinds) = (String::new(), std::collections::HashMap::new());
    let mut buckets: Vec<f64> = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a text");
            assert!(name_is_right(name) && !help.is_empty(), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family, "HELP and TYPE go together");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} twice"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            buckets.clear();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            let (name, label) = match series.split_once('{') {
                Some((name, label)) => (name, label.strip_suffix('}').expect("a brace")),
                None => (series, ""),
            };
            assert!(name_is_right(name) && name.starts_with(&family), "{line}");
            match (kinds[&family].as_str(), name.strip_prefix(&*family)) {
                ("histogram", Some("_bucket")) => {
                    assert!(label.starts_with("le=\""), "{line}");
                    assert!(buckets.last().is_none_or(|last| *last <= value), "{line}");
                    buckets.push(value);
                }
                ("histogram", Some("_count")) => {
                    assert_eq!(Some(&value), buckets.last(), "+Inf counts all");
                }
                ("histogram", rest) => assert_eq!(rest, Some("_sum"), "{line}"),
                (_, rest) => assert_eq!(rest, Some(""), "{line}"),
            }
        }
    }
    for name in [
        "requests_total",
        "own_latency_seconds",
        "input_tokens_total",
    ] {
        assert!(kinds.contains_key(&format!("ringgate_{name}")), "{name}");
    }
}

#[test]
fn a_drain_lets_streams_finish_and_exits_cleanly() {
    for driver in DRIVERS {
        let simulator = simulator();
        let mut gateway = Setup::over(&simulator).on(driver).start();
        let mut idle = gateway.connect();
        idle.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(idle.answer().status, 200);
        let mut streaming = gateway.connect();
        streaming.write(chat("sim-tokens-40+tps-40", true).as_bytes());
        streaming.read_until("\n\n");
        gateway.signal(libc::SIGTERM);
        eventually("no more connections", || {
            TcpStream::connect(gateway.address).is_err().then_some(())
        });
        assert_eq!(gateway.manage("/ready").status, 503);
        assert!(
            streaming
                .read_until("data: [DONE]\n\n")
                .contains("\"finish_reason\":\"stop\""),
            "{driver}"
        );
        streaming.read_until("0\r\n\r\n");
        assert!(idle.closed(), "{driver}");
        assert!(gateway.wait().success(), "{driver}");
        assert_eq!(
            gateway.access.text().lines().count(),
            2,
            "every record was written"
        );
    }
}

#[test]
fn a_drain_is_bounded() {
    let simulator = simulator();
    let mut gateway = Setup::over(&simulator)
        .with("[data]\ndrain = \"200ms\"")
        .start();
    let mut client = gateway.connect();
    client.write(chat("sim-hang-after-1", true).as_bytes());
    client.read_until("\n\n");
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
}

#[test]
fn a_reload_changes_what_it_can_and_says_what_it_cannot() {
    let simulator = simulator();
    let setup = Setup::over(&simulator);
    let config = setup.config.clone();
    let gateway = setup.start();
    let get = |id: &str| {
        gateway.send(&format!(
            "GET /v1/acc/{id}/openai/v1/models HTTP/1.1\r\nHost: g\r\n\r\n"
        ))
    };
    assert_eq!(get("fresh").code(), 2001);
    gateway.reconfigure(&format!(
        "{config}[gateways.fresh]\nauthentication = false\n"
    ));
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reloaded");
    assert_eq!(get("fresh").status, 200);
    gateway.reconfigure("[data]\nlisten = 5\nlisen = 3\n");
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reload refused");
    gateway.notices.wait_for("did you mean \"listen\"?");
    assert_eq!(get("fresh").status, 200, "a wrong file changes nothing");
    gateway.reconfigure(&format!("{config}[data]\nkeep_alive = \"9s\"\n"));
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("needs a restart: data.keep_alive");
    assert_eq!(get("fresh").code(), 2001);
    assert_eq!(gateway.metric("configuration_publications_total"), 3);
}

#[test]
fn one_data_directory_serves_one_instance_and_keeps_its_account() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let second = Setup::over(&simulator)
        .command(&gateway.folder)
        .output()
        .expect("the binary");
    assert_eq!(second.status.code(), Some(2));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        text.contains("in use by another ringgate (process ") && text.contains("--data-dir"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_said_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.toml");
    std::fs::write(&file, "[data]\nlisen = [\"127.0.0.1:1\"]\n").expect("written");
    let path = file.to_str().expect("a path");
    for command in ["check", "serve"] {
        let output = ringgate(
            &[
                command,
                "--config",
                path,
                "--data-dir",
                folder.path().join("d").to_str().expect("a path"),
            ],
            &[],
        );
        assert_eq!(output.status.code(), Some(2), "{command}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains(&format!(
                "{path}:2: data.lisen: unknown key; did you mean \"listen\"?"
            )),
            "{text}"
        );
    }
    assert!(!folder.path().join("d").exists(), "nothing was begun");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let output = ringgate(
        &[
            "serve",
            "--listen",
            &address,
            "--data-dir",
            folder.path().join("e").to_str().expect("a path"),
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains(&address) && text.contains("--listen"),
        "{text}"
    );
}

#[test]
fn check_prints_each_value_with_its_origin() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.toml");
    std::fs::write(&file, "[data]\ndrain = \"5s\"\n[gateways.x]\nzdr = true\n").expect("written");
    let path = file.to_str().expect("a path");
    let output = ringgate(
        &["check", "--config", path, "--threads", "3"],
        &[("RINGGATE_DRIVER", "epoll")],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = |key: &str| {
        let found = text
            .lines()
            .find(|line| line.starts_with(&format!("{key} ")));
        found
            .unwrap_or_else(|| panic!("{key} is missing: {text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("data.threads"), "data.threads 3 --threads");
    assert_eq!(line("data.driver"), "data.driver epoll RINGGATE_DRIVER");
    assert_eq!(line("data.drain"), format!("data.drain 5s {path}:2"));
    assert_eq!(line("data.keep_alive"), "data.keep_alive 75s default");
    assert!(
        text.contains("warning: ") && text.contains("gateways.x.zdr has no effect yet"),
        "{text}"
    );
    assert_eq!(line("(file)"), format!("(file) {path} --config"));
    // A key that is not there is told with its line; a misspelt variable is told too.
    std::fs::write(
        &file,
        "[providers.openai]\napi_key = \"env:NOT_SET_HERE\"\n",
    )
    .expect("written");
    let output = ringgate(&["check", "--config", path], &[("RINGGATE_LISEN", "x")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains(&format!(
            "{path}:2: providers.openai.api_key: environment variable NOT_SET_HERE"
        )),
        "{text}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("the nearest is RINGGATE_LISTEN"));
}

#[test]
fn an_account_is_made_once_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--management-listen",
                "127.0.0.1:0",
                "--threads",
                "1",
                "--data-dir",
            ])
            .arg(&data)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary");
        let mut stderr = std::io::BufReader::new(child.stderr.take().expect("stderr"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line");
        // SAFETY: kill(2) on a child of ours that was not waited for.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        let mut more = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut more).expect("text");
        assert!(child.wait().expect("a child").success());
        // The first start alone shows a token, and keeps it for its owner.
        let token = std::fs::read_to_string(data.join("initial-token")).expect("a token");
        assert_eq!(more.contains(token.trim()), ids.is_empty(), "{more}");
        let id = line
            .split("account ")
            .nth(1)
            .expect("the account")
            .split(' ')
            .next()
            .expect("an id")
            .to_owned();
        assert_eq!(id.len(), 32, "{line}");
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn connections_beyond_the_bound_are_told_to_come_back() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nconnections = 3")
            .start();
        let mut open: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
        for client in &mut open {
            client.write(chat("gpt-4o", false).as_bytes());
            assert_eq!(client.answer().status, 200);
        }
        let mut refused = gateway.connect();
        let answer = refused.answer();
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{driver}"
        );
        drop((open, refused));
        eventually("room again", || {
            (gateway.metric("connections_open") == 0).then_some(())
        });
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
        assert_eq!(gateway.metric("connections_refused_total"), 1);
    }
}

#[test]
fn the_bound_is_told_over_tls_too() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let certificate = Certificate::make();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with(&certificate.lines())
            .with("[data]\nconnections = 1")
            .start();
        let held = gateway.connect();
        eventually("a full gateway", || {
            (gateway.metric("connections_open") == 1).then_some(())
        });
        let mut stream = TcpStream::connect(gateway.address).expect("connected");
        let mut session = certificate.client();
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        tls.write_all(chat("gpt-4o", false).as_bytes())
            .expect("written");
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 503", "{driver}");
        drop(held);
    }
}

#[test]
fn requests_wait_for_an_origins_connections_and_the_wait_is_told() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[upstream]\nconnections_per_origin_total = 1")
            .start();
        let mut first = gateway.connect();
        first.write(chat("sim-tokens-20+tps-40", true).as_bytes());
        first.read_until("\n\n");
        let mut second = gateway.connect();
        second.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(second.answer().status, 200, "{driver}");
        assert_eq!(
            gateway.metric("upstream_queue_seconds_count"),
            1,
            "{driver}"
        );
        let stats = simulator.stats();
        assert!(stats["connections_accepted"].as_u64() <= Some(2), "{stats}");
    }
}

#[test]
fn behind_a_load_balancer_the_client_is_the_one_it_names() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let lines = "[data]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]";
        let gateway = Setup::over(&simulator).on(driver).with(lines).start();
        let request = |path: &str| {
            format!(
                "GET /v1/acc/default/custom-sim/echo/{path} HTTP/1.1\r\nHost: g\r\nX-Forwarded-For: 7.7.7.7, 10.1.1.1\r\n\r\n"
            )
        };
        let mut client = gateway.connect();
        client.write(b"PROXY TCP4 9.8.7.6 127.0.0.1 4000 80\r\n");
        client.write(request("v1").as_bytes());
        assert_eq!(client.answer().status, 200);
        assert_eq!(
            gateway.access.record("/v1/acc/default/custom-sim/echo/v1")["client"],
            "9.8.7.6",
            "an untrusted peer"
        );
        let mut client = gateway.connect();
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend_from_slice(&[10, 0, 0, 9, 127, 0, 0, 1, 0x0f, 0xa0, 0, 80]);
        // The header may come in pieces, and with the request in one.
        client.write(&header[..7]);
        std::thread::sleep(Duration::from_millis(10));
        client.write(&[&header[7..], request("v2").as_bytes()].concat());
        assert_eq!(client.answer().status, 200);
        assert_eq!(
            gateway.access.record("/v1/acc/default/custom-sim/echo/v2")["client"],
            "7.7.7.7",
            "through trusted proxies"
        );
        let mut client = gateway.connect();
        client.write(request("none").as_bytes());
        assert!(client.closed(), "{driver}: no header, no service");
    }
}

/// A certificate for `localhost`, in files.
pub struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    /// A new one.
    pub fn make() -> Self {
        let certificate = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        certificate.renew();
        certificate
    }

    fn renew(&self) {
        // The address is a public one, for what is held to these.
        let names = ["localhost", "93.184.216.34"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(self.folder.path().join("c.pem"), made.cert.pem()).expect("written");
        std::fs::write(
            self.folder.path().join("k.pem"),
            made.signing_key.serialize_pem(),
        )
        .expect("written");
    }

    /// Where its file of this name is: `c.pem` or `k.pem`.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn client(&self) -> rustls::ClientConnection {
        let mut roots = rustls::RootCertStore::empty();
        let pem = CertificateDer::from_pem_file(self.path("c.pem")).expect("a certificate");
        roots.add(pem).expect("an anchor");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("a name");
        rustls::ClientConnection::new(Arc::new(config), name).expect("a session")
    }

    /// The configuration that serves it.
    pub fn lines(&self) -> String {
        format!(
            "[data.tls]\ncertificate = \"{}\"\nkey = \"{}\"",
            self.path("c.pem"),
            self.path("k.pem")
        )
    }
}

#[test]
fn tls_on_both_sides_with_reuse_and_renewal() {
    for driver in DRIVERS {
        let simulator = simulator();
        let certificate = Certificate::make();
        let behind = Setup::over(&simulator)
            .on(driver)
            .with(&certificate.lines())
            .start();
        let url = format!(
            "https://localhost:{}/v1/acc/default/openai",
            behind.address.port()
        );
        let front = Setup::at(&url)
            .on(driver)
            .with(&format!(
                "[upstream]\nca_file = \"{}\"\n[data]\nthreads = 1\n[providers.custom-bulk]\nbase_url = \"{}\"",
                certificate.path("c.pem"),
                url.replace("/openai", "/custom-sim"),
            ))
            .start();
        for _ in 0..10 {
            let answer = front.send(&chat("sim-tokens-20", true));
            assert!(
                answer.whole && answer.text().ends_with("[DONE]\n\n"),
                "{driver}: {}",
                answer.text()
            );
        }
        assert_eq!(
            front.metric("upstream_connects_total"),
            1,
            "{driver}: one handshake for all"
        );
        // Far more than one record at once, both ways.
        let large =
            front.send("GET /v1/acc/default/custom-bulk/bytes/3000000 HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!(
            (large.status, large.whole, large.body.len()),
            (200, true, 3_000_000),
            "{driver}"
        );
        let upload = "x".repeat(3_000_000);
        let stored = front.send(&post("custom-bulk/upload/x", "", &upload));
        assert_eq!(stored.json()["body_bytes"], 3_000_000, "{driver}");
        // A renewed certificate is served after a reload; the front trusts the old one alone.
        certificate.renew();
        behind.signal(libc::SIGHUP);
        behind.notices.wait_for("reloaded");
        let old = std::fs::read(certificate.path("c.pem")).expect("read");
        std::fs::write(certificate.path("c.pem"), old).expect("written");
        front.signal(libc::SIGHUP);
        front.notices.wait_for("reloaded");
        let answer = front.send(&chat("gpt-4o", false));
        assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
    }
}

#[test]
fn a_reload_of_trust_or_proxy_counts_for_the_next_request() {
    for driver in DRIVERS {
        let simulator = simulator();
        let certificate = Certificate::make();
        let behind = Setup::over(&simulator)
            .on(driver)
            .with(&certificate.lines())
            .start();
        let url = format!(
            "https://localhost:{}/v1/acc/default/openai",
            behind.address.port()
        );
        let setup = Setup::at(&url).on(driver);
        let untrusting = setup.config.clone();
        let authority = format!("[upstream]\nca_file = \"{}\"\n", certificate.path("c.pem"));
        let front = setup.with(&authority).start();
        assert_eq!(front.send(&chat("gpt-4o", false)).status, 200);
        let reload = |config: &str, publications: u64| {
            front.reconfigure(config);
            front.signal(libc::SIGHUP);
            eventually("a reload", || {
                (front.metric("configuration_publications_total") == publications).then_some(())
            });
        };
        // A warm connection of the trusted days must not serve now.
        reload(&untrusting, 2);
        assert_eq!(front.send(&chat("gpt-4o", false)).code(), 2005, "{driver}");
        front.access.wait_for("TLS with localhost");
        reload(&format!("{untrusting}{authority}"), 3);
        assert_eq!(front.send(&chat("gpt-4o", false)).status, 200, "{driver}");
        reload(
            &format!("{untrusting}{authority}proxy = \"http://127.0.0.1:1\"\n"),
            4,
        );
        assert_eq!(front.send(&chat("gpt-4o", false)).code(), 2005, "{driver}");
    }
}

#[test]
fn the_systems_authorities_are_trusted_where_asked_for() {
    let simulator = simulator();
    let certificate = Certificate::make();
    let behind = Setup::over(&simulator).with(&certificate.lines()).start();
    let url = format!(
        "https://localhost:{}/v1/acc/default/openai",
        behind.address.port()
    );
    for (roots, status) in [("system", 200), ("bundled", 400)] {
        let front = Setup::at(&url)
            .env("SSL_CERT_FILE", &certificate.path("c.pem"))
            .with(&format!("[upstream]\nroots = \"{roots}\""))
            .start();
        assert_eq!(front.send(&chat("gpt-4o", false)).status, status, "{roots}");
    }
}

#[test]
fn what_is_no_proxy_header_is_closed_without_an_answer() {
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let mut v2_with = |tail: &[u8]| {
        v2.truncate(12);
        v2.extend_from_slice(tail);
        v2.clone()
    };
    let hostile = [
        chat("gpt-4o", false).into_bytes(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"PROXY TCP4 999.8.7.6 127.0.0.1 4000 80\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::1 4000 80\r\n".to_vec(),
        b"PROXY TCP4 9.8.7.6 127.0.0.1 70000 80\r\n".to_vec(),
        b"PROXY TCP4 9.8.7.6 127.0.0.1 4000\r\n".to_vec(),
        b"PROXY TCP4 9.8.7.6 127.0.0.1 4000 80\n".to_vec(),
        b"PROXY UDP4 9.8.7.6 127.0.0.1 4000 80\r\n".to_vec(),
        b"proxy TCP4 9.8.7.6 127.0.0.1 4000 80\r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        v2_with(&[0x31, 0x11, 0, 12]),
        v2_with(&[0x2f, 0x11, 0, 12]),
        v2_with(&[0x21, 0x99, 0, 12]),
        v2_with(&[0x21, 0x11, 0xff, 0xff]),
        v2_with(&[0x21, 0x11, 0, 4, 1, 2, 3, 4]),
    ];
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nproxy_protocol = true")
            .start();
        for header in &hostile {
            let mut client = gateway.connect();
            client.write(header);
            assert!(
                client.closed(),
                "{driver} {:?}",
                String::from_utf8_lossy(header)
            );
        }
        assert!(received(&simulator).is_empty(), "{driver}");
        let polite = [b"PROXY UNKNOWN\r\n".to_vec(), v2_with(&[0x20, 0, 0, 0])];
        for header in polite {
            let mut client = gateway.connect();
            client.write(&[header, chat("gpt-4o", false).into_bytes()].concat());
            assert_eq!(client.answer().status, 200, "{driver}");
        }
    }
}

#[test]
fn a_program_out_of_descriptors_waits_for_some() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nthreads = 1")
            .start();
        let mut warm = gateway.connect();
        warm.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(warm.answer().status, 200);
        let before = gateway.limit_files(3);
        let mut waiting: Vec<Client> = (0..5).map(|_| gateway.connect()).collect();
        for client in &mut waiting {
            client.write(chat("gpt-4o", false).as_bytes());
        }
        std::thread::sleep(Duration::from_millis(300));
        // What needs no descriptor goes on.
        warm.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(warm.answer().status, 200, "{driver}");
        gateway.limit_files(before);
        for client in &mut waiting {
            client.answer();
        }
        // A loop would have counted many thousands.
        let errors = gateway.metric("accept_errors_total");
        assert!((1..1000).contains(&errors), "{driver}: {errors}");
    }
}

#[test]
fn what_comes_behind_the_end_of_a_tls_stream_is_not_waited_for() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let certificate = Certificate::make();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with(&certificate.lines())
            .start();
        let mut stream = TcpStream::connect(gateway.address).expect("connected");
        let mut session = certificate.client();
        while session.is_handshaking() {
            session.complete_io(&mut stream).expect("a handshake");
        }
        session.send_close_notify();
        let mut last = Vec::new();
        session.write_tls(&mut last).expect("written");
        last.resize(last.len() + 16_000, 0);
        stream.write_all(&last).expect("written");
        // The only thread has others to serve.
        let mut other = TcpStream::connect(gateway.address).expect("connected");
        let mut session = certificate.client();
        let mut tls = rustls::Stream::new(&mut session, &mut other);
        tls.write_all(chat("gpt-4o", false).as_bytes())
            .expect("written");
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200", "{driver}");
    }
}

#[test]
fn an_unknown_authority_is_refused() {
    let simulator = simulator();
    let certificate = Certificate::make();
    let behind = Setup::over(&simulator).with(&certificate.lines()).start();
    let front = Setup::at(&format!("https://localhost:{}", behind.address.port())).start();
    assert_eq!(front.send(&chat("gpt-4o", false)).code(), 2005);
    let detail = front.access.record("/v1/acc")["detail"].to_string();
    assert!(detail.contains("TLS with localhost"), "{detail}");
    // And a client that speaks no TLS gets nothing.
    let mut client = behind.connect();
    client.write(chat("gpt-4o", false).as_bytes());
    let mut byte = [0; 64];
    let count = client.stream.read(&mut byte).unwrap_or(0);
    assert!(!byte[..count].starts_with(b"HTTP"));
}

#[test]
fn upstream_connections_go_through_a_configured_proxy() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let proxy = listener.local_addr().expect("an address");
        let target = simulator.addr();
        std::thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                let mut head = Vec::new();
                let mut byte = [0; 1];
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let wanted = format!("CONNECT {target} HTTP/1.1\r\n");
                if !head.starts_with(wanted.as_bytes()) {
                    let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
                    continue;
                }
                let upstream = TcpStream::connect(target).expect("connected");
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .expect("written");
                let pairs = [
                    (client.try_clone(), upstream.try_clone()),
                    (Ok(upstream), Ok(client)),
                ];
                for (from, to) in pairs {
                    let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        let lines = format!(
            "[upstream]\nproxy = \"http://{proxy}\"\n[providers.mistral]\nbase_url = \"http://127.0.0.1:1\""
        );
        let gateway = Setup::over(&simulator).on(driver).with(&lines).start();
        for _ in 0..3 {
            assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200, "{driver}");
        }
        assert_eq!(simulator.stats()["connections_accepted"], 1);
        let refused = gateway.send("GET /v1/acc/default/mistral/x HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!(refused.code(), 2005);
        assert!(
            gateway.access.record("/v1/acc/default/mistral")["detail"]
                .to_string()
                .contains("403")
        );
        assert_eq!(received(&simulator).len(), 3);
    }
}

#[test]
fn the_demo_prints_a_command_that_streams() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args([
            "demo",
            "--listen",
            "127.0.0.1:0",
            "--management-listen",
            "127.0.0.1:0",
            "--ttft",
            "1",
            "--tps",
            "1000",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().expect("stdout"),
    ));
    let mut command = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if line.starts_with("curl") || !command.is_empty() {
            command.push_str(&line);
            command.push('\n');
            if !line.ends_with('\\') {
                break;
            }
        }
    }
    let output = Command::new("sh")
        .args(["-c", &command])
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.ends_with("data: [DONE]\n\n"),
        "{command}: {text}"
    );
    let printed: Vec<String> = lines
        .by_ref()
        .map_while(Result::ok)
        .take_while(|line| !line.contains("Ctrl-C"))
        .collect();
    assert!(printed.iter().any(|line| line.contains("/metrics")));
    // The first access line has the tokens in it: the printed command asks for them.
    let access = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains(" POST "));
    let access = access.expect("an access line");
    for part in [
        " 200 ",
        "provider=openai",
        "own=",
        "upstream=",
        "tokens=",
        "end=complete",
    ] {
        assert!(access.contains(part), "{part}: {access}");
    }
    // Every provider fails in its own way.
    let token = command
        .lines()
        .find(|line| line.contains("cf-aig-authorization"));
    let token = token
        .and_then(|line| line.split('\'').nth(1))
        .expect("a token");
    let base = command
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split("/openai").next());
    let (address, base) = base
        .and_then(|base| base.split_once('/'))
        .expect("a base URL");
    let failures = [
        ("anthropic/v1/messages", "/error/type"),
        (
            "google-ai-studio/v1beta/models/m+sim-status-429:generateContent",
            "/error/status",
        ),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/m+sim-status-429/converse",
            "/message",
        ),
        (
            "azure-openai/r/m+sim-status-429/chat/completions",
            "/error/code",
        ),
        ("workers-ai/@cf/m+sim-status-429", "/errors/0/code"),
        ("mistral/v1/chat/completions", "/object"),
        ("grok/v1/chat/completions", "/code"),
        ("openrouter/chat/completions", "/error/metadata"),
        ("groq/chat/completions", "/error/type"),
        ("cohere/v2/chat", "/message"),
        ("replicate/predictions", "/title"),
    ];
    for (path, pointer) in failures {
        let mut client = Client::connect(address.parse().expect("an address"));
        let body = r#"{"model":"m+sim-status-429","messages":[],"contents":[]}"#;
        let request = format!(
            "POST /{base}/{path} HTTP/1.1\r\nHost: g\r\n{token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write(request.as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, 429, "{path}");
        assert!(
            answer.json().pointer(pointer).is_some(),
            "{path}: {}",
            answer.text()
        );
    }
    // A second one is told what to change.
    let address = command
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let second = ringgate(&["demo", "--listen", address.expect("an address")], &[]);
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(2));
    assert!(
        text.contains("--listen") && text.contains("in use"),
        "{text}"
    );
    assert!(second.stdout.is_empty(), "nothing was promised");
    // SAFETY: kill(2) on a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert!(child.wait().expect("a child").success());
    let folder = std::env::temp_dir().join(format!("ringgate-demo-{}", child.id()));
    assert!(!folder.exists());
}

#[test]
fn the_simulator_and_the_load_generator_work_from_the_command_line() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["sim", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let stdout = child.stdout.take().expect("stdout");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    let first = lines.next().expect("a line").expect("text");
    let url = first
        .strip_prefix("simulator on ")
        .expect("the address")
        .to_owned();
    let base = format!("{url}/v1");
    let output = ringgate(
        &[
            "load",
            &base,
            "-n",
            "50",
            "-c",
            "2",
            "--stream",
            "--model",
            "sim-tokens-5",
        ],
        &[],
    );
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(report["requests"], 50);
    assert!(
        report["events"]
            .as_u64()
            .is_some_and(|events| events >= 250),
        "{report}"
    );
    for times in [
        "latency_us",
        "first_byte_us",
        "first_event_us",
        "event_gap_us",
    ] {
        for part in ["count", "mean", "p50", "p90", "p99", "p999", "max"] {
            assert!(report[times][part].is_number(), "{times} {part}: {report}");
        }
    }
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("50 requests") && text.contains("first event"),
        "{text}"
    );
    // Nothing answered is a failure, with its reason.
    let output = ringgate(
        &["load", &base, "-n", "3", "--model", "sim-status-500"],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: status 500: 3"));
    let output = ringgate(&["load", "127.0.0.1:1"], &[]);
    assert_eq!(output.status.code(), Some(2));
    // Ctrl-C ends both: the load with its report, the simulator cleanly.
    let load = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(["load", &base, "--duration", "3600", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary");
    let stats = url
        .strip_prefix("http://")
        .expect("http")
        .parse()
        .expect("an address");
    eventually("requests of the load", || {
        let mut client = Client::connect(stats);
        client.write(b"GET /sim/stats HTTP/1.1\r\nHost: s\r\n\r\n");
        client.answer().json()["requests"]
            .as_u64()
            .filter(|count| *count > 60)
    });
    // SAFETY: kill(2) on children of ours that were not waited for.
    unsafe { libc::kill(load.id() as libc::pid_t, libc::SIGINT) };
    let output = load.wait_with_output().expect("a child");
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        report["requests"].as_u64().is_some_and(|count| count > 0),
        "{report}"
    );
    // SAFETY: as above.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    assert!(child.wait().expect("a child").success());
}

#[test]
fn dev_lets_this_machine_manage_without_a_token_and_nobody_else() {
    const TOKEN: &str = "the-first-token-of-the-dev-test-0123456789";
    let setup = || Setup::default().env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN);
    let gateway = setup().argument("--dev").start();
    let notice = gateway.notices.wait_for("--dev");
    assert!(notice.contains("without a token"), "{notice}");
    let call = |path: &str, headers: &str| {
        let mut client = Client::connect(gateway.management);
        let host = gateway.management;
        let path = format!("/client/v4{path}");
        client.write(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").as_bytes());
        client.answer()
    };
    let path = "/accounts/acc/ai-gateway/gateways";
    assert_eq!(call(path, "").status, 200);
    assert_eq!(call("/accounts/other/ai-gateway/gateways", "").status, 404);
    // Whoever shows a credential is that one.
    assert_eq!(
        call(path, &format!("Authorization: Bearer {TOKEN}\r\n")).status,
        200
    );
    assert_eq!(call(path, "Authorization: Bearer another\r\n").status, 401);
    assert_eq!(call(path, "Authorization: \r\n").status, 400);
    assert_eq!(call(path, "X-Auth-Key: k\r\n").status, 400);
    // A page in a browser, and a proxy.
    assert_eq!(
        call(path, "Origin: https://elsewhere.example\r\n").status,
        400
    );
    assert_eq!(call(path, "X-Forwarded-For: 192.0.2.1\r\n").status, 400);
    // What is done so is written down as done by the operator, over the API.
    let mut client = Client::connect(gateway.management);
    let body = new_gateway("g", true);
    client.write(
        format!(
            "POST /client/v4{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    assert_eq!(client.answer().status, 200);
    let line = call("/accounts/acc/audit_logs?per_page=1", "").json()["result"][0].clone();
    assert_eq!(
        (&line["interface"], &line["resource"]["id"]),
        (&Value::from("API"), &Value::from("g"))
    );
    drop(gateway);
    let gateway = setup().start();
    let answer = gateway.manage(&format!("/client/v4{path}"));
    assert_eq!(answer.status, 400, "without --dev");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let file = folder.path().join("r.toml");
    std::fs::write(&file, "[management]\nallow_plaintext = true\n").expect("written");
    let path = |path: &std::path::Path| path.display().to_string();
    let arguments = ["serve", "--dev", "--management-listen", "0.0.0.0:0"].map(str::to_owned);
    let more = [
        "--config".to_owned(),
        path(&file),
        "--data-dir".to_owned(),
        path(&data),
    ];
    let all = [&arguments[..], &more[..]].concat();
    let output = ringgate(&all.iter().map(|one| &one[..]).collect::<Vec<_>>(), &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("--dev") && text.contains("loopback"),
        "{text}"
    );
    assert!(!data.exists(), "nothing was begun");
}

#[test]
fn check_says_what_a_start_would_make_and_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let path = data.to_str().expect("a path");
    let check = |variables: &[(&str, &str)]| {
        let output = ringgate(&["check", "--data-dir", path], variables);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("master key   would be made"), "{text}");
    assert!(
        text.contains("first token  would be made at the start, printed once"),
        "{text}"
    );
    let given = [(
        "RINGGATE_BOOTSTRAP_TOKEN",
        "the-token-of-the-environment-0123456789",
    )];
    assert!(check(&given).1.contains("out of RINGGATE_BOOTSTRAP_TOKEN"));
    assert!(!data.exists(), "nothing was made");
    let gateway = Setup::default().start_in(folder);
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "beside a server: {text}");
    assert!(
        text.contains("/master-key\n") && !text.contains("would be made at"),
        "{text}"
    );
    assert!(text.contains("there is 1 token already"), "{text}");
    let folder = gateway.end(libc::SIGTERM);
    let files = || {
        let entries = std::fs::read_dir(folder.path().join("data")).expect("listed");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        // What SQLite keeps beside the file comes and goes.
        names.retain(|name| !name.to_string_lossy().starts_with("ringgate.db-"));
        names.sort();
        names
    };
    let before = files();
    assert_eq!(check(&[]).0, Some(0));
    assert_eq!(files(), before);
}
