//! Who pays the provider, and what nobody ever sees.

use serde_json::{Value, json};

use super::{
    STORES, TOKEN, api, configs, create_gateway, ok, own_store, send, start, store_key, try_send,
};
use crate::harness::{Answer, Setup, eventually, received, sent_header, simulator};

#[test]
fn stored_keys_pay_from_the_very_next_request_on() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let token = format!("cf-aig-authorization: Bearer {TOKEN}");
    let paid_by = |headers: &[&str]| {
        let mut lines = vec![token.as_str()];
        lines.extend(headers);
        let sent = send(&gateway, &simulator, "g/openai/models", &lines);
        sent_header(&sent, "authorization").map(str::to_owned)
    };
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    assert_eq!(paid_by(&[]), None);
    let named = store_key(&gateway, "openai", "team", false, "sk-team");
    assert_eq!(paid_by(&[]), None, "neither the default nor called so");
    assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer("sk-team"));
    let unknown = try_send(
        &gateway,
        "g/openai/models",
        &[&token, "cf-aig-byok-alias: Team"],
    );
    assert_eq!((unknown.status, unknown.code()), (400, 2005));
    assert!(unknown.text().contains(r#"\"Team\""#), "{}", unknown.text());
    store_key(&gateway, "openai", "default", false, "sk-default");
    assert_eq!(paid_by(&[]), bearer("sk-default"));
    store_key(&gateway, "openai", "chosen", true, "sk-chosen");
    assert_eq!(paid_by(&[]), bearer("sk-chosen"));
    assert_eq!(
        paid_by(&["cf-aig-byok-alias: default"]),
        bearer("sk-default")
    );
    assert_eq!(paid_by(&["Authorization: Bearer sk-own"]), bearer("sk-own"));
    let one = format!("{}/{}", configs("g"), named["id"].as_str().expect("an id"));
    let secret = format!(
        "{STORES}/{}/secrets/{}",
        own_store(&gateway),
        named["secret_id"].as_str().expect("an id")
    );
    for round in 0..50 {
        let key = format!("sk-{round}");
        let body = json!({"secret": key});
        ok(&api(&gateway, "PUT", &one, Some(&body)));
        assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer(&key));
        let key = format!("sk-patched-{round}");
        ok(&api(
            &gateway,
            "PATCH",
            &secret,
            Some(&json!({"value": key})),
        ));
        assert_eq!(paid_by(&["cf-aig-byok-alias: team"]), bearer(&key));
    }
    ok(&api(&gateway, "DELETE", &one, None));
    let gone = try_send(
        &gateway,
        "g/openai/models",
        &[&token, "cf-aig-byok-alias: team"],
    );
    assert_eq!((gone.status, gone.code()), (400, 2005));
    // Credentials of several values are kept, in one line, and are no plain key.
    let aws = store_key(
        &gateway,
        "bedrock",
        "default",
        true,
        "{\n \"accessKeyId\": \"AKIA0123456789\",\r\n \"secretAccessKey\": \"aws-very-secret\"\n}\n",
    );
    assert_eq!(aws["secret_preview"], "{\"a...et\"}");
    // With the gateway go its keys, and a new one of its name has none.
    ok(&api(&gateway, "DELETE", "ai-gateway/gateways/g", None));
    create_gateway(&gateway, "g", json!({}));
    assert_eq!(paid_by(&[]), None);
    assert_eq!(ok(&api(&gateway, "GET", &configs("g"), None)), json!([]));
}

#[test]
fn who_pays_follows_the_five_rules() {
    let simulator = simulator();
    let lines = "[providers.mistral]\nbase_url = \"http://{sim}\"\napi_key = \"env:TEST_HOUSE_KEY\"\n[providers.elevenlabs]\nbase_url = \"http://{sim}\"\n[providers.deepgram]\nbase_url = \"http://{sim}\""
        .replace("{sim}", &simulator.addr().to_string());
    let gateway = start(
        Setup::over(&simulator)
            .with(&lines)
            .env("TEST_HOUSE_KEY", "house-1"),
    );
    for provider in [
        "openai",
        "anthropic",
        "google-ai-studio",
        "azure-openai",
        "custom-sim",
        "elevenlabs",
        "deepgram",
    ] {
        store_key(
            &gateway,
            provider,
            "default",
            true,
            &format!("stored-{provider}"),
        );
    }
    let own = format!("cf-aig-authorization: Bearer {TOKEN}");
    let openai = "g/openai/models";
    // What a client sends (OWN: the token in the gateway's own header, TOKEN: the token itself), where the provider looks, and
    // what it finds there; `-`: nothing.
    let table = "
        # OpenAI SDK with its own key, and with a stored one
        openai/models | OWN; Authorization: Bearer sk-own | authorization | Bearer sk-own
        openai/models | Authorization: Bearer TOKEN | authorization | Bearer stored-openai
        # Anthropic SDK with its own key, and with a stored one and a placeholder
        anthropic/v1/models | OWN; x-api-key: sk-ant | x-api-key | sk-ant
        anthropic/v1/models | x-api-key: placeholder; Authorization: Bearer TOKEN | x-api-key | stored-anthropic
        anthropic/v1/models | x-api-key: placeholder; Authorization: Bearer TOKEN | authorization | -
        # Google's SDK, by header and by query
        google-ai-studio/v1beta/models | x-goog-api-key: TOKEN | x-goog-api-key | stored-google-ai-studio
        google-ai-studio/v1beta/models?key=TOKEN&alt=sse | | x-goog-api-key | stored-google-ai-studio
        google-ai-studio/v1beta/models?key=AIza | OWN | x-goog-api-key | -
        # Claude Code; Claude Desktop; Codex
        anthropic/v1/models | x-api-key: TOKEN; OWN | x-api-key | stored-anthropic
        anthropic/v1/models | Authorization: Bearer TOKEN | x-api-key | stored-anthropic
        openai/responses | Authorization: Bearer TOKEN; Accept: text/event-stream | authorization | Bearer stored-openai
        # OpenCode and AI SDKs with an empty key
        anthropic/v1/models | OWN; x-api-key: | x-api-key | stored-anthropic
        openai/models | OWN; Authorization: Bearer | authorization | Bearer stored-openai
        openai/models | OWN; Authorization: | authorization | Bearer stored-openai
        # Both places hold the token
        openai/models | OWN; Authorization: Bearer TOKEN | authorization | Bearer stored-openai
        azure-openai/r/d/models | api-key: TOKEN | api-key | stored-azure-openai
        # SDKs of other providers put what they are given behind their own scheme, or into their own header
        deepgram/v1/models | Authorization: Token TOKEN | authorization | Token stored-deepgram
        elevenlabs/v1/models | xi-api-key: TOKEN | xi-api-key | stored-elevenlabs
        # A slot of another provider's opens the gateway as well, and then no slot holds a key
        openai/models | x-api-key: TOKEN | x-api-key | -
        openai/models | x-api-key: TOKEN; Authorization: Bearer sk-own | authorization | Bearer stored-openai
        # A token in the query goes up for no provider, however it is written
        openai/models?key=TOKEN&x=1&y=TOKEN | | authorization | Bearer stored-openai
        openai/models?z=ENCODED | OWN | authorization | Bearer stored-openai
        # A placeholder is a key, as documented, unless the gateway prefers its own
        openai/models | OWN; Authorization: Bearer placeholder | authorization | Bearer placeholder
        # No stored key: the house pays
        mistral/v1/models | OWN | authorization | Bearer house-1
        mistral/v1/models | Authorization: Bearer TOKEN | authorization | Bearer house-1";
    let encoded = TOKEN.replace('-', "%2D");
    for line in table.lines().map(str::trim) {
        let line = line
            .replace("OWN", &own)
            .replace("TOKEN", TOKEN)
            .replace("ENCODED", &encoded);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [target, headers, name, expected] = columns[..] else {
            panic!("{line}");
        };
        let headers: Vec<&str> = headers
            .split(';')
            .map(str::trim)
            .filter(|header| !header.is_empty())
            .collect();
        let sent = send(&gateway, &simulator, &format!("g/{target}"), &headers);
        let found = sent_header(&sent, name).unwrap_or("-");
        assert_eq!(found, expected, "{line}");
        assert!(!sent.to_string().contains(&encoded), "{sent}");
    }
    for (target, query) in [
        (
            format!("g/google-ai-studio/v1beta/models?key={TOKEN}&alt=sse"),
            "alt=sse",
        ),
        (format!("{openai}?key={TOKEN}&x=1&y={TOKEN}"), "x=1"),
    ] {
        assert_eq!(send(&gateway, &simulator, &target, &[])["query"], query);
    }
    let sent = send(
        &gateway,
        &simulator,
        "g/google-ai-studio/v1beta/models?key=AIza",
        &[&own],
    );
    assert_eq!(sent["query"], "key=AIza");
    // Nobody may pay in its place.
    let refused = try_send(
        &gateway,
        "g/mistral/v1/models",
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let refused = try_send(
        &gateway,
        "g/groq/models",
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let sent = send(
        &gateway,
        &simulator,
        openai,
        &[&own, "cf-aig-no-wholesale: true"],
    );
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer stored-openai")
    );
    assert_ne!(
        try_send(
            &gateway,
            "g/workers-ai/@cf/m",
            &[&own, "cf-aig-no-wholesale: true"]
        )
        .status,
        400
    );
    create_gateway(&gateway, "byok", json!({"byok_only": true}));
    let refused = try_send(&gateway, "byok/mistral/v1/models", &[&own]);
    assert_eq!((refused.status, refused.code()), (400, 2021));
    let sent = send(
        &gateway,
        &simulator,
        "byok/mistral/v1/models",
        &[&own, "Authorization: Bearer sk-own"],
    );
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-own"));
    // The gateway's own keys first: placeholders do not matter, and where it has none the request's key pays.
    create_gateway(&gateway, "first", json!({"prefer_stored_keys": true}));
    let body =
        json!({"provider_slug": "anthropic", "default_config": true, "secret": "stored-first"});
    ok(&api(&gateway, "POST", &configs("first"), Some(&body)));
    let sent = send(
        &gateway,
        &simulator,
        "first/anthropic/v1/models",
        &[&own, "x-api-key: placeholder", "Authorization: Bearer x"],
    );
    assert_eq!(sent_header(&sent, "x-api-key"), Some("stored-first"));
    assert_eq!(sent_header(&sent, "authorization"), None);
    let sent = send(
        &gateway,
        &simulator,
        "first/openai/models",
        &[&own, "Authorization: Bearer sk-own"],
    );
    assert_eq!(sent_header(&sent, "authorization"), Some("Bearer sk-own"));
}

#[test]
fn declared_and_open_gateways_have_stored_keys_too() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    // `default` is declared in the file, and open.
    let body = json!({"provider_slug": "openai", "default_config": true, "secret": "sk-declared"});
    let answer = api(&gateway, "POST", &configs("default"), Some(&body));
    let made = ok(&answer);
    let warning = answer.json()["messages"][0]["message"].to_string();
    assert!(warning.contains("without a token"), "{warning}");
    let sent = send(&gateway, &simulator, "default/openai/models", &[]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-declared")
    );
    assert_eq!(
        ok(&api(&gateway, "GET", &configs("default"), None))[0]["id"],
        made["id"]
    );
    // The keys outlast a reload of the file.
    gateway.signal(libc::SIGHUP);
    gateway.notices.wait_for("reload");
    let sent = send(&gateway, &simulator, "default/openai/models", &[]);
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some("Bearer sk-declared")
    );
    // What a gateway left behind that is no longer declared holds no secret back.
    let secret = format!(
        "{STORES}/{}/secrets/{}",
        own_store(&gateway),
        made["secret_id"].as_str().expect("an id")
    );
    assert_eq!(api(&gateway, "DELETE", &secret, None).status, 400);
    let file = gateway.folder.path().join("ringgate.toml");
    let config = std::fs::read_to_string(file).expect("a configuration");
    let without = config.split("[gateways.default]").next().expect("a front");
    gateway.reconfigure(&format!("{without}# without [gateways.default]\n"));
    gateway.signal(libc::SIGHUP);
    let gone = |answer: Answer| (answer.status == 404).then_some(());
    eventually("the gateway's end", || {
        gone(api(&gateway, "GET", &configs("default"), None))
    });
    ok(&api(&gateway, "DELETE", &secret, None));
    gateway.reconfigure(&config);
    gateway.signal(libc::SIGHUP);
    let back = |answer: Answer| (answer.status == 200).then(|| ok(&answer));
    let keys = eventually("the gateway's return", || {
        back(api(&gateway, "GET", &configs("default"), None))
    });
    assert_eq!(keys, json!([]));
}

/// Keys of AWS are kept as JSON; they sign, and the key itself is in nothing that goes up.
#[test]
fn stored_aws_keys_sign_for_the_region_of_the_path() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let keys =
        json!({"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": secret, "region": "us-east-1"});
    store_key(&gateway, "bedrock", "default", true, &keys.to_string());
    let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;
    let answer = gateway.send(&format!(
        "POST /v1/acc/g/aws-bedrock/bedrock-runtime/eu-central-1/model/amazon.nova-lite-v1:0/converse HTTP/1.1\r\nHost: g\r\ncf-aig-authorization: {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    // The simulator verifies the signature.
    assert_eq!(answer.status, 200, "{}", answer.text());
    let requests = received(&simulator);
    let sent = requests.last().expect("a request");
    let authorization = sent_header(sent, "authorization").expect("a signature");
    assert!(
        authorization.contains("/eu-central-1/bedrock/aws4_request"),
        "{sent}"
    );
    assert!(!sent.to_string().contains(secret) && !sent.to_string().contains(TOKEN));
}

#[test]
fn no_secret_is_seen_anywhere() {
    let simulator = simulator();
    let gateway = start(Setup::over(&simulator));
    let values = [
        "very-secret-key-of-team-a",
        "very-secret-key-of-team-b",
        "very-secret-key-of-team-c",
        "very-secret-key-of-team-d",
        "very-secret-in-json",
        "very-secret-in-a-header",
        "very-secret-in-another-header",
    ];
    let secrets = format!("{STORES}/{}/secrets", own_store(&gateway));
    let mut seen = String::new();
    let mut call = |method: &str, path: &str, body: Option<Value>| {
        let answer = api(&gateway, method, path, body.as_ref());
        seen.push_str(&answer.head);
        seen.push_str(&answer.text());
        answer
    };
    let made = ok(&call(
        "POST",
        &secrets,
        Some(json!([{"name": "n", "scopes": ["ai_gateway"], "value": values[0]}])),
    ));
    let one = format!("{secrets}/{}", made[0]["id"].as_str().expect("an id"));
    ok(&call("PATCH", &one, Some(json!({"value": values[1]}))));
    ok(&call(
        "POST",
        &format!("{one}/duplicate"),
        Some(json!({"name": "m", "scopes": ["dex"]})),
    ));
    let key = ok(&call(
        "POST",
        &configs("g"),
        Some(json!({"provider_slug": "openai", "default_config": true, "secret": values[2]})),
    ));
    let config = format!("{}/{}", configs("g"), key["id"].as_str().expect("an id"));
    ok(&call("PUT", &config, Some(json!({"secret": values[3]}))));
    ok(&call(
        "POST",
        &configs("g"),
        Some(
            json!({"provider_slug": "bedrock", "default_config": true, "secret": format!("{{\"key\": \"{}\"}}", values[4])}),
        ),
    ));
    // Whoever may change a custom provider sees its headers: these answers are not part of the scan, all else is.
    let providers = "ai-gateway/custom-providers";
    let headers = |value: &str| json!({"X-Key": value}).to_string();
    let body = json!({"name": "H", "slug": "h", "base_url": "https://h.example", "enable": true, "headers": headers(values[5])});
    let provider = ok(&api(&gateway, "POST", providers, Some(&body)));
    let provider = format!("{providers}/{}", provider["id"].as_str().expect("an id"));
    let body = json!({"headers": headers(values[6])});
    ok(&api(&gateway, "PATCH", &provider, Some(&body)));
    let wrong = json!({"headers": format!("{}\n{{", headers(values[6]))});
    assert_eq!(call("PATCH", &provider, Some(wrong)).status, 400);
    // Refusals repeat no value either.
    for body in [
        json!({"secret": format!("{}\n", values[2])}),
        json!({"secret": [values[2]]}),
    ] {
        assert_eq!(call("PUT", &config, Some(body)).status, 400);
    }
    assert_eq!(
        call(
            "POST",
            &secrets,
            Some(json!([{"name": values[0].len(), "value": values[0]}]))
        )
        .status,
        400
    );
    let token = format!("cf-aig-authorization: {TOKEN}");
    let sent = send(&gateway, &simulator, "g/openai/models", &[&token]);
    let mut refusals = String::new();
    assert_eq!(
        sent_header(&sent, "authorization"),
        Some(format!("Bearer {}", values[3]).as_str())
    );
    refusals.push_str(
        &try_send(
            &gateway,
            "g/bedrock/bedrock-runtime/us-east-1/model/m/converse",
            &[&token],
        )
        .text(),
    );
    refusals.push_str(
        &try_send(
            &gateway,
            "g/openai/models",
            &[&token, "cf-aig-byok-alias: none"],
        )
        .text(),
    );
    ok(&call("DELETE", &config, None));
    for path in [
        &secrets,
        &configs("g"),
        "audit_logs?per_page=1000",
        "logs/audit?limit=1000",
    ] {
        ok(&call("GET", path, None));
    }
    assert!(
        seen.contains("secrets_store.secret")
            && seen.contains("ai_gateway.custom_provider")
            && seen.contains("\"sealed "),
        "the audit log was read"
    );
    seen.push_str(&refusals);
    gateway.access.record("/v1/acc/g/openai/models");
    seen.push_str(&gateway.access.text());
    seen.push_str(&gateway.notices.text());
    let folder = gateway.folder.path().join("data");
    let (mut folders, mut files) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            seen.push_str(&String::from_utf8_lossy(
                &std::fs::read(&path).expect("readable"),
            ));
            files.push(path.display().to_string());
        }
    }
    assert!(
        files.iter().any(|name| name.ends_with("/ringgate.db-wal")),
        "{files:?}"
    );
    for value in values {
        assert!(!seen.contains(value), "{value}");
    }
    assert!(!seen.contains(TOKEN));
    // A needle that is known to be there is found by the same search.
    assert!(seen.contains("default_secrets_store"));
}
