//! HTTP/1.1 as clients speak it, and as attackers do.

use std::time::Duration;

use crate::harness::{
    Client, DRIVERS, Setup, chat, eventually, post, received, sent_header, simulator,
};

#[test]
fn a_json_request_goes_through_byte_for_byte_on_every_driver() {
    let simulator = simulator();
    let body =
        r#"{"model":"gpt-4o","unknown_field":[1,2],"messages":[{"role":"user","content":"hi"}]}"#;
    let direct = {
        let mut client = Client::connect(simulator.addr());
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write(request.as_bytes());
        client.answer()
    };
    for driver in DRIVERS {
        let gateway = Setup::over(&simulator).on(driver).start();
        let answer = gateway.send(&post(
            "openai/chat/completions",
            "Authorization: Bearer k\r\n",
            body,
        ));
        assert_eq!(
            (answer.status, &answer.body),
            (200, &direct.body),
            "{driver}"
        );
        assert_eq!(answer.header("content-type"), direct.header("content-type"));
        assert_eq!(answer.header("cf-aig-step"), Some("0"));
        assert_eq!(answer.header("cf-aig-cache-status"), Some("MISS"));
        let id = answer.header("cf-aig-request-id").expect("an id");
        assert_eq!(answer.header("cf-aig-event-id"), Some(id));
        let requests = received(&simulator);
        let request = requests.last().expect("a request");
        assert_eq!(request["body"], body);
        assert_eq!(request["path"], "/v1/chat/completions");
        assert_eq!(sent_header(request, "authorization"), Some("Bearer k"));
        assert_eq!(sent_header(request, "accept-encoding"), Some("identity"));
        let record = gateway
            .access
            .record("/v1/acc/default/openai/chat/completions");
        assert_eq!(record["status"], 200);
        assert_eq!(record["id"], id);
        assert_eq!(record["response_bytes"], direct.body.len());
        let wanted = if driver == "epoll" {
            "epoll"
        } else {
            "io_uring"
        };
        assert!(
            gateway.notices.text().contains(wanted),
            "{}",
            gateway.notices.text()
        );
    }
}

#[test]
fn requests_in_a_row_share_one_upstream_connection() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nthreads = 1")
            .start();
        let mut client = gateway.connect();
        for _ in 0..50 {
            client.write(chat("gpt-4o", false).as_bytes());
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(simulator.stats()["connections_accepted"], 1, "{driver}");
        assert_eq!(gateway.metric("upstream_connects_total"), 1);
        assert_eq!(gateway.metric("upstream_reuses_total"), 49);
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        let requests: String = (1..=8)
            .map(|tokens| chat(&format!("sim-tokens-{tokens}"), tokens % 2 == 0))
            .collect();
        client.write(requests.as_bytes());
        for tokens in 1..=8u64 {
            let answer = client.answer();
            assert!(answer.whole);
            let text = answer.text();
            assert!(text.contains(&format!("sim-tokens-{tokens}")), "{text}");
        }
        assert_eq!(simulator.stats()["connections_accepted"], 1, "{driver}");
    }
}

#[test]
fn heads_may_come_in_pieces_and_bodies_in_chunks() {
    let simulator = simulator();
    for driver in DRIVERS {
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        let request = chat("gpt-4o", false);
        for piece in request.as_bytes().chunks(7) {
            client.write(piece);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(client.answer().status, 200);
        client.write(b"POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n");
        for piece in [
            "5\r\nhello\r\n",
            "6;ext=1\r\n wor",
            "ld\r\n",
            "0\r\n",
            "X-T: 1\r\n\r\n",
        ] {
            client.write(piece.as_bytes());
            std::thread::sleep(Duration::from_millis(2));
        }
        let answer = client.answer();
        assert_eq!(answer.json()["body_bytes"], 11, "{driver}");
        // The connection is still in step.
        client.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .with("[data]\nhead_bytes = 2048\nheaders = 10")
        .start();
    let long = format!(
        "GET /v1/acc/default/custom-sim/echo HTTP/1.1\r\nHost: g\r\nX: {}\r\n\r\n",
        "y".repeat(4000)
    );
    assert_eq!(gateway.send(&long).status, 431);
    let many = format!(
        "GET /v1/acc/default/custom-sim/echo HTTP/1.1\r\nHost: g\r\n{}\r\n",
        "X: y\r\n".repeat(20)
    );
    let refused = gateway.send(&many);
    assert_eq!(refused.status, 431);
    // Such a request is answered and logged as any other.
    let id = refused.header("cf-aig-request-id").expect("an id");
    let line = gateway.access.wait_for(id);
    assert!(line.contains("\"status\":431"), "{line}");
    assert_eq!(gateway.metric("own_errors_total"), 2);
}

#[test]
fn trailers_go_through_both_ways() {
    for driver in DRIVERS {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let upstream = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().expect("accepted");
            let (mut received, mut byte) = (Vec::new(), [0; 1]);
            while !received.ends_with(b"X-Up: 1\r\n\r\n") {
                assert_eq!(stream.read(&mut byte).expect("a byte"), 1);
                received.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Down: 1\r\n\r\n")
                .expect("written");
            let _ = stream.read(&mut byte);
        });
        let gateway = Setup::at(&format!("http://{address}")).on(driver).start();
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/custom-sim/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 1\r\n\r\n");
        let answer = client.read_until("X-Down: 1\r\n\r\n");
        assert!(
            answer.contains("\r\n\r\n2\r\nok\r\n0\r\n"),
            "{driver}: {answer}"
        );
        drop(gateway);
        upstream.join().expect("the upstream");
    }
}

#[test]
fn old_clients_get_the_end_of_the_connection_as_the_end_of_the_body() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let stream = chat("sim-tokens-4", true).replace("HTTP/1.1", "HTTP/1.0");
        let answer = gateway.send(&stream);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("transfer-encoding"), None);
        assert!(
            answer.text().ends_with("data: [DONE]\n\n"),
            "{driver}: {}",
            answer.text()
        );
        let mut client = gateway.connect();
        let plain =
            chat("gpt-4o", false).replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n");
        for _ in 0..2 {
            client.write(plain.as_bytes());
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.header("connection")),
                (200, Some("keep-alive"))
            );
        }
    }
}

#[test]
fn answers_that_end_with_their_connection_are_chunked_for_new_clients() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    // The upstream is HTTP/1.0-like: no length, no chunks.
    let (upstream, serving) =
        one_shot(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil close");
    let other = Setup::at(&format!("http://{upstream}")).start();
    let mut client = other.connect();
    client.write(b"GET /v1/acc/default/custom-sim/x HTTP/1.1\r\nHost: g\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(
        (answer.text().as_str(), answer.whole),
        ("until close", true)
    );
    serving.join().expect("served");
    drop(gateway);
}

#[test]
fn bodiless_answers_have_no_body() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.write(b"HEAD /v1/acc/default/openai/v1/models HTTP/1.1\r\nHost: g\r\n\r\n");
        let answer = client.answer_to(true);
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-length").is_some());
    }
    for (status, lines) in [(204, ""), (304, "Content-Length: 5\r\n")] {
        let bytes = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let (upstream, serving) = one_shot(bytes.leak().as_bytes());
        let other = Setup::at(&format!("http://{upstream}")).start();
        let mut client = other.connect();
        client.write(b"GET /v1/acc/default/custom-sim/x HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!(client.answer().status, status);
        // Nothing stands between this answer and the next one.
        client.write(b"GET /nothing HTTP/1.1\r\nHost: g\r\n\r\n");
        assert_eq!(client.answer().status, 404);
        serving.join().expect("served");
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_where_its_body_is_wanted() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(
            client.read_until("\r\n\r\n"),
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        client.write(b"hello");
        assert_eq!(client.answer().json()["body_bytes"], 5, "{driver}");
        assert_eq!(
            sent_header(received(&simulator).last().expect("a request"), "expect"),
            None
        );
        let mut client = gateway.connect();
        client.write(b"POST /v1/nobody/default/custom-sim/upload HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        let head = client.read_until("\r\n");
        assert_eq!(head, "HTTP/1.1 404 Not Found\r\n", "{driver}");
    }
}

#[test]
fn interim_answers_of_the_provider_are_skipped() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let answer = gateway.send(&chat("sim-100-continue", false));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["object"], "chat.completion");
}

#[test]
fn absolute_targets_are_taken_as_their_origin_form() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let answer = gateway
        .send("GET http://other/v1/acc/default/custom-sim/echo/a?b=c HTTP/1.1\r\nHost: g\r\n\r\n");
    let echo = answer.json();
    assert_eq!(
        (&echo["path"], &echo["query"]),
        (&"/echo/a".into(), &"b=c".into())
    );
}

#[test]
fn a_closing_client_gets_its_answer_and_a_close() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        client.write(
            chat("gpt-4o", false)
                .replace("Host: g", "Host: g\r\nConnection: close")
                .as_bytes(),
        );
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
        assert!(client.closed(), "{driver}");
        eventually("a free gateway", || {
            (gateway.metric("connections_open") == 0).then_some(())
        });
    }
}

#[test]
fn an_early_answer_is_relayed_before_the_upload_ends() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator).on(driver).start();
        let mut client = gateway.connect();
        let head = "POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nx-sim: no-read, status-403\r\nContent-Length: 100000000\r\n\r\n";
        client.write(head.as_bytes());
        client.write(&[b'x'; 100_000]);
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (403, Some("close")),
            "{driver}"
        );
        // Neither connection is used again.
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
        assert_eq!(gateway.metric("upstream_reuses_total"), 0, "{driver}");
    }
}

#[test]
fn offers_of_another_protocol_are_passed_over() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    // As clients do that would like to speak HTTP/2 and can do without.
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n";
    let answer = gateway.send(&post("custom-sim/echo", offer, "{}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = received(&simulator).pop().expect("a request");
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(sent_header(&request, name), None, "{name}");
    }
    let websocket = "Connection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n";
    assert_eq!(
        gateway
            .send(&post("custom-sim/echo", websocket, "{}"))
            .status,
        501
    );
}

/// An upstream that sends these bytes to its first request and closes.
pub fn one_shot(answer: &'static [u8]) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while !received.windows(4).any(|window| window == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).expect("read");
            received.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(answer).expect("written");
    });
    (address, serving)
}
