//! The objects that `export` writes and `apply` reconciles: one row a kind, read and changed through the management API.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::client::{Client, Failure, segment};
use crate::config::GATEWAY_KEYS;
use crate::route::Graph;

/// An object in the form of the document.
pub(super) type Object = Map<String, Value>;

/// One kind of object.
pub(super) struct Kind {
    /// Its list in the document.
    pub member: &'static str,
    /// For people.
    pub name: &'static str,
    /// Below the account; `{gateway_id}` where each gateway has its own.
    path: &'static str,
    /// Where the items are in a page of the list.
    items: &'static str,
    /// What names one in its path.
    key: &'static str,
    /// What makes two the same object, in any instance.
    pub identity: &'static [&'static str],
    /// What else the document holds of it.
    fields: &'static [&'static str],
    /// What a missing member means, where that is not `null`.
    defaults: &'static str,
    /// Members that the API fills in where they are missing, at any depth.
    filled: &'static [&'static str],
    change: Change,
}

/// How the API changes one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// PUT of the whole.
    Put,
    /// PATCH of what differs.
    Patch,
    /// A new version, which is then deployed.
    Version,
    /// There is nothing to change.
    Never,
}

/// In the order of their making: what comes later may name what came before.
pub(super) const KINDS: [Kind; 6] = [
    Kind {
        member: "custom_providers",
        name: "custom provider",
        path: "/ai-gateway/custom-providers",
        items: "/result",
        key: "id",
        identity: &["slug"],
        fields: &[
            "name",
            "base_url",
            "enable",
            "beta",
            "description",
            "link",
            "headers",
            "curl_example",
            "js_example",
            "position",
            "logo",
        ],
        defaults: r#"{"enable":false,"beta":false}"#,
        filled: &["logo", "position"],
        change: Change::Patch,
    },
    Kind {
        member: "gateways",
        name: "gateway",
        path: "/ai-gateway/gateways",
        items: "/result",
        key: "id",
        identity: &["id"],
        fields: &GATEWAY_KEYS,
        defaults: r#"{"cache_invalidate_on_update":true,"cache_ttl":0,"collect_logs":true,"rate_limiting_interval":0,"rate_limiting_limit":0,
            "spend_limits":{"enabled":false,"rules":[]},"workers_ai_billing_mode":"postpaid"}"#,
        filled: &["id", "enabled", "technique", "rules"],
        change: Change::Put,
    },
    Kind {
        member: "prices",
        name: "price",
        path: "/ai-gateway/custom-providers/costs",
        items: "/result",
        key: "id",
        identity: &["account_provider_id", "model", "model_rule", "cost_type"],
        fields: &["cost_in", "cost_out", "token_pricing", "enable", "weight"],
        defaults: r#"{"model_rule":"equals","cost_type":"tokens"}"#,
        filled: &["enable", "weight"],
        change: Change::Patch,
    },
    Kind {
        member: "routes",
        name: "route",
        path: "/ai-gateway/gateways/{gateway_id}/routes",
        items: "/data/routes",
        key: "id",
        identity: &["gateway_id", "name"],
        fields: &["elements"],
        defaults: "{}",
        filled: &[],
        change: Change::Version,
    },
    Kind {
        member: "domains",
        name: "domain",
        path: "/ai-gateway/gateways/{gateway_id}/custom-domains",
        items: "/result",
        key: "hostname",
        identity: &["gateway_id", "hostname"],
        fields: &[],
        defaults: "{}",
        filled: &[],
        change: Change::Never,
    },
    Kind {
        member: "datasets",
        name: "dataset",
        path: "/ai-gateway/gateways/{gateway_id}/datasets",
        items: "/result",
        key: "id",
        identity: &["gateway_id", "name"],
        fields: &["enable", "filters"],
        defaults: r#"{"enable":true,"filters":[]}"#,
        filled: &[],
        change: Change::Put,
    },
];

/// Values that may hold credentials, which no diff shows.
const UNSHOWN: [&str; 2] = ["headers", "otel"];
/// Items asked for at once; no list allows more.
const PER_PAGE: usize = 100;
/// What begins the `internal_id` of a gateway that the configuration file declares.
const DECLARED: &str = "declared-";

impl Kind {
    /// An object's name for people.
    pub fn title(&self, object: &Object) -> String {
        let text = |name: &str| match object.get(name) {
            Some(Value::String(text)) => text.clone(),
            other => other.map_or_else(String::new, Value::to_string),
        };
        match self.member {
            "prices" => format!(
                "price of {:?} {} {:?} ({})",
                text("account_provider_id"),
                text("model_rule"),
                text("model"),
                text("cost_type")
            ),
            "routes" | "domains" | "datasets" => format!(
                "{} {:?} of gateway {:?}",
                self.name,
                text(self.identity[1]),
                text("gateway_id")
            ),
            _ => format!("{} {:?}", self.name, text(self.identity[0])),
        }
    }

    /// Whether each gateway has its own.
    pub fn is_within_gateway(&self) -> bool {
        self.path.contains("{gateway_id}")
    }

    fn defaults(&self) -> Object {
        serde_json::from_str(self.defaults).unwrap_or_default()
    }

    /// Every member that the document may hold of one.
    pub fn members(&self) -> impl Iterator<Item = &'static str> {
        self.identity.iter().chain(self.fields).copied()
    }

    /// An object of a document: all that makes it itself is there, and nothing unknown.
    pub fn parse(&self, value: &Value) -> Result<Object, Failure> {
        let unfit = |reason: String| Failure::Unfit(format!("{}: {reason}", self.member));
        let given = value
            .as_object()
            .ok_or_else(|| unfit(format!("{value} is no object")))?;
        let mut object: Object = given
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for name in self.identity {
            if let (false, Some(default)) = (object.contains_key(*name), self.defaults().get(*name))
            {
                object.insert((*name).to_owned(), default.clone());
            }
            if object
                .get(*name)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
            {
                return Err(unfit(format!("{value} has no {name}")));
            }
        }
        for name in given.keys() {
            if !self.members().any(|member| member == name) {
                let nearest = nearest(name, self.members());
                return Err(Failure::Unfit(format!(
                    "{}: unknown member {name:?}{nearest}",
                    self.title(&object)
                )));
            }
        }
        Ok(object)
    }

    /// The members in which two differ once defaults are left out.
    pub fn differences(&self, wanted: &Object, found: &Object) -> Vec<Difference> {
        let defaults = self.defaults();
        let is_default =
            |name: &str, value: &Value| value.is_null() || defaults.get(name) == Some(value);
        let normal = |object: &Object, name: &str| {
            object
                .get(name)
                .filter(|value| !is_default(name, value))
                .map(|value| spelled(name, value))
        };
        let mut differences = Vec::new();
        for name in self.fields.iter().copied() {
            let (new, old) = (normal(wanted, name), normal(found, name));
            let alike = match (&new, &old) {
                (Some(new), Some(old)) => same(new, old, self.filled),
                (None, None) => true,
                (None, Some(_)) => self.filled.contains(&name),
                (Some(_), None) => false,
            };
            if !alike {
                differences.push(Difference { name, old, new });
            }
        }
        differences
    }

    fn list_path(&self, account: &str, gateway: Option<&str>) -> String {
        let path = self
            .path
            .replace("{gateway_id}", &segment(gateway.unwrap_or_default()));
        format!("/accounts/{}{path}", segment(account))
    }
}

/// One member in which what is wanted and what is there differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub name: &'static str,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, old, new } = self;
        if UNSHOWN.contains(name) {
            return write!(f, "{name}: (differs; not shown)");
        }
        let text = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "(default)".to_owned(), Value::to_string)
        };
        write!(f, "{name}: {} -> {}", text(old), text(new))
    }
}

/// A member for people.
pub(super) fn shown(name: &str, value: &Value) -> String {
    match UNSHOWN.contains(&name) {
        true => format!("{name}: (not shown)"),
        false => format!("{name}: {value}"),
    }
}

/// A value in the spelling that the API answers.
fn spelled(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("elements", _) => match Graph::parse(value) {
            Ok(graph) => graph.to_elements(),
            Err(_) => value.clone(),
        },
        ("token_pricing", Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        _ => value.clone(),
    }
}

/// Whether two values mean the same: 1 is 1.0, and what is `null` or filled in by the API may be missing.
fn same(wanted: &Value, found: &Value, filled: &[&str]) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let kept = wanted
                .iter()
                .all(|(name, value)| same(value, found.get(name).unwrap_or(&Value::Null), filled));
            let more = found.iter().filter(|(name, _)| !wanted.contains_key(*name));
            let mut more =
                more.filter(|(name, value)| !value.is_null() && !filled.contains(&name.as_str()));
            kept && more.next().is_none()
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .zip(found)
                    .all(|(wanted, found)| same(wanted, found, filled))
        }
        (Value::Number(wanted), Value::Number(found)) => {
            wanted == found || wanted.as_f64() == found.as_f64()
        }
        _ => wanted == found,
    }
}

fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let nearest = known
        .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
        .min();
    match nearest {
        Some((distance, candidate)) if distance <= name.len().max(candidate.len()) / 2 => {
            format!("; did you mean {candidate:?}?")
        }
        _ => String::new(),
    }
}

/// An object of an instance.
pub(super) struct Found {
    pub object: Object,
    /// What names it in its path.
    key: String,
    /// Whether the configuration file holds it, so that no call changes it.
    pub is_declared: bool,
}

/// What an instance has.
pub(super) struct Instance {
    account: String,
    /// One list a kind, in their order; `None`: the API does not know the kind.
    pub objects: Vec<Option<Vec<Found>>>,
    /// Ids of custom providers by slug.
    providers: BTreeMap<String, String>,
}

impl Instance {
    /// Reads all of it.
    pub fn read(client: &mut Client) -> Result<Self, Failure> {
        let account = client.account()?;
        let mut instance = Self {
            account,
            objects: Vec::new(),
            providers: BTreeMap::new(),
        };
        for kind in &KINDS {
            let found = match instance.read_kind(client, kind) {
                Ok(found) => Some(found),
                Err(failure) if failure.is_unknown_path() => None,
                Err(failure) => return Err(failure.about(kind.member)),
            };
            instance.objects.push(found);
        }
        Ok(instance)
    }

    /// What it has of a kind.
    pub fn of(&self, member: &str) -> &[Found] {
        let index = KINDS.iter().position(|kind| kind.member == member);
        let list = index.and_then(|index| self.objects.get(index)?.as_deref());
        list.unwrap_or_default()
    }

    /// The ids of its gateways.
    pub fn gateways(&self) -> Vec<String> {
        self.of("gateways")
            .iter()
            .map(|found| found.key.clone())
            .collect()
    }

    fn read_kind(&mut self, client: &mut Client, kind: &Kind) -> Result<Vec<Found>, Failure> {
        let gateways = match kind.is_within_gateway() {
            true => self.gateways().into_iter().map(Some).collect(),
            false => vec![None],
        };
        let mut all = Vec::new();
        for gateway in gateways {
            let path = kind.list_path(&self.account, gateway.as_deref());
            for item in client.list(&path, kind.items, PER_PAGE)? {
                all.push(self.found(kind, &item, gateway.as_deref()));
            }
        }
        all.sort_by_key(|found| kind.identity.map_text(&found.object));
        Ok(all)
    }

    /// An item of a list in the document's form.
    fn found(&mut self, kind: &Kind, item: &Value, gateway: Option<&str>) -> Found {
        let mut object: Object = kind
            .members()
            .filter(|name| !item[*name].is_null())
            .map(|name| (name.to_owned(), spelled(name, &item[name])))
            .collect();
        if let Some(gateway) = gateway {
            object.insert("gateway_id".to_owned(), gateway.into());
        }
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        match kind.member {
            "custom_providers" => {
                self.providers.insert(text("slug"), text("id"));
            }
            // Ids differ between instances; slugs do not.
            "prices" => {
                let id = text("account_provider_id");
                let slug = self.providers.iter().find(|(_, known)| **known == id);
                if let Some((slug, _)) = slug {
                    object.insert(
                        "account_provider_id".to_owned(),
                        format!("custom-{slug}").into(),
                    );
                }
                for (name, default) in kind.defaults() {
                    object.entry(name).or_insert(default);
                }
            }
            _ => {}
        }
        Found {
            object,
            key: text(kind.key),
            is_declared: kind.member == "gateways" && text("internal_id").starts_with(DECLARED),
        }
    }

    /// Makes an object.
    pub fn create(
        &mut self,
        client: &mut Client,
        kind: &Kind,
        object: &Object,
    ) -> Result<(), Failure> {
        let mut body = self.body(kind, object)?;
        for (name, default) in kind.defaults() {
            body.entry(name).or_insert(default);
        }
        if kind.member == "domains" {
            body = [("domain".to_owned(), object["hostname"].clone())]
                .into_iter()
                .collect();
        }
        let path = kind.list_path(
            &self.account,
            object.get("gateway_id").and_then(Value::as_str),
        );
        let answer = client.call("POST", &path, Some(&Value::Object(body)))?;
        let slug = object.get("slug").and_then(Value::as_str);
        if let ("custom_providers", Some(slug)) = (kind.member, slug) {
            let id = answer["result"]["id"].as_str().unwrap_or_default();
            self.providers.insert(slug.to_owned(), id.to_owned());
        }
        Ok(())
    }

    /// Changes an object that is there: what `wanted` leaves out goes back to its default.
    pub fn change(
        &self,
        client: &mut Client,
        kind: &Kind,
        found: &Found,
        wanted: &Object,
        differences: &[Difference],
    ) -> Result<(), Failure> {
        let one = self.path_of(kind, found);
        let defaults = kind.defaults();
        let unset = |name: &str| defaults.get(name).cloned().unwrap_or(Value::Null);
        let mut body = Map::new();
        for Difference { name, new, .. } in differences {
            let value = new.clone().unwrap_or_else(|| unset(name));
            body.insert((*name).to_owned(), value);
        }
        match kind.change {
            Change::Never => return Ok(()),
            Change::Patch => {
                client.call("PATCH", &one, Some(&Value::Object(body)))?;
            }
            Change::Put => {
                let mut whole = defaults.clone();
                whole.extend(self.body(kind, wanted)?);
                whole.extend(body);
                client.call("PUT", &one, Some(&Value::Object(whole)))?;
            }
            Change::Version => self.deploy(client, &one, &body)?,
        }
        Ok(())
    }

    fn deploy(&self, client: &mut Client, route: &str, body: &Object) -> Result<(), Failure> {
        let versions = format!("{route}/versions");
        let ids = |client: &mut Client| -> Result<Vec<Value>, Failure> {
            let listed = client.list(&versions, "/data/versions", PER_PAGE)?;
            Ok(listed
                .into_iter()
                .map(|version| version["version_id"].clone())
                .collect())
        };
        let before = ids(client)?;
        client.call("POST", &versions, Some(&Value::Object(body.clone())))?;
        let made = ids(client)?.into_iter().find(|id| !before.contains(id));
        let made = made.ok_or_else(|| {
            Failure::Way("the new version is not among the route's versions".to_owned())
        })?;
        client.call(
            "POST",
            &format!("{route}/deployments"),
            Some(&json!({"version_id": made})),
        )?;
        Ok(())
    }

    /// Deletes an object.
    pub fn delete(&self, client: &mut Client, kind: &Kind, found: &Found) -> Result<(), Failure> {
        client.call("DELETE", &self.path_of(kind, found), None)?;
        Ok(())
    }

    fn path_of(&self, kind: &Kind, found: &Found) -> String {
        let gateway = found.object.get("gateway_id").and_then(Value::as_str);
        let list = kind.list_path(&self.account, gateway);
        format!("{list}/{}", segment(&found.key))
    }

    /// A body with this instance's ids.
    fn body(&self, kind: &Kind, object: &Object) -> Result<Object, Failure> {
        let mut body = object.clone();
        body.remove("gateway_id");
        if kind.member == "prices"
            && let Some(slug) = object["account_provider_id"]
                .as_str()
                .and_then(|name| name.strip_prefix("custom-"))
        {
            let id = self
                .providers
                .get(slug)
                .ok_or_else(|| Failure::Unfit(format!("there is no custom provider {slug:?}")))?;
            body.insert("account_provider_id".to_owned(), id.as_str().into());
        }
        Ok(body)
    }
}

/// The identity of an object as texts, for order and comparison.
pub(super) trait Identity {
    /// One text a member.
    fn map_text(&self, object: &Object) -> Vec<String>;
}

impl Identity for [&'static str] {
    fn map_text(&self, object: &Object) -> Vec<String> {
        let text = |name: &&str| {
            object.get(*name).map_or_else(String::new, |value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
        };
        self.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(member: &str) -> &'static Kind {
        let found = KINDS.iter().position(|kind| kind.member == member);
        const ALL: &[Kind; 6] = &KINDS;
        &ALL[found.expect("a kind")]
    }

    fn object(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn defaults_nulls_and_what_the_api_fills_in_are_no_difference() {
        let gateways = kind("gateways");
        let rule = json!({"limit": 5, "limitType": "cost", "window": 60});
        let stored = json!({"id": "r1", "enabled": true, "technique": "sliding", "limit": 5.0, "limitType": "cost", "window": 60});
        let wanted = object(
            json!({"id": "a", "retry_delay": null, "spend_limits": {"enabled": true, "rules": [rule]}}),
        );
        let found = object(json!({
            "id": "a", "cache_ttl": 0, "collect_logs": true, "workers_ai_billing_mode": "postpaid",
            "spend_limits": {"enabled": true, "rules": [stored]},
        }));
        assert_eq!(gateways.differences(&wanted, &found), []);
        let mut changed = found.clone();
        changed["spend_limits"]["rules"][0]["model"] = json!({"mode": "filter", "values": ["x"]});
        changed.insert("cache_ttl".to_owned(), json!(300));
        let differences = gateways.differences(&wanted, &changed);
        let names: Vec<&str> = differences
            .iter()
            .map(|difference| difference.name)
            .collect();
        assert_eq!(names, ["cache_ttl", "spend_limits"]);
        assert_eq!(differences[0].to_string(), "cache_ttl: 300 -> (default)");
    }

    #[test]
    fn both_spellings_of_a_route_are_the_same() {
        let end = json!({"id": "e", "type": "end", "outputs": {}});
        let start = json!({"id": "s", "type": "start", "outputs": {"next": {"elementId": "c"}}});
        let element = |name: &str| {
            json!({"id": "c", "type": "conditional", "properties": {name: {"metadata.plan": {"$eq": "paid"}}},
                "outputs": {"true": {"elementId": "e"}, "false": {"elementId": "e"}}})
        };
        let route = |name: &str| {
            object(json!({"gateway_id": "g", "name": "r", "elements": [start, element(name), end]}))
        };
        let routes = kind("routes");
        assert_eq!(
            routes.differences(&route("condition"), &route("conditions")),
            []
        );
    }

    #[test]
    fn an_object_of_a_document_is_whole_and_known() {
        let told = |member: &str, value: Value| {
            let failure = kind(member).parse(&value).expect_err("refused");
            failure.to_string()
        };
        let text = told("gateways", json!({"id": "a", "cache_tll": 5}));
        assert_eq!(
            text,
            "gateway \"a\": unknown member \"cache_tll\"; did you mean \"cache_ttl\"?"
        );
        assert!(told("routes", json!({"name": "x"})).contains("has no gateway_id"));
        assert!(told("domains", json!("x")).contains("is no object"));
        let price = json!({"account_provider_id": "openai", "model": "m", "cost_in": 1});
        let price = kind("prices").parse(&price).expect("taken");
        assert_eq!(price["model_rule"], "equals");
        assert_eq!(
            kind("prices").title(&price),
            "price of \"openai\" equals \"m\" (tokens)"
        );
    }
}
