//! What all data threads share and change. Tables are split into shards with a lock of its own each, which is held for moments
//! and never over an await; what comes out of them is small or counted, and no guard leaves this room. Time is a parameter, and
//! `ledger` hands out what is to be kept of counters to whoever keeps it.

pub mod cache;
pub mod clock;
pub mod flight;
pub mod key;
pub mod keyed;
pub mod ledger;
pub mod rate;
pub mod spend;
pub mod window;

pub use clock::{Clock, Follower};
pub use key::Key;
pub use ledger::{Ledger, Row};
pub use window::{Technique, Window};
