//! The real binary against the simulator, one module a capability.

mod clocks;
mod commands;
mod durability;
mod harness;
mod http;
mod lifecycle;
mod native;
mod state;
mod streams;
mod tidy;
