//! `/openapi.json`: the API as its own table tells it.

use serde_json::{Map, Value, json};

use super::operation::{Answers, Body, Needs, Operation};
use super::schema::{Field, describe, describe_members};
use crate::limits::QUERY_TEXT_MAX;

/// The description (OpenAPI 3.1).
pub(super) fn document(operations: &[&Operation]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths
            .entry(operation.path)
            .or_insert_with(|| Value::Object(Map::new()));
        path[operation.method.to_ascii_lowercase()] = describe_operation(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ringgate management API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/client/v4"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    })
}

fn describe_operation(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = parameters(operation.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": QUERY_TEXT_MAX}}))
        .collect();
    let query = |field: &Field| json!({"name": field.name, "in": "query", "required": field.required, "schema": describe(&field.kind)});
    parameters.extend(operation.query.iter().map(query));
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.about,
        "tags": [operation.name.split('.').next()],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": content(&operation.answers)},
            "default": {"description": "Not done", "content": {"application/json": {"schema": failure()}}},
        },
    });
    if let Needs::Any(permissions) = operation.needs {
        let names: Vec<&str> = permissions
            .iter()
            .map(|permission| permission.name())
            .collect();
        described["description"] = Value::from(format!("Needs one of: {}.", names.join(", ")));
    }
    let body = match operation.body {
        Body::None => None,
        Body::Members(fields) => Some((true, describe_members(fields))),
        Body::Optional(fields) => Some((false, describe_members(fields))),
        Body::Own(kind) => Some((true, describe(&kind))),
    };
    if let Some((required, schema)) = body {
        let mut content = json!({"schema": schema});
        if let Some(example) = example(operation.name) {
            content["example"] = example;
        }
        described["requestBody"] =
            json!({"required": required, "content": {"application/json": content}});
    }
    described
}

/// A body that is taken as it stands, for those whose members say too little.
fn example(operation: &str) -> Option<Value> {
    let settings = json!({
        "cache_invalidate_on_update": true, "cache_ttl": 300, "collect_logs": true, "rate_limiting_interval": 60,
        "rate_limiting_limit": 100, "retry_max_attempts": 3,
    });
    let elements = json!([
        {"id": "start", "type": "start", "outputs": {"next": {"elementId": "model"}}},
        {"id": "model", "type": "model", "properties": {"provider": "openai", "model": "gpt-4o", "retries": 1, "timeout": 60_000},
            "outputs": {"success": {"elementId": "end"}, "fallback": {"elementId": "end"}}},
        {"id": "end", "type": "end", "outputs": {}},
    ]);
    Some(match operation {
        "gateways.create" => {
            let mut gateway = settings;
            gateway["id"] = Value::from("my-gateway");
            gateway
        }
        "gateways.update" => settings,
        "routes.create" => json!({"name": "my-route", "elements": elements}),
        "routes.create_version" => json!({"elements": elements}),
        "provider_configs.create" => {
            json!({"provider_slug": "openai", "alias": "team-a", "default_config": true, "secret": "sk-example"})
        }
        "custom_providers.create" => {
            json!({"name": "My models", "slug": "my-models", "base_url": "https://models.example/v1", "enable": true})
        }
        "custom_providers.costs.create" => {
            json!({"account_provider_id": "openai", "model": "gpt-4o", "cost_in": 0.000_002, "cost_out": 0.000_008})
        }
        "datasets.create" => json!({
            "name": "Dear answers",
            "enable": true,
            "filters": [{"key": "cost", "operator": "gt", "value": [0.01]}, {"key": "success", "operator": "eq", "value": [true]}],
        }),
        "datasets.update" => json!({"name": "All answers", "enable": true, "filters": []}),
        "custom_domains.create" => json!({"domain": "ai.example.com"}),
        "secrets_store.secrets.create" => {
            json!([{"name": "my-secret", "scopes": ["ai_gateway"], "value": "sk-example"}])
        }
        "user.tokens.create"
        | "accounts.tokens.create"
        | "user.tokens.update"
        | "accounts.tokens.update" => json!({
            "name": "my-token",
            "policies": [{
                "effect": "allow",
                "permission_groups": [{"id": "644535f4ed854494a59cb289d634b257"}],
                "resources": {"com.cloudflare.api.account.*": "*"},
            }],
        }),
        _ => return None,
    })
}

/// The names in braces of a path.
pub(super) fn parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn content(answers: &Answers) -> Value {
    match answers {
        Answers::Stored => json!({"*/*": {}}),
        answers => json!({"application/json": {"schema": answer(answers)}}),
    }
}

fn answer(answers: &Answers) -> Value {
    let enveloped = |result: Value| {
        json!({
            "type": "object",
            "required": ["success", "errors", "messages", "result"],
            "properties": {"success": {"const": true}, "errors": {"type": "array"}, "messages": {"type": "array"}, "result": result},
        })
    };
    match answers {
        Answers::Result(fields) => enveloped(describe_members(fields)),
        Answers::Value(kind) => enveloped(describe(kind)),
        Answers::Page(fields) => {
            let mut page = enveloped(json!({"type": "array", "items": describe_members(fields)}));
            page["properties"]["result_info"] = json!({"type": "object"});
            page
        }
        Answers::Raw(fields) => describe_members(fields),
        Answers::Stored => json!({}),
    }
}

fn failure() -> Value {
    json!({
        "type": "object",
        "required": ["success", "errors", "messages", "result"],
        "properties": {
            "success": {"const": false},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "integer"},
                    "message": {"type": "string"},
                    "path": {"type": "array", "items": {"type": "string"}},
                },
            }},
            "messages": {"type": "array"},
            "result": {"type": "null"},
        },
    })
}
