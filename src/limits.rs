//! Every bound in the program, named, with its reason.

use std::time::Duration;

// --- net ---

/// First read of an idle connection and of the close detector: a typical SDK head fits, ten thousand idle ones cost 10 MiB.
pub const IDLE_READ_BYTES: usize = 1024;
/// Read size for the rest of a head and for buffered bodies.
pub const BODY_READ_BYTES: usize = 16 * 1024;
/// Read size of a stream of small events: many streams are open at once and each holds one buffer.
pub const RELAY_READ_MIN: usize = 4 * 1024;
/// Read size of a bulk transfer: beyond this fewer system calls no longer show.
pub const RELAY_READ_MAX: usize = 64 * 1024;
/// One TLS record with its overhead (RFC 8446 section 5.2).
pub const TLS_READ_BYTES: usize = 16 * 1024 + 256;
/// Up to here a body is copied behind its head, which costs less than a second buffer in the write.
pub const COALESCED_WRITE: usize = 2 * 1024;
/// Informational answers skipped before a final one; more is an upstream gone wrong.
pub const INFORMATIONAL_MAX: usize = 8;
/// Tick of the deadline table: the precision of every clock.
pub const DEADLINE_TICK: Duration = Duration::from_millis(10);
/// Head start of one address over the next (RFC 8305 section 8).
pub const CONNECT_STAGGER: Duration = Duration::from_millis(250);
/// Requests that may wait for a connection of one origin on one thread.
pub const POOL_WAITERS_MAX: usize = 4096;
/// Panic reports kept until control prints them.
pub const PANIC_REPORTS_MAX: usize = 64;
/// Submission entries of a ring.
pub const RING_ENTRIES: u32 = 4096;
/// Completion entries of a ring: every idle connection holds an operation.
pub const RING_COMPLETIONS: u32 = 4 * RING_ENTRIES;
/// Messages that may wait for a data thread; more means that it hangs.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;
/// Names that may wait for a resolver thread.
pub const RESOLVER_QUEUE_MAX: usize = 1024;
/// Names kept; a gateway talks to some dozens.
pub const RESOLVED_NAMES_MAX: usize = 4096;
/// How long an address is used: the system's resolver does not tell its records' time to live.
pub const RESOLVER_TTL: Duration = Duration::from_secs(30);

// --- http ---

/// Bytes of a head; what nginx and haproxy allow for large ones, and room for a long cookie or signed URL.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a head; SDKs send about twenty.
pub const HEADERS_MAX: usize = 128;
/// Empty lines tolerated before a start line: some clients end a body with one too many.
pub const LEADING_EMPTY_LINES_MAX: usize = 2;
/// Extension bytes on one chunk's size line; nobody uses them.
pub const CHUNK_LINE_MAX: usize = 256;
/// Bytes of all trailers of a body.
pub const TRAILERS_MAX: usize = 8 * 1024;
