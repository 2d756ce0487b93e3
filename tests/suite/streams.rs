//! Streams: relayed as they come, bounded, and never ended cleanly when they broke.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::{Client, DRIVERS, Setup, chat, eventually, post, received, simulator};

#[test]
fn events_are_relayed_as_they_come_and_byte_for_byte() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        // The provider falls silent after three events: all three must be here before anything else happens.
        let mut client = gateway.connect();
        client.write(chat("sim-hang-after-3", true).as_bytes());
        for _ in 0..3 {
            assert!(client.read_until("\n\n").contains("data: {"), "{driver}");
        }
        drop(client);
        let request = chat("sim-tokens-50", true);
        let through = gateway.send(&request);
        let mut direct = Client::connect(simulator.addr());
        direct.write(
            request
                .replace("/v1/acc/default/openai/", "/v1/")
                .as_bytes(),
        );
        let direct = direct.answer();
        assert!(through.whole && through.body == direct.body, "{driver}");
        assert_eq!(
            through.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
    }
}

#[test]
fn event_boundaries_are_not_waited_for() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let mut client = gateway.connect();
    // One byte each ten milliseconds: every byte is passed on by itself.
    client.write(chat("sim-drip+tokens-1", true).as_bytes());
    client.read_until("\r\n\r\n");
    let mut buffer = [0; 64];
    let count = client.stream.read(&mut buffer).expect("bytes");
    assert!(count < 64, "a whole event came at once");
}

#[test]
fn a_client_that_leaves_stops_the_provider() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for (model, event) in [
            ("sim-hang-after-2", true),
            ("sim-hang", false),
            ("sim-tps-20+tokens-4000", true),
        ] {
            let before = simulator.stats()["aborted"].as_u64().expect("a number");
            let mut client = gateway.connect();
            client.write(chat(model, true).as_bytes());
            if event {
                client.read_until("\n\n");
            } else {
                eventually("the request", || {
                    received(&simulator)
                        .iter()
                        .any(|request| request["answered"] == false)
                        .then_some(())
                });
            }
            drop(client);
            eventually(&format!("an aborted answer of {model} on {driver}"), || {
                (simulator.stats()["aborted"].as_u64() > Some(before)).then_some(())
            });
        }
        eventually("an idle gateway", || {
            (gateway.metric("requests_running") == 0).then_some(())
        });
        let line = gateway
            .access
            .wait_for("\"answered_model\":\"sim-hang-after-2\"");
        let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(record["end"], "client_left");
        assert!(
            record["response_bytes"].as_u64() > Some(0),
            "what was received is accounted: {record}"
        );
    }
}

#[test]
fn a_broken_provider_never_looks_like_a_clean_end() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for (model, stream) in [
            ("sim-reset-after-3", true),
            ("sim-close-after-3", true),
            ("sim-truncated-chunk", true),
            ("sim-reset-after-2", false),
            ("sim-close-after-2", false),
        ] {
            let answer = gateway.send(&chat(model, stream));
            assert_eq!(answer.status, 200, "{driver} {model}");
            assert!(!answer.whole, "{driver} {model}: {}", answer.text());
        }
        let record = gateway.access.record("/v1/acc/default/openai");
        assert_eq!(record["end"], "upstream_broke");
        assert_eq!(gateway.metric("requests_incomplete_total"), 5);
    }
}

#[test]
fn a_broken_stream_is_reset_for_a_client_that_knows_only_the_end_of_the_connection() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for model in ["sim-close-after-3", "sim-reset-after-3"] {
            let mut client = gateway.connect();
            client.write(chat(model, true).replace("HTTP/1.1", "HTTP/1.0").as_bytes());
            let mut received = Vec::new();
            let end = client.stream.read_to_end(&mut received);
            let error = end.expect_err("a reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{driver} {model}");
        }
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_not_whole_after_a_reset() {
    let reset = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\npart")
                    .expect("written");
                // Until the part has arrived: a reset overtakes what was not yet read.
                std::thread::sleep(Duration::from_millis(50));
                socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .expect("set");
            }
        });
        address
    };
    for driver in DRIVERS {
        let gateway = Setup::at(&format!("http://{}", reset())).on(driver).start();
        let request = "GET /v1/acc/default/custom-sim/x HTTP/1.1\r\nHost: g\r\n\r\n";
        let answer = gateway.send(request);
        assert_eq!((answer.status, answer.whole), (200, false), "{driver}");
        let mut client = gateway.connect();
        client.write(request.replace("HTTP/1.1", "HTTP/1.0").as_bytes());
        let end = client.stream.read_to_end(&mut Vec::new());
        assert!(end.is_err(), "{driver}: a clean end");
        let record = gateway.access.record("/v1/acc/default/custom-sim");
        assert_eq!(record["end"], "upstream_broke");
    }
}

#[test]
fn a_slow_client_slows_the_provider_and_memory_stays_flat() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let begin = || {
            let mut client = gateway.connect();
            client.write(
                b"GET /v1/acc/default/custom-sim/bytes/400000000 HTTP/1.1\r\nHost: g\r\n\r\n",
            );
            client.read_until("\r\n\r\n");
            client
        };
        // What every thread takes for itself once, in pages of 2 MiB where the system gives them, is taken before.
        let mut warm = begin();
        std::io::Read::read_exact(&mut warm.stream, &mut vec![0; 50 << 20]).expect("bytes");
        drop(warm);
        let mut client = begin();
        let before = gateway.memory();
        // The client does not read: what the provider could send is bounded by the sockets' buffers.
        let settled = || {
            let first = sent_bytes(&gateway, &simulator);
            std::thread::sleep(Duration::from_millis(100));
            (first == sent_bytes(&gateway, &simulator)).then_some(first)
        };
        eventually("a provider that waits", settled);
        assert!(
            gateway.memory() < before + (16 << 20),
            "{driver}: {} to {}",
            before,
            gateway.memory()
        );
        let mut rest = 0;
        let mut buffer = vec![0; 1 << 20];
        while rest < 399_000_000 {
            rest += client.stream.read(&mut buffer).expect("bytes");
        }
        assert!(
            gateway.memory() < before + (16 << 20),
            "{driver}: {} to {}",
            before,
            gateway.memory()
        );
    }
}

/// Bytes in the kernel's hands on the way: there is nothing else to see of an answer in progress.
fn sent_bytes(gateway: &crate::harness::Gateway, simulator: &ringgate::sim::Running) -> u64 {
    let _ = gateway;
    simulator.stats()["bytes_sent"].as_u64().unwrap_or_default()
}

#[test]
fn a_bulk_transfer_keeps_no_one_from_the_thread() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let (taken, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut bulk = gateway.connect();
        bulk.write(b"GET /v1/acc/default/custom-sim/bytes/64000000000 HTTP/1.1\r\nHost: g\r\n\r\n");
        let reader = {
            let (taken, stop) = (taken.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while !stop.load(Ordering::Relaxed) {
                    let count = bulk.stream.read(&mut buffer).expect("bytes");
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                }
            })
        };
        let mut upload = gateway.connect();
        upload.write(b"PUT /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
        let writer = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let piece = [b"10000\r\n".as_slice(), &[0; 0x10000], b"\r\n"].concat();
                while !stop.load(Ordering::Relaxed) {
                    // Over the limit it is cut off, which ends this side of it.
                    if upload.stream.write_all(&piece).is_err() {
                        return;
                    }
                }
            })
        };
        eventually("a running transfer", || {
            (taken.load(Ordering::Relaxed) > 1 << 20).then_some(())
        });
        for _ in 0..10 {
            assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200, "{driver}");
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("the reader");
        writer.join().expect("the writer");
    }
}

#[test]
fn a_gigabyte_goes_up_and_down_with_flat_memory() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[data]\nbody_max = \"2GiB\"")
        .start();
    assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    // What the log needs it has from its first entry on.
    eventually("the first log entry", || {
        (gateway.metric("logs_stored_total") == 1).then_some(())
    });
    let before = gateway.memory();
    const SIZE: usize = 1 << 30;
    let mut client = gateway.connect();
    let head = format!(
        "PUT /v1/acc/default/custom-sim/upload/big HTTP/1.1\r\nHost: g\r\nContent-Length: {SIZE}\r\n\r\n"
    );
    client.write(head.as_bytes());
    let piece = vec![7; 1 << 20];
    for _ in 0..SIZE / piece.len() {
        client.write(&piece);
    }
    assert_eq!(client.answer().json()["body_bytes"], SIZE);
    client.write(
        format!("GET /v1/acc/default/custom-sim/bytes/{SIZE} HTTP/1.1\r\nHost: g\r\n\r\n")
            .as_bytes(),
    );
    client.read_until("\r\n\r\n");
    let (mut received, mut buffer) = (client.buffered(), vec![0; 1 << 20]);
    while received < SIZE {
        received += client.stream.read(&mut buffer).expect("bytes");
    }
    assert!(
        gateway.memory() < before + (16 << 20),
        "{} to {}",
        before,
        gateway.memory()
    );
}

#[test]
fn a_half_closed_client_counts_as_gone_while_an_answer_is_due() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        client.write(chat("sim-hang", false).as_bytes());
        eventually("the request", || {
            (received(&simulator).len() == 1).then_some(())
        });
        client
            .stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half closed");
        eventually("the end of the provider's work", || {
            (simulator.stats()["aborted"] == 1).then_some(())
        });
        let record = gateway.access.record("/v1/acc/default/openai");
        assert_eq!(record["end"], "client_left", "{driver}");
    }
}

#[test]
fn a_client_that_breaks_off_its_upload_leaves_no_whole_request() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            let mut client = gateway.connect();
            client.write(format!("POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n5\r\nhello").as_bytes());
            eventually("a running request", || {
                (gateway.metric("requests_running") == 1).then_some(())
            });
            drop(client);
            eventually("its end", || {
                (gateway.metric("requests_running") == 0).then_some(())
            });
        }
        assert_eq!(gateway.metric("requests_incomplete_total"), 2, "{driver}");
        assert_eq!(received(&simulator).len(), 0, "{driver}");
    }
}

#[test]
fn a_thousand_slow_clients_cost_a_buffer_each() {
    const READERS: usize = 100;
    const OTHERS: usize = 450;
    raise_file_limit();
    let simulator = simulator();
    for driver in ["auto", "epoll"] {
        let gateway = Setup::over(&simulator).on(driver).start();
        let before = gateway.memory();
        // Some take nothing of a large answer, some wait in a silent stream, some do not finish their upload.
        let large = "GET /v1/acc/default/custom-sim/bytes/50000000 HTTP/1.1\r\nHost: g\r\n\r\n";
        let upload = "POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nabc";
        let silent = chat("sim-hang-after-2", true);
        let requests = [(READERS, large), (OTHERS, &silent), (OTHERS, upload)];
        let mut slow = Vec::new();
        for (count, request) in requests {
            for _ in 0..count {
                let mut client = gateway.connect();
                client.write(request.as_bytes());
                slow.push(client);
            }
        }
        eventually("all requests", || {
            (gateway.metric("requests_running") == slow.len() as u64).then_some(())
        });
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200, "{driver}");
        let grown = gateway.memory().saturating_sub(before);
        let bound = (READERS * (128 << 10) + 2 * OTHERS * (32 << 10)) as u64;
        assert!(grown < bound, "{driver}: {grown} bytes");
        drop(slow);
        eventually("an idle gateway", || {
            (gateway.metric("connections_open") == 0).then_some(())
        });
    }
}

/// This process holds two ends of each connection.
fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointers are to a live rlimit of this frame.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn compressed_bodies_pass_untouched_and_a_bomb_stays_folded() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("compressed");
        encoder.finish().expect("compressed")
    };
    // An answer of a hundred megabytes in a hundred kilobytes, its usage at the end.
    let mut large = br#"{"object":"chat.completion","padding":""#.to_vec();
    large.resize(100 << 20, b'x');
    large.extend_from_slice(
        br#"","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
    );
    let bomb = gzip(&large);
    drop(large);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );
    let message: &'static [u8] = [head.as_bytes(), &bomb].concat().leak();
    let body = gzip(br#"{"model":"gpt-4o","messages":[]}"#);
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        let head = format!(
            "POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nContent-Encoding: gzip\r\nAccept-Encoding: gzip, br\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write(&[head.as_bytes(), &body].concat());
        assert_eq!(client.answer().json()["body_bytes"], body.len(), "{driver}");
        let request = received(&simulator).pop().expect("a request");
        let sent = |name| crate::harness::sent_header(&request, name);
        assert_eq!(sent("content-encoding"), Some("gzip"), "{driver}");
        assert_eq!(sent("accept-encoding"), Some("identity"), "{driver}");

        let (upstream, serving) = crate::http::one_shot(message);
        let gateway = Setup::at(&format!("http://{upstream}")).on(driver).start();
        let before = gateway.memory();
        let answer = gateway.send(&chat("gpt-4o", false));
        assert!(answer.whole && answer.body == bomb, "{driver}");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let record = gateway.access.record("/v1/acc/default/openai");
        assert!(record["usage"].is_null(), "{record}");
        let grown = gateway.memory().saturating_sub(before);
        assert!(grown < 32 << 20, "{driver}: {grown} bytes");
        serving.join().expect("served");
    }
}

#[test]
fn binary_event_streams_and_codings_pass_untouched() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
    let request = post(
        "aws-bedrock/bedrock-runtime/us-east-1/model/sim-tokens-5/converse-stream",
        "",
        body,
    );
    let answer = gateway.send(&request);
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.amazon.eventstream")
    );
    assert!(answer.whole && answer.body.len() > 300);
    // A provider that compresses although it was told not to.
    let answer = gateway.send(&chat("sim-gzip", false));
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(&answer.body[..2], &[0x1f, 0x8b]);
}

#[test]
fn usage_is_read_beside_every_kind_of_answer() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let converse = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
    let messages = r#"{"model":"claude+sim-tokens-7","max_tokens":99,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let gemini = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let usage_chunk = r#"{"model":"gpt-4o+sim-tokens-7+cached-3","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    let cases = [
        ("openai/chat/completions", usage_chunk),
        (
            "openai/v1/chat/completions",
            r#"{"model":"sim-tokens-7+gzip","messages":[{"role":"user","content":"hi"}]}"#,
        ),
        ("anthropic/v1/messages", messages),
        (
            "google-ai-studio/v1beta/models/sim-tokens-7:streamGenerateContent?alt=sse",
            gemini,
        ),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/sim-tokens-7/converse-stream",
            converse,
        ),
        (
            "aws-bedrock/bedrock-runtime/us-east-1/model/sim-tokens-7/converse",
            converse,
        ),
    ];
    for (path, body) in cases {
        assert_eq!(gateway.send(&post(path, "", body)).status, 200, "{path}");
        let path = path.split('?').next().expect("a path");
        let record = gateway.access.record(&format!("/v1/acc/default/{path}\""));
        assert_eq!(record["usage"]["output"], 7, "{path}: {record}");
        assert!(
            record["usage"]["input"].as_u64() > Some(0),
            "{path}: {record}"
        );
    }
    assert_eq!(
        gateway.metric("output_tokens_total"),
        7 * cases.len() as u64
    );
    assert_eq!(gateway.metric("cached_input_tokens_total"), 3);
}
