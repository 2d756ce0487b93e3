//! The labelled series of the metrics page (spec: control plane 10.2): sums since the start, of a bounded number of labels.

use std::collections::HashMap;
use std::fmt::Write;

use crate::aggregate::{Cell, Dimensions, OTHER};
use crate::meter::cost::Money;

/// What a series is told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Labels {
    gateway: String,
    provider: String,
    model: String,
    /// The first digit of the status; 0: none was sent.
    class: u16,
    cached: bool,
}

/// Its sums.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    requests: u64,
    tokens_in: u64,
    tokens_out: u64,
    cost: Money,
    duration: u64,
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Series {
    sums: HashMap<Labels, Sums, ahash::RandomState>,
    most: usize,
}

impl Series {
    /// At most so many sets of labels; what comes after goes to one called `other` of each class.
    pub fn bound(&mut self, most: usize) {
        self.most = most;
    }

    /// Counts a cell.
    pub fn count(&mut self, of: &Dimensions<'_>, cell: &Cell) {
        let mut labels = Labels {
            gateway: of.gateway.to_string(),
            provider: of.provider.to_string(),
            model: of.model.to_string(),
            class: (of.status / 100).min(5),
            cached: of.cached,
        };
        if self.sums.len() >= self.most && !self.sums.contains_key(&labels) {
            for text in [&mut labels.gateway, &mut labels.provider, &mut labels.model] {
                OTHER.clone_into(text);
            }
        }
        let sums = self.sums.entry(labels).or_default();
        sums.requests += cell.requests;
        sums.tokens_in += cell.tokens_in;
        sums.tokens_out += cell.tokens_out;
        sums.cost += cell.cost;
        sums.duration += cell.duration_sum;
    }

    /// Writes them in Prometheus's text format. Writing to a string cannot fail, so the results are not looked at.
    pub fn write(&self, page: &mut String) {
        let mut series: Vec<_> = self.sums.iter().collect();
        series.sort_by_key(|(labels, _)| *labels);
        let series: Vec<(String, &Sums)> = series
            .into_iter()
            .map(|(labels, sums)| (labels.to_string(), sums))
            .collect();
        type Show = fn(&Sums) -> String;
        let families: [(&str, &str, Show); 5] = [
            (
                "requests_total",
                "Requests; those that were not let in are of no gateway.",
                |sums| sums.requests.to_string(),
            ),
            ("request_input_tokens_total", "Tokens of prompts.", |sums| {
                sums.tokens_in.to_string()
            }),
            (
                "request_output_tokens_total",
                "Tokens of answers.",
                |sums| sums.tokens_out.to_string(),
            ),
            (
                "request_cost_dollars_total",
                "What providers charge, where the price is known.",
                |sums| sums.cost.to_string(),
            ),
            (
                "request_duration_seconds_total",
                "Time of whole requests.",
                |sums| (sums.duration as f64 / 1e6).to_string(),
            ),
        ];
        for (name, help, show) in families {
            let _ = write!(
                page,
                "# HELP ringgate_{name} {help}\n# TYPE ringgate_{name} counter\n"
            );
            for (labels, sums) in &series {
                let _ = writeln!(page, "ringgate_{name}{{{labels}}} {}", show(sums));
            }
        }
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let class = match self.class {
            0 => "none".to_owned(),
            class => format!("{class}xx"),
        };
        let [gateway, provider, model] =
            [&self.gateway, &self.provider, &self.model].map(|text| escaped(text));
        let cached = self.cached;
        write!(
            f,
            "gateway=\"{gateway}\",provider=\"{provider}\",model=\"{model}\",status_class=\"{class}\",cached=\"{cached}\""
        )
    }
}

/// As the format wants it within quotes; models are the client's words.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_their_sums_are_not() {
        let mut series = Series::default();
        series.bound(3);
        let cell = Cell {
            requests: 1,
            cost: Money(500_000_000_000),
            ..Cell::default()
        };
        for at in 0..10 {
            let model = if at < 2 {
                "a\"b".to_owned()
            } else {
                at.to_string()
            };
            let dimensions = Dimensions {
                gateway: "g".into(),
                model: model.into(),
                status: if at == 0 { 0 } else { 200 },
                ..Dimensions::default()
            };
            series.count(&dimensions, &cell);
        }
        let mut page = String::new();
        series.write(&mut page);
        let of = |name: &str| -> Vec<&str> {
            let begins = format!("ringgate_{name}{{");
            page.lines()
                .filter(|line| line.starts_with(&begins))
                .collect()
        };
        assert_eq!(
            of("requests_total"),
            [
                r#"ringgate_requests_total{gateway="g",provider="",model="2",status_class="2xx",cached="false"} 1"#,
                r#"ringgate_requests_total{gateway="g",provider="",model="a\"b",status_class="none",cached="false"} 1"#,
                r#"ringgate_requests_total{gateway="g",provider="",model="a\"b",status_class="2xx",cached="false"} 1"#,
                r#"ringgate_requests_total{gateway="other",provider="other",model="other",status_class="2xx",cached="false"} 7"#,
            ]
        );
        assert!(
            of("request_cost_dollars_total")[3].ends_with(" 3.5"),
            "{page}"
        );
    }
}
