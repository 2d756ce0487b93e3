//! Playing a script on a connection: every step at its own moment, counted from the request.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use monoio::time::Instant;
use serde_json::Value;

use super::content::script::{Ending, Framing, Script, Step};
use super::ledger::Sent;
use crate::http::chunked::{LAST_CHUNK, chunk_head};
use crate::http::write;
use crate::limits::{SIM_RESET_PAUSE, SIM_STOP_CHECK, SIM_WRITE_BATCH, SIM_WRITE_WAIT};
use crate::net::deadlines::OnExpiry;
use crate::net::http1::Connection;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Keep,
    /// A FIN.
    Close,
    /// A RST.
    Reset,
}

/// How the request wants its answer.
pub(super) struct Way<'a> {
    /// When the request was whole: the zero of the schedule.
    pub started: Instant,
    /// Set when the simulator stops.
    pub stopping: &'a AtomicBool,
    /// HTTP/1.1: chunked framing is understood.
    pub chunks: bool,
    /// HEAD: no body.
    pub bodiless: bool,
    /// The request allows another one.
    pub keep_alive: bool,
}

/// A whole message with a JSON body.
pub(super) fn whole(status: u16, body: &Value, keep_alive: bool) -> Bytes {
    let body = body.to_string();
    let mut out = Vec::with_capacity(body.len() + 128);
    write::status_line(&mut out, status, "");
    write::header(&mut out, b"content-type", b"application/json");
    if !keep_alive {
        write::header(&mut out, b"connection", b"close");
    }
    out.extend_from_slice(b"content-length: ");
    write::decimal(&mut out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body.as_bytes());
    out.into()
}

/// Sends the answer; tells what was sent and what to do with the connection.
pub(super) async fn play(
    connection: &mut Connection,
    script: Script,
    way: &Way<'_>,
) -> (After, Sent) {
    let mut player = Player {
        connection,
        way,
        framing: Framed::of(&script, way),
        buffer: Vec::new(),
        sent: Sent::default(),
        close: script.close || !way.keep_alive,
    };
    let after = match player.run(script).await {
        Ok(after) => after,
        Err(Stop::Left) => {
            player.sent.aborted = true;
            After::Close
        }
        Err(Stop::Stopping) => After::Close,
    };
    (after, player.sent)
}

/// Why an answer ends early.
enum Stop {
    /// The client closed, reset or took nothing for too long.
    Left,
    /// The simulator stops.
    Stopping,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Left
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framed {
    Length,
    Chunked,
    /// HTTP/1.0 without a length: the close is the end.
    Bare,
}

impl Framed {
    fn of(script: &Script, way: &Way) -> Self {
        match script.framing {
            Framing::Length(_) => Self::Length,
            Framing::Chunked if way.chunks => Self::Chunked,
            Framing::Chunked => Self::Bare,
        }
    }
}

struct Player<'a, 'b> {
    connection: &'a mut Connection,
    way: &'a Way<'b>,
    framing: Framed,
    /// Due and not yet written.
    buffer: Vec<u8>,
    sent: Sent,
    close: bool,
}

impl Player<'_, '_> {
    async fn run(&mut self, mut script: Script) -> Result<After, Stop> {
        let Some(head_at) = script.head_at else {
            return self.hang().await;
        };
        if script.interim {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
            self.buffer.extend_from_slice(interim);
            self.flush().await?;
        }
        self.wait(head_at).await?;
        self.head(&script);
        if self.way.bodiless {
            self.flush().await?;
            return Ok(self.kept());
        }
        let stamp = script.stamp;
        for step in script.by_ref() {
            if step.at > self.way.started.elapsed() {
                self.flush().await?;
                self.wait(step.at).await?;
            }
            if step.torn {
                return self.tear(&step).await;
            }
            let bytes = match stamp {
                true => self.stamped(&step),
                false => step.bytes,
            };
            self.step(bytes).await?;
        }
        self.end(script.ending()).await
    }

    async fn end(&mut self, ending: Ending) -> Result<After, Stop> {
        match ending {
            Ending::Complete => {
                if self.framing == Framed::Chunked {
                    self.buffer.extend_from_slice(LAST_CHUNK);
                }
                self.flush().await?;
                Ok(self.kept())
            }
            Ending::Hang => {
                self.flush().await?;
                self.hang().await
            }
            Ending::Close => {
                self.flush().await?;
                Ok(After::Close)
            }
            Ending::Reset => {
                self.flush().await?;
                // A reset overtakes what is still on its way.
                monoio::time::sleep(SIM_RESET_PAUSE).await;
                Ok(After::Reset)
            }
        }
    }

    fn kept(&self) -> After {
        if self.close || self.framing == Framed::Bare {
            After::Close
        } else {
            After::Keep
        }
    }

    fn head(&mut self, script: &Script) {
        let out = &mut self.buffer;
        write::status_line(out, script.status, "");
        for (name, value) in &script.headers {
            write::header(out, name.as_bytes(), value.as_bytes());
        }
        if self.close {
            write::header(out, b"connection", b"close");
        }
        match (script.framing, self.framing) {
            (Framing::Length(length), _) => {
                out.extend_from_slice(b"content-length: ");
                write::decimal(out, length);
                out.extend_from_slice(b"\r\n");
            }
            (_, Framed::Chunked) => write::header(out, b"transfer-encoding", b"chunked"),
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The event behind a comment that tells when it was due: a client on the same machine sees how late it came.
    fn stamped(&self, step: &Step) -> Bytes {
        let late = self.way.started.elapsed().saturating_sub(step.at);
        let due = SystemTime::now() - late;
        let due = due.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stamped = format!(": due {}\n", due.as_micros()).into_bytes();
        stamped.extend_from_slice(&step.bytes);
        stamped.into()
    }

    /// Takes in one event; what is due together leaves together.
    async fn step(&mut self, bytes: Bytes) -> Result<(), Stop> {
        self.sent.events += 1;
        self.sent.bytes += bytes.len() as u64;
        // An empty chunk would be the last one.
        if bytes.is_empty() {
            return Ok(());
        }
        let chunked = self.framing == Framed::Chunked;
        if chunked {
            self.buffer
                .extend_from_slice(chunk_head(bytes.len(), &mut [0; 18]));
        }
        if bytes.len() >= SIM_WRITE_BATCH {
            let head = std::mem::take(&mut self.buffer);
            self.arm();
            self.connection.write_message(head, bytes).await?;
            self.connection.transport().disarm_deadline();
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
        if chunked {
            self.buffer.extend_from_slice(b"\r\n");
        }
        if self.buffer.len() >= SIM_WRITE_BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Announces the whole event, sends half of it, ends.
    async fn tear(&mut self, step: &Step) -> Result<After, Stop> {
        let half = &step.bytes[..step.bytes.len() / 2];
        if self.framing == Framed::Chunked {
            self.buffer
                .extend_from_slice(chunk_head(step.bytes.len(), &mut [0; 18]));
        }
        self.buffer.extend_from_slice(half);
        self.sent.bytes += half.len() as u64;
        self.flush().await?;
        Ok(After::Close)
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let due = Bytes::from(std::mem::take(&mut self.buffer));
        self.arm();
        self.connection.write(due).await?;
        self.connection.transport().disarm_deadline();
        Ok(())
    }

    /// A client that takes nothing for this long has left.
    fn arm(&mut self) {
        self.connection
            .transport()
            .arm_deadline(SIM_WRITE_WAIT, OnExpiry::ShutBoth);
    }

    async fn hang(&mut self) -> Result<After, Stop> {
        loop {
            self.wait(self.way.started.elapsed() + SIM_STOP_CHECK)
                .await?;
        }
    }

    /// Sleeps until `at` after the request, unless the client leaves or the simulator stops.
    async fn wait(&mut self, at: Duration) -> Result<(), Stop> {
        let due = self.way.started + at;
        loop {
            let now = Instant::now();
            if now >= due {
                return Ok(());
            }
            let check = due.min(now + SIM_STOP_CHECK);
            if self.left_before(check).await {
                return Err(Stop::Left);
            }
            if self.way.stopping.load(Ordering::Acquire) {
                return Err(Stop::Stopping);
            }
        }
    }

    async fn left_before(&mut self, moment: Instant) -> bool {
        let mut sleep = pin!(monoio::time::sleep_until(moment));
        poll_fn(|cx| {
            if self.connection.poll_client_left(cx).is_ready() {
                return Poll::Ready(true);
            }
            sleep.as_mut().poll(cx).map(|()| false)
        })
        .await
    }
}
