//! Credentials that are no keys by themselves: AWS signatures and Google service accounts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::*;

const CONVERSE: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;

#[test]
fn kept_aws_keys_sign_what_the_gateway_sends() {
    for driver in DRIVERS {
        let simulator = simulator();
        let lines = "[providers.aws-bedrock]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_AWS\"\n[data]\nhouse_keys_unauthenticated = true"
            .replace("{sim}", &simulator.addr().to_string());
        let keys = |secret: &str| {
            json!({"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": secret, "region": "us-east-1"})
                .to_string()
        };
        let start = |secret: &str| {
            Setup::default()
                .with(&lines)
                .env("TEST_AWS", &keys(secret))
                .on(driver)
                .start()
        };
        let gateway = start("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        // A colon in the model's id is encoded twice in what is signed, and once on the wire.
        for model in ["anthropic.claude-3-haiku-20240307-v1:0", "amazon.nova%3A0"] {
            let path = format!("aws-bedrock/bedrock-runtime/eu-west-1/model/{model}/converse");
            let answer = gateway.send(&post(&path, "x-amz-date: 19700101T000000Z\r\n", CONVERSE));
            assert_eq!(answer.status, 200, "{driver} {model}: {}", answer.text());
            let request = received(&simulator).pop().expect("a request");
            let authorization = sent_header(&request, "authorization").expect("a signature");
            assert!(
                authorization.contains("AKIDEXAMPLE/")
                    && authorization.contains("/eu-west-1/bedrock/aws4_request"),
                "{authorization}"
            );
            assert_ne!(
                sent_header(&request, "x-amz-date"),
                Some("19700101T000000Z")
            );
        }
        // A body in chunks is signed as a whole and goes up with its length.
        let mut client = gateway.connect();
        client.write(b"POST /v1/acc/default/aws-bedrock/bedrock-runtime/us-east-1/model/m/converse HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
        client.read_until("100 Continue\r\n\r\n");
        for piece in CONVERSE.as_bytes().chunks(10) {
            client.write(format!("{:x}\r\n", piece.len()).as_bytes());
            client.write(piece);
            client.write(b"\r\n");
        }
        client.write(b"0\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
        let request = received(&simulator).pop().expect("a request");
        let length = CONVERSE.len().to_string();
        assert_eq!(sent_header(&request, "content-length"), Some(&*length));
        // What is too long to be held is refused before it is read.
        let head = "POST /v1/acc/default/aws-bedrock/bedrock-runtime/us-east-1/model/m/converse HTTP/1.1\r\nHost: g\r\nContent-Length: 200000000\r\n\r\n";
        assert_eq!(gateway.send(head).status, 413);
        let refused = start("another").send(&post(
            "aws-bedrock/bedrock-runtime/us-east-1/model/m/converse",
            "",
            CONVERSE,
        ));
        assert_eq!(
            refused.status,
            403,
            "the simulator knows the secret: {}",
            refused.text()
        );
    }
}

#[test]
fn a_credential_of_another_form_is_an_error_that_does_not_repeat_it() {
    let simulator = simulator();
    let lines = "[providers.aws-bedrock]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_AWS\"\n[data]\nhouse_keys_unauthenticated = true"
        .replace("{sim}", &simulator.addr().to_string());
    let gateway = Setup::default()
        .with(&lines)
        .env(
            "TEST_AWS",
            r#"{"accessKeyId":"AKID","secretAccessKey":"very-secret","regio"#,
        )
        .start();
    let answer = gateway.send(&post(
        "aws-bedrock/bedrock-runtime/us-east-1/model/m/converse",
        "",
        CONVERSE,
    ));
    assert_eq!((answer.status, answer.code()), (400, 2005));
    assert!(answer.text().contains("unfit") && !answer.text().contains("very-secret"));
    assert!(received(&simulator).is_empty());
}

/// A token endpoint that gives out numbered tokens for `life` seconds each.
pub fn token_endpoint(life: u64, status: u16) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while !String::from_utf8_lossy(&received).contains("&assertion=") {
                let count = stream.read(&mut buffer).expect("read");
                assert!(count > 0, "{}", String::from_utf8_lossy(&received));
                received.extend_from_slice(&buffer[..count]);
            }
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            // Long enough that others ask meanwhile.
            std::thread::sleep(std::time::Duration::from_millis(100));
            let body = json!({"access_token": format!("ya29.token-{number}"), "expires_in": life, "token_type": "Bearer"}).to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).expect("written");
            stream.write_all(body.as_bytes()).expect("written");
        }
    });
    (address, asked)
}

pub fn service_account(endpoint: SocketAddr) -> String {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("encoded");
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    json!({
        "type": "service_account",
        "client_email": "robot@project.iam.gserviceaccount.com",
        "private_key": pem,
        "token_uri": format!("http://{endpoint}/token"),
        "project_id": "project",
    })
    .to_string()
}

const VERTEX: &str = "google-vertex-ai/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent";
const CONTENTS: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;

fn vertex(account: &str, simulator: &ringgate::sim::Running, driver: &'static str) -> Gateway {
    let lines = "[providers.google-vertex-ai]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_GOOGLE\"\n[data]\nhouse_keys_unauthenticated = true"
        .replace("{sim}", &simulator.addr().to_string());
    Setup::default()
        .with(&lines)
        .env("TEST_GOOGLE", account)
        .on(driver)
        .start()
}

#[test]
fn a_kept_service_account_is_exchanged_once_for_a_token_that_is_kept() {
    for driver in ["auto", "epoll"] {
        let simulator = simulator();
        let (endpoint, asked) = token_endpoint(3600, 200);
        let gateway = vertex(&service_account(endpoint), &simulator, driver);
        // All at once, while there is no token yet.
        let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.write(post(VERTEX, "", CONTENTS).as_bytes());
        }
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!(answer.status, 200, "{driver}: {}", answer.text());
        }
        assert_eq!(gateway.send(&post(VERTEX, "", CONTENTS)).status, 200);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{driver}: asked once");
        for request in received(&simulator) {
            let authorization = sent_header(&request, "authorization");
            assert_eq!(authorization, Some("Bearer ya29.token-1"), "{driver}");
        }
    }
}

#[test]
fn a_token_that_is_not_given_is_told_and_asked_for_again() {
    let simulator = simulator();
    let (endpoint, asked) = token_endpoint(3600, 503);
    let gateway = vertex(&service_account(endpoint), &simulator, "auto");
    for count in 1..=2 {
        let answer = gateway.send(&post(VERTEX, "", CONTENTS));
        assert_eq!((answer.status, answer.code()), (400, 2005));
        assert_eq!(asked.load(Ordering::SeqCst), count);
    }
    assert!(received(&simulator).is_empty());
    gateway.access.wait_for("access token");
    let text = gateway.access.text();
    assert!(!text.contains("PRIVATE KEY"), "{text}");
}

#[test]
fn an_account_that_comes_with_a_request_may_name_googles_endpoint_alone() {
    let simulator = simulator();
    let (endpoint, asked) = token_endpoint(3600, 200);
    let account = STANDARD.encode(service_account(endpoint));
    let gateway = vertex("ya29.short", &simulator, "auto");
    let header = format!("Authorization: Bearer {account}\r\n");
    let answer = gateway.send(&post(VERTEX, &header, CONTENTS));
    assert_eq!(
        (answer.status, answer.code()),
        (400, 2005),
        "{}",
        answer.text()
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // An access token goes up as it is, the client's and the instance's.
    for (header, token) in [
        ("", "ya29.short"),
        ("Authorization: Bearer ya29.mine\r\n", "ya29.mine"),
    ] {
        assert_eq!(gateway.send(&post(VERTEX, header, CONTENTS)).status, 200);
        let request = received(&simulator).pop().expect("a request");
        assert_eq!(
            sent_header(&request, "authorization"),
            Some(&*format!("Bearer {token}"))
        );
    }
}
