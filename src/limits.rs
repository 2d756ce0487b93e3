//! Every bound in the program, named, with its reason.

use std::time::Duration;

// --- net ---

/// First read of an idle connection and of the close detector: the head of an SDK without long headers fits, ten thousand
/// idle ones cost 8 MiB.
pub const IDLE_READ_BYTES: usize = 768;
/// Read size for the rest of a head and for buffered bodies.
pub const BODY_READ_BYTES: usize = 16 * 1024;
/// Read size for an answer's head: a short plain answer comes with it, and a stream that waits for its first token holds it.
pub const ANSWER_READ_BYTES: usize = 2 * 1024;
/// Read size of a stream of small events: many streams are open at once and each holds one buffer. It grows with use.
pub const RELAY_READ_MIN: usize = 1024;
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
/// Connects to one of an origin's addresses that fail in a row before it is left out.
pub const OUTLIER_CONNECT_ERRORS: u32 = 5;
/// Answers below which their share of 5xx says nothing about an address.
pub const OUTLIER_ANSWERS_MIN: u64 = 20;
/// The share of 5xx at which an address is left out.
pub const OUTLIER_FAILED_PERCENT: u64 = 50;
/// Seconds over which answers are counted, to a second.
pub const OUTLIER_WINDOW_SECONDS: u64 = 10;
/// When an address that is left out is tried again for the first time; each probe that fails doubles the wait.
pub const OUTLIER_PROBE_AFTER: Duration = Duration::from_secs(5);
/// The longest such wait: an address that works again is seldom idle for longer.
pub const OUTLIER_PROBE_MAX: Duration = Duration::from_secs(60);
/// Addresses of an origin that are watched; they are searched with each answer, and names stand for a dozen at most.
pub const OUTLIER_ADDRESSES_MAX: usize = 32;
/// Notices about addresses kept until control prints them.
pub const OUTLIER_NOTICES_MAX: usize = 64;
/// Requests that may wait for a connection of one origin on one thread.
pub const POOL_WAITERS_MAX: usize = 4096;
/// How often a request that waits for a connection of another thread's looks again.
pub const POOL_RETRY: Duration = Duration::from_millis(20);
/// Panic reports kept until control prints them.
pub const PANIC_REPORTS_MAX: usize = 64;
/// Submission entries of a ring.
pub const RING_ENTRIES: u32 = 4096;
/// Completion entries of a ring: every idle connection holds an operation.
pub const RING_COMPLETIONS: u32 = 4 * RING_ENTRIES;
/// Messages that may wait for a data thread; more means that it hangs.
pub const MAILBOX_MESSAGES_MAX: usize = 4096;
/// Rounds of messages, or pieces of a body, that one task handles before others have their turn: on epoll whatever it waits
/// for may be ready every time.
pub const ROUNDS_AT_ONCE: u32 = 64;
/// How long it then steps back. A wake of its own would not do: io_uring with deferred task work looks at its sockets only
/// where no task is ready.
pub const ROUNDS_PAUSE: Duration = Duration::from_millis(1);
/// Names that may wait for a resolver thread.
pub const RESOLVER_QUEUE_MAX: usize = 1024;
/// Names kept; a gateway talks to some dozens.
pub const RESOLVED_NAMES_MAX: usize = 4096;
/// How long an address is used without asking again: the system's resolver does not tell its records' time to live.
pub const RESOLVER_TTL: Duration = Duration::from_secs(30);
/// How long an address is still used while, or although, the system is asked again: a resolver that is down is an outage of
/// minutes, and providers do not give up their addresses as fast.
pub const RESOLVER_STALE: Duration = Duration::from_secs(600);
/// How long a name without an address is not asked for again.
pub const RESOLVER_NEGATIVE_TTL: Duration = Duration::from_secs(2);
/// Requests that may wait for one name's answer.
pub const RESOLVER_WAITERS_MAX: usize = 4096;

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

// --- sim ---

/// The longest delay a distribution of the simulator draws, in means: keeps a run's length foreseeable.
pub const SIM_DELAY_FACTOR: f64 = 20.0;
/// Tokens in one simulated answer: about a megabyte of text.
pub const SIM_TOKENS_MAX: u64 = 200_000;
/// Bytes of a `huge` answer, which is held in memory.
pub const SIM_HUGE_MAX: u64 = 256 << 20;
/// Bytes of one `/bytes/N` answer, which is made as it is sent.
pub const SIM_BYTES_MAX: u64 = 64 << 30;
/// Bytes kept of a JSON request body; the rest of a longer one is only counted and hashed.
pub const SIM_JSON_BODY: usize = 128 << 20;
/// Bytes kept of any other request body: uploads are counted and hashed.
pub const SIM_OTHER_BODY: usize = 1 << 20;
/// Requests the simulator remembers for `GET /sim/requests`.
pub const SIM_REMEMBERED: usize = 4096;
/// Bytes of each request body it remembers.
pub const SIM_REMEMBERED_BODY: usize = 64 << 10;
/// Bytes of all the bodies it remembers: the oldest bodies are forgotten first.
pub const SIM_REMEMBERED_BYTES: usize = 64 << 20;
/// Depth to which a JSON schema is followed when a value is made for it.
pub const SIM_SCHEMA_DEPTH: usize = 24;
/// Values of one `n` or of one embeddings request.
pub const SIM_CHOICES_MAX: u64 = 16;
/// Embedding inputs answered in one request.
pub const SIM_EMBEDDINGS_MAX: usize = 4096;
/// Dimensions of an embedding.
pub const SIM_DIMENSIONS_MAX: u64 = 8192;
/// Events that are due together and leave in one write hold at most this many bytes.
pub const SIM_WRITE_BATCH: usize = 16 << 10;
/// Bytes of one generated piece of a `/bytes/N` answer.
pub const SIM_NOISE_PIECE: usize = 64 << 10;
/// Milliseconds between two bytes of a dripping answer.
pub const SIM_DRIP_MILLISECONDS: u64 = 10;
/// Bytes of a body that is not a stream of events that count as one event of a fault such as `reset-after-3`.
pub const SIM_FAULT_PIECE: usize = 64;
/// Milliseconds between two keep-alive comments before the first token.
pub const SIM_COMMENT_MILLISECONDS: u64 = 500;
/// Threads of one simulator.
pub const SIM_THREADS_MAX: usize = 64;
/// Connections waiting to be accepted on each listening socket.
pub const SIM_BACKLOG: i32 = 4096;
/// How long an idle connection to the simulator stays open: longer than any pool keeps one.
pub const SIM_IDLE_WAIT: Duration = Duration::from_secs(600);
/// From the first byte of a request's head to its last.
pub const SIM_HEAD_WAIT: Duration = Duration::from_secs(60);
/// Between two pieces of a request's body.
pub const SIM_BODY_WAIT: Duration = Duration::from_secs(600);
/// How long a client may take nothing of what is being written to it.
pub const SIM_WRITE_WAIT: Duration = Duration::from_secs(600);
/// How often a sleeping answer looks whether the simulator is to stop.
pub const SIM_STOP_CHECK: Duration = Duration::from_millis(100);
/// How long stopping waits for answers in flight.
pub const SIM_STOP_WAIT: Duration = Duration::from_millis(500);
/// After an accept that failed, for want of descriptors as a rule.
pub const SIM_ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Different requests that fail the first times only; beyond it the counting starts anew.
pub const SIM_REPEATS_MAX: usize = 10_000;
/// Between the last event and a reset, which would overtake it.
pub const SIM_RESET_PAUSE: Duration = Duration::from_millis(10);

// --- gateway ---

/// Bytes of a request body kept while a stale connection may still have to be replaced.
pub const REPLAY_MAX: usize = 64 * 1024;
/// Bytes of a request body that is read into memory before it goes up (resolutions 10).
pub const BODY_BUFFER_MAX: u64 = 100 << 20;
/// Bytes of all request bodies in memory: ten of the largest.
pub const BUFFERED_BYTES_MAX: usize = 1 << 30;
/// Bytes of an answer that is read whole before it goes down in another dialect: pictures in base64 fit.
pub const ANSWER_BUFFER_MAX: usize = 64 << 20;
/// Tries of one step (data plane 13).
pub const TRIES_MAX: u8 = 5;
/// The pause before a retry where nothing is set, and the longest one (data plane 6.2).
pub const RETRY_DELAY: Duration = Duration::from_millis(500);
/// See [`RETRY_DELAY`].
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);
/// How often a request that pauses between two tries looks whether the gateway is being stopped.
pub const PAUSE_LOOK: Duration = Duration::from_millis(100);
/// Entries of one universal request (data plane 13).
pub const UNIVERSAL_ENTRIES_MAX: usize = 32;
/// Bytes of a failed answer that is kept while something else is tried: no provider's error is as long.
pub const FAILED_ANSWER_MAX: usize = 1 << 20;
/// The longest silence within a failed answer that is kept.
pub const FAILED_ANSWER_IDLE: Duration = Duration::from_secs(5);
/// How long the head of a stream is held for its first event where something else could still be tried: models that think long
/// send comments or an empty event first.
pub const HOLD_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a stream among which its first event is looked for.
pub const HOLD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a body that is parsed and written anew on a helper's thread: below, that takes less than a millisecond.
pub const HELPED_BYTES: usize = 256 * 1024;
/// Threads that help with large bodies.
pub const HELPERS: usize = 2;
/// Large bodies that may wait for a helper; more are worked on where they came in.
pub const HELPERS_QUEUE_MAX: usize = 64;
/// How long a large body may be worked on: the largest takes seconds behind a full queue.
pub const HELPED_PATIENCE: Duration = Duration::from_secs(60);
/// Google accounts whose tokens a thread keeps.
pub const MINTED_MAX: usize = 1024;
/// Requests that may wait for one access token.
pub const MINT_WAITERS_MAX: usize = 4096;
/// After a last answer: how long the client may take to close its side.
pub const LINGER: Duration = Duration::from_secs(1);
/// After a last answer: bytes of an unwanted body that are taken in.
pub const LINGER_BYTES: usize = 64 * 1024;
/// Bytes of a path that are logged.
pub const LOGGED_PATH_MAX: usize = 1024;
/// Bytes of a client's event id that are echoed.
pub const EVENT_ID_MAX: usize = 256;
/// Records of one thread that may wait for the writer: a tenth of a second of a thread at its busiest, five times its pause.
pub const RECORDS_MAX: usize = 16_384;

/// Bytes of each body kept for its log entry: two of them make the largest entry that is stored (control plane 3.7).
pub const CAPTURED_BYTES_MAX: usize = 5 << 20;
/// Bytes of all bodies kept for log entries that are not stored yet: a second of the largest traffic that two cores relay. Beyond
/// it an entry goes without its bodies.
pub const CAPTURED_TOTAL_MAX: usize = 256 << 20;
/// Bytes of a request's body that are searched for the model it names: behind a long prompt, and not behind a film.
pub const MODEL_SEARCH_MAX: usize = 256 << 10;
/// Bytes of a model's name, as it is searched.
pub const MODEL_NAME_MAX: usize = 256;
/// Entries of a request's metadata that are kept (data plane 2.3).
pub const METADATA_ENTRIES_MAX: usize = 5;
/// Bytes of a header that a log entry tells: user agents are seldom longer than 200.
pub const LOGGED_HEADER_MAX: usize = 512;
/// Runs of one thread that may go on without a client: each holds its request, and later its answer, in memory.
pub const BACKGROUND_RUNS_OF_THREAD: usize = 256;
/// Such runs over all threads.
pub const BACKGROUND_RUNS_MAX: usize = 1024;
/// How long such a run may take: nobody is there who would stop it.
pub const BACKGROUND_RUN_WAIT: Duration = Duration::from_secs(3600);
/// How long the outcome of a run may take to be posted.
pub const WEBHOOK_WAIT: Duration = Duration::from_secs(10);
/// Bytes of an outcome that is posted; a larger result is left out of it.
pub const WEBHOOK_BYTES_MAX: usize = 16 << 20;

// --- telemetry ---

/// Bytes of access lines written at once.
pub const WRITER_BATCH_BYTES: usize = 256 * 1024;
/// How long the writer sleeps when the rings are empty: an access line is seldom later than this.
pub const WRITER_PAUSE: Duration = Duration::from_millis(20);

/// Log entries that may wait for their writer: two seconds at its fastest. Beyond it entries are counted and dropped.
pub const LOG_QUEUE_MAX: usize = 32_768;
/// Bytes of bodies that may wait with them; beyond it an entry goes without its bodies.
pub const LOG_QUEUE_BYTES_MAX: usize = 128 << 20;
/// Log entries of one transaction.
pub const LOG_BATCH_MAX: usize = 4096;
/// How long the first entry of a transaction waits for others.
pub const LOG_BATCH_WAIT: Duration = Duration::from_millis(100);
/// How long a failed transaction waits before it is tried again.
pub const LOG_RETRY_WAIT: Duration = Duration::from_secs(1);
/// How long a lock that somebody else holds on a segment is waited for.
pub const LOG_BUSY_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a segment of logs, after which a new one begins.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// As many segments share the disk that logs may take, so that dropping one gives back a small part only.
pub const SEGMENTS_OF_DISK: u64 = 8;
/// Smallest size at which a new segment begins.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// How often retention is looked after.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(2);
/// Rows that one step of a retention by count deletes: some milliseconds of work between two batches.
pub const RETENTION_ROWS: u64 = 8192;
/// Names (models, paths, user agents ...) of a segment that the writer knows by heart.
pub const NAMES_MAX: usize = 65_536;
/// How far the wall clock may be ahead of the newest entry before it is doubted, milliseconds.
pub const CLOCK_AHEAD_MAX: u64 = 24 * 3600 * 1000;
/// How far it may be behind, milliseconds.
pub const CLOCK_BEHIND_MAX: u64 = 3600 * 1000;
/// How long a doubtful wall clock must go on before it is believed.
pub const CLOCK_DOUBT: Duration = Duration::from_secs(60);
/// Disk that logs may take where nothing is set, and the part of the volume that it may be at most (resolutions 33).
pub const LOG_DISK_DEFAULT: u64 = 20 << 30;
/// See [`LOG_DISK_DEFAULT`], percent.
pub const LOG_DISK_PERCENT: u64 = 20;
/// The least disk that logs may be given: some segments of the smallest size.
pub const LOG_DISK_MIN: u64 = 32 << 20;
/// Days after which log entries go where nothing is set (resolutions 33).
pub const LOG_DAYS_DEFAULT: u32 = 30;
/// Days after which their bodies go where nothing is set (resolutions 33).
pub const LOG_BODY_DAYS_DEFAULT: u32 = 7;
/// How long the end of the program waits for the writer of logs.
pub const LOG_STOP_WAIT: Duration = Duration::from_secs(5);
/// Threads that read logs.
pub const LOG_READERS: usize = 2;
/// Questions about logs that may wait for a reader.
pub const LOG_QUESTIONS_MAX: usize = 64;
/// How long one question may take: what is open for longer keeps the write-ahead log from being emptied.
pub const LOG_QUESTION_WAIT: Duration = Duration::from_secs(20);
/// Entries that one question for sums passes, some tens of milliseconds at most: no other question waits long behind an evaluation.
pub const LOG_TALLY_ROWS: u64 = 50_000;
/// Segments that a reader keeps open.
pub const READER_SEGMENTS_MAX: usize = 16;
/// Filters of one query of logs.
pub const LOG_FILTERS_MAX: usize = 32;
/// Values of one filter.
pub const LOG_FILTER_VALUES_MAX: usize = 256;
/// Counts of closed segments that readers remember.
pub const LOG_COUNTS_MAX: usize = 4096;
/// Bytes of a body that are shown and searched as its head (control plane 3.4).
pub const LOG_HEAD_BYTES: usize = 5000;
/// Parts of an answer that is put together from its stream: choices, blocks, calls. No client reads as many.
pub const ASSEMBLED_PARTS_MAX: usize = 1024;
/// Bytes of a stored body once it is decompressed; a kept body with what redaction may add.
pub const LOG_BODY_BYTES_MAX: usize = 2 * CAPTURED_BYTES_MAX;

/// Questions of data threads that may wait for control; each is asked again by a later request.
pub const ASKS_MAX: usize = 64;
/// How often it is stored when tokens were last shown.
pub const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);

// --- store ---

/// Pieces of work that may wait for the configuration database: more than a Terraform run sends at once.
pub const STORE_QUEUE_MAX: usize = 1024;
/// How long a lock that another program holds on the database is waited for.
pub const STORE_BUSY_WAIT: Duration = Duration::from_secs(5);

// --- manage ---

/// Bytes of a management request's body (control plane 1.6).
pub const MANAGE_BODY_MAX: usize = 1 << 20;

/// Longest text of a query of the management API, and longest part of a path in its description, characters: several of them,
/// percent-encoded, must fit into a request's head.
pub const QUERY_TEXT_MAX: usize = 1024;
/// Items of a page where nothing is asked for (control plane 1.4).
pub const PER_PAGE_DEFAULT: i64 = 20;

/// Secrets of the store: two for each of ten thousand gateways.
pub const SECRETS_MAX: i64 = 20_000;
/// Bytes of a secret's value (control plane 6.2).
pub const SECRET_VALUE_MAX: usize = 65_536;
/// Characters of a secret's name: one made of gateway, provider and alias fits.
pub const SECRET_NAME_MAX: usize = 255;
/// Characters of a secret's comment.
pub const SECRET_COMMENT_MAX: usize = 1024;
/// Datasets of a gateway, as Cloudflare bounds them.
pub const DATASETS_MAX: i64 = 10;
/// Characters of a dataset's or an evaluation's name.
pub const DATASET_NAME_MAX: usize = 255;
/// Bytes of a dataset's filters: every evaluation keeps those of its datasets, and a page shows a hundred evaluations.
pub const DATASET_FILTERS_BYTES_MAX: usize = 16 << 10;
/// Datasets of one evaluation (control plane 4).
pub const EVALUATION_DATASETS_MAX: usize = 5;
/// Evaluations that a gateway keeps: some years of weekly ones of each dataset.
pub const EVALUATIONS_MAX: i64 = 1000;
/// How long an evaluation waits before it reads: what ended before it was made is in the logs by then.
pub const EVALUATION_SETTLE: Duration = Duration::from_secs(1);
/// How long it waits before it asks once more a store that was busy.
pub const EVALUATION_PAUSE: Duration = Duration::from_secs(1);
/// How often it asks a busy store before it gives up: for a minute.
pub const EVALUATION_TRIES: u32 = 60;
/// Characters of a stored key's alias, which stands in a header.
pub const ALIAS_MAX: usize = 64;

/// The gateway that always exists.
pub const DEFAULT_GATEWAY: &str = "default";

// --- commands ---

/// How long a command waits for one answer of the API.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one answer that a command reads: a page of a hundred gateways, each as large as a body may be.
pub const COMMAND_ANSWER_MAX: u64 = 100 << 20;

// --- server ---

/// After an accept that failed, as a rule for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections waiting to be accepted on each listening socket.
pub const LISTEN_BACKLOG: i32 = 4096;
/// Descriptors kept for the program itself: files, listeners, rings, resolvers.
pub const RESERVED_DESCRIPTORS: u64 = 256;
/// Threads that resolve names; several, so that a dead name does not hold up the others.
pub const RESOLVER_THREADS: usize = 3;
/// How long an idle connection stays open once a drain began.
pub const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long a data thread that is given up still runs: its connections see their ends, and records are written.
pub const LAST_WORDS: Duration = Duration::from_millis(100);
/// How often a drain looks whether the last connection is gone.
pub const DRAIN_CHECK: Duration = Duration::from_millis(20);
/// How often a server that is to end after so many requests counts them.
pub const SERVED_CHECK: Duration = Duration::from_millis(20);
/// Data threads started again within a minute before the program gives up.
pub const RESTARTS_PER_MINUTE: usize = 5;
/// Data threads of one program: ids carry the thread in one byte.
pub const THREADS_MAX: usize = 255;
/// A data thread whose heartbeat is older than this makes the instance not ready, seconds.
pub const HEARTBEAT_MAX: u64 = 10;

// --- config ---

/// Bytes of a configuration file; ten thousand gateways fit.
pub const CONFIG_BYTES_MAX: u64 = 16 << 20;
// --- http: sse, eventstream, proxy protocol ---

/// Bytes of one server-sent event, its field names included: a generated image in base64 fits.
pub const SSE_EVENT_MAX: usize = 32 << 20;
/// Bytes of the headers of one event stream message, as the vendor bounds them.
pub const EVENTSTREAM_HEADERS_MAX: usize = 128 << 10;
/// Bytes of the payload of one event stream message, as the vendor bounds them.
pub const EVENTSTREAM_PAYLOAD_MAX: usize = 24 << 20;
/// Bytes of a PROXY protocol line, version 1, CR LF included (specification section 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;
/// Bytes of addresses and TLVs in a PROXY protocol header, version 2: a Unix address and what load balancers add fit.
pub const PROXY_V2_BODY_MAX: usize = 512;

// --- load ---

/// Requests of the open loop that may wait for a free connection of one thread.
pub const LOAD_QUEUE_MAX: usize = 1 << 20;

/// How long a schedule with nothing due sleeps before it looks whether the run was stopped: what Ctrl-C may take.
pub const LOAD_STOP_CHECK: Duration = Duration::from_millis(50);

/// How late the schedule's timer may fire by its grain alone.
pub const LOAD_LAG: Duration = Duration::from_millis(2);
// --- meter ---

/// Bytes of a JSON answer kept to be read whole: beyond it only the tail is searched, which also bounds the time to parse.
pub const METER_BODY_MAX: usize = 4 << 20;
/// Bytes of an answer in one piece that is read before it is passed on, and so without a copy: some 10 us at the most.
pub const METER_IN_PLACE: usize = 16 << 10;
/// Bytes of one streamed event kept to be read whole; a finished answer repeated in its last event fits.
pub const METER_EVENT_MAX: usize = 1 << 20;
/// Bytes kept of the end of anything larger: usage stands near the end of every dialect's large answers.
pub const METER_TAIL: usize = 64 << 10;
/// Bytes kept of the front of anything larger, for the model's name.
pub const METER_HEAD: usize = 4 << 10;
/// Members of that name looked at in a tail, the last ones first.
pub const METER_TAIL_CANDIDATES: usize = 8;
/// First events of a stream that are read for the model's name: the first may be a preamble without one.
pub const METER_MODEL_EVENTS: u8 = 4;
/// Bytes decoded of one compressed answer: about a second of work over the life of a stream.
pub const METER_DECODED_MAX: u64 = 256 << 20;
/// Decoded bytes for each compressed one; streams of like events reach about 50.
pub const METER_RATIO_MAX: u64 = 200;
/// Decoded bytes up to which no ratio is asked for: a short answer may be all spaces.
pub const METER_RATIO_FLOOR: u64 = 1 << 20;
/// Window of a zstd stream, as a power of two: 8 MiB, what a receiver must support in HTTP (RFC 9659).
pub const METER_ZSTD_WINDOW: u32 = 23;
/// Bytes of a brotli decoder's output buffer.
pub const METER_BROTLI_BUFFER: usize = 16 << 10;
/// Names under which one model's price is looked for.
pub const PRICE_NAMES_MAX: usize = 8;

// --- providers ---

/// Bytes of a credential that is read as JSON: what the secrets store takes.
pub const CREDENTIAL_BYTES_MAX: usize = 64 << 10;
/// Life of an assertion sent to Google's token endpoint, seconds: the longest it takes.
pub const ASSERTION_LIFE: u64 = 3600;
/// How far an assertion is dated back, seconds, so that a clock slightly fast does no harm.
pub const ASSERTION_SKEW: u64 = 30;
/// Bytes of a token endpoint's answer.
pub const TOKEN_ANSWER_MAX: usize = 64 << 10;
/// How long before its end a token is replaced, seconds: a request that takes it now must still find it valid.
pub const TOKEN_REFRESH: u64 = 300;
/// The longest life a token endpoint is believed, seconds: Google's longest.
pub const TOKEN_LIFE_MAX: u64 = 12 * 3600;
/// Bytes of a token endpoint's own words that go into an error.
pub const TOKEN_ERROR_MAX: usize = 256;

// --- route ---

/// Elements of one dynamic route: more than anybody can follow on a screen.
pub const ROUTE_ELEMENTS_MAX: usize = 128;
/// Elements that one request passes from start to end; bounds the models that it may try.
pub const ROUTE_DEPTH_MAX: usize = 64;
/// Shares of one percentage element, as documented; `else` is not counted.
pub const ROUTE_SHARES_MAX: usize = 5;
/// Bytes of an element's id, which is part of the key of its counters.
pub const ROUTE_ID_MAX: usize = 128;
/// Bytes of a model's name, of a field's path or of a text compared with.
pub const ROUTE_TEXT_MAX: usize = 512;
/// Depth to which a condition nests: its evaluation recurses.
pub const ROUTE_CONDITION_DEPTH_MAX: usize = 16;
/// Operators and values of one condition: each may search the request on a data thread.
pub const ROUTE_CONDITION_SIZE_MAX: usize = 256;
/// Tries of a model element after its first one.
pub const ROUTE_RETRIES_MAX: u64 = 5;
/// The longest wait for one model, milliseconds: a day, as no provider's job outlives it.
pub const ROUTE_TIMEOUT_MAX: u64 = 86_400_000;
/// The longest window of a rate element, seconds: a leap year, for yearly budgets.
pub const ROUTE_WINDOW_MAX: u64 = 366 * 86_400;
/// Errors told of one route; whoever has more mends these first.
pub const ROUTE_ERRORS_MAX: usize = 32;

// --- media ---

/// Largest picture or file that is fetched from an address in a request: more than any provider takes.
pub const MEDIA_BYTES_MAX: usize = 20 << 20;
/// Addresses of one request that are fetched.
pub const MEDIA_FILES_MAX: usize = 32;
/// As many of them are fetched at the same time: a request is to open few connections of the gateway's.
pub const MEDIA_AT_ONCE: usize = 8;
/// Redirects that a fetch follows, each checked like the first address.
pub const MEDIA_REDIRECTS_MAX: usize = 3;
/// The wait for all that one request names, while its client waits too.
pub const MEDIA_WAIT: Duration = Duration::from_secs(10);

// --- dialect ---

/// Fields told of that a translation changed: the header stays below a kilobyte.
pub const CHANGES_MAX: usize = 24;
/// Answers to one request of Gemini's that are read: it gives no more, and each has a state in a stream.
pub const GEMINI_CANDIDATES_MAX: usize = 8;
/// Calls of tools that are open at once in a stream of Cohere's, each with a few bytes: far more than a model makes.
pub const COHERE_OPEN_CALLS_MAX: usize = 1024;
/// Bytes kept behind the last event of a stream, in which an error may stand that is no event.
pub const STRAY_BYTES_MAX: usize = 8 << 10;
/// Levels of a JSON body: what `serde_json` takes. Parsers recurse, and a data thread's stack is not endless.
pub const JSON_DEPTH_MAX: usize = 127;
/// Answers in one chat stream: what OpenAI allows for `n`.
pub const CHAT_CHOICES_MAX: usize = 128;
/// Calls of tools in one answer of a chat stream; models call some dozens at most.
pub const CHAT_CALLS_MAX: usize = 1024;
/// Bytes of a provider's id or model name that every chunk of a stream repeats; longer ones are replaced by our own.
pub const CHAT_NAME_MAX: usize = 512;
/// Bytes of a call's arguments that are held until its name comes, which stands before them as a rule.
pub const CALL_HELD_MAX: usize = 64 << 10;
/// Bytes of one thought that are held until its signature comes: thoughts have at most some 64,000 tokens.
pub const THOUGHTS_HELD_MAX: usize = 1 << 20;
/// Stop texts of a chat request that OpenAI takes.
pub const CHAT_STOPS_MAX: usize = 4;
/// Characters of a user's pseudonym that OpenAI takes; a longer one is replaced by its hash.
pub const CHAT_USER_MAX: usize = 64;
/// Depth to which a JSON schema is rewritten: the rewriting recurses, and no provider's compiler takes a deeper one.
pub const SCHEMA_DEPTH_MAX: usize = 48;
/// Parts of a streamed answer that are open at once: calls of tools, of which models make a few dozen at most.
pub const STREAM_PARTS_OPEN_MAX: usize = 256;
/// Bytes of one streamed answer that are kept for its last event, which repeats it whole (responses): the longest text any model
/// writes is some megabytes, and a picture in base64 fits as well.
pub const RESPONSE_HELD_MAX: usize = 24 << 20;
/// Texts of one request for embeddings, as OpenAI bounds them; some providers take one in a call.
pub const EMBEDDING_TEXTS_MAX: usize = 2048;
/// Calls that are made at the same time for one request for embeddings, which may have two thousand texts: its provider counts them
/// against the same limit as everybody's.
pub const EMBEDDING_CALLS_AT_ONCE: usize = 4;
/// Texts of one call of Cohere's embed.
pub const COHERE_EMBED_TEXTS: usize = 96;
/// Texts of one `batchEmbedContents`.
pub const GEMINI_EMBED_TEXTS: usize = 100;
/// Texts of one `predict` of Vertex's older embedding models.
pub const VERTEX_EMBED_TEXTS: usize = 250;
/// Blocks of a Converse stream that began and did not end: one is open as a rule, several where calls are made side by side.
pub const CONVERSE_OPEN_BLOCKS_MAX: usize = 256;

// --- aggregate ---

/// Rows of figures that a data thread counts between two visits of control, before metadata is no longer told apart: a value that
/// differs with each request (an id in the metadata) would make a row of each.
pub const AGGREGATE_METADATA_MAX: usize = 4096;
/// Rows before models and user agents are not told apart either.
pub const AGGREGATE_ROWS_MAX: usize = 8192;

// --- the explaining trail of a log entry ---

/// Decisions told of one request: a route visits some dozens of elements, and each may be tried a few times.
pub const TRAIL_MAX: usize = 256;
// --- cache ---

/// Bytes of a request that may be answered from the cache, and of an answer that is stored (data plane 4).
pub const CACHED_BODY_MAX: usize = 25 << 20;
/// Bytes of the lines of a stored answer's head, of which only a few are kept.
pub const CACHED_LINES_MAX: usize = 8 << 10;
/// Bytes of what is told of a stored answer in logs: names and numbers.
pub const CACHED_TOLD_MAX: usize = 8 << 10;
/// First piece in which an answer of unknown length is gathered.
pub const CACHED_PIECE_MIN: usize = 4 << 10;
/// Largest piece in which an answer is gathered: one write of a hit, and copied once more at the most at its end.
pub const CACHED_PIECE_MAX: usize = 256 << 10;
/// Bytes of all answers that are being gathered: ten of the largest.
pub const CACHE_FILLING_BYTES_MAX: usize = 256 << 20;
/// The least memory that the cache may be given: some answers.
pub const CACHE_MEMORY_MIN: u64 = 1 << 20;
/// Of the machine's memory, the part that the cache takes where nothing is set.
pub const CACHE_MEMORY_SHARE: u64 = 16;
/// The least that the cache takes where nothing is set: any machine has it.
pub const CACHE_MEMORY_DEFAULT_MIN: u64 = 32 << 20;
/// The most that the cache takes where nothing is set: other programs run beside it.
pub const CACHE_MEMORY_DEFAULT_MAX: u64 = 1 << 30;
/// The least disk that the cache may be given: twice the largest answer.
pub const CACHE_DISK_MIN: u64 = 64 << 20;
/// Shards of the cache: with so many, two of sixteen threads seldom meet.
pub const CACHE_SHARDS: usize = 64;
/// Bytes of a shard, below which there are fewer of them.
pub const CACHE_SHARD_BYTES_MIN: usize = 1 << 20;
/// Part of the cache that one answer may take.
pub const CACHE_ANSWER_SHARE: usize = 4;
/// Bytes of memory for each of which a shard reserves one place, so that it seldom has to grow while requests wait.
pub const CACHE_RESERVED_BYTES: usize = 8 << 10;
/// Places that a shard reserves at the most.
pub const CACHE_RESERVED_MAX: usize = 4096;
/// Answers that one insertion lets go: some 200 us of a data thread.
pub const CACHE_EVICTIONS_MAX: usize = 1024;
/// Answers that one eviction spares because they were used.
pub const CACHE_PASSES_MAX: usize = 64;
/// Answers let go that each shard remembers.
pub const CACHE_GHOSTS_MAX: usize = 65_536;
/// Shards of the index of stored answers on disk: growing one takes less than a millisecond.
pub const CACHE_DISK_SHARDS: usize = 256;
/// Stored answers on disk: each takes some hundred bytes of memory.
pub const CACHE_DISK_ANSWERS_MAX: usize = 2 << 20;
/// Files that share the room on disk, of which the oldest goes whole.
pub const CACHE_FILES: u64 = 16;
/// Bytes of one file of stored answers.
pub const CACHE_FILE_BYTES_MAX: u64 = 1 << 30;
/// Reads and writes that may wait for the disk.
pub const CACHE_DISK_QUEUE_MAX: usize = 4096;
/// Bytes of answers that may wait to be written.
pub const CACHE_DISK_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes written to a file at once.
pub const CACHE_DISK_BUFFER: usize = 256 << 10;
/// How long a written answer waits in that buffer.
pub const CACHE_DISK_FLUSH: Duration = Duration::from_millis(100);
/// How long a disk that failed is not written to.
pub const CACHE_DISK_REST: Duration = Duration::from_secs(10);
/// How long a start waits until it is known what the files of stored answers hold; the rest is learnt later.
pub const CACHE_LOAD_WAIT: Duration = Duration::from_secs(3);
/// How long the end of the program waits until stored answers are written.
pub const CACHE_STOP_WAIT: Duration = Duration::from_secs(5);

// --- tables: rate, spend ---

/// Buckets of a sliding window: what is forgotten a bucket late keeps out less than two requests of a hundred.
pub const SLIDING_PARTS: u64 = 64;
/// The longest window: what it is measured in must not overflow, and nobody waits so long.
pub const WINDOW_MAX: Duration = Duration::from_secs(500 * 366 * 86_400);
/// How late a thread may count after it read the clock.
pub const CLOCK_LAG: Duration = Duration::from_secs(10);
/// How far the wall clock may drift within a second before that is taken for a jump.
pub const CLOCK_SLEW_MAX: Duration = Duration::from_secs(2);
/// Counters of values that clients send, of each kind; values beyond share one counter for each rule. Some 200 bytes each.
pub const KEYED_MAX: usize = 262_144;
/// Counters that are looked at for each new one, whether they may go: with several, the table is at most twice what is in use.
pub const KEYED_LOOKS: usize = 3;
/// The longest a reservation stands whose request never ends (resolutions 13).
pub const RESERVATION_MAX: Duration = Duration::from_secs(15 * 60);
/// Reservations lapse in steps of so many milliseconds.
pub const RESERVATION_STEP: u64 = 15_000;
/// How often counters that changed are written: what may be counted twice after a crash.
pub const COUNTERS_INTERVAL: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that official clients wait for.
pub const SDK_WAIT_MAX: Duration = Duration::from_secs(60);
/// Counters that are over are removed from the file after so many writes.
pub const COUNTERS_FORGET_ROUNDS: u32 = 60;
/// How long a request waits for its stored answer from disk before it goes to the provider.
pub const CACHE_DISK_WAIT: Duration = Duration::from_millis(500);
/// The shortest time for which a request may have its answer stored, seconds (data plane 13).
pub const CACHE_TTL_MIN: u64 = 60;
/// The longest one: a month (data plane 13).
pub const CACHE_TTL_MAX: u64 = 2_592_000;
/// The time of an answer with a key of the caller's, where nothing else says it (data plane 4).
pub const CACHE_TTL_NAMED: u64 = 300;

// --- flight ---

/// Shards of the table of flights.
pub const FLIGHT_SHARDS: usize = 64;
/// Bytes of an answer after which nobody joins its flight any more: a late joiner gets all of them at once.
pub const FLIGHT_BYTES: usize = 8 << 20;
/// Bytes that a flight holds for its slowest follower, before it is let go.
pub const FLIGHT_HELD_MAX: usize = 32 << 20;
/// Bytes of all flights, beyond which none is joined.
pub const FLIGHTS_BYTES_MAX: usize = 256 << 20;
/// Followers of one flight: each is told of every piece.
pub const FLIGHT_FOLLOWERS_MAX: usize = 1024;
/// How often a request whose leader gave up enters a flight anew, before it goes alone.
pub const FLIGHT_CLAIMS_MAX: usize = 2;
/// How often a follower looks by itself: a full mailbox may have lost what it was to be told.
pub const FLIGHT_RECHECK: Duration = Duration::from_secs(1);
/// How long an answer is brought at the most.
pub const FLIGHT_WATCH: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of a text by which figures are told apart: models' names fit.
pub const AGGREGATE_TEXT_MAX: usize = 256;

// --- telemetry: analytics ---

/// How often figures are taken from the data threads and stored: what a kill may lose.
pub const ANALYTICS_INTERVAL: Duration = Duration::from_secs(1);
/// Minutes for which figures of single minutes are kept (control plane 10.2): a week.
pub const ANALYTICS_MINUTES_KEPT: u64 = 7 * 24 * 60;
/// Minutes for which figures of hours are kept: 400 days.
pub const ANALYTICS_HOURS_KEPT: u64 = 400 * 24 * 60;
/// Rows of one minute or one hour before metadata is no longer told apart.
pub const ANALYTICS_METADATA_MAX: u64 = 10_000;
/// Rows of one minute or one hour before models and user agents are not told apart either; beyond twice as many nothing is.
pub const ANALYTICS_ROWS_MAX: u64 = 15_000;
/// Bytes of the file of figures; beyond them the oldest go.
pub const ANALYTICS_BYTES_MAX: u64 = 2 << 30;
/// How often what is too old is looked for.
pub const ANALYTICS_SWEEP: Duration = Duration::from_secs(600);
/// Questions that wait for their answers.
pub const ANALYTICS_QUESTIONS_MAX: usize = 64;
/// How long one question may take: the figures of seven days' minutes are read in one or two.
pub const ANALYTICS_QUESTION_WAIT: Duration = Duration::from_secs(10);
/// Groups and points of one answer, before they are cut to what is shown.
pub const ANALYTICS_GROUPS_MAX: usize = 200_000;
/// Points of all series of one answer.
pub const ANALYTICS_POINTS_MAX: u64 = 100_000;
/// Days of a user's sessions with which one is compared (control plane 10.3).
pub const SESSION_DAYS: u64 = 30;
/// How deep a GraphQL query and its filters nest: both are read by recursion.
pub const GRAPHQL_DEPTH_MAX: usize = 32;
/// Fields of one GraphQL query, its fragments spread, and conditions of one filter.
pub const GRAPHQL_FIELDS_MAX: usize = 1000;
/// Datasets that one GraphQL query asks for.
pub const GRAPHQL_QUESTIONS_MAX: usize = 20;
/// Sets of dimensions known by their numbers, in memory: some hundred bytes each.
pub const ANALYTICS_KNOWN_MAX: usize = 100_000;
/// Sets of labels told to Prometheus, at most: each is in five series.
pub const METRICS_SERIES_MAX: usize = 100_000;
/// Bytes of the name of a pair of metadata that figures are asked for.
pub const METADATA_KEY_MAX: usize = 128;
/// How long the end waits for the last figures to be stored.
pub const ANALYTICS_STOP_WAIT: Duration = Duration::from_secs(5);
