//! ringgate: a self-hosted AI gateway for bare-metal Linux.
//!
//! The map, lowest room first; imports point down it and never up.
//!
//! | room | what stands there |
//! |---|---|
//! | [`limits`] | every bound in the program, named, with its reason |
//! | [`memory`] | the allocator |
//! | [`http`] | sans-I/O HTTP/1.1: heads, framing, chunks, server-sent events, AWS event streams, the PROXY protocol |
//! | [`net`] | the I/O shell over monoio: transport, deadlines, driver, mailbox, resolver, TLS, pool, connections, relay; `outlier` leaves addresses out |
//! | [`providers`] | slugs, aliases, path and version rules, base URLs, where keys go, AWS signatures, Google tokens, which headers cross |
//! | [`route`] | dynamic routes: the graph, its conditions, and the walk of a request through it |
//! | [`meter`] | token usage, read beside a relayed answer of any dialect |
//! | [`dialect`] | chat, messages, responses, gemini, converse, cohere: each to and from one neutral form; `exchange` goes between two of them |
//! | [`config`] | flags, environment, `ringgate.toml` and defaults, parsed into types without invalid values |
//! | [`access`] | permission groups, policies and what they allow; the form of tokens |
//! | [`seal`] | stored keys under the master key |
//! | [`aggregate`] | figures of traffic, counted apart from the logs |
//! | [`tables`] | what all data threads share, in locked shards: `cache`, the stored answers; `rate` and `spend`, counts and budgets, found by `ledger` |
//! | [`record`] | what a finished request leaves behind, its timings, its id; the counters of a data thread |
//! | [`snapshot`] | the immutable view that the data plane reads |
//! | [`gateway`] | a request's life, one file a phase; `connection` goes through them, `unified` through its own, `steps` from one provider to the next |
//! | [`sim`] | the provider simulator: every dialect, real timing, every fault |
//! | [`load`] | the load generator, open loop and closed |
//! | [`store`] | the configuration database: its schema, migrations, backup, the thread that owns it |
//! | [`telemetry`] | access lines, notices, metrics; `logs`, the store of log entries; `analytics`, figures by the minute and the hour |
//! | [`manage`] | the management API, one file a resource, each a table of `operation`s; `serve` is its HTTP, `publish` builds snapshots |
//! | [`server`] | owns threads, listeners, signals, supervision and the drain |
//! | [`cli`] | the commands, one file each |
//!
//! The data thread's rules that `net` keeps: an armed read is never dropped (`net::transport`), a deadline shuts the socket
//! down and cancels nothing (`net::deadlines`), and nothing but the doorbell wakes a data thread from outside
//! (`net::mailbox`). monoio does not drop tasks that wait on a timer when its runtime goes, so what such a task keeps in
//! thread-local state is reset when the next runtime is built (`net::driver`).
//!
//! `config` stands above `providers` and `net` rather than at the bottom: a base URL, a slug and a trust store are parsed
//! into the types that use them, and nothing below needs to know that a file exists.
//!
//! A write of the API runs on the database's thread, in one transaction; what it changed is read within it, so that nothing can
//! fail after the commit, and is published before the answer leaves. Requests load the snapshot without a lock and let it go
//! before they wait. AWS requests are signed by our own code (`providers::aws`): the vendor's crate brings seventeen others.

pub mod access;
pub mod aggregate;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod load;
pub mod manage;
pub mod memory;
pub mod meter;
pub mod net;
pub mod providers;
pub mod record;
pub mod route;
pub mod seal;
pub mod server;
pub mod sim;
pub mod snapshot;
pub mod store;
pub mod tables;
pub mod telemetry;
