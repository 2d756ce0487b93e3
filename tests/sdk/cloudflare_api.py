"""The official Cloudflare Python client, unmodified, against the management API.

Usage: cloudflare_api.py RINGGATE_BINARY
"""

import os
import re
import subprocess
import sys
import tempfile
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


def run(folder):
    process, data, management = start(sys.argv[1], folder)
    client = Cloudflare(api_token=TOKEN, base_url=f"{management}/client/v4")
    try:
        test_gateways(client)
        test_round_trip(client)
        test_tokens(client, management)
        test_accounts(client, management)
        test_paging(client)
    finally:
        process.terminate()
    assert process.wait(10) == 0
    print("python client: cloudflare passes")


with tempfile.TemporaryDirectory() as folder:
    run(folder)
