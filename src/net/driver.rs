//! The runtime of a data thread: io_uring with the flags that pay, or epoll where the kernel or a container forbids it.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, time::TimeDriver};

use crate::limits::{RING_COMPLETIONS, RING_ENTRIES};

/// What the operator asked for (`RINGGATE_DRIVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// epoll only.
    Epoll,
    /// io_uring or an error.
    Uring,
}

/// What a runtime was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// The ring's set-up flags, joined by `|`; empty on epoll.
    pub flags: String,
    /// Why epoll was taken although io_uring was wanted.
    pub fallback: Option<String>,
}

/// A monoio runtime on one of the two drivers.
pub enum Runtime {
    /// Completion based.
    Uring(Box<monoio::Runtime<TimeDriver<IoUringDriver>>>),
    /// Readiness based.
    Epoll(Box<monoio::Runtime<TimeDriver<LegacyDriver>>>),
}

impl Runtime {
    /// Builds a runtime on the thread that will run it: a ring set up as single-issuer belongs to its thread.
    pub fn build(choice: DriverChoice) -> io::Result<(Self, Probe)> {
        super::deadlines::begin_runtime();
        if choice == DriverChoice::Epoll {
            return Self::epoll(None);
        }
        match Self::uring() {
            Ok(built) => Ok(built),
            Err(error) if choice == DriverChoice::Uring => Err(error),
            Err(error) => Self::epoll(Some(format!("io_uring is not usable here: {error}"))),
        }
    }

    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::Uring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }

    fn epoll(fallback: Option<String>) -> io::Result<(Self, Probe)> {
        let runtime = RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()?;
        let probe = Probe {
            driver: "epoll",
            flags: String::new(),
            fallback,
        };
        Ok((Self::Epoll(Box::new(runtime)), probe))
    }

    /// Tries the flags of newer kernels and drops them one by one where the kernel does not know them.
    fn uring() -> io::Result<(Self, Probe)> {
        const FLAGS: [&str; 3] = ["coop_taskrun", "single_issuer", "defer_taskrun"];
        let mut count = FLAGS.len();
        loop {
            let flags = &FLAGS[..count];
            match Self::uring_with(flags) {
                Ok(runtime) => {
                    let probe = Probe {
                        driver: "io_uring",
                        flags: flags.join("|"),
                        fallback: None,
                    };
                    return Ok((runtime, probe));
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && count > 0 => count -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn uring_with(flags: &[&str]) -> io::Result<Self> {
        let mut ring = io_uring::IoUring::builder();
        ring.setup_cqsize(RING_COMPLETIONS);
        for flag in flags {
            match *flag {
                "coop_taskrun" => ring.setup_coop_taskrun(),
                "single_issuer" => ring.setup_single_issuer(),
                _ => ring.setup_defer_taskrun(),
            };
        }
        let runtime = RuntimeBuilder::<IoUringDriver>::new()
            .uring_builder(ring)
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build()?;
        let mut runtime = Self::Uring(Box::new(runtime));
        runtime.block_on(probe_read())?;
        Ok(runtime)
    }
}

/// A real read: some sandboxes let a ring be made and then refuse its operations.
async fn probe_read() -> io::Result<()> {
    use monoio::io::AsyncReadRent;
    let (near, mut far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let mut near = monoio::net::UnixStream::from_std(near)?;
    io::Write::write_all(&mut far, b"x")?;
    match near.read(vec![0; 1]).await.0? {
        1 => Ok(()),
        _ => Err(io::Error::other("a probing read brought nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_is_taken_when_asked_for() {
        let (mut runtime, probe) = Runtime::build(DriverChoice::Epoll).expect("epoll");
        assert_eq!(probe.driver, "epoll");
        assert_eq!(probe.fallback, None);
        runtime.block_on(probe_read()).expect("a read");
    }

    #[test]
    fn auto_takes_a_ring_or_says_why_not() {
        let (mut runtime, probe) = Runtime::build(DriverChoice::Auto).expect("a driver");
        assert_eq!(probe.driver == "epoll", probe.fallback.is_some());
        runtime.block_on(probe_read()).expect("a read");
    }
}
