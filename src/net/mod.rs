//! The I/O shell over monoio: transports, connections, pools, and what wakes a data thread.

pub mod deadlines;
pub mod driver;
pub mod mailbox;
pub mod origin;
pub mod resolver;
pub mod task;
pub mod tls;
