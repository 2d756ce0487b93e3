//! The master key is replaced, the account renamed: stored keys go on paying.

use std::process::{Command, Stdio};
use std::time::Duration;

use ringgate::sim;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{TOKEN, api, configs, ok, send, start, store_key};
use crate::harness::{Gateway, Setup, received, sent_header, simulator};

/// Runs a command on the data directory of a gateway, with its standard output and error.
fn command(
    folder: &std::path::Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .arg("--data-dir")
        .arg(folder)
        .envs(environment.iter().copied())
        .output()
        .expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Starts a server on a data directory that was used before.
fn start_on(
    folder: tempfile::TempDir,
    simulator: &sim::Running,
    environment: &[(&'static str, &str)],
) -> Gateway {
    let mut setup = Setup::over(simulator);
    for (name, value) in environment {
        setup = setup.env(name, value);
    }
    setup.start_in(folder)
}

#[test]
fn the_master_key_is_rotated_while_no_server_runs() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    store_key(&gateway, "openai", "default", true, "sk-stored");
    let data = gateway.folder.path().join("data");
    for operation in ["rotate", "show"] {
        let (done, text) = command(&data, &["key", operation], &[]);
        assert!(!done && text.contains("a server runs on"), "{text}");
    }
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    let folder = gateway.take_folder();
    let before = std::fs::read_to_string(data.join("master-key")).expect("a key");
    let (done, shown) = command(&data, &["key", "show"], &[]);
    assert!(done && shown.contains("seals 1 secrets"), "{shown}");
    let (done, text) = command(&data, &["key", "rotate"], &[]);
    assert!(done && text.contains("1 secrets are sealed anew"), "{text}");
    let after = std::fs::read_to_string(data.join("master-key")).expect("a key");
    assert_ne!(before, after);
    assert!(!data.join("master-key.next").exists());
    for key in [&before, &after] {
        assert!(!text.contains(key.trim()) && !shown.contains(key.trim()));
    }
    let token = format!("cf-aig-authorization: {TOKEN}");
    let mut gateway = start_on(folder, &simulator, &[]);
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-stored")
    );
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    // The key may come from the environment, and then the new one does too.
    std::fs::remove_file(data.join("master-key")).expect("removed");
    let (done, text) = command(&data, &["key", "rotate"], &[]);
    assert!(!done && text.contains("put the master key back"), "{text}");
    let new = "5a".repeat(32);
    let given = ("RINGGATE_MASTER_KEY", after.trim());
    let (done, text) = command(&data, &["key", "rotate"], &[given]);
    assert!(!done && text.contains("RINGGATE_NEW_MASTER_KEY"), "{text}");
    for _ in 0..2 {
        let (done, text) = command(
            &data,
            &["key", "rotate"],
            &[given, ("RINGGATE_NEW_MASTER_KEY", &new)],
        );
        assert!(done && text.contains("start with the new key"), "{text}");
    }
    let (done, text) = command(&data, &["key", "show"], &[given]);
    assert!(
        !done && text.contains("give the one that sealed them"),
        "{text}"
    );
    let gateway = start_on(folder, &simulator, &[("RINGGATE_MASTER_KEY", &new)]);
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-stored")
    );
    let (done, text) = command(&data.join("none"), &["key", "rotate"], &[]);
    assert!(!done && text.contains("is no data directory"), "{text}");
    assert!(!data.join("none").exists());
}

#[test]
fn a_renamed_account_keeps_its_stored_keys() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    let body = json!({"provider_slug": "openai", "default_config": true, "secret": "sk-stored"});
    ok(&api(&gateway, "POST", &configs("default"), Some(&body)));
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    let gateway = Setup::over(&simulator).account("renamed").start_in(folder);
    gateway.notices.wait_for("1 secrets are sealed for it");
    let answer = gateway.send("GET /v1/renamed/default/openai/models HTTP/1.1\r\nHost: g\r\n\r\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    assert_eq!(sent_header(sent, "authorization"), Some("Bearer sk-stored"));
    // The tokens' policies name the account, and follow it too.
    let path = "/accounts/renamed/ai-gateway/gateways";
    assert_eq!(gateway.call(TOKEN, "GET", path, "").status, 200);
}

#[test]
fn headers_of_custom_providers_are_sealed_like_keys() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    let providers = "ai-gateway/custom-providers";
    let url = format!("http://{}/echo", simulator.addr());
    let headers = json!({"Authorization": "Bearer sk-header"}).to_string();
    let mut ids = Vec::new();
    for slug in ["one", "two"] {
        let body = json!({"name": slug, "slug": slug, "base_url": url, "enable": true, "headers": headers});
        let made = ok(&api(&gateway, "POST", providers, Some(&body)));
        assert_eq!(made["headers"], headers);
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    let data = folder.path().join("data");
    let stored = std::fs::read(data.join("ringgate.db")).expect("readable");
    assert!(!stored.windows(9).any(|window| window == b"sk-header"));
    let (done, shown) = command(&data, &["key", "show"], &[]);
    assert!(done && shown.contains("seals 2 secrets"), "{shown}");
    let (done, text) = command(&data, &["key", "rotate"], &[]);
    assert!(done && text.contains("2 secrets are sealed anew"), "{text}");
    // Neither another master key nor another account's name takes them away; one that was spoilt takes only its provider.
    let other = "5a".repeat(32);
    let (done, text) = command(&data, &["key", "show"], &[("RINGGATE_MASTER_KEY", &other)]);
    assert!(
        !done && text.contains("give the one that sealed them"),
        "{text}"
    );
    let mut gateway = Setup::over(&simulator).account("renamed").start_in(folder);
    gateway.notices.wait_for("2 secrets are sealed for it");
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    let database = Connection::open(data.join("ringgate.db")).expect("opened");
    let change = "UPDATE custom_providers SET headers = (SELECT headers FROM custom_providers WHERE slug = 'one') WHERE slug = 'two'";
    assert_eq!(database.execute(change, []).expect("changed"), 1);
    drop(database);
    let gateway = Setup::over(&simulator).account("renamed").start_in(folder);
    gateway
        .notices
        .wait_for("custom-two cannot be used before its headers are set anew");
    let ask = |slug: &str| {
        let target = format!("/v1/renamed/default/custom-{slug}/models");
        gateway
            .send(&format!("GET {target} HTTP/1.1\r\nHost: g\r\n\r\n"))
            .status
    };
    let last_sent = || {
        let requests = received(&simulator);
        let sent = requests.last().expect("a request");
        sent_header(sent, "authorization").map(str::to_owned)
    };
    assert_eq!(ask("one"), 200);
    assert_eq!(last_sent().as_deref(), Some("Bearer sk-header"));
    let before = received(&simulator).len();
    assert_eq!(ask("two"), 400);
    assert_eq!(
        received(&simulator).len(),
        before,
        "nothing goes up without its headers"
    );
    let two = format!("/accounts/renamed/{providers}/{}", ids[1]);
    let call = |method: &str, body: Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        ok(&gateway.call(TOKEN, method, &two, &body))
    };
    assert_eq!(call("GET", Value::Null)["headers"], "****");
    let anew = json!({"authorization": "Bearer sk-anew"}).to_string();
    assert_eq!(call("PATCH", json!({"headers": anew}))["headers"], anew);
    assert_eq!(ask("two"), 200);
    assert_eq!(last_sent().as_deref(), Some("Bearer sk-anew"));
}

/// Each kill comes a little later than the one before, from the start of the program to its end.
#[test]
fn a_rotation_killed_at_any_moment_leaves_keys_that_open() {
    let simulator = simulator();
    let mut gateway = start(Setup::over(&simulator));
    store_key(&gateway, "openai", "default", true, "sk-stored");
    gateway.signal(libc::SIGTERM);
    gateway.wait();
    let folder = gateway.take_folder();
    let data = folder.path().join("data");
    let (mut killed, mut ended) = (0, 0);
    for step in 0..60 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .args(["key", "rotate", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary");
        std::thread::sleep(Duration::from_micros(500 * step));
        child.kill().expect("killed or ended");
        match child.wait().expect("a child").success() {
            true => ended += 1,
            false => killed += 1,
        }
        // Now and then the next one to look is another rotation.
        if step % 3 == 0 {
            let (done, text) = command(&data, &["key", "show"], &[]);
            assert!(done && text.contains("seals 1 secrets"), "{step}: {text}");
        }
    }
    assert!(killed > 0, "{ended} ended");
    let gateway = start_on(folder, &simulator, &[]);
    let token = format!("cf-aig-authorization: {TOKEN}");
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-stored")
    );
    let left = std::fs::read_dir(&data).expect("a folder").flatten();
    let keys = left.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("master-key")
    });
    assert!(
        keys.count() <= 2,
        "the key, and at most a part of one that was never used"
    );
}
