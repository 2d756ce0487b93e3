//! Every bound in the program, named, with its reason.
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
