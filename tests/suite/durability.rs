//! What was acknowledged survives: crashes, copies, and files that cannot be used.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Client, Gateway, Setup, call, chat, eventually, new_gateway, new_token, simulator,
};

const TOKEN: &str = "a-first-token-of-the-durability-tests-012345";
const GATEWAYS: &str = "/accounts/acc/ai-gateway/gateways";
const TOKENS: &str = "/accounts/acc/tokens";

fn setup() -> Setup {
    // The gateway `default` is the API's own here, not the file's: the comment says so to the harness.
    Setup::default()
        .with("# without [gateways.default]")
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
}

/// Ids of gateways, and ids and values of tokens, for whose making a whole 200 came.
#[derive(Default, Clone)]
struct Acknowledged(Arc<Mutex<Made>>);

#[derive(Default, Clone)]
struct Made {
    gateways: BTreeSet<String>,
    tokens: Vec<(String, String)>,
}

impl Acknowledged {
    fn count(&self) -> usize {
        let made = self.0.lock().expect("not poisoned");
        made.gateways.len() + made.tokens.len()
    }
}

/// Makes gateways and tokens until told to stop, or until nobody answers.
fn writer(
    address: SocketAddr,
    name: String,
    made: Acknowledged,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0.. {
            let id = format!("{name}-{number}");
            let (path, body) = match number % 2 {
                0 => (GATEWAYS, new_gateway(&id, true)),
                _ => (TOKENS, new_token(&id)),
            };
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(result) = attempt(address, &call(TOKEN, "POST", path, &body)) else {
                return;
            };
            let text = |name: &str| result[name].as_str().expect("a text").to_owned();
            let mut made = made.0.lock().expect("not poisoned");
            match number % 2 {
                0 => {
                    made.gateways.insert(text("id"));
                }
                _ => made.tokens.push((text("id"), text("value"))),
            }
        }
    })
}

/// The result of a call whose whole answer came; `None` where the server died before.
fn attempt(address: SocketAddr, request: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    let closing = request.replacen("\r\nHost", "\r\nConnection: close\r\nHost", 1);
    stream.write_all(closing.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    Some(body["result"].clone())
}

/// Every id of a list.
fn ids(gateway: &Gateway, path: &str, per_page: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for page in 1.. {
        let path = format!("{path}?page={page}&per_page={per_page}");
        let answer = gateway.call(TOKEN, "GET", &path, "");
        let body = answer.json();
        let items = body["result"].as_array().expect("a list");
        if items.is_empty() {
            break;
        }
        ids.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().expect("an id").to_owned()),
        );
    }
    ids
}

/// All that was acknowledged is there, works, and is in the audit log, which has no line of anything else.
fn verify(gateway: &Gateway, made: &Acknowledged, values_from: usize) {
    let made = made.0.lock().expect("not poisoned").clone();
    let (gateways, tokens) = (ids(gateway, GATEWAYS, 100), ids(gateway, TOKENS, 50));
    let lost: Vec<&String> = made.gateways.difference(&gateways).collect();
    assert!(lost.is_empty(), "lost gateways: {lost:?}");
    for (id, value) in made.tokens.iter().skip(values_from) {
        assert!(tokens.contains(id), "lost token {id}");
        let answer = gateway.call(value, "GET", "/user/tokens/verify", "");
        assert_eq!(
            answer.json()["result"]["status"],
            "active",
            "{}",
            answer.text()
        );
    }
    let path = "/accounts/acc/audit_logs?per_page=1&action.type=create";
    let lines = gateway.call(TOKEN, "GET", path, "").json();
    let there = gateways.len() + tokens.len();
    assert_eq!(lines["result_info"]["total_count"], there, "half-written");
}

/// SQLite's own whole check.
fn check(path: &Path) {
    let database = Connection::open(path).expect("opened");
    let health: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checked");
    assert_eq!(health, "ok");
    let mut statement = database
        .prepare("PRAGMA foreign_key_check")
        .expect("prepared");
    assert!(!statement.exists([]).expect("checked"), "dangling rows");
}

fn database_of(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("data").join("ringgate.db")
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_under_four_writers() {
    let kills: usize =
        std::env::var("RINGGATE_TEST_KILLS").map_or(15, |text| text.parse().expect("a number"));
    let made = Acknowledged::default();
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut verified = 0;
    for round in 0..kills {
        let gateway = setup().start_in(folder);
        verify(&gateway, &made, verified);
        verified = made.0.lock().expect("not poisoned").tokens.len();
        let before = made.count();
        let stop = Arc::default();
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let name = format!("r{round}-w{number}");
                writer(gateway.management, name, made.clone(), Arc::clone(&stop))
            })
            .collect();
        // Killed early, late, in between: at any moment of a write.
        let enough = before + 1 + round * 7 % 30;
        eventually("acknowledged writes", || {
            (made.count() >= enough).then_some(())
        });
        folder = gateway.end(libc::SIGKILL);
        for writer in writers {
            writer.join().expect("a writer");
        }
    }
    check(&database_of(&folder));
    let gateway = setup().start_in(folder);
    verify(&gateway, &made, 0);
}

#[test]
fn a_backup_while_writing_is_whole_and_overwrites_nothing() {
    let gateway = setup().start();
    let made = Acknowledged::default();
    let stop: Arc<AtomicBool> = Arc::default();
    let writers: Vec<_> = (0..2)
        .map(|number| {
            let name = format!("w{number}");
            writer(gateway.management, name, made.clone(), stop.clone())
        })
        .collect();
    let data = gateway.folder.path().join("data");
    let backup = |file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        command.arg("backup").arg("--data-dir").arg(&data).arg(file);
        command.output().expect("the binary")
    };
    for number in 0..5 {
        eventually("writes", || (made.count() > number * 5).then_some(()));
        let before = made.0.lock().expect("not poisoned").gateways.clone();
        let file = gateway.folder.path().join(format!("copy-{number}"));
        let output = backup(&file);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert!(
            told.contains(&data.join("master-key").display().to_string()),
            "{told}"
        );
        check(&file);
        let copy = Connection::open(&file).expect("opened");
        for id in before {
            let query = "SELECT count(*) FROM gateways WHERE id = ?1";
            let count: i64 = copy
                .query_row(query, [&id], |row| row.get(0))
                .expect("a count");
            assert_eq!(count, 1, "{id} is not in the copy");
        }
        let again = backup(&file);
        assert_eq!(again.status.code(), Some(2), "overwritten");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("a writer");
    }
    // A copy in a folder of its own is served like the original.
    let restored = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(restored.path().join("data")).expect("made");
    std::fs::copy(gateway.folder.path().join("copy-4"), database_of(&restored)).expect("copied");
    let restored = setup().start_in(restored);
    assert!(ids(&restored, GATEWAYS, 100).contains("w0-0"));
}

/// The exit code and standard error of a start that fails.
fn refused(folder: &TempDir) -> (Option<i32>, String) {
    let output = setup().command(folder).output().expect("the binary");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_data_directory_that_cannot_be_used_says_why() {
    let gateway = setup().start();
    let holder = gateway.id();
    let (code, told) = refused(&gateway.folder);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains(&format!("process {holder}")), "{told}");
    let folder = gateway.end(libc::SIGTERM);
    let path = database_of(&folder);
    let set = |version: i64| {
        let database = Connection::open(&path).expect("opened");
        database
            .pragma_update(None, "user_version", version)
            .expect("set");
    };
    let known: i64 = Connection::open(&path)
        .expect("opened")
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("a version");
    set(99);
    let (code, told) = refused(&folder);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("schema 99") && told.contains("ringgate.db"),
        "{told}"
    );
    set(known);
    let mut bytes = std::fs::read(&path).expect("read");
    let length = bytes.len();
    bytes[4096..length / 2].fill(0x5a);
    std::fs::write(&path, bytes).expect("written");
    let (code, told) = refused(&folder);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("is damaged") && told.contains("backup"),
        "{told}"
    );
}

#[test]
fn a_locked_database_refuses_writes_and_the_data_plane_serves_on() {
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start();
    let path = database_of(&gateway.folder);
    let other = Connection::open(path).expect("opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let mut client = Client::connect(gateway.management);
    client.write(call(TOKEN, "POST", GATEWAYS, &new_gateway("late", true)).as_bytes());
    for _ in 0..20 {
        assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    }
    let answer = client.answer();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["errors"][0]["code"], 7011);
    assert_eq!(answer.header("retry-after"), Some("1"));
    other.execute_batch("ROLLBACK").expect("released");
    let answer = gateway.call(TOKEN, "POST", GATEWAYS, &new_gateway("late", true));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A small disk of its own below a folder; `None` where the system does not allow one.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(at);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: the gateway may have files open there.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_the_data_plane_serves_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let Some(disk) = Disk::mount(&data) else {
        eprintln!("no small disk can be made here; the locked database stands for it");
        return;
    };
    let simulator = simulator();
    let gateway = Setup::over(&simulator)
        .env("RINGGATE_BOOTSTRAP_TOKEN", TOKEN)
        .start_in(folder);
    let filler = data.join("filler");
    let mut file = std::fs::File::create(&filler).expect("made");
    while file.write_all(&[0; 512]).is_ok() {}
    let refused = (0..200).find_map(|number| {
        let body = new_gateway(&format!("full-{number}"), true);
        let answer = gateway.call(TOKEN, "POST", GATEWAYS, &body);
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect("a refusal");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["errors"][0]["code"], 7011);
    assert_eq!(gateway.send(&chat("gpt-4o", false)).status, 200);
    std::fs::remove_file(&filler).expect("removed");
    drop(file);
    let answer = gateway.call(TOKEN, "POST", GATEWAYS, &new_gateway("after", true));
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(gateway);
    drop(disk);
}
