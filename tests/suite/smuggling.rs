//! Messages that two readers could understand differently (RFC 9112 sections 6.3 and 11.2): refused, closed, never passed on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::harness::{DRIVERS, Setup, received, simulator};

/// Stands behind every message below: whoever misjudges its end serves this one.
const SMUGGLED: &str = "GET /v1/acc/default/custom-sim/smuggled HTTP/1.1\r\nHost: g\r\n\r\n";

/// Requests refused by their head; `{p}` is a path of a provider.
const HEADS: &[&str] = &[
    // Two framings.
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3, 4\r\n\r\nabcd",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3, 3\r\n\r\nabc",
    // Lengths that are no plain number.
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: +3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: -3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 0x3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3 0\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3.0\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: \"3\"\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length:\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
    // Codings that are not exactly one `chunked`.
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Names and values that some servers mend.
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length : 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\n Content-Length: 3\r\n\r\nabc",
    "POST {p} HTTP/1.1\r\nHost: g\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST {p} HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\t3\r\n\r\nabc",
    "GET {p} HTTP/1.1\r\n X: folded\r\nHost: g\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nX\0: a\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nX: a\u{1}b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nno colon\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\n: no name\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\nna(me: x\r\n\r\n",
    // Line ends.
    "GET {p} HTTP/1.1\nHost: g\n\n",
    "GET {p} HTTP/1.1\r\nHost: g\nX: y\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: g\r\n\n",
    "GET {p} HTTP/1.1\rHost: g\r\r",
    "GET {p} HTTP/1.1\r\nHost: g\r\r\n\r\n",
    // Hosts and targets.
    "GET {p} HTTP/1.1\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
    "GET {p} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a, b\r\nHost: c\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET {p} HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "GET http://g{p} HTTP/1.1\r\n\r\n",
    "GET http://g{p} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET http://user@g{p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET http://{p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET file://g{p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET {p}\u{0} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET {p}#x HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET {p} x HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET  {p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GET\t{p}\tHTTP/1.1\r\nHost: g\r\n\r\n",
    "GET {p} HTTP/1.1 \r\nHost: g\r\n\r\n",
    "GET {p} http/1.1\r\nHost: g\r\n\r\n",
    "GET {p} HTTP/1.2\r\nHost: g\r\n\r\n",
    "GET {p} HTTP/2.0\r\nHost: g\r\n\r\n",
    "GET {p}\r\nHost: g\r\n\r\n",
    " GET {p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "GE(T {p} HTTP/1.1\r\nHost: g\r\n\r\n",
    "CONNECT g:443 HTTP/1.1\r\nHost: g\r\n\r\n",
    "nonsense\r\n\r\n",
];

/// Bodies refused after a head with `Transfer-Encoding: chunked`.
const CHUNKS: &[&str] = &[
    "5\r\nhelloX",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    "5\r\nhello\r\n\r\n0\r\n\r\n",
    "zz\r\n",
    "-5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "5h\r\nhello\r\n",
    " 5\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "5\t\r\nhello\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "5\rhello\r\n0\r\n\r\n",
    "5\r\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffffff\r\n",
    "00000000000000005\r\nhello\r\n",
    "10000000000000005\r\nhello\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5;a\rb\r\nhello\r\n0\r\n\r\n",
    "5;\0\r\nhello\r\n0\r\n\r\n",
    ";a\r\nhello\r\n0\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX: a\0\r\n\r\n",
    "0\r\n: y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\nGET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n",
    "0\r\n\r",
];

/// Answers that leave their own end open to doubt.
const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nok",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 2000 High\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
    "ok",
];

const PATH: &str = "/v1/acc/default/custom-sim/echo";

#[test]
fn requests_of_doubtful_framing_are_refused_and_closed() {
    let simulator = simulator();
    for driver in DRIVERS {
        let gateway = Setup::over(&simulator).on(driver).start();
        for head in HEADS {
            let mut client = gateway.connect();
            client.write(head.replace("{p}", PATH).as_bytes());
            client.write(SMUGGLED.as_bytes());
            let answer = client.answer();
            assert!(
                matches!(answer.status, 400 | 501 | 505),
                "{driver} {head:?}: {}",
                answer.head
            );
            assert_eq!(answer.header("connection"), Some("close"), "{head:?}");
            answer.code();
            assert!(client.closed(), "{head:?}");
        }
        // Broken chunks are seen after the head went up; the request must not seem whole to the provider.
        for chunks in CHUNKS {
            let mut client = gateway.connect();
            let head =
                format!("POST {PATH} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.write([&head, *chunks, SMUGGLED].concat().as_bytes());
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.header("connection")),
                (400, Some("close")),
                "{driver} {chunks:?}"
            );
            assert!(client.closed(), "{chunks:?}");
        }
        let requests = received(&simulator);
        assert!(requests.is_empty(), "{driver}: {requests:?}");
    }
}

#[test]
fn answers_of_doubtful_framing_are_not_passed_on() {
    for driver in DRIVERS {
        let upstream = answering(ANSWERS);
        let gateway = Setup::at(&format!("http://{upstream}")).on(driver).start();
        let mut client = gateway.connect();
        for (index, bytes) in ANSWERS.iter().enumerate() {
            let request =
                format!("GET /v1/acc/default/custom-sim/{index} HTTP/1.1\r\nHost: g\r\n\r\n");
            client.write(request.as_bytes());
            let answer = client.answer();
            assert_eq!(
                (answer.status, answer.code()),
                (400, 2005),
                "{driver} {bytes:?}"
            );
        }
        assert_eq!(gateway.metric("upstream_reuses_total"), 0, "{driver}");
    }
}

#[test]
fn broken_chunks_of_an_answer_break_it_off() {
    for driver in DRIVERS {
        let answers: Vec<String> = CHUNKS
            .iter()
            .map(|chunks| {
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n{chunks}"
                )
            })
            .collect();
        let texts: Vec<&str> = answers.iter().map(String::as_str).collect();
        let upstream = answering(&texts);
        let gateway = Setup::at(&format!("http://{upstream}")).on(driver).start();
        for (index, bytes) in answers.iter().enumerate() {
            let request =
                format!("GET /v1/acc/default/custom-sim/{index} HTTP/1.1\r\nHost: g\r\n\r\n");
            let mut client = gateway.connect();
            client.write(request.as_bytes());
            let mut received = Vec::new();
            // A reset may end it.
            let _ = client.stream.read_to_end(&mut received);
            let text = String::from_utf8_lossy(&received);
            assert!(!text.ends_with("0\r\n\r\n"), "{driver} {bytes:?}: {text}");
        }
        assert_eq!(gateway.metric("upstream_reuses_total"), 0, "{driver}");
    }
}

/// An upstream that answers a request for `/N` with the Nth of these and closes.
fn answering(answers: &[&str]) -> SocketAddr {
    let answers: Vec<String> = answers.iter().map(|&bytes| bytes.to_owned()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut head, mut byte) = (Vec::new(), [0; 1]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head);
            let index = head
                .split(['/', ' '])
                .find_map(|part| part.parse::<usize>().ok());
            if let Some(answer) = index.and_then(|index| answers.get(index)) {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}
