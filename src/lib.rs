//! ringgate: a self-hosted AI gateway for bare-metal Linux.
//!
//! The map, lowest room first; imports point down it and never up.
//!
//! | room | what stands there |
//! |---|---|
//! | [`limits`] | every bound in the program, named, with its reason |
//! | [`http`] | sans-I/O HTTP/1.1: request and response heads, framing, chunks |
//! | [`net`] | the I/O shell over monoio: transport, deadlines, driver, mailbox, resolver, TLS, pool, connections, relay |
//! | [`meter`] | token usage, read beside a relayed answer of any dialect |
//! | [`providers`] | slugs, aliases, path and version rules, base URLs |
//! | [`sim`] | the provider simulator: every dialect, real timing, every fault |
//! | [`cli`] | the commands |
//!
//! The data thread's rules that `net` keeps: an armed read is never dropped (`net::transport`), a deadline shuts the socket
//! down and cancels nothing (`net::deadlines`), and nothing but the doorbell wakes a data thread from outside
//! (`net::mailbox`). monoio does not drop tasks that wait on a timer when its runtime goes, so what such a task keeps in
//! thread-local state is reset when the next runtime is built (`net::driver`).

pub mod cli;
pub mod config;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod load;
pub mod manage;
pub mod meter;
pub mod net;
pub mod providers;
pub mod record;
pub mod server;
pub mod sim;
pub mod snapshot;
pub mod telemetry;
