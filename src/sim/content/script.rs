//! An answer as a schedule: a head and steps of bytes, each due at a moment counted from the request, so that delays never
//! add up. Faults are part of the schedule.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::eventstream;
use super::gzip::Gzip;
use super::reply::{Dialect, Frames, Piece, Reply, Usage};
use crate::limits::{
    SIM_COMMENT_MILLISECONDS, SIM_DRIP_MILLISECONDS, SIM_FAULT_PIECE, SIM_NOISE_PIECE,
};
use crate::sim::directives::Directives;
use crate::sim::pace::{Dice, Distribution};

/// When tokens come.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Mean time to the first token.
    pub ttft: Duration,
    /// Mean tokens a second; 0: all at once.
    pub tps: f64,
    /// How both scatter.
    pub distribution: Distribution,
    /// Draws the delays.
    pub dice: Dice,
}

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What happens after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The message ends as its framing says.
    Complete,
    /// The connection is reset.
    Reset,
    /// The connection is closed with the message unfinished.
    Close,
    /// Nothing more comes.
    Hang,
}

/// Bytes that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From the request.
    pub at: Duration,
    /// Body bytes, before chunked framing.
    pub bytes: Bytes,
    /// Announce all of `bytes` as a chunk, send half of it, close.
    pub torn: bool,
}

/// One answer to be played.
pub struct Script {
    /// The status line's code.
    pub status: u16,
    /// Header fields but those of the framing.
    pub headers: Vec<(&'static str, String)>,
    /// The framing.
    pub framing: Framing,
    /// When the head is due; `None`: never.
    pub head_at: Option<Duration>,
    /// Send interim (1xx) answers first.
    pub interim: bool,
    /// Close the connection after the answer.
    pub close: bool,
    /// Say before each event when it was due.
    pub stamp: bool,
    /// What the answer says it used.
    pub usage: Option<Usage>,
    body: Body,
    faults: Faults,
}

enum Body {
    Pieces(VecDeque<Step>),
    Stream(Box<Stream>),
    Noise { left: u64, at: Duration, dice: Dice },
}

struct Stream {
    reply: Reply,
    dialect: Box<dyn Dialect>,
    moments: std::vec::IntoIter<(Duration, Piece)>,
    at: Duration,
    ready: Frames,
    binary: bool,
    /// Compresses event by event; taken when the stream ends.
    gzip: Option<Gzip>,
}

/// What the schedule does to its own steps.
struct Faults {
    /// Events after which `ending` takes over.
    after: Option<u64>,
    ending: Ending,
    malformed: bool,
    torn: bool,
    drip: bool,
    sent: u64,
    stopped: bool,
    dripping: Bytes,
    drip_at: Duration,
}

impl Script {
    /// With what the answer says it used.
    pub fn of_usage(self, usage: Option<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// A body that is known at once. `tokens`: how many the model would have needed for it, which is when it is due.
    pub fn whole(
        status: u16,
        mut headers: Vec<(&'static str, String)>,
        mut body: Bytes,
        directives: Directives,
        mut pace: Pace,
        tokens: u64,
    ) -> Self {
        if directives.malformed {
            body = malformed_json(&body);
        }
        if directives.gzip {
            headers.push(("content-encoding", "gzip".to_owned()));
            body = Gzip::whole(&body);
        }
        let mut at = pace.first();
        for _ in 0..tokens {
            at += pace.next();
        }
        let at = shifted(at, &directives);
        let faults = Faults::new(&directives, false);
        let size = if faults.after.is_some() {
            SIM_FAULT_PIECE
        } else {
            body.len().max(1)
        };
        let framing = if directives.truncated_chunk {
            Framing::Chunked
        } else {
            Framing::Length(body.len() as u64)
        };
        let mut pieces = VecDeque::new();
        while !body.is_empty() {
            let bytes = body.split_to(size.min(body.len()));
            pieces.push_back(Step {
                at,
                bytes,
                torn: false,
            });
        }
        Self::new(
            status,
            headers,
            framing,
            at,
            Body::Pieces(pieces),
            directives,
            faults,
        )
    }

    /// Pseudo-random bytes.
    pub fn noise(
        headers: Vec<(&'static str, String)>,
        length: u64,
        chunked: bool,
        seed: u64,
        directives: Directives,
        mut pace: Pace,
    ) -> Self {
        let at = shifted(pace.first(), &directives);
        let framing = if chunked || directives.truncated_chunk {
            Framing::Chunked
        } else {
            Framing::Length(length)
        };
        let body = Body::Noise {
            left: length,
            at,
            dice: Dice::new(&[seed]),
        };
        let faults = Faults::new(&directives, false);
        Self::new(200, headers, framing, at, body, directives, faults)
    }

    /// A stream of events.
    pub fn stream(
        reply: Reply,
        dialect: Box<dyn Dialect>,
        directives: Directives,
        pace: Pace,
    ) -> Self {
        let kind = dialect.stream_type();
        let mut headers = vec![
            ("content-type", kind.to_owned()),
            ("cache-control", "no-cache".to_owned()),
        ];
        headers.extend(
            dialect
                .headers(&reply)
                .into_iter()
                .filter(|(name, _)| !name.ends_with("-token-count")),
        );
        if directives.gzip {
            headers.push(("content-encoding", "gzip".to_owned()));
        }
        let comments = dialect.comments();
        let moments = moments(&reply, comments, &directives, pace);
        let first = moments.first().map_or(Duration::ZERO, |(at, _)| *at);
        let body = Body::Stream(Box::new(Stream {
            reply,
            dialect,
            moments: moments.into_iter(),
            at: first,
            ready: Frames::default(),
            binary: kind == eventstream::CONTENT_TYPE,
            gzip: directives.gzip.then(Gzip::default),
        }));
        let faults = Faults::new(&directives, true);
        Self::new(
            200,
            headers,
            Framing::Chunked,
            first,
            body,
            directives,
            faults,
        )
    }

    /// What to do when no step is left.
    pub fn ending(&self) -> Ending {
        if self.faults.stopped {
            self.faults.ending
        } else {
            Ending::Complete
        }
    }

    fn new(
        status: u16,
        headers: Vec<(&'static str, String)>,
        framing: Framing,
        first: Duration,
        body: Body,
        directives: Directives,
        faults: Faults,
    ) -> Self {
        let early = directives.early_head || directives.hang_body;
        let slow = Duration::from_millis(directives.slow_head.unwrap_or(0));
        let head_at = if early { slow } else { first.max(slow) };
        Self {
            status,
            headers,
            framing,
            head_at: (!directives.hang).then_some(head_at),
            interim: directives.interim,
            close: directives.close,
            stamp: directives.stamp && matches!(&body, Body::Stream(stream) if stream.is_text()),
            usage: None,
            body,
            faults,
        }
    }

    fn event(&mut self) -> Option<Step> {
        let faults = &mut self.faults;
        if faults.after.is_some_and(|after| faults.sent >= after) {
            faults.stopped = true;
            return None;
        }
        let mut step = self.body.next()?;
        faults.sent += 1;
        if let Body::Stream(stream) = &mut self.body {
            if faults.malformed && faults.sent == MIDDLE {
                step.bytes = if stream.binary {
                    wrong_checksum(&step.bytes)
                } else {
                    malformed_json(&step.bytes)
                };
            }
            step.bytes = stream.compress(step.bytes);
        }
        let middle = matches!(self.body, Body::Pieces(_)) || faults.sent == MIDDLE;
        if faults.torn && middle {
            step.torn = true;
            faults.after = Some(faults.sent);
            faults.ending = Ending::Close;
        }
        Some(step)
    }
}

impl Stream {
    /// Whether lines can be put between its events.
    fn is_text(&self) -> bool {
        !self.binary && self.gzip.is_none()
    }
}

/// The event that suffers what happens midway.
const MIDDLE: u64 = 3;

impl Iterator for Script {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if !self.faults.drip {
            return self.event();
        }
        while self.faults.dripping.is_empty() {
            let step = self.event()?;
            self.faults.drip_at = self.faults.drip_at.max(step.at);
            self.faults.dripping = step.bytes;
        }
        let faults = &mut self.faults;
        let at = faults.drip_at;
        faults.drip_at += Duration::from_millis(SIM_DRIP_MILLISECONDS);
        Some(Step {
            at,
            bytes: faults.dripping.split_to(1),
            torn: false,
        })
    }
}

impl Faults {
    fn new(directives: &Directives, streamed: bool) -> Self {
        let (after, ending) = if directives.hang_body {
            (Some(0), Ending::Hang)
        } else if let Some(events) = directives.reset_after {
            (Some(events), Ending::Reset)
        } else if let Some(events) = directives.close_after {
            (Some(events), Ending::Close)
        } else {
            (directives.hang_after, Ending::Hang)
        };
        Self {
            after,
            ending,
            malformed: directives.malformed && streamed,
            torn: directives.truncated_chunk,
            drip: directives.drip,
            sent: 0,
            stopped: false,
            dripping: Bytes::new(),
            drip_at: Duration::ZERO,
        }
    }
}

impl Body {
    fn next(&mut self) -> Option<Step> {
        match self {
            Self::Pieces(pieces) => pieces.pop_front(),
            Self::Stream(stream) => stream.next(),
            Self::Noise { left: 0, .. } => None,
            Self::Noise { left, at, dice } => {
                let size = (*left).min(SIM_NOISE_PIECE as u64);
                *left -= size;
                Some(Step {
                    at: *at,
                    bytes: noise(size as usize, dice),
                    torn: false,
                })
            }
        }
    }
}

impl Stream {
    fn next(&mut self) -> Option<Step> {
        while self.ready.0.is_empty() {
            let Some((at, piece)) = self.moments.next() else {
                // What closes the compressed stream is no event of its own, but it has to go out.
                let gzip = self.gzip.take()?;
                return Some(Step {
                    at: self.at,
                    bytes: gzip.finish(),
                    torn: false,
                });
            };
            self.at = at;
            self.dialect.piece(&self.reply, piece, &mut self.ready);
        }
        let bytes = self.ready.0.pop_front()?;
        Some(Step {
            at: self.at,
            bytes,
            torn: false,
        })
    }

    fn compress(&mut self, bytes: Bytes) -> Bytes {
        match &mut self.gzip {
            Some(gzip) => gzip.part(&bytes),
            None => bytes,
        }
    }
}

impl Pace {
    fn first(&mut self) -> Duration {
        self.distribution.draw(self.ttft, &mut self.dice)
    }

    fn next(&mut self) -> Duration {
        if self.tps <= 0.0 {
            return Duration::ZERO;
        }
        self.distribution
            .draw(Duration::from_secs_f64(1.0 / self.tps), &mut self.dice)
    }
}

/// When each moment of a stream is due.
fn moments(
    reply: &Reply,
    comments: bool,
    directives: &Directives,
    mut pace: Pace,
) -> Vec<(Duration, Piece)> {
    let tokens: usize = reply.blocks.iter().map(|block| block.ends.len()).sum();
    let mut moments = Vec::with_capacity(tokens + 8);
    let first = shifted(pace.first(), directives);
    if comments {
        let mut at = shifted(Duration::ZERO, directives);
        while at < first || moments.is_empty() {
            moments.push((at, Piece::Comment));
            at += Duration::from_millis(SIM_COMMENT_MILLISECONDS);
        }
    }
    if directives.error_first {
        moments.push((first, Piece::Error));
        return moments;
    }
    moments.push((first, Piece::Open));
    let mut at = first;
    let mut deltas = 0;
    for (index, block) in reply.blocks.iter().enumerate() {
        for token in 0..block.ends.len() {
            // The first token is due with the opening; each later one a gap after the one before.
            if deltas > 0 {
                at += pace.next();
            }
            if token == 0 {
                moments.push((at, Piece::BlockOpen(index)));
            }
            moments.push((at, Piece::Delta(index, token)));
            deltas += 1;
            if directives.error_in_stream && deltas == MIDDLE {
                moments.push((at, Piece::Error));
                return moments;
            }
        }
        if block.ends.is_empty() {
            moments.push((at, Piece::BlockOpen(index)));
        }
        moments.push((at, Piece::BlockClose(index)));
    }
    moments.push((
        at,
        if directives.error_in_stream {
            Piece::Error
        } else {
            Piece::Finish
        },
    ));
    moments
}

/// A late head makes all that follows late.
fn shifted(at: Duration, directives: &Directives) -> Duration {
    at.max(Duration::from_millis(directives.slow_head.unwrap_or(0)))
}

fn malformed_json(body: &[u8]) -> Bytes {
    let at = memchr::memchr(b'{', body).unwrap_or(0);
    let mut broken = BytesMut::with_capacity(body.len() + 2);
    broken.extend_from_slice(&body[..at]);
    broken.extend_from_slice(b"{]");
    broken.extend_from_slice(&body[at..]);
    broken.freeze()
}

fn wrong_checksum(message: &[u8]) -> Bytes {
    let mut wrong = BytesMut::from(message);
    if let Some(last) = wrong.last_mut() {
        *last ^= 0xff;
    }
    wrong.freeze()
}

fn noise(size: usize, dice: &mut Dice) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes.truncate(size);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::content::request::Request;
    use crate::sim::content::{Behaviour, Simulator};

    fn script(directives: &str, behaviour: Behaviour) -> Script {
        let body = format!(r#"{{"model":"m+{directives}","stream":true,"messages":[]}}"#);
        let request = Request::new("POST", "/v1/chat/completions", body.as_bytes());
        Simulator::new(behaviour).expect("right").answer(&request)
    }

    /// When the events are due, each moment once, microseconds.
    fn moments(script: Script) -> Vec<u64> {
        let mut moments: Vec<u64> = script.map(|step| step.at.as_micros() as u64).collect();
        moments.dedup();
        moments
    }

    #[test]
    fn each_token_has_its_moment_counted_from_the_request() {
        let script = script("sim-tokens-1000+ttft-50+tps-100", Behaviour::default());
        assert_eq!(script.head_at, Some(Duration::from_millis(50)));
        let expected: Vec<u64> = (0..1000).map(|token| 50_000 + token * 10_000).collect();
        assert_eq!(moments(script), expected, "delays do not add up");
    }

    #[test]
    fn a_whole_answer_comes_when_its_last_token_would_have() {
        let body = br#"{"model":"m+sim-tokens-11+ttft-50+tps-100","messages":[]}"#;
        let request = Request::new("POST", "/v1/chat/completions", body);
        let simulator = Simulator::new(Behaviour::default()).expect("right");
        let script = simulator.answer(&request);
        let due = script.head_at.expect("a head");
        assert!(
            (150..=160).contains(&due.as_millis()),
            "first token at 50 ms, ten more of 10 ms each: {due:?}"
        );
    }

    #[test]
    fn a_distribution_scatters_round_its_mean_and_a_seed_fixes_it() {
        let behaviour = |seed| Behaviour {
            seed,
            ttft: Duration::from_millis(100),
            tps: 100.0,
            distribution: Distribution::Exponential,
            ..Behaviour::default()
        };
        let due = |seed| moments(script("sim-tokens-5000", behaviour(seed)));
        let first = due(1);
        assert_eq!(first, due(1));
        assert_ne!(first, due(2));
        let gaps: Vec<u64> = first.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<u64>() / gaps.len() as u64;
        assert!((9_500..10_500).contains(&mean), "{mean}");
        // Of a memoryless delay, 63 of a hundred are below the mean.
        let below = gaps.iter().filter(|gap| **gap < 10_000).count() * 100 / gaps.len();
        assert!((60..67).contains(&below), "{below}");
    }

    #[test]
    fn late_heads_early_heads_and_silence_are_part_of_the_schedule() {
        let head = |directives| script(directives, Behaviour::default()).head_at;
        assert_eq!(head("sim-slow-head-70"), Some(Duration::from_millis(70)));
        assert_eq!(head("sim-ttft-50+early-head"), Some(Duration::ZERO));
        assert_eq!(head("sim-ttft-50+hang-body"), Some(Duration::ZERO));
        assert_eq!(head("sim-hang"), None);
        let mut dripping = script("sim-drip", Behaviour::default());
        let (one, two) = (dripping.next(), dripping.next());
        let (one, two) = (one.expect("a byte"), two.expect("a byte"));
        assert_eq!((one.bytes.len(), two.bytes.len()), (1, 1));
        assert_eq!(
            two.at - one.at,
            Duration::from_millis(SIM_DRIP_MILLISECONDS)
        );
    }
}
