//! ringgate: a self-hosted AI gateway for bare-metal Linux.

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
