//! The metrics page, in Prometheus's text format (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::analytics::Analytics;
use super::logs::Logs;
use crate::meter::cost::Money;
use crate::record::{Counters, Histogram, LATENCY_BUCKETS};
use crate::tables::cache;

/// Figures that no data thread counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Panics contained.
    pub panics: u64,
    /// Data threads started again.
    pub restarts: u64,
    /// Bytes of access lines lost.
    pub lines_lost: u64,
    /// Configurations published since the start.
    pub publications: u64,
    /// Addresses of providers that are left out.
    pub ejected: usize,
    /// How often one was.
    pub ejections: u64,
    /// The stored answers.
    pub cache: cache::Stats,
}

/// Sums the threads' counters and writes the page.
pub fn render(threads: &[Arc<Counters>], process: Process, logs: Option<&Logs>) -> String {
    let mut page = Page {
        out: String::with_capacity(8 * 1024),
        threads,
    };
    page.counter(
        "connections_accepted_total",
        "Client connections accepted.",
        |c| &c.accepted,
    );
    page.counter(
        "connections_refused_total",
        "Client connections refused at the bound.",
        |c| &c.refused,
    );
    page.counter("accept_errors_total", "Accepts that failed.", |c| {
        &c.accept_errors
    });
    page.gauge("connections_open", "Client connections open.", |c| &c.open);
    page.gauge("requests_running", "Requests running.", |c| &c.running);
    page.statuses();
    page.counter(
        "own_errors_total",
        "Answers made by the gateway itself.",
        |c| &c.own_errors,
    );
    page.counter(
        "requests_incomplete_total",
        "Requests that did not end complete.",
        |c| &c.incomplete,
    );
    page.counter(
        "upstream_connects_total",
        "Upstream connections opened.",
        |c| &c.connects,
    );
    page.counter(
        "upstream_connect_errors_total",
        "Upstream connections that could not be opened.",
        |c| &c.connect_errors,
    );
    page.counter(
        "upstream_reuses_total",
        "Requests on a warm upstream connection.",
        |c| &c.reuses,
    );
    page.counter(
        "upstream_replays_total",
        "Requests sent again on a new connection.",
        |c| &c.replays,
    );
    page.counter(
        "request_body_bytes_total",
        "Body bytes from clients.",
        |c| &c.bytes_in,
    );
    page.counter(
        "response_body_bytes_total",
        "Body bytes from providers.",
        |c| &c.bytes_out,
    );
    page.counter(
        "input_tokens_total",
        "Tokens of prompts, as providers stated them.",
        |c| &c.tokens_in,
    );
    page.counter(
        "cached_input_tokens_total",
        "Tokens of prompts read from a provider's cache.",
        |c| &c.tokens_cached,
    );
    page.counter(
        "output_tokens_total",
        "Tokens of answers, as providers stated them.",
        |c| &c.tokens_out,
    );
    page.dollars(
        "cost_dollars_total",
        "What providers charge, where the price is known.",
        |c| &c.cost,
    );
    page.counter(
        "unpriced_answers_total",
        "Answers with usage to which no price is known.",
        |c| &c.unpriced,
    );
    page.counter("cache_hits_total", "Answers out of the cache.", |c| {
        &c.cache_hits
    });
    page.counter(
        "cache_misses_total",
        "Requests for which the cache held no answer.",
        |c| &c.cache_misses,
    );
    page.counter("cache_stores_total", "Answers stored.", |c| &c.cache_stores);
    page.dollars(
        "cost_saved_dollars_total",
        "What answers out of the cache had cost, where that is known.",
        |c| &c.cost_saved,
    );
    page.cache(&process.cache);
    page.counter(
        "records_dropped_total",
        "Records that found their ring full.",
        |c| &c.records_dropped,
    );
    page.histogram(
        "own_latency_seconds",
        "The gateway's own share of the latency.",
        |c| &c.own,
    );
    page.histogram("request_seconds", "Whole requests.", |c| &c.total);
    page.histogram(
        "connect_seconds",
        "Waits for a connection, 0 where it was warm, of requests that reached a provider.",
        |c| &c.connect,
    );
    page.histogram(
        "upstream_seconds",
        "The provider's time to its first byte.",
        |c| &c.upstream,
    );
    page.histogram(
        "upstream_queue_seconds",
        "Waits for a connection to an origin at its bound.",
        |c| &c.queued,
    );
    page.single(
        "panics_total",
        "counter",
        "Panics contained.",
        process.panics,
    );
    page.single(
        "thread_restarts_total",
        "counter",
        "Data threads started again.",
        process.restarts,
    );
    page.single(
        "access_log_lost_bytes_total",
        "counter",
        "Bytes of access lines that were not taken.",
        process.lines_lost,
    );
    page.single(
        "configuration_publications_total",
        "counter",
        "Configurations published.",
        process.publications,
    );
    page.single(
        "upstream_ejected_addresses",
        "gauge",
        "Addresses of origins with several that are left out for their failures.",
        process.ejected as u64,
    );
    page.single(
        "upstream_ejections_total",
        "counter",
        "Addresses left out for their failures.",
        process.ejections,
    );
    if let Some(logs) = logs {
        page.logs(logs);
    }
    page.out
}

/// Appends the labelled series, and what became of the figures.
pub fn render_analytics(out: &mut String, analytics: &Analytics) {
    analytics.write_series(out);
    let mut page = Page {
        out: std::mem::take(out),
        threads: &[],
    };
    let stats = analytics.stats();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.single(
        "analytics_blurred_total",
        "counter",
        "Figures counted with less detail than they came with, for want of room; the sums are exact.",
        read(&stats.blurred),
    );
    page.single(
        "analytics_failures_total",
        "counter",
        "Writes of figures that failed; they wait in memory.",
        read(&stats.failures),
    );
    page.single(
        "analytics_bytes",
        "gauge",
        "Bytes of the file of figures.",
        read(&stats.bytes),
    );
    *out = page.out;
}

struct Page<'a> {
    out: String,
    threads: &'a [Arc<Counters>],
}

type Read = fn(&Counters) -> &AtomicU64;

// Writing to a string cannot fail, so the results are not looked at.
impl Page<'_> {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.out,
            "# HELP ringgate_{name} {help}\n# TYPE ringgate_{name} {kind}\n"
        );
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.out, "ringgate_{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, read: Read) {
        let value = self.sum(read);
        self.single(name, "counter", help, value);
    }

    /// A sum of pico-dollars, told in dollars.
    fn dollars(&mut self, name: &str, help: &str, read: Read) {
        let sum = Money(self.sum(read).into());
        self.head(name, "counter", help);
        let _ = writeln!(self.out, "ringgate_{name} {sum}");
    }

    fn gauge(&mut self, name: &str, help: &str, read: Read) {
        let value = self.sum(read);
        self.single(name, "gauge", help, value);
    }

    fn cache(&mut self, stats: &cache::Stats) {
        let disk = &stats.disk;
        let figures = [
            (
                "cache_evictions_total",
                "Stored answers let go for others.",
                stats.evictions,
            ),
            (
                "cache_refusals_total",
                "Answers for which the cache had no room.",
                stats.refusals,
            ),
            (
                "cache_disk_written_total",
                "Stored answers written to disk.",
                disk.written,
            ),
            (
                "cache_disk_dropped_total",
                "Stored answers that were not written to disk.",
                disk.dropped,
            ),
            (
                "cache_disk_corrupt_total",
                "Stored answers on disk that were not as they had been written.",
                disk.corrupt,
            ),
            (
                "cache_disk_failures_total",
                "Reads and writes of stored answers that failed.",
                disk.failures,
            ),
        ];
        for (name, help, value) in figures {
            self.single(name, "counter", help, value);
        }
        let gauges = [
            ("cache_answers", "Stored answers in memory.", stats.answers),
            (
                "cache_bytes",
                "Bytes of stored answers in memory.",
                stats.bytes,
            ),
            (
                "cache_disk_answers",
                "Stored answers on disk.",
                disk.answers,
            ),
            (
                "cache_disk_bytes",
                "Bytes of stored answers on disk.",
                disk.bytes,
            ),
        ];
        for (name, help, value) in gauges {
            self.single(name, "gauge", help, value);
        }
    }

    fn logs(&mut self, logs: &Logs) {
        let stats = logs.stats();
        let counters = [
            ("logs_stored_total", "Log entries written.", &stats.stored),
            (
                "logs_dropped_total",
                "Log entries lost because the disk did not take them in time.",
                &stats.dropped,
            ),
            (
                "logs_over_quota_total",
                "Log entries not written because their gateway keeps no more.",
                &stats.over_quota,
            ),
            (
                "logs_ownerless_total",
                "Log entries not written because their gateway was gone.",
                &stats.ownerless,
            ),
            (
                "log_bodies_dropped_total",
                "Bodies that are missing from their log entries for want of room.",
                &stats.bodies_dropped,
            ),
            (
                "log_bodies_too_large_total",
                "Bodies that are missing from their log entries for their size.",
                &stats.bodies_too_large,
            ),
            (
                "logs_expired_total",
                "Log entries deleted by age, by number or for want of disk.",
                &stats.expired,
            ),
            (
                "log_failures_total",
                "Writes of log entries that failed.",
                &stats.failures,
            ),
        ];
        for (name, help, counter) in counters {
            self.single(name, "counter", help, counter.load(Ordering::Relaxed));
        }
        self.single(
            "logs_waiting",
            "gauge",
            "Log entries that wait to be written.",
            logs.waiting() as u64,
        );
        let gauges = [
            ("log_segments", "Files of log entries.", &stats.segments),
            (
                "log_bytes",
                "Bytes of all files of log entries.",
                &stats.bytes,
            ),
        ];
        for (name, help, gauge) in gauges {
            self.single(name, "gauge", help, gauge.load(Ordering::Relaxed));
        }
    }

    fn statuses(&mut self) {
        self.head(
            "responses_total",
            "counter",
            "Requests by class of their status, of all gateways and of none; none: the client left before one was sent.",
        );
        let classes = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        for (index, class) in classes.into_iter().enumerate() {
            let value: u64 = self
                .threads
                .iter()
                .map(|c| c.statuses[index].load(Ordering::Relaxed))
                .sum();
            let _ = writeln!(
                self.out,
                "ringgate_responses_total{{status=\"{class}\"}} {value}"
            );
        }
    }

    fn histogram(&mut self, name: &str, help: &str, read: fn(&Counters) -> &Histogram) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for index in 0..=LATENCY_BUCKETS.len() {
            let bucket = |c: &Arc<Counters>| read(c).buckets[index].load(Ordering::Relaxed);
            count += self.threads.iter().map(bucket).sum::<u64>();
            let bound = LATENCY_BUCKETS
                .get(index)
                .map_or("+Inf".to_owned(), |micros| {
                    (*micros as f64 / 1e6).to_string()
                });
            let _ = writeln!(self.out, "ringgate_{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum: u64 = self
            .threads
            .iter()
            .map(|c| read(c).sum.load(Ordering::Relaxed))
            .sum();
        let _ = writeln!(
            self.out,
            "ringgate_{name}_sum {}\nringgate_{name}_count {count}",
            sum as f64 / 1e6
        );
    }

    fn sum(&self, read: Read) -> u64 {
        // A gauge is a sum of rises and falls, each thread's its own: it wraps like them.
        self.threads.iter().fold(0, |sum: u64, c| {
            sum.wrapping_add(read(c).load(Ordering::Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::bump;

    #[test]
    fn threads_are_summed() {
        let threads = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        bump(&threads[0].accepted, 2);
        bump(&threads[1].accepted, 3);
        bump(&threads[1].statuses[2], 1);
        let page = render(&threads, Process::default(), None);
        assert!(
            page.contains("\nringgate_connections_accepted_total 5\n"),
            "{page}"
        );
        assert!(page.contains("ringgate_responses_total{status=\"2xx\"} 1\n"));
        assert!(page.contains("ringgate_request_seconds_bucket{le=\"0.000025\"} 0\n"));
        assert!(page.contains("ringgate_request_seconds_bucket{le=\"+Inf\"} 0\n"));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split(' ').count(), 2, "{line}");
        }
    }
}
