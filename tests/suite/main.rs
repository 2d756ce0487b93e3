//! The real binary against the simulator, one module a capability.

mod clocks;
mod harness;
mod http;
mod keys;
mod lifecycle;
mod native;
mod streams;
mod tidy;
