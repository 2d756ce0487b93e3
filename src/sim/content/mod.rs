//! What the simulator answers: functions from a request to a [`Script`], without a socket or a clock.

pub mod bedrock;
pub mod chat;
pub mod cohere;
mod endpoints;
pub mod errors;
pub mod eventstream;
pub mod gemini;
mod gzip;
pub mod messages;
mod plain_text;
pub mod reply;
pub mod request;
pub mod responses;
mod route;
pub mod script;
pub mod sigv4;
pub mod text;

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use self::errors::Envelope;
use self::reply::{Ask, Dialect, Reply};
use self::request::Request;
use self::script::{Pace, Script};
use self::sigv4::Credentials;
use super::directives::{DirectiveError, Directives};
use super::pace::{Dice, Distribution};

/// How a simulator behaves where the request does not say otherwise.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Fixes every byte and delay.
    pub seed: u64,
    /// Mean time to the first token.
    pub ttft: Duration,
    /// Mean tokens a second; 0: as fast as they can be written.
    pub tps: f64,
    /// How both scatter.
    pub distribution: Distribution,
    /// Tokens of an answer in prose.
    pub tokens: u64,
    /// Share of the requests that suffer `fault`.
    pub fault_rate: f64,
    /// Directives, as in `x-sim`.
    pub fault: String,
    /// What SigV4 signatures are checked with.
    pub credentials: Credentials,
    /// When set, every request must bring this key in its provider's way (or a valid signature).
    pub api_key: Option<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            seed: 1,
            ttft: Duration::ZERO,
            tps: 0.0,
            distribution: Distribution::Fixed,
            tokens: 32,
            fault_rate: 0.0,
            fault: String::new(),
            credentials: Credentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            },
            api_key: None,
        }
    }
}

/// A request with what was found out about it.
pub(crate) struct Call<'a> {
    request: &'a Request,
    /// The provider, from the path's prefix or the `Host`.
    slug: &'a str,
    /// The path without the prefix.
    path: &'a str,
    /// From the path, else from the body.
    model: String,
    /// The JSON body, or null.
    body: Value,
    envelope: Envelope,
}

impl Call<'_> {
    fn refuse(&self, status: u16, message: &str) -> Answer {
        Answer::refusal(self.envelope, status, message)
    }
}

/// What an endpoint makes of a call, before paces and faults.
pub(crate) enum Answer {
    /// A generation, streamed or whole.
    Generate {
        ask: Box<Ask>,
        dialect: Box<dyn Dialect>,
    },
    /// A whole body.
    Plain {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// Pseudo-random bytes made as they are sent.
    Noise {
        length: u64,
        chunked: bool,
        headers: Vec<(&'static str, String)>,
    },
}

impl Answer {
    fn json(status: u16, body: &Value) -> Self {
        Self::plain(status, "application/json", Bytes::from(body.to_string()))
    }

    fn plain(status: u16, kind: &str, body: Bytes) -> Self {
        Self::Plain {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body,
        }
    }

    fn noise(length: u64, chunked: bool, kind: &str) -> Self {
        Self::Noise {
            length,
            chunked,
            headers: vec![("content-type", kind.to_owned())],
        }
    }

    fn refusal(envelope: Envelope, status: u16, message: &str) -> Self {
        let (body, headers) = errors::body(envelope, status, message);
        let mut answer = Self::json(status, &body);
        headers
            .into_iter()
            .for_each(|(name, value)| answer.header(name, value));
        answer
    }

    fn header(&mut self, name: &'static str, value: String) {
        match self {
            Self::Plain { headers, .. } | Self::Noise { headers, .. } => {
                headers.push((name, value))
            }
            Self::Generate { .. } => {}
        }
    }

    fn generate(ask: Ask, dialect: impl Dialect + 'static) -> Self {
        Self::Generate {
            ask: Box::new(ask),
            dialect: Box::new(dialect),
        }
    }
}

/// Answers requests; holds nothing but its behaviour.
#[derive(Debug, Clone)]
pub struct Simulator {
    behaviour: Behaviour,
}

impl Simulator {
    /// Checks the fault directives.
    pub fn new(behaviour: Behaviour) -> Result<Self, DirectiveError> {
        Directives::default().read_header(&behaviour.fault)?;
        Ok(Self { behaviour })
    }

    /// The answer to one request, to be played from the moment the request was whole.
    pub fn answer(&self, request: &Request) -> Script {
        let call = route::call(request);
        let mut directives = Directives::default();
        directives.read_model(&call.model);
        let header = request.header("x-sim").unwrap_or_default();
        let wrong = directives.read_header(header).err();
        if directives
            .first
            .is_some_and(|first| request.repeat >= first)
        {
            directives = Directives::default();
        }
        self.strike(request, &mut directives);
        let mut content = self.content_dice(request, header, &directives);
        let answer = match wrong {
            Some(error) => call.refuse(400, &error.to_string()),
            None => self.decide(&call, &directives, &mut content),
        };
        let delays = Dice::new(&[
            content.roll(),
            if directives.seed.is_some() {
                0
            } else {
                request.ordinal
            },
        ]);
        self.script(&call, answer, directives, content, delays)
    }

    fn decide(&self, call: &Call, directives: &Directives, dice: &mut Dice) -> Answer {
        if let Err(refused) = self.authenticate(call) {
            return refused;
        }
        if let Some(status) = directives.failure() {
            let mut answer = call.refuse(
                status,
                &format!("The simulator was asked to answer {status}."),
            );
            if let Some(seconds) = directives.retry_after {
                answer.header("retry-after", seconds.to_string());
            }
            return answer;
        }
        route::dispatch(
            call,
            directives.tokens.unwrap_or(self.behaviour.tokens),
            dice,
        )
    }

    fn authenticate(&self, call: &Call) -> Result<(), Answer> {
        let request = call.request;
        if request
            .header("authorization")
            .is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256"))
        {
            return sigv4::verify(
                request,
                &[&request.path, call.path],
                &self.behaviour.credentials,
            )
            .map_err(|error| call.refuse(403, &error.to_string()));
        }
        let Some(key) = &self.behaviour.api_key else {
            return Ok(());
        };
        if route::keys(request).any(|given| given == key) {
            return Ok(());
        }
        Err(call.refuse(401, "Incorrect API key provided."))
    }

    /// Lets the configured share of requests suffer the configured fault.
    fn strike(&self, request: &Request, directives: &mut Directives) {
        const FAULT: u64 = 0xfa17;
        let behaviour = &self.behaviour;
        if behaviour.fault_rate > 0.0 {
            let drawn = Dice::new(&[behaviour.seed, request.ordinal, FAULT]).unit();
            if drawn < behaviour.fault_rate {
                // Checked when the simulator was made.
                let _ = directives.read_header(&behaviour.fault);
            }
        }
    }

    /// Equal requests get equal bytes, in whatever order they come.
    fn content_dice(&self, request: &Request, header: &str, directives: &Directives) -> Dice {
        let fold = |bytes: &[u8]| {
            bytes.iter().fold(0u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            })
        };
        match directives.seed {
            Some(seed) => Dice::new(&[seed]),
            None => Dice::new(&[
                self.behaviour.seed,
                fold(request.path.as_bytes()),
                fold(&request.body_sha256),
                fold(header.as_bytes()),
            ]),
        }
    }

    fn script(
        &self,
        call: &Call,
        answer: Answer,
        directives: Directives,
        mut content: Dice,
        delays: Dice,
    ) -> Script {
        let behaviour = &self.behaviour;
        let pace = Pace {
            ttft: directives
                .ttft
                .map_or(behaviour.ttft, Duration::from_millis),
            tps: directives.tps.map_or(behaviour.tps, |tps| tps as f64),
            distribution: behaviour.distribution,
            dice: delays,
        };
        match answer {
            Answer::Plain {
                status,
                headers,
                body,
            } => Script::whole(status, headers, body, directives, pace, 0),
            Answer::Noise {
                length,
                chunked,
                headers,
            } => Script::noise(headers, length, chunked, content.roll(), directives, pace),
            Answer::Generate { ask, dialect } => {
                let reply = Reply::plan(&ask, &directives, behaviour.tokens, &mut content);
                let usage = reply.usage_told.then_some(reply.usage);
                if ask.stream {
                    let script = Script::stream(reply, dialect, directives, pace);
                    return script.of_usage(usage);
                }
                if directives.error_in_stream || directives.error_first {
                    return self.failed_whole(call, directives, pace);
                }
                let mut headers = vec![("content-type", "application/json".to_owned())];
                headers.extend(dialect.headers(&reply));
                let body = Bytes::from(dialect.whole(&reply).to_string());
                let steps = reply
                    .blocks
                    .iter()
                    .map(|block| block.ends.len() as u64)
                    .sum();
                let script = Script::whole(200, headers, body, directives, pace, steps);
                script.of_usage(usage)
            }
        }
    }

    /// A failure midway of an answer that is not streamed: OpenRouter says so under a 200.
    fn failed_whole(&self, call: &Call, directives: Directives, pace: Pace) -> Script {
        let status = if call.slug == "openrouter" { 200 } else { 500 };
        let body = errors::body(call.envelope, 502, "The simulated model failed midway.").0;
        let headers = vec![("content-type", "application/json".to_owned())];
        Script::whole(
            status,
            headers,
            Bytes::from(body.to_string()),
            directives,
            pace,
            3,
        )
    }
}

/// The body of a path that nothing serves.
fn not_found(call: &Call) -> Answer {
    let message = format!(
        "The simulator serves no {} {}",
        call.request.method, call.request.path
    );
    if call.envelope == Envelope::OpenAi {
        let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": "unknown_url"}});
        return Answer::json(404, &error);
    }
    call.refuse(404, &message)
}
