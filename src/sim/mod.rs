//! The provider simulator: what each provider answers, and when. The content knows no socket.
//!
//! A request chooses its answer by directives: words joined by `+` in the model name, the first marked by `sim-`
//! (`gpt-4o+sim-status-429+retry-after-2`), or a list in the header `x-sim` (`ttft-50, tps-100`). Flags: `hang`,
//! `hang-body`, `drip`, `malformed`, `truncated-chunk`, `early-head`, `gzip`, `error-in-stream`, `no-usage`, `close`,
//! `100-continue`, `tool`, `filter`. With a number: `status-N`, `retry-after-N`, `reset-after-N`, `close-after-N`,
//! `hang-after-N`, `huge-N[k|m|g]`, `slow-head-N`, `tokens-N`, `ttft-N`, `tps-N`, `cached-N`, `cache-write-N`,
//! `reasoning-N`, `seed-N`; [`directives::Directives`] says what each does.

pub mod content;
pub mod directives;
pub mod pace;
