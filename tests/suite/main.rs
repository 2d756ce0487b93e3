//! The real binary against the simulator, one module a capability.

mod bodies;
mod cache;
mod clocks;
mod commands;
mod costs;
mod credentials;
mod datasets;
mod durability;
mod harness;
mod http;
mod keys;
mod lifecycle;
mod limits;
mod logs;
mod native;
mod permissions;
mod resources;
mod routes;
mod sim;
mod smuggling;
mod state;
mod steps;
mod streams;
mod terraform;
mod tidy;
mod unified;
