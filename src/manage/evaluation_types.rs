//! What evaluations measure (spec: control plane 4): three types that are always there.

use rusqlite::OptionalExtension;
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::operation::{Answers, Body, Call, Operation, READ, paging, time};
use super::schema::{Field, Kind, TEXT, optional, required};
use crate::telemetry::logs::{Sum, Tally};

const ANSWER: &[Field] = &[
    required("id", TEXT),
    required("name", TEXT),
    required("type", TEXT),
    required("description", TEXT),
    required("enable", Kind::Boolean),
    required("mandatory", Kind::Boolean),
    required("created_at", Kind::Time),
    required("modified_at", Kind::Time),
];

pub(super) const OPERATIONS: &[Operation] = &[Operation {
    method: "GET",
    path: "/accounts/{account_id}/ai-gateway/evaluation-types",
    name: "evaluation_types.list",
    about: "List what evaluations can measure",
    needs: READ,
    query: &[
        optional(
            "order_by",
            Kind::Choice(&[
                "id",
                "name",
                "type",
                "description",
                "enable",
                "mandatory",
                "created_at",
                "modified_at",
            ]),
        ),
        optional("order_by_direction", Kind::Choice(&["asc", "desc"])),
        paging(5, 50)[0],
        paging(5, 50)[1],
    ],
    body: Body::None,
    answers: Answers::Page(ANSWER),
    run: list,
}];

/// One type.
pub(super) struct EvaluationType {
    /// The same in every instance.
    pub id: &'static str,
    name: &'static str,
    description: &'static str,
    /// What of the entries it looks at.
    figure: fn(&Tally) -> Sum,
    /// Decimal places by which the figure's unit is smaller than the result's.
    shift: i32,
    /// Decimal places that are told.
    places: u32,
}

/// All there are.
pub(super) const TYPES: [EvaluationType; 3] = [
    EvaluationType {
        id: "cost",
        name: "Cost",
        description: "Average cost of a request, in US dollars",
        figure: |tally| tally.cost,
        shift: 12,
        places: 12,
    },
    EvaluationType {
        id: "speed",
        name: "Speed",
        description: "Average duration of a request, in milliseconds",
        figure: |tally| tally.duration,
        shift: 0,
        places: 3,
    },
    EvaluationType {
        id: "human_feedback",
        name: "Human feedback",
        description: "Share of positive feedback among all feedback, in percent",
        figure: |tally| tally.liked,
        shift: -2,
        places: 2,
    },
];

impl EvaluationType {
    /// Of an id.
    pub fn of(id: &str) -> Option<&'static Self> {
        // A reference to a constant of this kind lives for ever.
        const ALL: &[EvaluationType] = &TYPES;
        ALL.iter().find(|known| known.id == id)
    }

    /// The result, empty where no entry has the figure, and how many have it.
    pub fn measure(&self, tally: &Tally) -> (String, u64) {
        let sum = (self.figure)(tally);
        let result = average(sum, self.shift, self.places);
        (result.unwrap_or_default(), sum.entries)
    }
}

fn list(call: &mut Call<'_>) -> Result<Answer, Problem> {
    // They are as old as the instance.
    let query = "SELECT value FROM meta WHERE key = 'created'";
    let created: Option<String> = call
        .database
        .query_row(query, [], |row| row.get(0))
        .optional()?;
    let created = time(created.and_then(|at| at.parse().ok()).unwrap_or(0));
    let show = |known: &EvaluationType| {
        json!({
            "id": known.id,
            "name": known.name,
            "type": known.id,
            "description": known.description,
            "enable": true,
            "mandatory": false,
            "created_at": created,
            "modified_at": created,
        })
    };
    let by = call.text("order_by").unwrap_or("mandatory").to_owned();
    let key = |shown: &Value| (shown[&by].to_string(), shown["id"].to_string());
    let mut all: Vec<Value> = TYPES.iter().map(show).collect();
    all.sort_by_key(key);
    if call.text("order_by_direction") == Some("desc") {
        all.reverse();
    }
    Ok(call.paginate(all))
}

/// The average as a decimal number, to the nearest of so many places.
fn average(sum: Sum, shift: i32, places: u32) -> Option<String> {
    if sum.entries == 0 {
        return None;
    }
    // In units of the last place: of two exact numbers, so that no rounding is done twice.
    let scale = 10_i128.pow(places.saturating_add_signed(-shift));
    let count = i128::from(sum.entries);
    let doubled = sum.total.saturating_mul(scale).saturating_mul(2);
    let units = doubled.saturating_add(count).div_euclid(2 * count);
    let one = 10_u128.pow(places);
    let (whole, rest) = (units.unsigned_abs() / one, units.unsigned_abs() % one);
    let sign = if units < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{rest:0width$}", width = places as usize);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(entries: u64, total: i128) -> Sum {
        Sum { entries, total }
    }

    #[test]
    fn results_are_exact_decimal_numbers() {
        let tally = Tally {
            entries: 4,
            cost: sum(3, 1_000_000_000_001),
            duration: sum(4, 2_002),
            liked: sum(3, 2),
        };
        let measured = |id: &str| EvaluationType::of(id).expect("a type").measure(&tally);
        assert_eq!(measured("cost"), ("0.333333333334".to_owned(), 3));
        assert_eq!(measured("speed"), ("500.5".to_owned(), 4));
        assert_eq!(measured("human_feedback"), ("66.67".to_owned(), 3));
        assert!(EvaluationType::of("luck").is_none());
    }

    #[test]
    fn averages_are_rounded_once_and_of_nothing_there_is_none() {
        for (entries, total, shift, places, expected) in [
            (1, 340_000_000, 12, 12, "0.00034"),
            (1, 0, 12, 12, "0"),
            (2, 1, 12, 12, "0.000000000001"),
            (3, 1, 12, 12, "0"),
            (7, 7_000, 0, 3, "1000"),
            (3, 3, -2, 2, "100"),
            (1, 12_000_000_000_000_000, 12, 12, "12000"),
            (2, -3, 0, 3, "-1.5"),
        ] {
            let text = average(sum(entries, total), shift, places);
            assert_eq!(text.as_deref(), Some(expected), "{total} / {entries}");
        }
        assert_eq!(average(sum(0, 0), 12, 12), None);
        assert!(average(sum(1, i128::MAX), -2, 2).is_some(), "bounded");
    }
}
