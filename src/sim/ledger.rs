//! What the simulator received, for tests and curious people to read back.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::content::reply::Usage;
use super::content::request::Request;
use super::content::sigv4::hex;
use crate::limits::{SIM_REMEMBERED, SIM_REMEMBERED_BODY, SIM_REMEMBERED_BYTES};

/// The requests remembered and the counters, shared by all threads of one simulator.
#[derive(Default)]
pub struct Ledger {
    ring: Mutex<Ring>,
    /// The counters of `GET /sim/stats`.
    pub counters: Counters,
}

/// Counters since the start. Relaxed: each is a sum of its own.
#[derive(Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Requests read whole, those to `/sim/` left out.
    pub requests: AtomicU64,
    /// Answers that the client did not wait for.
    pub aborted: AtomicU64,
    /// Body events sent.
    pub events: AtomicU64,
    /// Body bytes sent.
    pub bytes: AtomicU64,
    /// Requests refused for their HTTP.
    pub refused: AtomicU64,
}

/// How an answer went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// The client left before its end.
    pub aborted: bool,
    /// Body events sent.
    pub events: u64,
    /// Body bytes sent.
    pub bytes: u64,
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Entry>,
    last: u64,
    body_bytes: usize,
}

struct Entry {
    number: u64,
    connection: u64,
    request: Request,
    body: Bytes,
    status: u16,
    usage: Option<Usage>,
    sent: Option<Sent>,
}

impl Ledger {
    /// Remembers a request; the number is for [`Ledger::finish`].
    pub fn begin(
        &self,
        request: Request,
        connection: u64,
        status: u16,
        usage: Option<Usage>,
    ) -> u64 {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        // A copy, so that a small part does not hold all of a large body.
        let kept = request.body.len().min(SIM_REMEMBERED_BODY);
        let body = Bytes::copy_from_slice(&request.body[..kept]);
        let request = Request {
            body: Bytes::new(),
            ..request
        };
        let mut ring = self.lock();
        ring.last += 1;
        ring.body_bytes += kept;
        let number = ring.last;
        ring.entries.push_back(Entry {
            number,
            connection,
            request,
            body,
            status,
            usage,
            sent: None,
        });
        while ring.entries.len() > SIM_REMEMBERED || ring.body_bytes > SIM_REMEMBERED_BYTES {
            let Some(oldest) = ring.entries.pop_front() else {
                break;
            };
            ring.body_bytes -= oldest.body.len();
        }
        number
    }

    /// Notes how the answer to request `number` went.
    pub fn finish(&self, number: u64, sent: Sent) {
        let counters = &self.counters;
        counters.events.fetch_add(sent.events, Ordering::Relaxed);
        counters.bytes.fetch_add(sent.bytes, Ordering::Relaxed);
        counters
            .aborted
            .fetch_add(u64::from(sent.aborted), Ordering::Relaxed);
        let mut ring = self.lock();
        let first = ring.entries.front().map_or(0, |entry| entry.number);
        let place = number
            .checked_sub(first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| ring.entries.get_mut(place)) {
            entry.sent = Some(sent);
        }
    }

    /// The requests after number `since`, oldest first, and the highest number given so far.
    pub fn read(&self, since: u64) -> Value {
        let ring = self.lock();
        let requests: Vec<Value> = ring
            .entries
            .iter()
            .filter(|entry| entry.number > since)
            .map(Entry::read)
            .collect();
        json!({"requests": requests, "last": ring.last})
    }

    /// Forgets all requests; the numbers go on.
    pub fn clear(&self) {
        let mut ring = self.lock();
        ring.entries.clear();
        ring.body_bytes = 0;
    }

    /// The counters.
    pub fn stats(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        json!({
            "connections_accepted": read(&counters.accepted), "connections_open": read(&counters.open),
            "requests": read(&counters.requests), "aborted": read(&counters.aborted),
            "events_sent": read(&counters.events), "bytes_sent": read(&counters.bytes),
            "refused": read(&counters.refused),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Entry {
    fn read(&self) -> Value {
        let request = &self.request;
        let headers: Vec<[&str; 2]> = request
            .headers
            .iter()
            .map(|(name, value)| [name.as_str(), value.as_str()])
            .collect();
        let sent = self.sent.unwrap_or_default();
        let mut entry = json!({
            "number": self.number, "connection": self.connection, "method": request.method, "path": request.path,
            "query": request.query, "headers": headers, "body_bytes": request.body_length,
            "body_sha256": hex(&request.body_sha256), "status": self.status, "answered": self.sent.is_some(),
            "aborted": sent.aborted, "events_sent": sent.events, "bytes_sent": sent.bytes,
        });
        if let Some(usage) = &self.usage {
            entry["usage"] = json!({
                "input": usage.prompt, "output": usage.output(), "cached": usage.cached, "cache_write": usage.cache_write,
                "reasoning": usage.reasoning,
            });
        }
        match std::str::from_utf8(&self.body) {
            Ok(text) => entry["body"] = json!(text),
            Err(_) => entry["body_base64"] = json!(STANDARD.encode(&self.body)),
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_back_with_how_they_went() {
        let ledger = Ledger::default();
        let first = ledger.begin(
            Request::new("POST", "/a?x=1", b"hello"),
            7,
            200,
            Some(Usage {
                prompt: 9,
                ..Usage::default()
            }),
        );
        let second = ledger.begin(Request::new("POST", "/b", &[0xff]), 8, 500, None);
        ledger.finish(
            first,
            Sent {
                aborted: true,
                events: 3,
                bytes: 40,
            },
        );
        let read = ledger.read(0);
        assert_eq!(read["last"], second);
        assert_eq!(read["requests"][0]["body"], "hello");
        assert_eq!(read["requests"][0]["aborted"], true);
        assert_eq!(read["requests"][0]["events_sent"], 3);
        assert_eq!(read["requests"][0]["usage"]["input"], 9);
        assert_eq!(read["requests"][1]["usage"], Value::Null);
        assert_eq!(read["requests"][1]["body_base64"], "/w==");
        assert_eq!(read["requests"][1]["answered"], false);
        assert_eq!(
            ledger.read(first)["requests"].as_array().map(Vec::len),
            Some(1)
        );
        assert_eq!(ledger.stats()["aborted"], 1);
        ledger.clear();
        ledger.finish(second, Sent::default());
        assert_eq!(ledger.read(0)["requests"], json!([]));
    }

    #[test]
    fn the_ring_is_bounded() {
        let ledger = Ledger::default();
        let body = vec![b'x'; SIM_REMEMBERED_BODY + 1];
        let count = SIM_REMEMBERED_BYTES / SIM_REMEMBERED_BODY + 5;
        for _ in 0..count {
            ledger.begin(Request::new("POST", "/", &body), 1, 200, None);
        }
        let ring = ledger.lock();
        assert_eq!(ring.body_bytes, SIM_REMEMBERED_BYTES);
        assert_eq!(
            ring.entries.len(),
            SIM_REMEMBERED_BYTES / SIM_REMEMBERED_BODY
        );
        assert_eq!(ring.last, count as u64);
    }
}
