//! The real binary against the simulator, one module a capability.

mod clocks;
mod credentials;
mod harness;
mod http;
mod lifecycle;
mod native;
mod resources;
mod sim;
mod smuggling;
mod streams;
mod tidy;
