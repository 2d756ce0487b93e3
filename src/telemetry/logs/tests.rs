//! The store without its threads: a keeper that writes and a reader that reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::keeper::{Bounds, Keeper, Quota};
use super::reader::{Counts, Found, Order, OrderBy, Query, Reader, Selection, Sum, Tally, Which};
use super::row::{Compressor, Row};
use super::segment::Edit;
use super::{Condition, Key, Operator, Stats, Value, condition};
use crate::limits::LOG_DISK_MIN;
use crate::record::{Captured, CapturedBody, End, Id, Logged, Record};
use crate::snapshot::LogSettings;

/// A noon.
const NOON: u64 = 20_468 * DAY + DAY / 2;
const DAY: u64 = 24 * 3600 * 1000;

struct House {
    folder: tempfile::TempDir,
    keeper: Keeper,
    catalog: Arc<Catalog>,
    stats: Arc<Stats>,
    reader: Reader,
    begin: Instant,
    next: u16,
}

const BOUNDS: Bounds = Bounds {
    disk: 1 << 40,
    days: Some(30),
    body_days: Some(7),
};

impl House {
    fn new() -> Self {
        Self::on(tempfile::tempdir().expect("a folder"))
    }

    fn on(folder: tempfile::TempDir) -> Self {
        let (catalog, stats) = (Arc::new(Catalog::default()), Arc::new(Stats::default()));
        let path = folder.path().join("logs");
        let keeper = Keeper::new(&path, BOUNDS, catalog.clone(), stats.clone());
        let reader = Reader::new(catalog.clone(), Arc::new(Counts::default()));
        let mut house = Self {
            folder,
            keeper,
            catalog,
            stats,
            reader,
            begin: Instant::now(),
            next: 0,
        };
        house.keeper.make_ready().expect("ready");
        house.tick(NOON, 0);
        house
    }

    /// It is so late, so many seconds after the start.
    fn tick(&mut self, now: u64, seconds: u64) {
        self.keeper
            .tick(now, self.begin + Duration::from_secs(seconds));
    }

    /// An entry that began then.
    fn row(&mut self, gateway: &str, at: u64, log: Logged) -> Row {
        self.next += 1;
        let mut bytes = Id::lowest_at(at).to_bytes();
        bytes[14..].copy_from_slice(&self.next.to_be_bytes());
        let record = Record {
            gateway: Some(gateway.into()),
            provider: Some("openai".into()),
            model: Some(format!("m{}", self.next % 3).into()),
            status: 200,
            end: End::Complete,
            log: Some(Box::new(log)),
            ..Record::new(
                Id::from_bytes(bytes),
                "127.0.0.1".parse().expect("an address"),
            )
        };
        Row::of(record, &LogSettings::default(), &mut Compressor::default()).expect("a row")
    }

    fn store(&mut self, mut rows: Vec<Row>, quota: Quota) {
        let gateways = rows.iter().map(|row| row.gateway.clone());
        let quotas: HashMap<Arc<str>, Quota> = gateways.map(|gateway| (gateway, quota)).collect();
        self.keeper.store(&mut rows, &quotas).expect("stored");
        assert!(rows.is_empty());
    }

    fn add(&mut self, gateway: &str, at: u64, log: Logged) -> Id {
        let row = self.row(gateway, at, log);
        let id = row.id;
        self.store(vec![row], ALL);
        id
    }

    fn find(&mut self, change: impl FnOnce(&mut Query)) -> Found {
        let mut query = Query {
            gateway: "g".to_owned(),
            conditions: Vec::new(),
            order: NEWEST_FIRST,
            offset: 0,
            limit: 50,
            extremes: false,
        };
        change(&mut query);
        self.reader.find(&query).expect("found")
    }

    fn ids(&mut self) -> Vec<Id> {
        self.find(|_| {}).logs.iter().map(|log| log.id).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("logs")).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".db") || name.ends_with(".bodies"))
            .collect();
        names.sort();
        names
    }
}

const ALL: Quota = Quota {
    most: u64::MAX,
    stops: false,
};
const NEWEST_FIRST: Order = Order {
    by: OrderBy::CreatedAt,
    descending: true,
};

fn with_body(text: &[u8]) -> Logged {
    let body = |bytes: &[u8]| {
        let mut body = CapturedBody::default();
        let (one, other) = bytes.split_at(bytes.len() / 2);
        body.copy(one);
        body.copy(other);
        body
    };
    Logged {
        response_content_type: Some("text/plain".into()),
        captured: Some(Captured {
            request: body(text),
            response: body(b"an answer"),
        }),
        ..Logged::default()
    }
}

#[test]
fn each_day_has_its_segment_and_what_settles_late_goes_to_its_own() {
    let mut house = House::new();
    let before = house.add("g", NOON, Logged::default());
    house.tick(NOON + DAY, 1);
    let today = house.add("g", NOON + DAY, Logged::default());
    let late = house.add("g", NOON + 5, Logged::default());
    assert_eq!(house.files(), ["2026-01-15-0001.db", "2026-01-16-0001.db"]);
    assert_eq!(house.catalog.all()[0].rows("g"), 2);
    assert_eq!(house.ids(), [today, late, before]);
    // Its own segment is gone: it goes to the newest, and is found by its id and in its place.
    let lost = house.add("g", NOON - 9 * DAY, Logged::default());
    assert_eq!(house.files().len(), 2);
    assert_eq!(house.ids(), [today, late, before, lost]);
    assert!(house.reader.get("g", lost).expect("read").is_some());
    assert!(house.reader.get("other", lost).expect("read").is_none());
    let third = house.find(|query| (query.offset, query.limit) = (2, 1));
    assert_eq!((third.total, third.logs[0].id), (4, before));
}

#[test]
fn a_clock_that_jumps_makes_no_segment_before_it_has_stayed() {
    let mut house = House::new();
    house.add("g", NOON, Logged::default());
    let future = NOON + 2000 * DAY;
    house.tick(future, 1);
    house.add("g", future, Logged::default());
    house.keeper.look_after();
    assert_eq!(
        house.files(),
        ["2026-01-15-0001.db"],
        "neither a new one nor an old one gone"
    );
    house.tick(future, 70);
    let days = |house: &House| -> Vec<u32> {
        let segments = house.catalog.all();
        segments.iter().map(|segment| segment.facts().day).collect()
    };
    assert_eq!(
        days(&house),
        [22_468],
        "believed: it counts as of the day that it took in"
    );
    house.tick(future + DAY, 75);
    house.add("g", future + DAY, Logged::default());
    assert_eq!(house.files(), ["2026-01-15-0001.db", "2031-07-09-0001.db"]);
    // It was wrong after all; what it dated goes with the others of this day.
    house.tick(NOON + 200, 80);
    house.tick(NOON + 200, 150);
    house.add("g", NOON + 200, Logged::default());
    assert_eq!(days(&house), [20_468, 20_468]);
    assert_eq!(house.ids().len(), 4);
    house.tick(NOON + DAY, 160);
    house.add("g", NOON + DAY, Logged::default());
    for days in 2..=40 {
        house.tick(NOON + days * DAY, 160 + days);
    }
    house.keeper.look_after();
    assert_eq!(house.files().len(), 0, "all of it is older than 30 days");
}

#[test]
fn what_comes_first_after_a_long_rest_does_not_go_with_what_was_before() {
    let mut house = House::new();
    let old = house.add("g", NOON, Logged::default());
    let later = NOON + 40 * DAY;
    let mut house = House::on(house.folder);
    house.tick(later, 1);
    let first = house.add("g", later, Logged::default());
    assert_eq!(house.files().len(), 1, "the clock is doubted for a minute");
    house.tick(later, 70);
    house.keeper.look_after();
    assert_eq!(house.ids(), [first, old]);
    house.tick(later + DAY, 80);
    house.add("g", later + DAY, Logged::default());
    assert_eq!(house.files().len(), 2);
}

#[test]
fn an_entry_that_can_never_be_written_does_not_hold_up_the_others() {
    let mut house = House::new();
    let id = house.add("g", NOON, Logged::default());
    house.next -= 1;
    let twin = house.row("g", NOON, Logged::default());
    assert_eq!(twin.id, id);
    house.store(vec![twin], ALL);
    assert_eq!(
        (house.ids(), house.stats.dropped.load(Ordering::Relaxed)),
        (vec![id], 1)
    );
}

#[test]
fn age_takes_bodies_first_and_then_entries() {
    let mut house = House::new();
    let old = house.add("g", NOON, with_body(b"old"));
    for day in 1..=8 {
        house.tick(NOON + day * DAY, day);
    }
    let new = house.add("g", NOON + 8 * DAY, with_body(b"new"));
    let body = |house: &mut House, id| {
        let body = house.reader.body("g", id, Which::Request).expect("read");
        body.map(|body| body.bytes)
    };
    assert_eq!(body(&mut house, old), Some(b"old".to_vec()));
    house.keeper.look_after();
    assert_eq!(body(&mut house, old), None);
    assert_eq!(body(&mut house, new), Some(b"new".to_vec()));
    assert_eq!(
        house.files(),
        [
            "2026-01-15-0001.db",
            "2026-01-23-0001.bodies",
            "2026-01-23-0001.db"
        ]
    );
    assert_eq!(house.ids(), [new, old]);
    for day in 9..=31 {
        house.tick(NOON + day * DAY, day);
    }
    house.keeper.look_after();
    assert_eq!(house.ids(), [new]);
    assert_eq!(house.stats.expired.load(Ordering::Relaxed), 1);
}

#[test]
fn the_disk_is_bounded_and_gets_its_space_back() {
    let mut house = House::new();
    house.keeper.bounds.disk = LOG_DISK_MIN;
    let mut noise = vec![0u8; 512 << 10];
    let mut state = 7u64;
    for _ in 0..160 {
        for byte in &mut noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        house.add("g", NOON + u64::from(house.next), with_body(&noise));
        house.keeper.look_after();
    }
    let folder = std::fs::read_dir(house.folder.path().join("logs")).expect("a folder");
    let bytes: u64 = folder
        .map(|entry| {
            entry
                .expect("an entry")
                .metadata()
                .expect("its facts")
                .len()
        })
        .sum();
    assert!(bytes <= LOG_DISK_MIN + (8 << 20), "{bytes}");
    let left = house.find(|_| {}).total;
    assert!((30..160).contains(&left), "{left}");
    assert_eq!(house.stats.expired.load(Ordering::Relaxed), 160 - left);
    let newest = house.ids()[0];
    assert_eq!(
        house
            .reader
            .body("g", newest, Which::Request)
            .expect("read")
            .expect("a body")
            .bytes,
        noise
    );
}

#[test]
fn a_number_is_kept_to_across_segments() {
    let mut house = House::new();
    for index in 0..10 {
        house.add("g", NOON + index, with_body(b"x"));
        house.add("other", NOON + index, Logged::default());
    }
    house.tick(NOON + DAY, 1);
    let quota = Quota {
        most: 8,
        stops: false,
    };
    for index in 0..5 {
        let row = house.row("g", NOON + DAY + index, Logged::default());
        house.store(vec![row], quota);
    }
    assert_eq!((house.find(|_| {}).total, house.ids().len()), (8, 8));
    assert!(house.ids().last().expect("an entry").milliseconds() == NOON + 7);
    assert_eq!(
        house.find(|query| query.gateway = "other".to_owned()).total,
        10
    );
    let rows: Vec<Row> = (0..4)
        .map(|index| house.row("s", NOON + DAY + index, Logged::default()))
        .collect();
    let first = rows[0].id;
    house.store(
        rows,
        Quota {
            most: 3,
            stops: true,
        },
    );
    let stopped = house.find(|query| query.gateway = "s".to_owned());
    assert_eq!((stopped.total, stopped.logs[2].id), (3, first));
    assert_eq!(house.stats.over_quota.load(Ordering::Relaxed), 1);
}

#[test]
fn what_an_earlier_run_left_is_there_and_counted() {
    let mut house = House::new();
    let one = house.add("g", NOON, with_body(b"kept"));
    let other = house.add("g", NOON + 1, Logged::default());
    let mut house = House::on(house.folder);
    assert_eq!(house.catalog.rows("g"), 2);
    let third = house.add("g", NOON + 2, with_body(b"more"));
    assert_eq!(house.ids(), [third, other, one]);
    let body = house
        .reader
        .body("g", one, Which::Request)
        .expect("read")
        .expect("a body");
    assert_eq!(body.bytes, b"kept");
    // A file of somebody else's, and a broken one, are left alone.
    let logs = house.folder.path().join("logs");
    std::fs::write(logs.join("2026-01-10-0001.db"), "no database").expect("written");
    let stranger = rusqlite::Connection::open(logs.join("2026-01-11-0001.db")).expect("opened");
    stranger
        .execute_batch("CREATE TABLE mine (x)")
        .expect("made");
    drop(stranger);
    let mut house = House::on(house.folder);
    assert_eq!(house.ids().len(), 3);
    assert_eq!(house.files().len(), 4);
}

#[test]
fn bodies_are_read_shown_and_searched() {
    let mut house = House::new();
    let id = house.add("g", NOON, with_body("Grüße an alle".as_bytes()));
    house.add("g", NOON + 1, Logged::default());
    let long = house.add("g", NOON + 2, with_body("needle ".repeat(2000).as_bytes()));
    let log = house.reader.get("g", id).expect("read").expect("an entry");
    assert_eq!(log.heads[0], Some(("Grüße an alle".to_owned(), true)));
    assert_eq!(log.heads[1], Some(("an answer".to_owned(), true)));
    let log = house
        .reader
        .get("g", long)
        .expect("read")
        .expect("an entry");
    let (head, whole) = log.heads[0].clone().expect("a head");
    assert_eq!((head.len(), whole), (5000, false));
    let body = house
        .reader
        .body("g", long, Which::Response)
        .expect("read")
        .expect("a body");
    assert_eq!(
        (body.content_type.as_deref(), &*body.bytes),
        (Some("text/plain"), &b"an answer"[..])
    );
    for (text, expected) in [
        ("an ALLE", 1),
        ("needle", 1),
        ("answer", 2),
        ("m1", 1),
        ("openai", 3),
        ("nothing", 0),
    ] {
        let found = house.find(|query| query.conditions = vec![Condition::Search(text.to_owned())]);
        assert_eq!(found.total, expected, "{text}");
    }
}

#[test]
fn orders_and_filters_hold_over_segments() {
    let mut house = House::new();
    for day in 0..3 {
        house.tick(NOON + day * DAY, day);
        for index in 0..7 {
            house.add(
                "g",
                NOON + day * DAY + index,
                Logged {
                    metadata: Some(format!(r#"{{"n":{index}}}"#).into()),
                    ..Logged::default()
                },
            );
        }
    }
    for by in [
        OrderBy::CreatedAt,
        OrderBy::Model,
        OrderBy::Success,
        OrderBy::Cost,
    ] {
        for descending in [false, true] {
            let mut seen = Vec::new();
            for page in 0..8 {
                let found = house.find(|query| {
                    query.order = Order { by, descending };
                    (query.offset, query.limit) = (page * 4, 4);
                });
                assert_eq!(found.total, 21);
                seen.extend(found.logs.into_iter().map(|log| (log.model, log.id)));
            }
            let mut sorted = seen.clone();
            match by {
                OrderBy::Model => sorted.sort(),
                _ => sorted.sort_by_key(|(_, id)| *id),
            }
            if descending {
                sorted.reverse();
            }
            assert_eq!(seen, sorted, "{by:?} {descending}");
            sorted.dedup();
            assert_eq!(sorted.len(), 21);
        }
    }
    let value = |text: &str| vec![Value::Text(text.to_owned())];
    for (key, operator, text, expected) in [
        (Key::MetadataValue, Operator::Eq, "3", 3),
        (Key::MetadataValue, Operator::Neq, "3", 18),
        (Key::MetadataKey, Operator::Eq, "n", 21),
        (Key::MetadataKey, Operator::Neq, "n", 0),
        (Key::MetadataKey, Operator::Eq, "3", 0),
        (Key::MetadataKey, Operator::Contains, "N", 21),
        (Key::Model, Operator::Eq, "m1", 7),
        (Key::CreatedAt, Operator::Eq, "2026-01-16", 7),
        (Key::CreatedAt, Operator::Neq, "2026-01-16", 14),
        (Key::CreatedAt, Operator::Gt, "2026-01-16", 7),
        (Key::CreatedAt, Operator::Lt, "2026-01-17T12:00:00Z", 14),
    ] {
        let condition = condition(key, operator, &value(text)).expect("a condition");
        let found = house.find(|query| query.conditions = vec![condition.clone()]);
        assert_eq!(
            (found.total, found.logs.len() as u64),
            (expected, expected),
            "{key:?} {operator:?}"
        );
        // Asked again, and after a change, the count is true.
        assert_eq!(
            house.find(|query| query.conditions = vec![condition]).total,
            expected
        );
    }
    let first = house.ids()[0];
    let edit = Edit {
        metadata: Some(Some(r#"{"n":3}"#.to_owned())),
        ..Edit::default()
    };
    assert!(house.keeper.edit("g", first, &edit).expect("edited"));
    assert!(!house.keeper.edit("other", first, &edit).expect("looked"));
    let three = condition(Key::MetadataValue, Operator::Eq, &value("3")).expect("a condition");
    assert_eq!(house.find(|query| query.conditions = vec![three]).total, 4);
}

#[test]
fn many_names_are_found_as_few_are() {
    let mut house = House::new();
    let rows: Vec<Row> = (0..500)
        .map(|index| {
            house.row(
                "g",
                NOON + index,
                Logged {
                    metadata: Some(format!(r#"{{"n":"v{index}"}}"#).into()),
                    ..Logged::default()
                },
            )
        })
        .collect();
    house.store(rows, ALL);
    for (operator, text, expected) in [
        (Operator::Contains, "v1", 111),
        (Operator::Contains, "v499", 1),
        (Operator::Eq, "v7", 1),
        (Operator::Neq, "v7", 499),
        (Operator::Contains, "v", 500),
    ] {
        let values = [Value::Text(text.to_owned())];
        let condition = condition(Key::MetadataValue, operator, &values).expect("a condition");
        assert_eq!(
            house.find(|query| query.conditions = vec![condition]).total,
            expected,
            "{operator:?} {text}"
        );
    }
}

#[test]
fn sums_are_the_same_in_pieces_of_any_size() {
    let mut house = House::new();
    let mut expected = Tally::default();
    for index in 0..30 {
        let day = index / 10;
        house.tick(NOON + day * DAY, day);
        let mut row = house.row("g", NOON + day * DAY + index, Logged::default());
        row.cost = (index % 3 != 0).then_some(index as i64);
        row.duration = 1000 + index as i64;
        let (id, cost, is_chosen) = (row.id, row.cost, &*row.model != "m0");
        let dear = cost.is_some_and(|cost| cost > 20);
        house.store(vec![row], ALL);
        house.add("other", NOON + day * DAY, Logged::default());
        let feedback = [None, Some(-1), Some(0), Some(1)][index as usize % 4];
        let edit = Edit {
            feedback: Some(feedback),
            ..Edit::default()
        };
        assert!(house.keeper.edit("g", id, &edit).expect("edited"));
        if (is_chosen || dear) && index < 28 {
            expected.entries += 1;
            let sum = |sum: &mut Sum, figure: Option<i64>| {
                sum.entries += u64::from(figure.is_some());
                sum.total += i128::from(figure.unwrap_or(0));
            };
            sum(&mut expected.cost, cost);
            sum(&mut expected.duration, Some(1000 + index as i64));
            let judged = feedback.filter(|feedback| *feedback != 0);
            sum(
                &mut expected.liked,
                judged.map(|feedback| i64::from(feedback > 0)),
            );
        }
    }
    let of = |key, operator, text: &str| {
        condition(key, operator, &[Value::Text(text.to_owned())]).expect("a condition")
    };
    // Two questions that find some entries both.
    let selection = Selection {
        gateway: "g".to_owned(),
        questions: vec![
            vec![of(Key::Model, Operator::Neq, "m0")],
            vec![of(Key::Cost, Operator::Gt, "0.00000000002")],
        ],
        until: NOON + 2 * DAY + 27,
    };
    for most in [1, 7, 10, 29, 1000] {
        let (mut sum, mut place, mut pieces) = (Tally::default(), None, 0);
        loop {
            let piece = house.reader.try_tally(&selection, place.as_ref(), most);
            let (tally, next) = piece.expect("summed");
            assert!(tally.entries <= most);
            sum.join(tally);
            pieces += 1;
            place = next;
            if place.is_none() {
                break;
            }
        }
        assert_eq!(sum, expected, "pieces of {most}");
        assert!(pieces > 28 / most, "{pieces} pieces of {most}");
    }
    let nothing = Selection {
        questions: Vec::new(),
        ..selection.clone()
    };
    let all = Selection {
        questions: vec![Vec::new()],
        until: u64::MAX >> 20,
        ..selection
    };
    let mut whole = |selection: &Selection| house.reader.tally(selection, None).expect("summed").0;
    assert_eq!(whole(&nothing), Tally::default());
    assert_eq!(whole(&all).entries, 30);
}

#[test]
fn a_deleted_gateway_is_forgotten_part_by_part() {
    let mut house = House::new();
    house.add("g", NOON, with_body(b"x"));
    house.add("keep", NOON, Logged::default());
    house.tick(NOON + DAY, 1);
    house.add("g", NOON + DAY, Logged::default());
    house.tick(NOON + 2 * DAY, 2);
    house.add("keep", NOON + 2 * DAY, Logged::default());
    let mut parts = 0;
    while !house.keeper.forget("g").expect("forgotten") {
        parts += 1;
        assert!(parts < 10);
    }
    assert_eq!(house.find(|_| {}).total, 0);
    assert_eq!(
        house.find(|query| query.gateway = "keep".to_owned()).total,
        2
    );
    assert!(
        !house.files().contains(&"2026-01-16-0001.db".to_owned()),
        "that of its own is gone"
    );
}

#[test]
fn a_thread_gives_way() {
    let nice = std::thread::spawn(|| {
        super::lower_priority();
        // SAFETY: getpriority(2) takes no pointers; 0 means the calling thread.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    });
    assert_eq!(nice.join().expect("no panic"), 10);
}

#[test]
fn logs_take_a_part_of_the_volume_where_nothing_is_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("not/there/yet");
    let bounds = Bounds::on(&missing, None, None, Some(1));
    assert!(
        (LOG_DISK_MIN..=20 << 30).contains(&bounds.disk),
        "{bounds:?}"
    );
    assert_eq!(Bounds::on(&missing, Some(5), None, Some(1)).disk, 5);
    assert_eq!(
        Bounds::on(std::path::Path::new("nowhere"), None, None, Some(1)).disk,
        Bounds::on(std::path::Path::new("."), None, None, None).disk
    );
}
