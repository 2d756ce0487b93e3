//! One TCP or TLS connection: the only owner of armed socket operations.
//!
//! A read, once armed, is kept until it completes: dropping it would lose the bytes it completes with. It is therefore
//! held here as an owned value that can be carried from one phase to the next, into a pool and out of it again. Deadlines
//! never cancel it; they shut the socket down, and the read ends by itself.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use monoio::buf::{IoBuf, IoVecBuf};
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable,
};
use monoio::net::TcpStream;

use super::deadlines::{Deadline, OnExpiry};
use crate::limits::{COALESCED_WRITE, TLS_READ_BYTES};

type ReadHalf = OwnedReadHalf<TcpStream>;
type WriteHalf = OwnedWriteHalf<TcpStream>;

/// Both directions of one connection, plain or TLS. Dropping it ends every operation in flight and closes the socket.
pub struct Transport {
    // Declared first so that it leaves the deadline table before the descriptor closes.
    deadline: Deadline,
    fd: RawFd,
    peer: SocketAddr,
    reader: Reader,
    writer: WriteHalf,
    tls: Option<Box<RefCell<rustls::Connection>>>,
    spare: Option<BytesMut>,
    /// Whether a write was begun and not seen to its end.
    writing: bool,
}

/// One read after the other, in a block that lives as long as the connection: a future for each of them would be made, moved
/// into a block of its own and freed again.
struct Reader {
    reads: Pin<Box<dyn Future<Output = Infallible>>>,
    exchange: Rc<ReadExchange>,
    /// Whether a buffer is with `reads`.
    armed: bool,
}

/// Where the reads get their buffers, and leave them.
#[derive(Default)]
struct ReadExchange {
    empty: Cell<Option<BytesMut>>,
    filled: Cell<Option<(io::Result<usize>, BytesMut)>>,
}

impl Reader {
    fn new(half: ReadHalf) -> Self {
        let exchange = Rc::new(ReadExchange::default());
        Self {
            reads: Box::pin(read_on(half, exchange.clone())),
            exchange,
            armed: false,
        }
    }

    /// Polls the read that was begun, or one into the buffer that `fresh` gives.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        fresh: impl FnOnce() -> BytesMut,
    ) -> Poll<io::Result<BytesMut>> {
        if !self.armed {
            self.exchange.empty.set(Some(fresh()));
            self.armed = true;
        }
        // What fills a buffer goes on to wait for the next one: it never ends.
        let _ = self.reads.as_mut().poll(cx);
        let Some((result, buffer)) = self.exchange.filled.take() else {
            return Poll::Pending;
        };
        self.armed = false;
        Poll::Ready(result.map(|_| buffer))
    }
}

async fn read_on(mut half: ReadHalf, exchange: Rc<ReadExchange>) -> Infallible {
    loop {
        let empty = std::future::poll_fn(|_| match exchange.empty.take() {
            Some(buffer) => Poll::Ready(buffer),
            // It is polled again when there is one.
            None => Poll::Pending,
        });
        let filled = half.read(empty.await).await;
        exchange.filled.set(Some(filled));
    }
}

impl Transport {
    /// Wraps a connected socket. Nagle's algorithm is switched off: every write here is a whole message or event.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let fd = stream.as_raw_fd();
        let (reader, writer) = stream.into_split();
        Ok(Self {
            deadline: Deadline::register(fd),
            fd,
            peer,
            reader: Reader::new(reader),
            writer,
            tls: None,
            spare: None,
            writing: false,
        })
    }

    /// Runs a TLS handshake over the connection. `early` holds bytes already received from the peer.
    pub async fn start_tls(
        &mut self,
        mut session: rustls::Connection,
        early: &[u8],
    ) -> io::Result<()> {
        session.set_buffer_limit(None);
        feed(&mut session, early, |_| Ok(()))?;
        loop {
            let outgoing = take_outgoing(&mut session)?;
            if !outgoing.is_empty() {
                self.write_raw(Bytes::from(outgoing)).await?;
            }
            if !session.is_handshaking() {
                break;
            }
            let received =
                std::future::poll_fn(|cx| self.poll_read_raw(cx, TLS_READ_BYTES)).await?;
            if received.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the peer closed the connection during the TLS handshake",
                ));
            }
            feed(&mut session, &received, |_| Ok(()))?;
            self.give_back(received);
        }
        self.tls = Some(Box::new(RefCell::new(session)));
        Ok(())
    }

    /// Gives the peer so long to acknowledge what was sent (RFC 5482): one that vanished without a word takes small events into
    /// the socket's buffer for a quarter of an hour otherwise, and the provider goes on meanwhile.
    pub fn bound_silence(&self, after: Duration) {
        // A kernel that refuses leaves its own bound.
        let _ = socket2::SockRef::from(&Borrowed(self.fd)).set_tcp_user_timeout(Some(after));
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the bytes on the wire are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Ends whatever waits on this connection after `after`: see [`Transport::expired`].
    pub fn arm_deadline(&self, after: Duration, on: OnExpiry) {
        self.deadline.arm(after, on);
    }

    /// Ends an idle wait after `after`, or sooner when the thread drains.
    pub fn arm_idle(&self, after: Duration) {
        self.deadline.arm_idle(after);
    }

    /// Takes the deadline back.
    pub fn disarm_deadline(&self) {
        self.deadline.disarm();
    }

    /// Whether the last deadline set has passed; it stays so until another is set or it is taken back.
    pub fn expired(&self) -> bool {
        self.deadline.expired()
    }

    /// The next bytes from the peer, decrypted; an empty buffer is the end of the stream. Arms a read of at most `size`
    /// bytes where none is armed; the armed read stays armed when this returns `Pending`.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<BytesMut>> {
        self.split().0.poll_read(cx, size)
    }

    /// [`Transport::poll_read`] as a future. It may be dropped: the armed read stays with the transport.
    pub async fn read(&mut self, size: usize) -> io::Result<BytesMut> {
        std::future::poll_fn(|cx| self.poll_read(cx, size)).await
    }

    /// Hands a buffer back for the next read, so that a relay allocates once.
    pub fn give_back(&mut self, buffer: BytesMut) {
        self.spare = Some(buffer);
    }

    /// Writes all of `bytes`.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let wire = self.seal(bytes)?;
        self.write_raw(wire).await
    }

    /// Writes `head` and then `body` with one system call where the body is worth not copying.
    pub async fn write_message(&mut self, mut head: Vec<u8>, body: Bytes) -> io::Result<()> {
        if self.tls.is_some() || body.len() <= COALESCED_WRITE {
            head.extend_from_slice(&body);
            if self.tls.is_some() {
                head = encrypt_slice(&self.tls, &head)?;
            }
            return write_all(&mut self.writer, head).await.0;
        }
        // Boxed: most messages do not need its room.
        Box::pin(self.write_pair(head, body)).await
    }

    async fn write_pair(&mut self, head: Vec<u8>, body: Bytes) -> io::Result<()> {
        let pair = Pair::new(Bytes::from(head), body);
        let (written, pair) = self.writer.writev(pair).await;
        let written = written?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let [first, second] = pair.rest(written);
        if !first.is_empty() {
            self.write_raw(first).await?;
        }
        if !second.is_empty() {
            self.write_raw(second).await?;
        }
        Ok(())
    }

    /// Writes a buffer that was read from the other connection and returns it for reuse: the relay's inner step.
    pub async fn relay(&mut self, buffer: BytesMut) -> io::Result<BytesMut> {
        if self.tls.is_some() {
            let wire = encrypt_slice(&self.tls, &buffer)?;
            write_all(&mut self.writer, wire).await.0?;
            return Ok(buffer);
        }
        let (result, buffer) = write_all(&mut self.writer, buffer).await;
        result.map(|()| buffer)
    }

    /// Reading and writing at once: the two sides of one connection for a caller that polls both.
    pub fn split(&mut self) -> (Reading<'_>, Writing<'_>) {
        (
            Reading {
                reader: &mut self.reader,
                spare: &mut self.spare,
                tls: self.tls.as_deref(),
            },
            Writing {
                writer: &mut self.writer,
                tls: self.tls.as_deref(),
                unfinished: &mut self.writing,
            },
        )
    }

    /// Whether the armed read, if any, has ended: on an idle pooled connection that means the peer closed it or spoke out
    /// of turn. Bytes that belong to TLS alone (session tickets) are taken in and the read is armed again.
    pub fn poll_quiet(&mut self, cx: &mut Context<'_>, size: usize) -> bool {
        self.poll_read(cx, size).is_pending()
    }

    /// Closes with a reset instead of a FIN, so that the peer cannot take the end for a clean one (RFC 9112 section 8).
    pub fn abort(self) {
        // Failing to set it leaves an ordinary close, which a framed message still shows as incomplete.
        let _ = socket2::SockRef::from(&Borrowed(self.fd)).set_linger(Some(Duration::ZERO));
        // The reset must leave now: with a read armed the descriptor is shut down before it closes, and the FIN of that would
        // come first.
        disconnect(self.fd);
    }

    /// Tells the peer that nothing more will be sent: `close_notify` on TLS, then FIN.
    pub async fn finish(&mut self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            let outgoing = {
                let mut session = tls.borrow_mut();
                session.send_close_notify();
                take_outgoing(&mut session)?
            };
            self.write_raw(Bytes::from(outgoing)).await?;
        }
        shutdown(self.fd, libc::SHUT_WR);
        Ok(())
    }

    fn seal(&self, plain: Bytes) -> io::Result<Bytes> {
        match &self.tls {
            None => Ok(plain),
            Some(_) => encrypt_slice(&self.tls, &plain).map(Bytes::from),
        }
    }

    async fn write_raw(&mut self, wire: Bytes) -> io::Result<()> {
        write_all(&mut self.writer, wire).await.0
    }

    fn poll_read_raw(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<BytesMut>> {
        self.split().0.poll_read_raw(cx, size)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // An operation in flight holds the descriptor open; ending it lets the socket close now rather than at its end.
        if self.writing || self.reader.armed {
            shutdown(self.fd, libc::SHUT_RDWR);
        }
    }
}

/// The receiving side of a [`Transport`] that is being written at the same time.
pub struct Reading<'a> {
    reader: &'a mut Reader,
    spare: &'a mut Option<BytesMut>,
    tls: Option<&'a RefCell<rustls::Connection>>,
}

impl Reading<'_> {
    /// As [`Transport::poll_read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<BytesMut>> {
        let Some(tls) = self.tls else {
            return self.poll_read_raw(cx, size);
        };
        let mut session = tls.borrow_mut();
        let mut plain = BytesMut::new();
        loop {
            if drain(&mut session, &mut plain)? || !plain.is_empty() {
                return Poll::Ready(Ok(plain));
            }
            let received = ready!(self.poll_read_raw(cx, size.max(MIN_TLS_READ)))?;
            feed(&mut session, &received, |session| {
                drain(session, &mut plain).map(drop)
            })?;
            *self.spare = Some(received);
        }
    }

    fn poll_read_raw(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<BytesMut>> {
        let spare = &mut *self.spare;
        self.reader.poll(cx, || fresh_buffer(spare.take(), size))
    }
}

/// The sending side of a [`Transport`] that is being read at the same time.
pub struct Writing<'a> {
    writer: &'a mut WriteHalf,
    tls: Option<&'a RefCell<rustls::Connection>>,
    unfinished: &'a mut bool,
}

impl Writing<'_> {
    /// Writes all of `bytes`. Dropped before its end it leaves a connection that is good for nothing but its last answer.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let wire = match self.tls {
            None => bytes,
            Some(tls) => encrypt(&mut tls.borrow_mut(), &bytes).map(Bytes::from)?,
        };
        *self.unfinished = true;
        let result = write_all(self.writer, wire).await.0;
        *self.unfinished = false;
        result
    }
}

/// A smaller read of a TLS stream would leave most records in two pieces.
const MIN_TLS_READ: usize = 1024;

fn fresh_buffer(spare: Option<BytesMut>, size: usize) -> BytesMut {
    match spare {
        Some(mut buffer) if buffer.capacity() >= size && buffer.capacity() <= size * 2 => {
            buffer.clear();
            buffer
        }
        _ => BytesMut::with_capacity(size),
    }
}

/// Gives `wire` to the session piece by piece. `step` takes what each piece decrypted to: rustls holds one record's worth and
/// then takes no more, which only what comes with the end of a handshake is sure to stay below.
fn feed(
    session: &mut rustls::Connection,
    mut wire: &[u8],
    mut step: impl FnMut(&mut rustls::Connection) -> io::Result<()>,
) -> io::Result<()> {
    if wire.is_empty() && !session.is_handshaking() {
        // Zero bytes tell rustls of the end of the stream, so that it can tell a truncated one from a closed one.
        session.read_tls(&mut wire)?;
        return Ok(());
    }
    while !wire.is_empty() {
        // Behind its close_notify a peer has nothing more to say (RFC 8446 section 6.1).
        if session.read_tls(&mut wire)? == 0 {
            return Ok(());
        }
        session
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        step(session)?;
    }
    Ok(())
}

/// Appends what the session has decrypted; true where the peer has closed its side.
fn drain(session: &mut rustls::Connection, plain: &mut BytesMut) -> io::Result<bool> {
    let mut reader = session.reader();
    loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(true),
            Ok(chunk) => {
                let length = chunk.len();
                plain.extend_from_slice(chunk);
                reader.consume(length);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // What came before it counts first; the session says it again.
            Err(_) if !plain.is_empty() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Writes all of `buffer`, mostly with one call.
async fn write_all<B: IoBuf>(writer: &mut WriteHalf, buffer: B) -> (io::Result<()>, B) {
    let whole = buffer.bytes_init();
    let (result, buffer) = writer.write(buffer).await;
    match result {
        Ok(written) if written == whole => (Ok(()), buffer),
        Ok(0) => (Err(io::ErrorKind::WriteZero.into()), buffer),
        Ok(written) => {
            // Boxed: few writes fill the socket.
            let rest = Box::pin(writer.write_all(buffer.slice(written..)));
            let (result, rest) = rest.await;
            (result.map(drop), rest.into_inner())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            let (result, buffer) = Box::pin(writer.write_all(buffer)).await;
            (result.map(drop), buffer)
        }
        Err(error) => (Err(error), buffer),
    }
}

fn encrypt_slice(
    tls: &Option<Box<RefCell<rustls::Connection>>>,
    plain: &[u8],
) -> io::Result<Vec<u8>> {
    match tls {
        None => Ok(plain.to_vec()),
        Some(tls) => encrypt(&mut tls.borrow_mut(), plain),
    }
}

fn encrypt(session: &mut rustls::Connection, plain: &[u8]) -> io::Result<Vec<u8>> {
    session.writer().write_all(plain)?;
    take_outgoing(session)
}

fn take_outgoing(session: &mut rustls::Connection) -> io::Result<Vec<u8>> {
    let mut outgoing = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut outgoing)?;
    }
    Ok(outgoing)
}

fn shutdown(fd: RawFd, how: libc::c_int) {
    // SAFETY: shutdown(2) takes any integer; `fd` belongs to a live transport, and a socket already shut down answers ENOTCONN,
    // which is as good.
    unsafe {
        libc::shutdown(fd, how);
    }
}

/// Takes a TCP connection back to the unconnected state, of which the peer learns by a reset (connect(2), `AF_UNSPEC`).
fn disconnect(fd: RawFd) {
    let unspecified = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the address lives for the call and has the length given; `fd` belongs to a live transport, and a socket that
    // cannot be disconnected says so and stays as it is.
    unsafe {
        libc::connect(fd, &unspecified, length);
    }
}

/// Lends a descriptor to socket2 without owning it.
struct Borrowed(RawFd);

impl std::os::fd::AsFd for Borrowed {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: only made from the descriptor of a transport that is alive for the whole call.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.0) }
    }
}

/// Two buffers written by one `writev`.
struct Pair {
    vectors: Box<[libc::iovec; 2]>,
    parts: [Bytes; 2],
}

impl Pair {
    fn new(first: Bytes, second: Bytes) -> Self {
        let vector = |part: &Bytes| libc::iovec {
            iov_base: part.as_ptr() as *mut libc::c_void,
            iov_len: part.len(),
        };
        Self {
            vectors: Box::new([vector(&first), vector(&second)]),
            parts: [first, second],
        }
    }

    /// What is left after `written` bytes.
    fn rest(self, written: usize) -> [Bytes; 2] {
        let [first, second] = self.parts;
        let of_first = written.min(first.len());
        let of_second = (written - of_first).min(second.len());
        [
            Bytes::slice(&first, of_first..),
            Bytes::slice(&second, of_second..),
        ]
    }
}

// SAFETY: the vectors live in a box and point into `Bytes` owned beside them, so neither moves nor is freed while the runtime
// holds the value; there are exactly two.
unsafe impl IoVecBuf for Pair {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.vectors.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.vectors.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{DriverChoice, Runtime};
    use crate::net::task;
    use std::future::poll_fn;
    use std::io::Read;

    fn on_both_drivers(test: impl AsyncFn()) {
        for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
            let (mut runtime, _) = Runtime::build(choice).expect("a runtime");
            runtime.block_on(test());
        }
    }

    fn pair() -> (Transport, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let far = std::net::TcpStream::connect(address).expect("connect");
        far.set_nodelay(true).expect("set");
        let (near, _) = listener.accept().expect("accept");
        near.set_nonblocking(true).expect("non-blocking");
        let stream = TcpStream::from_std(near).expect("from std");
        (Transport::new(stream).expect("a transport"), far)
    }

    #[test]
    fn an_armed_read_survives_moves_and_writes_and_loses_nothing() {
        const ROUNDS: u32 = 5_000;
        on_both_drivers(async || {
            let (mut transport, mut far) = pair();
            let peer = std::thread::spawn(move || {
                let mut question = [0; 4];
                for round in 0..ROUNDS {
                    // Sometimes unasked, so that the bytes are there before the question.
                    if round % 3 == 0 {
                        far.write_all(&round.to_le_bytes()).expect("written");
                    }
                    far.read_exact(&mut question).expect("a question");
                    if round % 3 != 0 {
                        far.write_all(&question).expect("written");
                    }
                }
            });
            let mut received = BytesMut::new();
            for round in 0..ROUNDS {
                // Armed, looked at, moved, written beside, and only then waited for.
                let early = poll_fn(|cx| Poll::Ready(transport.poll_read(cx, 64))).await;
                if let Poll::Ready(bytes) = early {
                    received.extend_from_slice(&bytes.expect("bytes"));
                }
                let mut moved = Box::new(transport);
                let question = Bytes::copy_from_slice(&round.to_le_bytes());
                moved.write(question).await.expect("written");
                transport = *moved;
                while received.len() < 4 {
                    let bytes = transport.read(64).await.expect("bytes");
                    assert!(!bytes.is_empty(), "an end in round {round}");
                    received.extend_from_slice(&bytes);
                }
                assert_eq!(&received.split_to(4)[..], round.to_le_bytes());
            }
            peer.join().expect("the peer");
        });
    }

    #[test]
    fn a_panic_with_a_read_armed_closes_that_connection_alone() {
        on_both_drivers(async || {
            let before = task::panics();
            let (mut doomed, mut far) = pair();
            let (mut other, mut other_far) = pair();
            task::spawn("doomed", async move {
                let armed = poll_fn(|cx| Poll::Ready(doomed.poll_read(cx, 64).is_pending())).await;
                assert!(!armed, "on purpose");
            });
            while task::panics() == before {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            far.set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a timeout");
            assert_eq!(far.read(&mut [0; 1]).expect("an end"), 0);
            other_far.write_all(b"still here").expect("written");
            assert_eq!(other.read(64).await.expect("bytes"), &b"still here"[..]);
        });
    }

    #[test]
    fn a_peer_has_so_long_to_acknowledge() {
        on_both_drivers(async || {
            let (transport, _far) = pair();
            let bound = Duration::from_secs(60);
            transport.bound_silence(bound);
            let socket = Borrowed(transport.fd);
            let set = socket2::SockRef::from(&socket).tcp_user_timeout();
            assert_eq!(set.expect("an option"), Some(bound));
        });
    }

    #[test]
    fn an_abort_is_a_reset_even_with_a_read_armed() {
        on_both_drivers(async || {
            let (mut transport, mut far) = pair();
            transport
                .write(Bytes::from_static(b"part"))
                .await
                .expect("written");
            let armed = poll_fn(|cx| Poll::Ready(transport.poll_read(cx, 64).is_pending())).await;
            assert!(armed);
            let mut part = [0; 4];
            far.read_exact(&mut part).expect("the part");
            transport.abort();
            let end = far.read(&mut [0; 1]).expect_err("a reset");
            assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}
