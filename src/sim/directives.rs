//! What a request asks of the simulator through its model name or its `x-sim` header.

use thiserror::Error;

use crate::limits::{SIM_HUGE_MAX, SIM_TOKENS_MAX};

/// What `ringgate sim --help` says about them.
pub const HELP: &str = "\
Directives:
A request chooses its answer by words joined by + in the model name, the first marked by sim-
(gpt-4o+sim-status-429+retry-after-2), or by a list in the header x-sim (ttft-50, tps-100).
--fault lets a share of all requests suffer them.

  status-N            that status in the provider's error envelope
  retry-after-N       Retry-After in seconds; alone it means status 429
  hang                read the request, never answer
  hang-body           send the head, never the body
  hang-after-N        fall silent after N events
  reset-after-N       reset the connection after N events
  close-after-N       close it after N events, the message unfinished
  truncated-chunk     half of an announced chunk, then close
  malformed           JSON that does not parse; in a binary stream a wrong checksum
  error-in-stream     the dialect's error event after three tokens
  error-first         the dialect's error event before anything else
  first-N             all this for the first N requests of this path and body; later ones succeed
  drip                one byte each 10 ms
  huge-N              text of N bytes (also k, m, g), one event where streamed
  slow-head-N         the head after N milliseconds
  early-head          the head before the first token is due
  no-read             answer without reading the body (only in x-sim)
  100-continue        interim answers before the final one
  close               Connection: close
  gzip                content coding gzip
  no-usage            no usage told
  tokens-N            N tokens of text
  ttft-N              N milliseconds to the first token
  tps-N               N tokens a second; 0 for no pacing
  cached-N            N prompt tokens read from the provider's cache
  cache-write-N       N prompt tokens written to it
  reasoning-N         N tokens of reasoning before the text
  tool                call a tool, if one is declared
  filter              refuse
  seed-N              bytes and delays of this seed, whatever came before
  stamp               before each server-sent event a comment with when it was due";

/// The directives of one request; the grammar stands in the documentation of [`crate::sim`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directives {
    /// Answer with this status in the provider's error envelope.
    pub status: Option<u16>,
    /// `Retry-After` in seconds; without a status it means 429.
    pub retry_after: Option<u64>,
    /// Read the request, never answer.
    pub hang: bool,
    /// Send the head, never a body byte.
    pub hang_body: bool,
    /// Reset the connection after this many body events.
    pub reset_after: Option<u64>,
    /// Close the connection cleanly (FIN) after this many body events, the message unfinished.
    pub close_after: Option<u64>,
    /// Fall silent after this many body events.
    pub hang_after: Option<u64>,
    /// One byte each 10 ms.
    pub drip: bool,
    /// JSON that does not parse, or an event-stream message with a wrong checksum.
    pub malformed: bool,
    /// A chunk that ends before its announced length.
    pub truncated_chunk: bool,
    /// Text of this many bytes, in one event where streamed.
    pub huge: Option<u64>,
    /// Send the head after this many milliseconds.
    pub slow_head: Option<u64>,
    /// Send the head at once, before the first event is due.
    pub early_head: bool,
    /// Tokens of visible output.
    pub tokens: Option<u64>,
    /// Time to the first token, milliseconds.
    pub ttft: Option<u64>,
    /// Tokens a second; 0 for no pacing.
    pub tps: Option<u64>,
    /// Compress the answer with gzip.
    pub gzip: bool,
    /// The dialect's error event after three deltas.
    pub error_in_stream: bool,
    /// The dialect's error event before anything else.
    pub error_first: bool,
    /// Only so many requests of one path and body suffer what is asked for.
    pub first: Option<u64>,
    /// Leave usage out.
    pub no_usage: bool,
    /// `Connection: close`.
    pub close: bool,
    /// An interim `100 Continue` and a `103 Early Hints` before the answer.
    pub interim: bool,
    /// Prompt tokens read from the provider's cache.
    pub cached: Option<u64>,
    /// Prompt tokens written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Tokens of reasoning before the text.
    pub reasoning: Option<u64>,
    /// Answer without reading the body; only in `x-sim`.
    pub no_read: bool,
    /// Call a tool if there is one.
    pub tool: bool,
    /// Refuse: the dialect's content-filter finish.
    pub filter: bool,
    /// Say before each event when it was due.
    pub stamp: bool,
    /// The seed for this answer's bytes and delays, whatever came before.
    pub seed: Option<u64>,
}

/// A directive that does not exist or lacks its number.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DirectiveError {
    /// No such directive.
    #[error("x-sim: unknown directive {0:?}")]
    Unknown(String),
    /// The directive's number is missing or out of range.
    #[error("x-sim: directive {0:?} needs a number ({1})")]
    Number(String, &'static str),
}

impl Directives {
    /// Reads those parts of a model name that begin with `sim-`; the rest of the name is the model's own, so unknown
    /// words are no error.
    pub fn read_model(&mut self, model: &str) {
        let mut inside = false;
        for part in model.split('+') {
            let found = marked(part);
            inside |= found.is_some();
            if inside {
                let _ = self.apply(found.unwrap_or(part));
            }
        }
    }

    /// Reads a header value: directives joined by `+` or commas, with or without `sim-`.
    pub fn read_header(&mut self, value: &str) -> Result<(), DirectiveError> {
        for part in value.split(['+', ',']) {
            let part = part.trim();
            if !part.is_empty() {
                self.apply(part.strip_prefix("sim-").unwrap_or(part))?;
            }
        }
        Ok(())
    }

    /// The status to fail with, if any.
    pub fn failure(&self) -> Option<u16> {
        self.status.or(self.retry_after.map(|_| 429))
    }

    fn apply(&mut self, directive: &str) -> Result<(), DirectiveError> {
        if self.apply_flag(directive) {
            return Ok(());
        }
        let (name, number) = split_number(directive);
        self.apply_number(directive, name, number)
    }

    fn apply_flag(&mut self, directive: &str) -> bool {
        let flag = match directive {
            "hang" => &mut self.hang,
            "hang-body" => &mut self.hang_body,
            "drip" => &mut self.drip,
            "malformed" => &mut self.malformed,
            "truncated-chunk" => &mut self.truncated_chunk,
            "early-head" => &mut self.early_head,
            "gzip" => &mut self.gzip,
            "error-in-stream" => &mut self.error_in_stream,
            "error-first" => &mut self.error_first,
            "no-usage" => &mut self.no_usage,
            "close" => &mut self.close,
            "100-continue" => &mut self.interim,
            "no-read" => &mut self.no_read,
            "tool" => &mut self.tool,
            "filter" => &mut self.filter,
            "stamp" => &mut self.stamp,
            _ => return false,
        };
        *flag = true;
        true
    }

    fn apply_number(
        &mut self,
        directive: &str,
        name: &str,
        number: Option<u64>,
    ) -> Result<(), DirectiveError> {
        let bounded = |highest: u64, range: &'static str| {
            number
                .filter(|&n| n <= highest)
                .ok_or_else(|| DirectiveError::Number(directive.to_owned(), range))
        };
        match name {
            "status" => {
                let status = number
                    .filter(|n| (200..=599).contains(n))
                    .ok_or_else(|| DirectiveError::Number(directive.to_owned(), "200 to 599"))?;
                self.status = Some(status as u16);
            }
            "retry-after" => self.retry_after = Some(bounded(86_400, "seconds, at most a day")?),
            "reset-after" => self.reset_after = Some(bounded(u64::MAX, "events")?),
            "close-after" => self.close_after = Some(bounded(u64::MAX, "events")?),
            "hang-after" => self.hang_after = Some(bounded(u64::MAX, "events")?),
            "huge" => self.huge = Some(bounded(SIM_HUGE_MAX, "bytes, at most 256m")?),
            "slow-head" => {
                self.slow_head = Some(bounded(3_600_000, "milliseconds, at most an hour")?)
            }
            "tokens" => self.tokens = Some(bounded(SIM_TOKENS_MAX, "at most 200000")?),
            "ttft" => self.ttft = Some(bounded(3_600_000, "milliseconds, at most an hour")?),
            "tps" => self.tps = Some(bounded(1_000_000, "at most a million")?),
            "cached" => self.cached = Some(bounded(1 << 40, "tokens")?),
            "cache-write" => self.cache_write = Some(bounded(1 << 40, "tokens")?),
            "reasoning" => self.reasoning = Some(bounded(SIM_TOKENS_MAX, "at most 200000")?),
            "first" => self.first = Some(bounded(u64::MAX, "requests")?),
            "seed" => self.seed = Some(bounded(u64::MAX, "64 bits")?),
            _ => return Err(DirectiveError::Unknown(directive.to_owned())),
        }
        Ok(())
    }
}

/// What follows `sim-` where that begins a word.
fn marked(part: &str) -> Option<&str> {
    let at = part.find("sim-")?;
    let begins = at == 0 || !part.as_bytes()[at - 1].is_ascii_alphanumeric();
    begins.then(|| &part[at + 4..])
}

/// `reset-after-3` is (`reset-after`, 3), `huge-10m` is (`huge`, 10 MiB); what follows the number (a model version) is
/// not looked at.
fn split_number(directive: &str) -> (&str, Option<u64>) {
    let digits = directive
        .char_indices()
        .zip(directive.chars().skip(1))
        .find(|((_, dash), digit)| *dash == '-' && digit.is_ascii_digit())
        .map(|((at, _), _)| at + 1);
    let Some(start) = digits else {
        return (directive, None);
    };
    let rest = &directive[start..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let scale = match rest.as_bytes().get(end).map(u8::to_ascii_lowercase) {
        Some(b'k') => 1 << 10,
        Some(b'm') if !rest[end..].starts_with("ms") => 1 << 20,
        Some(b'g') => 1 << 30,
        _ => 1,
    };
    let number = rest[..end]
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale));
    (&directive[..start - 1], number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> Directives {
        let mut directives = Directives::default();
        directives.read_model(name);
        directives
    }

    #[test]
    fn directives_combine_in_a_model_name() {
        let read = model("openai/gpt-4o+sim-tokens-200+tps-100+sim-ttft-50ms+reset-after-3");
        assert_eq!(
            (read.tokens, read.tps, read.ttft, read.reset_after),
            (Some(200), Some(100), Some(50), Some(3))
        );
        assert_eq!(model("us.anthropic.sim-huge-10m-v1:0").huge, Some(10 << 20));
        assert!(model("sim-100-continue").interim);
        assert!(model("sim-hang-body").hang_body && !model("sim-hang-body").hang);
        assert_eq!(model("gpt-4o"), Directives::default());
        assert_eq!(model("dossim-hang"), Directives::default());
        assert_eq!(model("sim-small"), Directives::default());
    }

    #[test]
    fn the_help_tells_every_directive_and_none_that_is_not() {
        let told: Vec<&str> = HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
            .collect();
        for word in &told {
            let directive = word.replace("-N", "-200");
            let mut read = Directives::default();
            assert_eq!(read.read_header(&directive), Ok(()), "{word}");
            assert_ne!(read, Directives::default(), "{word}");
        }
        let all = format!("{:?}", Directives::default());
        assert_eq!(all.matches(": ").count(), told.len(), "one for each field");
    }

    #[test]
    fn a_header_must_be_right() {
        let mut directives = Directives::default();
        directives
            .read_header("status-503, sim-retry-after-2+close")
            .expect("all known");
        assert_eq!(
            (
                directives.failure(),
                directives.retry_after,
                directives.close
            ),
            (Some(503), Some(2), true)
        );
        assert_eq!(
            directives.read_header("explode"),
            Err(DirectiveError::Unknown("explode".into()))
        );
        assert!(matches!(
            directives.read_header("status-999"),
            Err(DirectiveError::Number(..))
        ));
        assert!(matches!(
            directives.read_header("tokens"),
            Err(DirectiveError::Number(..))
        ));
    }
}
