//! Every clock against something that never comes.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Client, DRIVERS, Setup, chat, eventually, simulator};
use crate::lifecycle::Certificate;

#[test]
fn a_head_that_does_not_come_is_a_408() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nclient_head = \"100ms\"")
            .start();
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/openai/x HTTP/1.1\r\nHo");
        let answer = client.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (408, Some("close")),
            "{driver}"
        );
        assert!(client.closed());
    }
}

#[test]
fn a_body_that_does_not_come_is_a_408() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nclient_body_idle = \"100ms\"")
            .start();
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/custom-sim/upload/x HTTP/1.1\r\nHost: g\r\nContent-Length: 10\r\n\r\nabc");
        let answer = client.answer();
        assert_eq!((answer.status, answer.code()), (408, 2002), "{driver}");
        assert!(client.closed());
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nkeep_alive = \"100ms\"")
            .start();
        let mut client = gateway.connect();
        client.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(client.answer().status, 200);
        assert!(client.closed(), "{driver}");
        assert!(
            Client::connect(gateway.address).closed(),
            "{driver}: nor one that never spoke"
        );
    }
}

#[test]
fn a_provider_that_does_not_answer_is_a_2005() {
    let settings = [("strict", 400), ("semantic", 504)];
    for (driver, (setting, status)) in DRIVERS.into_iter().flat_map(|d| settings.map(|s| (d, s))) {
        let simulator = simulator();
        let lines =
            format!("[data]\nerror_status = \"{setting}\"\n[upstream]\nresponse_head = \"100ms\"");
        let gateway = Setup::over(&simulator).on(driver).with(&lines).start();
        let mut client = gateway.connect();
        client.write(chat("sim-hang", true).as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.code()), (status, 2005), "{driver}");
        // The client did nothing wrong: its connection stays.
        client.write(chat("gpt-4o", false).as_bytes());
        assert_eq!(client.answer().status, 200);
        eventually("the end of the provider's work", || {
            (simulator.stats()["aborted"] == 1).then_some(())
        });
    }
}

#[test]
fn a_client_may_set_the_time_of_the_answers_head() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator).start();
    let hang = chat("sim-hang", false).replace("Host: g", "Host: g\r\ncf-aig-request-timeout: 80");
    assert_eq!(gateway.send(&hang).code(), 2005);
    // Once the head is here the stream takes as long as it takes.
    let slow = chat("sim-tokens-6+tps-20+early-head", true)
        .replace("Host: g", "Host: g\r\ncf-aig-request-timeout: 80");
    assert!(gateway.send(&slow).whole);
    for absent in ["0", "-5", "soon"] {
        let request = chat("gpt-4o", false).replace(
            "Host: g",
            &format!("Host: g\r\ncf-aig-request-timeout: {absent}"),
        );
        assert_eq!(gateway.send(&request).status, 200, "{absent}");
    }
}

#[test]
fn a_stream_that_falls_silent_is_broken_off() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[upstream]\nstream_idle = \"100ms\"")
            .start();
        let answer = gateway.send(&chat("sim-hang-after-2", true));
        assert_eq!((answer.status, answer.whole), (200, false), "{driver}");
        assert_eq!(gateway.access.record("/v1/acc")["end"], "upstream_idle");
    }
}

#[test]
fn a_request_may_be_given_a_total_time() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[upstream]\ntotal = \"150ms\"")
            .start();
        let hang = gateway.send(&chat("sim-hang", false));
        assert_eq!(hang.code(), 2005, "{driver}");
        // Events keep coming, and still it ends.
        let endless = gateway.send(&chat("sim-tokens-100000+tps-100", true));
        assert!(!endless.whole, "{driver}");
    }
}

/// Takes connections and never says a word.
fn silent() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push(stream);
        }
    });
    address
}

#[test]
fn a_handshake_that_is_not_answered_is_a_timeout_of_the_connection() {
    let silent = silent();
    let tls = format!("https://{silent}");
    let plain = "http://127.0.0.1:1".to_owned();
    for driver in DRIVERS {
        for (url, more) in [
            (&tls, String::new()),
            (&plain, format!("proxy = \"http://{silent}\"")),
        ] {
            let lines = format!(
                "[data]\nerror_status = \"semantic\"\n[upstream]\nconnect = \"150ms\"\n{more}"
            );
            let gateway = Setup::at(url).on(driver).with(&lines).start();
            let answer = gateway.send(&chat("gpt-4o", false));
            assert_eq!(
                (answer.status, answer.code()),
                (504, 2005),
                "{driver} {url}"
            );
            let detail = gateway.access.record("/v1/acc")["detail"].to_string();
            assert!(detail.contains("within 150ms"), "{detail}");
        }
    }
}

#[test]
fn a_client_that_never_gets_to_its_request_is_let_go() {
    for driver in DRIVERS {
        let simulator = simulator();
        let certificate = Certificate::make();
        let lines = [
            certificate.lines() + "\n[data]\nclient_head = \"100ms\"",
            "[data]\nclient_head = \"100ms\"\nproxy_protocol = true".to_owned(),
        ];
        for lines in lines {
            let gateway = Setup::over(&simulator).on(driver).with(&lines).start();
            assert!(gateway.connect().closed(), "{driver}: nothing said");
            let mut client = gateway.connect();
            // The beginning of either.
            let tls = lines.contains("certificate");
            client.write(if tls { b"\x16\x03\x01" } else { b"PROXY" });
            assert!(client.closed(), "{driver}");
            eventually("no connection", || {
                (gateway.metric("connections_open") == 0).then_some(())
            });
        }
    }
}

#[test]
fn a_connection_that_does_not_come_about_is_a_2005() {
    // A full backlog: the kernel answers no further connect.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("bound");
    socket.listen(0).expect("listening");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let mut fillers = Vec::new();
    while let Ok(filler) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    {
        fillers.push(filler);
        assert!(fillers.len() < 64, "a backlog of 0 takes a few");
    }
    for driver in DRIVERS {
        let gateway = Setup::at(&format!("http://{address}"))
            .on(driver)
            .with("[upstream]\nconnect = \"150ms\"")
            .start();
        assert_eq!(
            gateway.send(&chat("gpt-4o", false)).code(),
            2005,
            "{driver}"
        );
        let detail = gateway.access.record("/v1/acc")["detail"].to_string();
        assert!(detail.contains("within 150ms"), "{detail}");
    }
}

#[test]
fn a_provider_that_nobody_listens_for_is_a_2005_that_says_so_in_the_log() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("an address")
    };
    for (setting, status) in [("strict", 400), ("semantic", 502)] {
        let lines = format!("[data]\nerror_status = \"{setting}\"");
        let gateway = Setup::at(&format!("http://{closed}")).with(&lines).start();
        let answer = gateway.send(&chat("gpt-4o", false));
        assert_eq!((answer.status, answer.code()), (status, 2005));
        let detail = gateway.access.record("/v1/acc")["detail"].to_string();
        assert!(
            detail.contains("refused") && detail.contains(&closed.to_string()),
            "{detail}"
        );
    }
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    for driver in DRIVERS {
        let simulator = simulator();
        let gateway = Setup::over(&simulator)
            .on(driver)
            .with("[data]\nclient_write_stall = \"200ms\"")
            .start();
        let mut client = gateway.connect();
        client
            .write(b"GET /v1/acc/default/custom-sim/bytes/1000000000 HTTP/1.1\r\nHost: g\r\n\r\n");
        client.read_until("\r\n\r\n");
        let record = gateway.access.record("/v1/acc/default/custom-sim/bytes");
        assert_eq!(record["end"], "client_stalled", "{driver}");
        eventually("an idle provider", || {
            (simulator.stats()["connections_open"] == 0).then_some(())
        });
    }
}
