//! The I/O shell over monoio: transports, connections, pools, and what wakes a data thread.

pub mod connect;
pub mod deadlines;
pub mod driver;
pub mod health;
pub mod helpers;
pub mod http1;
pub mod mailbox;
pub mod origin;
pub mod outlier;
pub mod pool;
pub mod pump;
pub mod resolver;
pub mod task;
pub mod tls;
pub mod transport;
