//! Tables that all data threads share. Each is split into shards with a lock of its own, which is held for moments and never
//! over an await; what comes out of them is small or counted, and no guard leaves this room.

pub mod cache;
