//! Start, reload, drain, and what stands in front of the gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::{Client, DRIVERS, Setup, chat, eventually, received, simulator};

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
        page.contains("ringgate_requests_total{status=\"2xx\"} 1"),
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
    std::fs::write(
        &file,
        "[data]\ndrain = \"5s\"\n[gateways.x]\ncache_ttl = 5\n",
    )
    .expect("written");
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
        text.contains("warning: ") && text.contains("gateways.x.cache_ttl has no effect yet"),
        "{text}"
    );
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
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stderr.take().expect("stderr")),
            &mut line,
        )
        .expect("a line");
        // SAFETY: kill(2) on a child of ours that was not waited for.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        assert!(child.wait().expect("a child").success());
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

struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn make() -> Self {
        let certificate = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        certificate.renew();
        certificate
    }

    fn renew(&self) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .expect("a certificate");
        std::fs::write(self.folder.path().join("c.pem"), made.cert.pem()).expect("written");
        std::fs::write(
            self.folder.path().join("k.pem"),
            made.signing_key.serialize_pem(),
        )
        .expect("written");
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn lines(&self) -> String {
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
                "[upstream]\nca_file = \"{}\"\n[data]\nthreads = 1",
                certificate.path("c.pem")
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
        let large =
            front.send("GET /v1/acc/default/custom-sim/bytes/3000000 HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!((large.status, large.whole), (404, true));
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
    // SAFETY: kill(2) on a child of ours that was not waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert!(child.wait().expect("a child").success());
    let folder = std::env::temp_dir().join(format!("ringgate-demo-{}", child.id()));
    assert!(!folder.exists());
}
