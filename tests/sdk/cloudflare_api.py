"""The official Cloudflare Python client, unmodified, against the management API.

Usage: cloudflare_api.py RINGGATE_BINARY
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import cloudflare
from cloudflare import Cloudflare

TOKEN = "sdk-test-token-0123456789-0123456789"
ACCOUNT = "0123456789abcdef0123456789abcdef"
REQUIRED = {
    "cache_invalidate_on_update": True,
    "cache_ttl": 0,
    "collect_logs": True,
    "rate_limiting_interval": 0,
    "rate_limiting_limit": 0,
}
RUN = "644535f4ed854494a59cb289d634b257"


def start(binary, folder):
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0", "--data-dir", f"{folder}/data", "--account-id", ACCOUNT]
    environment = {**os.environ, "RINGGATE_BOOTSTRAP_TOKEN": TOKEN}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    line = process.stderr.readline()
    data = re.search(r"serves (http://\S+)", line).group(1)
    management = re.search(r"management (http://\S+)", line).group(1)
    return process, data, management


def expect(error, call, code=None):
    try:
        call()
    except error as raised:
        if code is not None:
            assert raised.errors[0].code == code, raised.errors
        return raised
    raise AssertionError(f"{error.__name__} was not raised")


def requests_of(client):
    """Counts the requests that the client sends."""
    sent = []
    client._client.event_hooks["request"].append(lambda request: sent.append(request))
    return sent


def test_gateways(client):
    gateways = client.ai_gateway
    made = gateways.create(account_id=ACCOUNT, id="my-gateway", **REQUIRED)
    assert made.id == "my-gateway" and made.collect_logs is True and made.cache_ttl == 0
    assert made.created_at and made.modified_at
    assert gateways.get("my-gateway", account_id=ACCOUNT).to_dict() == made.to_dict()
    changed = gateways.update("my-gateway", account_id=ACCOUNT, **{**REQUIRED, "cache_ttl": 300, "retry_max_attempts": 3, "retry_backoff": "linear"})
    assert changed.cache_ttl == 300 and changed.retry_max_attempts == 3 and changed.modified_at > made.modified_at
    kept = gateways.update("my-gateway", account_id=ACCOUNT, **REQUIRED)
    assert kept.retry_max_attempts == 3, "what is left out stays"
    reset = gateways.update("my-gateway", account_id=ACCOUNT, **{**REQUIRED, "retry_max_attempts": None})
    assert reset.retry_max_attempts is None and reset.retry_backoff == "linear"

    sent = requests_of(client)
    twin = expect(cloudflare.BadRequestError, lambda: gateways.create(account_id=ACCOUNT, id="my-gateway", **REQUIRED), 7001)
    assert len(sent) == 1, "a duplicate is not sent again"
    assert twin.errors[0].message
    expect(cloudflare.NotFoundError, lambda: gateways.get("nowhere", account_id=ACCOUNT), 7002)
    expect(cloudflare.NotFoundError, lambda: gateways.get("my-gateway", account_id="f" * 32), 7003)
    expect(cloudflare.BadRequestError, lambda: gateways.create(account_id=ACCOUNT, id="Not Good", **REQUIRED), 7001)
    expect(cloudflare.BadRequestError, lambda: gateways.update("my-gateway", account_id=ACCOUNT, **{**REQUIRED, "cache_ttl": -1}), 7001)
    assert gateways.urls.get("openai", account_id=ACCOUNT, gateway_id="my-gateway").endswith(f"/v1/{ACCOUNT}/my-gateway/openai")
    expect(cloudflare.BadRequestError, lambda: gateways.urls.get("nobody", account_id=ACCOUNT, gateway_id="my-gateway"), 7001)
    assert gateways.delete("my-gateway", account_id=ACCOUNT).id == "my-gateway"
    expect(cloudflare.NotFoundError, lambda: gateways.delete("my-gateway", account_id=ACCOUNT), 7002)


def everything_set():
    verdicts = {"S1": "FLAG", "P1": "BLOCK"}
    return {
        **REQUIRED,
        "authentication": False,
        "byok_only": True,
        "cache_ttl": 60,
        "dlp": {"enabled": True, "policies": [{"id": "p", "action": "FLAG", "check": ["REQUEST"], "enabled": True, "profiles": ["x"]}]},
        "guardrails": {"prompt": verdicts, "response": {}},
        "log_classification": True,
        "log_management": 20000,
        "log_management_strategy": "STOP_INSERTING",
        "logpush": True,
        "otel": [{"url": "https://otel.example/v1/traces", "headers": {"b": "1", "a": "2"}, "authorization": "secret", "content_type": "protobuf"}],
        "rate_limiting_technique": "sliding",
        "retry_backoff": "exponential",
        "retry_delay": 250,
        "retry_max_attempts": 5,
        "spend_limits": {"enabled": True, "rules": [{"limit": 12.5, "limit_type": "cost", "window": 3600}]},
        "stripe": {"authorization": "a", "usage_events": [{"payload": "p"}]},
        "workers_ai_billing_mode": "postpaid",
        "zdr": True,
    }


def test_round_trip(client):
    """Every setting comes back as it was sent: what Terraform compares after an apply."""
    wanted = everything_set()
    client.ai_gateway.create(account_id=ACCOUNT, id="all", **wanted)
    read = client.ai_gateway.get("all", account_id=ACCOUNT).to_dict()
    for name, value in wanted.items():
        if name == "spend_limits":
            rule = read[name]["rules"][0]
            assert (rule["limit"], rule["window"], rule["limitType"]) == (12.5, 3600, "cost") and len(rule["id"]) == 8, rule
        else:
            assert read[name] == value, (name, read[name])
    # The same again changes nothing but the time; so does sending back what was read.
    client.ai_gateway.update("all", account_id=ACCOUNT, **{**wanted, "spend_limits": read["spend_limits"]})
    again = client.ai_gateway.get("all", account_id=ACCOUNT).to_dict()
    assert {**again, "modified_at": None} == {**read, "modified_at": None}
    # With only the required ones nothing optional is set.
    client.ai_gateway.create(account_id=ACCOUNT, id="bare", **REQUIRED)
    bare = client.ai_gateway.get("bare", account_id=ACCOUNT).to_dict()
    for name in wanted:
        if name not in REQUIRED and name not in ("spend_limits", "workers_ai_billing_mode", "otel"):
            assert bare[name] is None, (name, bare[name])
    # Explicit nulls, as Terraform sends them, reset.
    nulls = {name: None for name in wanted if name not in REQUIRED}
    client.ai_gateway.update("all", account_id=ACCOUNT, **REQUIRED, **nulls)
    reset = client.ai_gateway.get("all", account_id=ACCOUNT).to_dict()
    for name in ("id", "internal_id", "created_at", "modified_at"):
        bare[name] = reset[name]
    assert reset == bare, (reset, bare)
    for name in ("all", "bare"):
        client.ai_gateway.delete(name, account_id=ACCOUNT)


def test_paging(client):
    """Iterators give each object once, over every number of pages."""
    made = 0
    for count in (0, 1, 20, 21, 1000):
        while made < count:
            client.ai_gateway.create(account_id=ACCOUNT, id=f"page-{made:04}", **REQUIRED)
            made += 1
        ids = [gateway.id for gateway in client.ai_gateway.list(account_id=ACCOUNT, search="page-", per_page=100 if count == 1000 else None or 20)]
        assert ids == [f"page-{number:04}" for number in range(count)], count
    expect(cloudflare.BadRequestError, lambda: client.ai_gateway.list(account_id=ACCOUNT, per_page=101), 7001)
    empty = client.ai_gateway.list(account_id=ACCOUNT, page=1000)
    assert list(empty.result) == []
    assert empty.result_info.total_count == 1001 and empty.result_info.count == 0


def test_tokens(client, management):
    account = client.accounts.tokens
    groups = {group.name: group.id for group in account.permission_groups.list(account_id=ACCOUNT)}
    assert groups["AI Gateway Run"] == RUN and "AI Gateway Write" in groups
    policy = {"effect": "allow", "permission_groups": [{"id": groups["AI Gateway Read"]}], "resources": {f"com.cloudflare.api.account.{ACCOUNT}": "*"}}
    made = account.create(account_id=ACCOUNT, name="reader", policies=[policy], expires_on="2099-01-01T00:00:00Z")
    assert made.value.startswith("rg_") and len(made.value) == 40 and made.status == "active"
    read = account.get(made.id, account_id=ACCOUNT)
    assert "value" not in read.to_dict() and read.name == "reader" and read.policies[0].permission_groups[0].name == "AI Gateway Read"
    assert made.id in [token.id for token in account.list(account_id=ACCOUNT)]
    assert made.id in [token.id for token in client.user.tokens.list()], "one table, both paths"

    reader = Cloudflare(api_token=made.value, base_url=f"{management}/client/v4")
    verified = reader.accounts.tokens.verify(account_id=ACCOUNT)
    assert verified.id == made.id and verified.status == "active"
    assert reader.user.tokens.verify().status == "active"
    assert reader.ai_gateway.get("default", account_id=ACCOUNT).id == "default"
    sent = requests_of(reader)
    expect(cloudflare.PermissionDeniedError, lambda: reader.ai_gateway.create(account_id=ACCOUNT, id="no", **REQUIRED), 10000)
    assert len(sent) == 1

    rolled = account.value.update(made.id, account_id=ACCOUNT)
    expect(cloudflare.AuthenticationError, lambda: reader.ai_gateway.get("default", account_id=ACCOUNT), 10000)
    expect(cloudflare.AuthenticationError, lambda: reader.user.tokens.verify(), 1000)
    reader = Cloudflare(api_token=rolled, base_url=f"{management}/client/v4")
    assert reader.ai_gateway.get("default", account_id=ACCOUNT).id == "default"
    changed = account.update(made.id, account_id=ACCOUNT, name="renamed", policies=[policy], status="disabled")
    assert changed.name == "renamed" and changed.status == "disabled" and changed.expires_on
    expect(cloudflare.AuthenticationError, lambda: reader.ai_gateway.get("default", account_id=ACCOUNT), 10000)
    assert reader.user.tokens.verify().status == "disabled"
    assert account.delete(made.id, account_id=ACCOUNT).id == made.id
    expect(cloudflare.NotFoundError, lambda: account.get(made.id, account_id=ACCOUNT), 7002)
    expect(cloudflare.BadRequestError, lambda: account.create(account_id=ACCOUNT, name="x" * 121, policies=[policy]), 400)
    unknown = {**policy, "permission_groups": [{"id": "0" * 32}]}
    expect(cloudflare.BadRequestError, lambda: account.create(account_id=ACCOUNT, name="x", policies=[unknown]), 1001)


def test_accounts(client, management):
    assert [account.id for account in client.accounts.list()] == [ACCOUNT]
    assert client.accounts.get(account_id=ACCOUNT).type == "standard"
    expect(cloudflare.PermissionDeniedError, lambda: client.accounts.delete(account_id=ACCOUNT), 10000)
    key = Cloudflare(api_key="0" * 37, api_email="a@b.example", base_url=f"{management}/client/v4")
    expect(cloudflare.BadRequestError, lambda: key.accounts.list(), 6003)
    # A trailing slash on the base URL is harmless.
    slash = Cloudflare(api_token=TOKEN, base_url=f"{management}/client/v4/")
    assert slash.accounts.get(account_id=ACCOUNT).id == ACCOUNT
    audited = list(client.audit_logs.list(account_id=ACCOUNT, per_page=50))
    assert audited, "management writes leave lines"


def paged(count_of, make, ids, counts=(0, 1, 20, 21)):
    """An iterator gives each object once, over every number of pages; `ids` reads them all, `count_of` the total."""
    made = []
    for count in counts:
        while len(made) < count:
            made.append(make(len(made)))
        found = ids()
        assert sorted(found) == sorted(made), (count, len(found))
        assert count_of() == count


def test_provider_configs(client):
    gateways, configs = client.ai_gateway, client.ai_gateway.provider_configs
    gateways.create(account_id=ACCOUNT, id="keys", **REQUIRED)

    def make(number):
        arguments = {"alias": f"a{number:02}", "default_config": number == 0, "provider_slug": "openai", "secret": f"sk-0123456789-{number:04}"}
        return configs.create("keys", account_id=ACCOUNT, **arguments).id

    def listed():
        return list(configs.list("keys", account_id=ACCOUNT, per_page=20))

    def total():
        return int(configs.list("keys", account_id=ACCOUNT).result_info.total_count)

    paged(total, make, lambda: [config.id for config in listed()])
    first = next(config for config in listed() if config.alias == "a00")
    assert first.gateway_id == "keys" and first.provider_slug == "openai" and first.default_config is True
    assert first.secret_preview == "sk-...0000" and first.secret_id and first.modified_at
    assert "sk-0123456789" not in str([config.to_dict() for config in listed()]), "a key is never shown"
    # A stored secret, and a limit of its own.
    limited = configs.create("keys", account_id=ACCOUNT, alias="b", default_config=True, provider_slug="anthropic", secret_id=first.secret_id, rate_limit=5, rate_limit_period=30)
    assert (limited.rate_limit, limited.rate_limit_period, limited.secret_id) == (5, 30, first.secret_id)
    taken = {"alias": "b", "default_config": False, "provider_slug": "anthropic", "secret": "sk-x"}
    sent = requests_of(client)
    expect(cloudflare.BadRequestError, lambda: configs.create("keys", account_id=ACCOUNT, **taken), 7001)
    assert len(sent) == 1, "a duplicate is not sent again"
    expect(cloudflare.BadRequestError, lambda: configs.create("keys", account_id=ACCOUNT, **{**taken, "alias": "c", "provider_slug": "nobody"}), 7001)
    expect(cloudflare.BadRequestError, lambda: configs.create("keys", account_id=ACCOUNT, alias="c", default_config=False, provider_slug="anthropic"), 7001)
    expect(cloudflare.NotFoundError, lambda: configs.create("nowhere", account_id=ACCOUNT, **taken), 7002)
    # These two are in the public API and not in the client.
    path = f"/accounts/{ACCOUNT}/ai-gateway/gateways/keys/provider_configs/{first.id}"
    changed = client.put(path, cast_to=object, body={"secret": "sk-0123456789-wxyz"})
    assert changed["result"]["secret_preview"] == "sk-...wxyz"
    client.delete(path, cast_to=object)
    expect(cloudflare.NotFoundError, lambda: client.delete(path, cast_to=object), 7002)
    assert first.id not in [config.id for config in listed()]
    gateways.delete("keys", account_id=ACCOUNT)


def test_secrets_store(client):
    stores, secrets = client.secrets_store.stores, client.secrets_store.stores.secrets
    store = next(iter(stores.list(account_id=ACCOUNT)))
    assert stores.get(store.id, account_id=ACCOUNT).name == store.name == "default_secrets_store"
    expect(cloudflare.BadRequestError, lambda: stores.create(account_id=ACCOUNT, name="second"), 1003)
    stores.delete(store.id, account_id=ACCOUNT, force=True)
    expect(cloudflare.NotFoundError, lambda: stores.get(store.id, account_id=ACCOUNT), 1001)
    assert list(stores.list(account_id=ACCOUNT)) == []
    store = stores.create(account_id=ACCOUNT, name="mine")

    def make(number):
        body = [{"name": f"s{number:02}", "scopes": ["workers", "ai_gateway"], "value": f"very-secret-{number}"}]
        return secrets.create(store.id, account_id=ACCOUNT, body=body).result[0].id

    def listed(**query):
        return list(secrets.list(store.id, account_id=ACCOUNT, per_page=20, **query))

    def total():
        return int(secrets.list(store.id, account_id=ACCOUNT).result_info.total_count)

    paged(total, make, lambda: [secret.id for secret in listed()])
    assert client.secrets_store.quota.get(account_id=ACCOUNT).secrets.usage == 21
    assert [secret.name for secret in listed(order="name", direction="desc")][0] == "s20"
    assert [secret.name for secret in listed(search="s07")] == ["s07"]
    assert len(listed(scopes=["ai_gateway", "workers"])) == 21 and listed(scopes=["dex"]) == []
    one = listed(search="s07")[0]
    assert one.store_id == store.id and one.status == "active" and one.created and one.modified
    read = secrets.get(one.id, account_id=ACCOUNT, store_id=store.id).to_dict()
    assert read["scopes"] == ["ai_gateway", "workers"] and "value" not in read, read
    edited = secrets.edit(one.id, account_id=ACCOUNT, store_id=store.id, value="other", comment="c", scopes=["dex"]).to_dict()
    assert (edited["comment"], edited["scopes"]) == ("c", ["dex"]) and edited["modified"] > read["modified"]
    copy = secrets.duplicate(one.id, account_id=ACCOUNT, store_id=store.id, name="copy", scopes=["ai_gateway"])
    assert copy.name == "copy" and copy.id != one.id
    for call in (
        lambda: secrets.create(store.id, account_id=ACCOUNT, body=[{"name": "copy", "scopes": ["dex"], "value": "v"}]),
        lambda: secrets.duplicate(one.id, account_id=ACCOUNT, store_id=store.id, name="copy", scopes=["dex"]),
    ):
        sent = requests_of(client)
        twin = expect(cloudflare.BadRequestError, call, 1003)
        assert "secret_name_already_exists" in twin.errors[0].message and len(sent) == 1, "a duplicate is not sent again"
    # The client sends no body with this, which must not mean everything.
    expect(cloudflare.BadRequestError, lambda: secrets.bulk_delete(store.id, account_id=ACCOUNT), 1001)
    assert len(listed()) == 22
    secrets.delete(copy.id, account_id=ACCOUNT, store_id=store.id)
    expect(cloudflare.NotFoundError, lambda: secrets.get(copy.id, account_id=ACCOUNT, store_id=store.id), 1001)
    expect(cloudflare.NotFoundError, lambda: secrets.delete(copy.id, account_id=ACCOUNT, store_id=store.id), 1000)
    expect(cloudflare.BadRequestError, lambda: stores.delete(store.id, account_id=ACCOUNT), 1003)


def graph(model):
    return [
        {"id": "start", "type": "start", "outputs": {"next": {"element_id": "model"}}},
        {
            "id": "model",
            "type": "model",
            "properties": {"provider": "openai", "model": model, "retries": 1, "timeout": 1000},
            "outputs": {"success": {"element_id": "end"}, "fallback": {"element_id": "end"}},
        },
        {"id": "end", "type": "end", "outputs": {}},
    ]


def test_dynamic_routing(client):
    client.ai_gateway.create(account_id=ACCOUNT, id="routed", **REQUIRED)
    routing = client.ai_gateway.dynamic_routing
    here = {"account_id": ACCOUNT, "gateway_id": "routed"}

    def make(number):
        return routing.create("routed", account_id=ACCOUNT, name=f"r{number:02}", elements=graph("gpt-4o")).id

    def ids():
        """The client has no iterator here: page by page, to the first empty one."""
        found, page = [], 1
        while routes := routing.list("routed", account_id=ACCOUNT, page=page, per_page=20).data.routes:
            found += [route.id for route in routes]
            page += 1
        return found

    paged(lambda: len(ids()), make, ids)
    route = routing.get(ids()[0], **here)
    assert route.gateway_id == "routed" and route.version.active == "true" and route.deployment.version_id == route.version.version_id
    assert [element.type for element in route.elements] == ["start", "model", "end"]
    assert routing.update(route.id, **here, name="renamed").route.name == "renamed"
    sent = requests_of(client)
    expect(cloudflare.BadRequestError, lambda: routing.create("routed", account_id=ACCOUNT, name="renamed", elements=graph("m")), 7001)
    assert len(sent) == 1, "a duplicate is not sent again"
    routing.create_version(route.id, **here, elements=graph("gpt-4o-mini"))
    versions = routing.list_versions(route.id, **here).data.versions
    assert len(versions) == 2 and sorted(version.active for version in versions) == ["false", "true"]
    newer = next(version for version in versions if version.active == "false")
    read = routing.get_version(newer.version_id, **here, id=route.id)
    assert "gpt-4o-mini" in read.data and read.is_valid is True and read.active == "false"
    routing.create_deployment(route.id, **here, version_id=newer.version_id)
    deployments = routing.list_deployments(route.id, **here).data.deployments
    assert len(deployments) == 2 and newer.version_id in [deployment.version_id for deployment in deployments]
    assert routing.get(route.id, **here).version.version_id == newer.version_id
    # And back.
    routing.create_deployment(route.id, **here, version_id=route.version.version_id)
    assert routing.get(route.id, **here).deployment.version_id == route.version.version_id
    expect(cloudflare.BadRequestError, lambda: routing.create_version(route.id, **here, elements=graph("m")[:2]), 7001)
    expect(cloudflare.NotFoundError, lambda: routing.get_version("none", **here, id=route.id), 7002)
    assert routing.delete(route.id, **here).id == route.id
    expect(cloudflare.NotFoundError, lambda: routing.get(route.id, **here), 7002)
    client.ai_gateway.delete("routed", account_id=ACCOUNT)


def test_custom_providers(client):
    providers = client.ai_gateway.custom_providers

    def make(number):
        return providers.create(account_id=ACCOUNT, name=f"Provider {number:02}", slug=f"p-{number:02}", base_url="https://llm.example/v1").id

    def listed(**query):
        return list(providers.list(account_id=ACCOUNT, per_page=20, **query))

    def total():
        return int(providers.list(account_id=ACCOUNT).result_info.total_count)

    paged(total, make, lambda: [provider.id for provider in listed()])
    headers = '{"X-Key": "k-secret"}'
    wanted = {
        "name": "Full", "slug": "full", "base_url": "https://full.example", "enable": True, "beta": True, "headers": headers, "description": "d",
        "link": "https://link.example", "curl_example": "curl", "js_example": "js", "position": 7,
    }
    full = providers.create(account_id=ACCOUNT, **wanted)
    read = providers.get(full.id, account_id=ACCOUNT)
    assert read.to_dict() == full.to_dict() and read.logo and read.created_at and read.modified_at
    for name, value in wanted.items():
        assert getattr(read, name) == value, name
    assert [provider.slug for provider in listed(enable=True)] == ["full"] == [provider.slug for provider in listed(beta=True)]
    assert [provider.slug for provider in listed(search="p-07")] == ["p-07"]
    sent = requests_of(client)
    expect(cloudflare.BadRequestError, lambda: providers.create(account_id=ACCOUNT, **wanted), 7001)
    assert len(sent) == 1, "a duplicate is not sent again"
    expect(cloudflare.BadRequestError, lambda: providers.create(account_id=ACCOUNT, **{**wanted, "slug": "x", "base_url": "http://far.example"}), 7001)
    # In the public API, and not in the client.
    changed = client.patch(f"/accounts/{ACCOUNT}/ai-gateway/custom-providers/{full.id}", cast_to=object, body={"name": "Fuller", "headers": None})
    assert changed["result"]["name"] == "Fuller" and changed["result"]["headers"] is None
    assert providers.delete(full.id, account_id=ACCOUNT).id == full.id
    expect(cloudflare.NotFoundError, lambda: providers.get(full.id, account_id=ACCOUNT), 7002)


def simulated(binary, client):
    """A provider: the simulator, as a custom one."""
    simulator = subprocess.Popen([binary, "sim", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    url = re.search(r"http://127\.0\.0\.1:\d+", simulator.stdout.readline()).group(0)
    client.ai_gateway.custom_providers.create(account_id=ACCOUNT, slug="sim", name="Simulator", base_url=url, enable=True)
    return simulator


def eventually(what, ask):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def test_logs(client, data):
    logs = client.ai_gateway.logs
    expected = []
    for number in range(45):
        model = "sim-status-500" if number % 9 == 0 else f"model-{number % 2}"
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        headers = {"cf-aig-authorization": f"Bearer {TOKEN}", "content-type": "application/json", "cf-aig-metadata": json.dumps({"number": number})}
        request = urllib.request.Request(f"{data}/v1/{ACCOUNT}/default/custom-sim/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        expected.append(answer.headers["cf-aig-log-id"])
    listed = lambda **query: [log.id for log in logs.list("default", account_id=ACCOUNT, **query)]
    eventually("the entries", lambda: logs.list("default", account_id=ACCOUNT).result_info.total_count == 45)
    # Two data threads agree on a request's time to the millisecond only.
    newest_first = lambda ids: sorted(ids, reverse=True)
    assert listed() == newest_first(expected), "every page"
    assert listed(order_by_direction="asc", per_page=7) == sorted(expected)
    failed = newest_first(id for number, id in enumerate(expected) if number % 9 == 0)
    assert listed(success=False) == failed
    one = [{"key": "success", "operator": "eq", "value": [False]}]
    assert listed(filters=one) == failed
    two = [*one, {"key": "created_at", "operator": "lt", "value": ["2099-01-01T00:00:00Z"]}]
    assert listed(filters=two) == failed
    several = [{"key": "metadata.value", "operator": "eq", "value": ["3", "5"]}]
    assert listed(filters=several) == newest_first([expected[5], expected[3]])
    assert listed(search="model-1") == newest_first(id for number, id in enumerate(expected) if number % 2 and number % 9)
    info = logs.list("default", account_id=ACCOUNT, meta_info=True).to_dict()["result_info"]
    assert info["total_count"] == 45 and info["total_pages"] == 3 and info["min_duration"] <= info["max_duration"], info
    read = logs.get(expected[1], account_id=ACCOUNT, gateway_id="default")
    assert read.id == expected[1] and read.provider == "custom-sim" and read.model == "model-1" and read.success is True and read.status_code == 200
    assert read.tokens_in > 0 and read.tokens_out > 0 and read.cached is False and read.path == "v1/chat/completions"
    assert json.loads(read.metadata) == {"number": 1} and read.request_size > 0
    assert json.loads(read.request_head)["model"] == "model-1" and json.loads(read.response_head)["usage"]
    bodies = [call(expected[1], account_id=ACCOUNT, gateway_id="default") for call in (logs.request, logs.response)]
    assert bodies[0]["model"] == "model-1" and bodies[1]["usage"]["prompt_tokens"] == read.tokens_in, bodies
    logs.edit(expected[1], account_id=ACCOUNT, gateway_id="default", feedback=1, score=80, metadata={"note": "good", "n": 1, "yes": True})
    edited = logs.get(expected[1], account_id=ACCOUNT, gateway_id="default").to_dict()
    assert edited["feedback"] == 1 and edited["score"] == 80 and json.loads(edited["metadata"]) == {"note": "good", "n": 1, "yes": True}
    assert listed(feedback=1) == [expected[1]]
    expect(cloudflare.BadRequestError, lambda: logs.edit(expected[1], account_id=ACCOUNT, gateway_id="default", score=101), 7001)
    expect(cloudflare.BadRequestError, lambda: logs.list("default", account_id=ACCOUNT, per_page=51), 7001)
    expect(cloudflare.BadRequestError, lambda: listed(filters=[{"key": "nothing", "operator": "eq", "value": ["x"]}]), 7001)
    missing = "0" * 8 + expected[1][8:]
    for call in (logs.get, logs.request, logs.response):
        expect(cloudflare.NotFoundError, lambda: call(missing, account_id=ACCOUNT, gateway_id="default"), 7002)
    assert logs.delete("default", account_id=ACCOUNT, filters=one).success is True
    assert listed(success=False) == []
    assert logs.delete("default", account_id=ACCOUNT, limit=10, order_by="created_at", order_by_direction="asc").success is True
    assert len(listed()) == 30
    assert logs.delete("default", account_id=ACCOUNT).success is True
    assert listed() == []


def test_datasets(client, data, management):
    """Every answer is of the types that the client states, and figures are those of the logs."""
    strict = Cloudflare(api_token=TOKEN, base_url=f"{management}/client/v4", _strict_response_validation=True)
    datasets, evaluations = strict.ai_gateway.datasets, strict.ai_gateway.evaluations
    here = {"account_id": ACCOUNT, "gateway_id": "default"}
    for number in range(6):
        body = {"model": "sim-status-500" if number == 5 else f"model-{number % 2}", "messages": [{"role": "user", "content": "hi"}]}
        custom_cost = json.dumps({"per_token_in": 0.001, "per_token_out": 0.002})
        headers = {"cf-aig-authorization": f"Bearer {TOKEN}", "content-type": "application/json", "cf-aig-custom-cost": custom_cost}
        request = urllib.request.Request(f"{data}/v1/{ACCOUNT}/default/custom-sim/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError:
            pass
    entries = lambda: list(client.ai_gateway.logs.list("default", account_id=ACCOUNT))
    logs = eventually("the entries", lambda: len(found := entries()) == 6 and found)
    client.ai_gateway.logs.edit(logs[0].id, **here, feedback=1)
    client.ai_gateway.logs.edit(logs[1].id, **here, feedback=-1)

    filters = [{"key": "model", "operator": "eq", "value": ["model-1"]}, {"key": "success", "operator": "eq", "value": [True]}]
    made = datasets.create("default", account_id=ACCOUNT, name="ones", enable=True, filters=filters)
    assert made.gateway_id == "default" and [one.to_dict() for one in made.filters] == filters and made.enable is True
    assert datasets.get(made.id, **here).to_dict() == made.to_dict()
    sent = requests_of(strict)
    expect(cloudflare.BadRequestError, lambda: datasets.create("default", account_id=ACCOUNT, name="ones", enable=True, filters=[]), 7001)
    assert len(sent) == 1, "a duplicate is not sent again"
    renamed = datasets.update(made.id, **here, name="model 1", enable=True, filters=filters)
    assert renamed.name == "model 1" and renamed.modified_at > made.modified_at and renamed.created_at == made.created_at
    every = datasets.create("default", account_id=ACCOUNT, name="all", enable=True, filters=[])
    assert [dataset.id for dataset in datasets.list("default", account_id=ACCOUNT, per_page=1)] == [made.id, every.id]
    assert [dataset.id for dataset in datasets.list("default", account_id=ACCOUNT, name="all", enable=True, search="l")] == [every.id]
    expect(cloudflare.NotFoundError, lambda: datasets.get("nowhere", **here), 7002)

    types = [known.id for known in strict.ai_gateway.evaluation_types.list(account_id=ACCOUNT, order_by="name", order_by_direction="asc", per_page=5)]
    assert types == ["cost", "human_feedback", "speed"], types

    def evaluated(*ids):
        evaluation = evaluations.create("default", account_id=ACCOUNT, name="numbers", dataset_ids=ids, evaluation_type_ids=types)
        assert evaluation.processed is False and [dataset.id for dataset in evaluation.datasets] == list(ids)
        assert [result.status for result in evaluation.results] == [0, 0, 0]
        done = eventually("the results", lambda: (read := evaluations.get(evaluation.id, **here)).processed and read)
        assert [result.status for result in done.results] == [2, 2, 2] and done.created_at == evaluation.created_at
        return done, [float(result.result) if result.result else None for result in done.results]

    average = lambda figures: sum(figures) / len(figures)
    whole, figures = evaluated(every.id, made.id)
    assert whole.total_logs == 6 and [result.total_logs for result in whole.results] == [sum(log.cost is not None for log in logs), 2, 6]
    assert abs(figures[0] - average([log.cost for log in logs if log.cost is not None])) < 1e-11, figures
    assert figures[1] == 50 and abs(figures[2] - average([log.duration for log in logs])) < 0.001, figures
    part, _ = evaluated(made.id)
    assert part.total_logs == sum(log.model == "model-1" for log in logs) == 2
    assert [evaluation.id for evaluation in evaluations.list("default", account_id=ACCOUNT, per_page=1, processed=True)] == [whole.id, part.id]
    assert list(evaluations.list("default", account_id=ACCOUNT, name="no number", search="n")) == []
    assert datasets.delete(every.id, **here).id == every.id
    assert evaluations.get(whole.id, **here).datasets[0].name == "all", "kept as it was"
    expect(cloudflare.BadRequestError, lambda: evaluations.create("default", account_id=ACCOUNT, name="x", dataset_ids=[every.id], evaluation_type_ids=types), 7001)
    for evaluation in (whole, part):
        assert evaluations.delete(evaluation.id, **here).id == evaluation.id
    expect(cloudflare.NotFoundError, lambda: evaluations.delete(whole.id, **here), 7002)
    client.ai_gateway.logs.delete("default", account_id=ACCOUNT)


def run(folder):
    process, data, management = start(sys.argv[1], folder)
    client = Cloudflare(api_token=TOKEN, base_url=f"{management}/client/v4")
    simulator = simulated(sys.argv[1], client)
    try:
        test_logs(client, data)
        test_datasets(client, data, management)
        # The others expect nothing but what they make.
        client.ai_gateway.custom_providers.delete(next(iter(client.ai_gateway.custom_providers.list(account_id=ACCOUNT))).id, account_id=ACCOUNT)
        test_gateways(client)
        test_round_trip(client)
        test_tokens(client, management)
        test_accounts(client, management)
        test_provider_configs(client)
        test_secrets_store(client)
        test_dynamic_routing(client)
        test_custom_providers(client)
        test_paging(client)
    finally:
        process.terminate()
        simulator.terminate()
        simulator.wait(10)
    assert process.wait(10) == 0
    print("python client: cloudflare passes")


with tempfile.TemporaryDirectory() as folder:
    run(folder)
