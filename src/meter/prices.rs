//! What models cost: a table of public list prices, and what the operator sets above it (spec: control plane 6.4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::cost::{Extras, Money, Price, Rate, Tier};
use super::usage::Usage;
use crate::limits::PRICE_NAMES_MAX;

/// When the table of list prices was made, as a date.
pub const VERSION: &str = "2026-11-25";

/// One row a line, sorted: provider, model, and rates in dollars (of tokens: for a million of them).
const TABLE: &str = include_str!("prices.jsonl");

/// Providers whose answers state what they charge (spec: providers 1.8).
const STATES_PRICE: [&str; 3] = ["openrouter", "perplexity-ai", "grok"];

/// List prices by provider and model.
static LIST: LazyLock<HashMap<&'static str, HashMap<&'static str, Price>>> = LazyLock::new(|| {
    let mut list: HashMap<&str, HashMap<&str, Price>> = HashMap::new();
    for line in TABLE.lines() {
        // A test reads every line; a row that cannot be read is a price that is not known.
        if let Ok(row) = serde_json::from_str::<Row<'static>>(line) {
            let price = row.price();
            list.entry(row.provider)
                .or_default()
                .insert(row.model, price);
        }
    }
    list
});

/// A line of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    provider: &'a str,
    model: &'a str,
    input: Option<f64>,
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    reasoning: Option<f64>,
    audio_in: Option<f64>,
    audio_out: Option<f64>,
    image_in: Option<f64>,
    image_out: Option<f64>,
    search: Option<Search>,
    #[serde(default)]
    per: HashMap<String, f64>,
    #[serde(default)]
    tiers: Vec<RowTier>,
    #[serde(rename = "context")]
    _context: Option<u64>,
    max_output: Option<u64>,
}

/// Dollars for a search, or by how much context it brings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Search {
    Any(f64),
    ByContext { medium: f64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowTier {
    above: u64,
    input: Option<f64>,
    output: Option<f64>,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
}

impl Row<'_> {
    fn price(&self) -> Price {
        let search = match self.search {
            Some(Search::Any(dollars) | Search::ByContext { medium: dollars }) => {
                Rate::of_dollars(dollars)
            }
            None => None,
        };
        let request = self.per.get("request").copied().and_then(Rate::of_dollars);
        Price {
            input: million(self.input),
            output: million(self.output),
            cache_read: million(self.cache_read),
            cache_write: million(self.cache_write),
            cache_write_long: million(self.cache_write_1h),
            reasoning: million(self.reasoning),
            audio_input: million(self.audio_in),
            audio_output: million(self.audio_out),
            image_input: million(self.image_in),
            image_output: million(self.image_out),
            search,
            request,
            tiers: self.tiers.iter().map(RowTier::tier).collect(),
            max_output: self.max_output,
        }
    }
}

impl RowTier {
    fn tier(&self) -> Tier {
        Tier {
            above: self.above,
            input: million(self.input),
            output: million(self.output),
            cache_read: million(self.cache_read),
            cache_write: million(self.cache_write),
        }
    }
}

fn million(dollars: Option<f64>) -> Option<Rate> {
    dollars.and_then(Rate::of_dollars_per_million)
}

/// How the model's name in a [`SetPrice`] is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelRule {
    /// It is part of the model's name.
    Contains,
    /// The model's name begins with it.
    StartsWith,
    /// It is the model's name.
    Equals,
}

impl ModelRule {
    fn fits(self, wanted: &str, model: &str) -> bool {
        match self {
            Self::Contains => model.contains(wanted),
            Self::StartsWith => model.starts_with(wanted),
            Self::Equals => model == wanted,
        }
    }
}

/// A price that the operator sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPrice {
    /// The provider's name in paths.
    pub provider: String,
    /// How `model` is compared.
    pub rule: ModelRule,
    /// The model's name, or a part of it.
    pub model: String,
    /// The highest wins.
    pub weight: i64,
    /// The price.
    pub price: Price,
}

/// The prices of an instance.
#[derive(Debug, Clone, Default)]
pub struct Prices {
    set: Rules,
    declared: Rules,
    /// Of each provider what [`Prices::models`] tells.
    models: HashMap<String, Vec<Cow<'static, str>>>,
}

impl Prices {
    /// Those set through the API stand above those that the configuration file declares, and these above list prices.
    pub fn new(
        set: impl IntoIterator<Item = SetPrice>,
        declared: impl IntoIterator<Item = SetPrice>,
    ) -> Self {
        // Here, where it may take its milliseconds, and not with the first answer that is priced on a data thread.
        LazyLock::force(&LIST);
        let (set, declared) = (Rules::new(set), Rules::new(declared));
        let mut models: HashMap<String, Vec<Cow<'static, str>>> = HashMap::new();
        for (provider, listed) in LIST.iter() {
            let generating = listed.iter().filter(|(name, price)| is_model(name, price));
            let names = generating.map(|(name, _)| Cow::Borrowed(*name)).collect();
            models.insert((*provider).to_owned(), names);
        }
        for one in set.0.values().chain(declared.0.values()).flatten() {
            if one.rule == ModelRule::Equals {
                let models = models.entry(one.provider.clone()).or_default();
                models.push(Cow::Owned(one.model.clone()));
            }
        }
        for models in models.values_mut() {
            models.sort_unstable();
            models.dedup();
        }
        Self {
            set,
            declared,
            models,
        }
    }

    /// The models of a provider that are priced by the token, sorted.
    pub fn models(&self, provider: &str) -> &[Cow<'static, str>] {
        self.models.get(provider).map_or(&[], Vec::as_slice)
    }

    /// The price of a provider's model. `model` is what the answer calls itself, else what was asked for.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Price> {
        self.set
            .find(provider, model)
            .or_else(|| self.declared.find(provider, model))
            .or_else(|| listed(provider, model))
    }

    /// What an answer costs at the price of the first of these models that has one. Only providers that document it are believed
    /// what they state as their price.
    pub fn cost<'m>(
        &self,
        provider: &str,
        models: impl IntoIterator<Item = &'m str>,
        usage: &Usage,
        extras: &Extras,
    ) -> Option<Money> {
        let stated = extras.stated.filter(|_| STATES_PRICE.contains(&provider));
        let extras = Extras { stated, ..*extras };
        let mut models = models.into_iter();
        let found = models.find_map(|model| Some((self.find(provider, model)?, model)));
        match found {
            Some((price, model)) => {
                let searches = charged_searches(provider, model, extras.searches);
                price.cost(usage, &Extras { searches, ..extras })
            }
            None => stated,
        }
    }
}

/// Prices that somebody set, by provider.
#[derive(Debug, Clone, Default)]
struct Rules(HashMap<String, Vec<SetPrice>>);

impl Rules {
    /// Of those that fit the highest weight wins, then equals before starts-with before contains, then the longest name (spec:
    /// control plane 6.4).
    fn new(set: impl IntoIterator<Item = SetPrice>) -> Self {
        let mut rules: HashMap<String, Vec<SetPrice>> = HashMap::new();
        for one in set {
            rules.entry(one.provider.clone()).or_default().push(one);
        }
        for group in rules.values_mut() {
            group.sort_by_key(|one| std::cmp::Reverse((one.weight, one.rule, one.model.len())));
        }
        Self(rules)
    }

    fn find(&self, provider: &str, model: &str) -> Option<&Price> {
        let group = self.0.get(provider)?;
        let found = group.iter().find(|one| one.rule.fits(&one.model, model));
        found.map(|one| &one.price)
    }
}

/// Whether a row of the table is a model with tokens, rather than a picture's size, a minute of sound or a tool.
fn is_model(name: &str, price: &Price) -> bool {
    price.input.is_some() && !name.contains("-x-")
}

/// How many searches are charged. OpenAI's search models make one for each request and count none; Gemini's up to the second
/// generation are charged by the request that searched, later ones by the query.
fn charged_searches(provider: &str, model: &str, counted: u64) -> u64 {
    match provider {
        "openai" | "azure-openai"
            if model.contains("-search-preview") || model.contains("-search-api") =>
        {
            counted.max(1)
        }
        "google-ai-studio" | "google-vertex-ai" => {
            let name = model.rsplit('/').next().unwrap_or(model);
            match name.starts_with("gemini-1") || name.starts_with("gemini-2") {
                true => counted.min(1),
                false => counted,
            }
        }
        _ => counted,
    }
}

/// Most tokens that a model generates, where the table knows it.
pub fn most_output(provider: &str, model: &str) -> Option<u64> {
    listed(provider, model)?.max_output
}

/// The list price under the model's name, or under a plainer name of the same model.
fn listed(provider: &str, model: &str) -> Option<&'static Price> {
    let models = LIST.get(provider)?;
    let exact = models.get(model);
    exact.or_else(|| names(provider, model).find_map(|name| models.get(&*name)))
}

/// A model's name, then plainer ones: without the path before it, the region, the date, the marks of a fine-tuned model.
fn names<'a>(provider: &str, model: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let mut names: Vec<Cow<'a, str>> = vec![model.into()];
    let plain = match provider {
        "google-ai-studio" => model.strip_prefix("models/").unwrap_or(model),
        "aws-bedrock" => bedrock(model),
        // The model's own name behind `ft:`, before the owner: `ft:gpt-4o-2024-08-06:acme::id`.
        "openai" | "azure-openai" if model.starts_with("ft:") => model
            .match_indices(':')
            .nth(1)
            .map_or(model, |(at, _)| &model[..at]),
        _ => model,
    };
    names.push(plain.into());
    if provider == "google-vertex-ai" && !plain.contains('/') {
        let publisher = if plain.starts_with("claude") {
            "anthropic"
        } else {
            "google"
        };
        names.push(format!("{publisher}/{plain}").into());
    }
    for at in 0..names.len() {
        if let Some(undated) = undated(&names[at]) {
            names.push(undated.to_owned().into());
        }
    }
    debug_assert!(names.len() <= PRICE_NAMES_MAX);
    names.into_iter()
}

/// Without the profile's region and the ARN before it: `us.anthropic.claude-...` is `anthropic.claude-...`.
fn bedrock(model: &str) -> &str {
    let model = match model.starts_with("arn:") {
        true => model.rsplit('/').next().unwrap_or(model),
        false => model,
    };
    const REGIONS: [&str; 8] = [
        "us.", "eu.", "apac.", "jp.", "au.", "ca.", "global.", "us-gov.",
    ];
    REGIONS
        .iter()
        .find_map(|region| model.strip_prefix(region))
        .unwrap_or(model)
}

/// Without the date at its end: `-2024-11-20`, `-20251001`, `@20251001`, or `-latest`.
fn undated(model: &str) -> Option<&str> {
    if let Some(stem) = model.strip_suffix("-latest") {
        return Some(stem);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cut = |length: usize| {
        let at = model.len().checked_sub(length)?;
        let (stem, end) = (model.get(..at)?, model.get(at..)?);
        (!stem.is_empty()).then_some((stem, end))
    };
    if let Some((stem, end)) = cut(11)
        && let [dash, year, month, day] = [&end[..1], &end[1..5], &end[6..8], &end[9..]]
        && dash == "-"
        && &end[5..6] == "-"
        && &end[8..9] == "-"
        && [year, month, day].into_iter().all(digits)
    {
        return Some(stem);
    }
    let (stem, end) = cut(9)?;
    let (mark, date) = end.split_at(1);
    (matches!(mark, "-" | "@") && digits(date)).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_with_tokens_are_known_by_name() {
        let set = |provider: &str, rule, model: &str| SetPrice {
            provider: provider.to_owned(),
            rule,
            model: model.to_owned(),
            weight: 0,
            price: Price::default(),
        };
        let prices = Prices::new(
            [
                set("openai", ModelRule::Equals, "aa-mine"),
                set("openai", ModelRule::Equals, "gpt-4o"),
                set("openai", ModelRule::StartsWith, "gpt-"),
            ],
            [set("custom-x", ModelRule::Equals, "own")],
        );
        let models = prices.models("openai");
        assert!(models.is_sorted_by(|one, next| one < next));
        let has = |name: &str| models.iter().any(|model| model == name);
        assert!(has("aa-mine") && has("gpt-4o") && !has("gpt-") && !has("whisper-1"));
        assert_eq!(prices.models("custom-x"), ["own"]);
        assert!(prices.models("nobody").is_empty());
        let sizes = |model: &Cow<str>| model.contains("-x-");
        assert!(!prices.models.values().flatten().any(sizes));
    }

    fn million_in(price: &Price) -> Money {
        let usage = Usage {
            input: 1_000,
            total: 1_000,
            ..Usage::default()
        };
        price.cost(&usage, &Extras::default()).expect("a price")
    }

    #[test]
    fn every_row_is_read_and_no_rate_is_lost() {
        let mut rows = 0;
        for line in TABLE.lines() {
            let row: Row<'_> =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let price = row.price();
            assert_eq!(price.input.is_some(), row.input.is_some(), "{line}");
            assert_eq!(price.tiers.len(), row.tiers.len(), "{line}");
            assert_eq!(listed(row.provider, row.model), Some(&price), "{line}");
            rows += 1;
        }
        assert_eq!(LIST.values().map(HashMap::len).sum::<usize>(), rows);
        assert!(rows > 2000);
    }

    #[test]
    fn models_are_found_under_the_names_that_answers_use() {
        let prices = Prices::default();
        let same = [
            (
                "aws-bedrock",
                "apac.anthropic.claude-v2:1",
                "anthropic.claude-v2:1",
            ),
            (
                "aws-bedrock",
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
                "amazon.nova-lite-v1:0",
            ),
            (
                "google-ai-studio",
                "models/gemini-2.5-flash",
                "gemini-2.5-flash",
            ),
            (
                "google-vertex-ai",
                "gemini-2.5-flash",
                "google/gemini-2.5-flash",
            ),
            (
                "google-vertex-ai",
                "claude-haiku-4-5@20251001",
                "anthropic/claude-haiku-4-5@20251001",
            ),
            ("anthropic", "claude-opus-5-20270101", "claude-opus-5"),
            ("openai", "gpt-5-2031-01-02", "gpt-5"),
            ("openai", "ft:gpt-3.5-turbo:acme::8abc", "ft:gpt-3.5-turbo"),
        ];
        for (provider, answered, listed) in same {
            let found = prices.find(provider, answered);
            assert!(found.is_some(), "{provider} {answered}");
            assert_eq!(
                found,
                prices.find(provider, listed),
                "{provider} {answered}"
            );
        }
        for (provider, unknown) in [
            ("openai", "gpt-99"),
            ("openai", ""),
            ("openai", "-20250101"),
            ("openai", "ä-2025-01-0ß"),
            ("nobody", "gpt-5"),
            ("custom-local", "gpt-5"),
        ] {
            assert_eq!(prices.find(provider, unknown), None, "{provider} {unknown}");
        }
    }

    #[test]
    fn a_stated_price_is_believed_where_it_is_documented() {
        let usage = Usage {
            input: 10,
            total: 10,
            ..Usage::default()
        };
        let extras = Extras {
            stated: Some(Money(7)),
            ..Extras::default()
        };
        let prices = Prices::default();
        let cost = |provider, models: &[&'static str]| {
            prices.cost(provider, models.iter().copied(), &usage, &extras)
        };
        assert_eq!(cost("openrouter", &["openai/gpt-5"]), Some(Money(7)));
        assert_eq!(cost("grok", &[]), Some(Money(7)));
        assert_eq!(cost("custom-mine", &["m"]), None);
        assert_eq!(cost("openai", &["gpt-5"]), Some(Money(10 * 1_250_000)));
        assert_eq!(
            cost("openai", &["my-deployment", "gpt-5"]),
            Some(Money(10 * 1_250_000))
        );
        assert_eq!(cost("openai", &["nothing", "known"]), None);
    }

    #[test]
    fn searches_are_charged_as_each_provider_does() {
        for (provider, model, counted, charged) in [
            ("openai", "gpt-4o-search-preview", 0, 1),
            ("openai", "gpt-4.1", 3, 3),
            ("google-ai-studio", "models/gemini-2.5-flash", 3, 1),
            ("google-vertex-ai", "google/gemini-2.5-flash", 0, 0),
            ("google-ai-studio", "gemini-3-pro", 3, 3),
            ("anthropic", "claude-opus-5", 2, 2),
        ] {
            assert_eq!(
                charged_searches(provider, model, counted),
                charged,
                "{model}"
            );
        }
        let usage = Usage::default();
        let extras = Extras {
            searches: 2,
            ..Extras::default()
        };
        let cost = Prices::default().cost("openai", ["gpt-4.1"], &usage, &extras);
        assert_eq!(cost, Some(Money(2 * 25_000_000_000)));
    }

    #[test]
    fn what_is_set_stands_above_the_list_in_its_order() {
        let set = |rule, model: &str, weight, dollars| SetPrice {
            provider: "openai".to_owned(),
            rule,
            model: model.to_owned(),
            weight,
            price: Price {
                input: Rate::of_dollars(dollars),
                ..Price::default()
            },
        };
        let prices = Prices::new(
            [
                set(ModelRule::Contains, "gpt", 0, 1.0),
                set(ModelRule::StartsWith, "gpt", 0, 2.0),
                set(ModelRule::StartsWith, "gpt-5", 0, 3.0),
                set(ModelRule::Equals, "gpt-5", 0, 4.0),
                set(ModelRule::Contains, "nano", 1, 5.0),
            ],
            [
                set(ModelRule::Equals, "gpt-5", 9, 6.0),
                set(ModelRule::Equals, "o3-mini", 0, 7.0),
            ],
        );
        for (model, dollars) in [
            ("my-gpt", 1),
            ("gpt-4", 2),
            ("gpt-5-mini", 3),
            ("gpt-5", 4),
            ("gpt-5-nano", 5),
            ("o3-mini", 7),
        ] {
            let price = prices.find("openai", model).expect("a price");
            assert_eq!(
                million_in(price),
                Money(dollars * 1_000_000_000_000_000),
                "{model}"
            );
        }
        assert_eq!(prices.find("groq", "gpt-5"), None);
        assert_eq!(
            prices.find("openai", "o3"),
            Prices::default().find("openai", "o3")
        );
    }
}
