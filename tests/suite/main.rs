//! The real binary against the simulator, one module a capability.

mod clocks;
mod harness;
mod http;
mod lifecycle;
mod native;
mod resources;
mod streams;
mod tidy;
