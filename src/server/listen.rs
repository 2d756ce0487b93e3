//! Listening sockets and the file limit, all made before anything accepts.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{LISTEN_BACKLOG, RESERVED_DESCRIPTORS};

/// `threads` sockets on one address, among which the kernel spreads connections. Port 0 is chosen once, for all.
pub(super) fn bind_shared(address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    // Taken alone at first: with the port shared from the start another program of this user could share it silently.
    let chosen = {
        let probe = bind(address, false)?;
        probe.local_addr()?
    };
    (0..threads).map(|_| bind(chosen, true)).collect()
}

/// One socket.
pub(super) fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Raises the file limit to the hard limit and tells how many client connections fit: each may need an upstream one.
pub(super) fn raise_file_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit of this frame.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        // SAFETY: as above; a refusal leaves the old limit, which is then counted with.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            limit = raised;
        }
    }
    let usable = limit.rlim_cur.saturating_sub(RESERVED_DESCRIPTORS) / 2;
    Ok(usize::try_from(usable).unwrap_or(usize::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_port_that_no_one_else_gets() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = bind_shared(any, 3).expect("bound");
        let address = sockets[0].local_addr().expect("an address");
        for socket in &sockets {
            assert_eq!(socket.local_addr().expect("an address"), address);
        }
        let taken = bind_shared(address, 1).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_file_limit_is_raised_to_the_hard_one() {
        let connections = raise_file_limit().expect("a limit");
        assert!(connections >= 1);
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the pointer is to a live rlimit of this frame.
        assert_eq!(
            unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) },
            0
        );
        assert_eq!(limit.rlim_cur, limit.rlim_max);
    }
}
