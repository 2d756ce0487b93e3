//! The I/O shell over monoio: transports, connections, pools, and what wakes a data thread.

pub mod deadlines;
pub mod driver;
pub mod http1;
pub mod origin;
pub mod pool;
pub mod pump;
pub mod task;
pub mod transport;
