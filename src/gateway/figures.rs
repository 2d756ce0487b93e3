//! A finished request in the figures of its thread (spec: control plane 10): from the record itself and not from the ring, which
//! may be full.

use std::borrow::Cow;

use crate::aggregate::{Block, Cell, Dimensions, Outcome};
use crate::limits::AGGREGATE_TEXT_MAX;
use crate::record::{Logged, PaidBy, Record};

/// Counts a request. `known` is what was noted of it once it was let in; a request that was not let in counts as one of no
/// gateway, so that nobody can fill the figures from outside.
pub(super) fn count(block: &Block, record: &Record, known: Option<&Logged>) {
    note(block, record, known, |cell| {
        add(cell, record, known);
        add_use(cell, record);
    });
}

/// Counts what a step of a request used, which another step answered: the client called once.
pub(super) fn count_step(block: &Block, record: &Record, known: Option<&Logged>) {
    note(block, record, known, |cell| add_use(cell, record));
}

fn note(block: &Block, record: &Record, known: Option<&Logged>, add: impl FnOnce(&mut Cell)) {
    let minute = record.began / 60_000;
    let outcome = outcome(record);
    let Some(known) = known else {
        let refused = Dimensions {
            minute,
            status: record.status,
            outcome,
            ..Dimensions::default()
        };
        return block.note(&refused, add);
    };
    let model = record.model.as_deref().or(record.answered_model.as_deref());
    let dimensions = Dimensions {
        minute,
        gateway: text(record.gateway.as_deref()),
        provider: text(record.provider.as_deref()),
        model: text(model),
        status: record.status,
        outcome,
        cached: record.cached.is_some(),
        route: text(record.route.as_ref().map(|route| &*route.name)),
        key_alias: match &known.paid_by {
            PaidBy::Stored(alias) => Cow::Borrowed(alias),
            _ => Cow::Borrowed(""),
        },
        token: text(record.token.as_ref().map(|token| &*token.id)),
        user_agent: text(known.user_agent.as_deref().map(software)),
        metadata: Cow::Borrowed(known.metadata.as_deref().unwrap_or_default()),
    };
    block.note(&dimensions, add);
}

fn outcome(record: &Record) -> Outcome {
    match record.code {
        _ if record.succeeded() => Outcome::Answered,
        Some(2003) => Outcome::RateLimited,
        Some(2016 | 2017 | 2029 | 2030 | 2045) => Outcome::Blocked,
        _ => Outcome::Failed,
    }
}

fn add(cell: &mut Cell, record: &Record, known: Option<&Logged>) {
    let outcome = outcome(record);
    cell.requests += 1;
    cell.last = cell.last.max(record.began / 60_000);
    cell.errors += u64::from(outcome != Outcome::Answered);
    cell.rate_limited += u64::from(outcome == Outcome::RateLimited);
    cell.blocked += u64::from(outcome == Outcome::Blocked);
    cell.retries += known.map_or(0, |known| known.tries.len()) as u64;
    cell.fallbacks += u64::from(record.step > 0);
    let timings = &record.timings;
    let total = timings.total.as_micros() as u64;
    cell.duration_sum += total;
    cell.duration.record(total);
    cell.own.record(timings.own().as_micros() as u64);
    if record.status != 0 {
        let first = timings.total.saturating_sub(timings.stream);
        cell.first_byte.record(first.as_micros() as u64);
    }
    if record.upstream.is_some() {
        cell.connect.record(timings.connect.as_micros() as u64);
        cell.upstream.record(timings.upstream.as_micros() as u64);
    }
}

fn add_use(cell: &mut Cell, record: &Record) {
    if let Some(usage) = &record.usage {
        cell.tokens_in += usage.input;
        cell.tokens_out += usage.output;
        cell.cache_read += usage.cached_input;
        cell.cache_write += usage.cache_write;
        cell.reasoning += usage.reasoning;
        match record.cost {
            Some(cost) => cell.cost += cost,
            None => cell.unpriced += 1,
        }
    }
    if let Some(saved) = &record.cached {
        let usage = saved.usage.unwrap_or_default();
        cell.cached += 1;
        cell.cached_in += usage.input;
        cell.cached_out += usage.output;
        cell.cost_saved += saved.cost.unwrap_or_default();
    }
}

fn text(text: Option<&str>) -> Cow<'_, str> {
    let text = text.unwrap_or_default();
    // Cut between characters: models are the client's words.
    Cow::Borrowed(match text.len() > AGGREGATE_TEXT_MAX {
        true => &text[..text.floor_char_boundary(AGGREGATE_TEXT_MAX)],
        false => text,
    })
}

/// The first product of a `User-Agent`, without its version: `OpenAI/Python` of `OpenAI/Python 1.55.3`, `curl` of `curl/8.1`.
fn software(user_agent: &str) -> &str {
    let product = user_agent.split(' ').next().unwrap_or_default();
    match product.split_once('/') {
        Some((name, version)) if version.starts_with(|first: char| first.is_ascii_digit()) => name,
        _ => product,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::meter::Usage;
    use crate::meter::cost::Money;
    use crate::record::{End, Id, Saved, Timings, TokenName};

    fn record(status: u16, code: Option<u16>) -> Record {
        let client: IpAddr = "127.0.0.1".parse().expect("an address");
        Record {
            gateway: Some("main".into()),
            provider: Some("openai".into()),
            model: Some("m".repeat(2 * AGGREGATE_TEXT_MAX).into()),
            token: Some(TokenName {
                id: "t".into(),
                name: "n".into(),
            }),
            status,
            code,
            end: End::Complete,
            timings: Timings {
                total: Duration::from_micros(900),
                own_request: Duration::from_micros(20),
                stream: Duration::from_micros(100),
                ..Timings::default()
            },
            ..Record::new(Id::lowest_at(120_000), client)
        }
    }

    #[test]
    fn a_request_is_counted_with_all_that_is_known_of_it() {
        let block = Block::default();
        let usage = Usage {
            input: 10,
            output: 4,
            ..Usage::default()
        };
        let known = Logged {
            user_agent: Some("OpenAI/Python 1.55.3".into()),
            metadata: Some(r#"{"user_id":"ada"}"#.into()),
            paid_by: PaidBy::Stored("team".into()),
            ..Logged::default()
        };
        let answered = Record {
            usage: Some(usage),
            cost: Some(Money(7)),
            ..record(200, None)
        };
        count(&block, &answered, Some(&known));
        let unpriced = Record {
            usage: Some(usage),
            ..record(200, None)
        };
        count(&block, &unpriced, Some(&known));
        let rows: Vec<_> = block.take().into_rows().collect();
        let [(dimensions, cell)] = &rows[..] else {
            panic!("{rows:?}");
        };
        assert_eq!(dimensions.minute, 2);
        assert_eq!(dimensions.model.len(), AGGREGATE_TEXT_MAX);
        let named = [
            &dimensions.gateway,
            &dimensions.provider,
            &dimensions.token,
            &dimensions.key_alias,
            &dimensions.user_agent,
            &dimensions.metadata,
        ];
        assert_eq!(
            named.map(|text| &**text),
            [
                "main",
                "openai",
                "t",
                "team",
                "OpenAI/Python",
                r#"{"user_id":"ada"}"#
            ]
        );
        assert_eq!((cell.requests, cell.errors, cell.unpriced), (2, 0, 1));
        assert_eq!(
            (cell.tokens_in, cell.tokens_out, cell.cost),
            (20, 8, Money(7))
        );
        assert_eq!((cell.own.count(), cell.upstream.count()), (2, 0));
        let first = cell.first_byte.quantile(0.5).expect("a value");
        assert!(first.abs_diff(800) <= 26, "{first}");
    }

    #[test]
    fn a_step_that_another_one_followed_adds_what_it_used_and_no_request() {
        let block = Block::default();
        let failed = Record {
            usage: Some(Usage {
                input: 3,
                ..Usage::default()
            }),
            cost: Some(Money(5)),
            ..record(500, None)
        };
        count_step(&block, &failed, Some(&Logged::default()));
        let answered = Record {
            step: 1,
            ..record(200, None)
        };
        count(&block, &answered, Some(&Logged::default()));
        let mut sum = Cell::default();
        block
            .take()
            .into_rows()
            .for_each(|(_, cell)| sum.merge(&cell));
        assert_eq!((sum.requests, sum.errors, sum.fallbacks), (1, 0, 1));
        assert_eq!((sum.tokens_in, sum.cost), (3, Money(5)));
    }

    #[test]
    fn refusals_are_told_apart_and_who_was_not_let_in_has_no_gateway() {
        let block = Block::default();
        let known = Logged::default();
        for (status, code) in [(429, 2003), (403, 2016), (400, 2005)] {
            count(&block, &record(status, Some(code)), Some(&known));
        }
        count(&block, &record(429, None), Some(&known));
        count(&block, &record(401, Some(2009)), None);
        let rows: Vec<_> = block.take().into_rows().collect();
        let of = |outcome| -> u64 {
            let like = rows.iter().filter(|(key, _)| key.outcome == outcome);
            like.map(|(_, cell)| cell.requests).sum()
        };
        let all = [Outcome::RateLimited, Outcome::Blocked, Outcome::Failed];
        assert_eq!(all.map(of), [1, 1, 3]);
        let outside = rows.iter().find(|(key, _)| key.status == 401);
        let (key, cell) = outside.expect("a row");
        assert!(key.gateway.is_empty() && key.model.is_empty());
        assert_eq!(cell.errors, 1);
    }

    #[test]
    fn what_the_cache_saved_is_no_use_of_the_provider() {
        let block = Block::default();
        let usage = Usage {
            input: 10,
            output: 4,
            ..Usage::default()
        };
        let hit = Record {
            cached: Some(Box::new(Saved {
                usage: Some(usage),
                cost: Some(Money(9)),
            })),
            ..record(200, None)
        };
        count(&block, &hit, Some(&Logged::default()));
        let (dimensions, cell) = block.take().into_rows().next().expect("a row");
        assert!(dimensions.cached);
        assert_eq!((cell.cached, cell.cached_in, cell.cached_out), (1, 10, 4));
        assert_eq!((cell.tokens_in, cell.cost), (0, Money::ZERO));
        assert_eq!(cell.cost_saved, Money(9));
    }

    #[test]
    fn software_is_told_without_its_version() {
        for (given, told) in [
            ("OpenAI/Python 1.55.3", "OpenAI/Python"),
            ("python-requests/2.31.0", "python-requests"),
            ("curl/8.1", "curl"),
            ("Mozilla/5.0 (X11)", "Mozilla"),
            ("node", "node"),
            ("", ""),
        ] {
            assert_eq!(software(given), told, "{given}");
        }
    }
}
