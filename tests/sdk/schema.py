"""Made-up calls of the whole management API against its own description: nothing fails within, and every answer is as the
description says.

Usage: schema.py RINGGATE_BINARY [SECONDS]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request

TOKEN = "schema-test-token-0123456789-0123456789"
ACCOUNT = "acc"
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"


def start(binary, folder):
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0", "--data-dir", f"{folder}/data", "--account-id", ACCOUNT]
    environment = {**os.environ, "RINGGATE_BOOTSTRAP_TOKEN": TOKEN}
    with open(f"{folder}/notices", "w") as notices:
        process = subprocess.Popen(command, stderr=notices, stdout=subprocess.DEVNULL, env=environment)
    while True:
        with open(f"{folder}/notices") as notices:
            found = re.search(r"management (http://\S+) ", notices.read())
        if found:
            return process, found.group(1)
        assert process.poll() is None, open(f"{folder}/notices").read()


def call(management, method, path, body):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{management}/client/v4/accounts/{ACCOUNT}/{path}", json.dumps(body).encode() if body else None, headers, method=method)
    return json.load(urllib.request.urlopen(request))["result"]


def furnish(management):
    """One object of each kind, and the path parameters that name it: with made-up ones alone nothing is ever found."""
    required = {"cache_invalidate_on_update": True, "cache_ttl": 0, "collect_logs": True, "rate_limiting_interval": 0, "rate_limiting_limit": 0}
    call(management, "POST", "ai-gateway/gateways", {"id": "g", **required})
    elements = [{"id": "s", "type": "start", "outputs": {"next": {"elementId": "e"}}}, {"id": "e", "type": "end", "outputs": {}}]
    route = call(management, "POST", "ai-gateway/gateways/g/routes", {"name": "r", "elements": elements})
    key = {"provider_slug": "openai", "alias": "a", "default_config": True, "secret": "sk-0123456789"}
    config = call(management, "POST", "ai-gateway/gateways/g/provider_configs", key)
    provider = call(management, "POST", "ai-gateway/custom-providers", {"name": "P", "slug": "p", "base_url": "https://p.example"})
    cost = call(management, "POST", "ai-gateway/custom-providers/costs", {"account_provider_id": provider["id"], "model": "m", "cost_in": 1})
    call(management, "POST", "ai-gateway/gateways/g/custom-domains", {"domain": "llm.example", "zone_id": "z"})
    dataset = call(management, "POST", "ai-gateway/gateways/g/datasets", {"name": "d", "enable": True, "filters": []})
    evaluation = {"name": "e", "dataset_ids": [dataset["id"]], "evaluation_type_ids": ["cost", "speed"]}
    evaluation = call(management, "POST", "ai-gateway/gateways/g/evaluations", evaluation)
    policy = {"effect": "allow", "permission_groups": [{"id": "AI Gateway Run"}], "resources": {f"com.cloudflare.api.account.{ACCOUNT}": "*"}}
    token = call(management, "POST", "tokens", {"name": "t", "policies": [policy]})
    return {
        "account_id": ACCOUNT,
        "gateway_id": "g",
        "route_id": route["id"],
        "version_id": route["version"]["version_id"],
        "id": config["id"],
        "provider": "openai",
        "store_id": call(management, "GET", "secrets_store/stores", None)[0]["id"],
        "secret_id": config["secret_id"],
        "custom_provider_id": provider["id"],
        "cost_id": cost["id"],
        "dataset_id": dataset["id"],
        "evaluation_id": evaluation["id"],
        "domain": "llm.example",
        "hostname": "llm.example",
        "token_id": token["id"],
    }


def configuration(parameters):
    """Reads and changes what there is; what deletes gets other names, so that it stays there."""
    lines = ["[parameters]"]
    lines += [f'"path.{name}" = {json.dumps(value)}' for name, value in parameters.items()]
    lines += ["[[operations]]", 'include-method = "DELETE"', "[operations.parameters]"]
    lines += [f'"path.{name}" = "none"' for name in parameters if name != "account_id"]
    return "\n".join(lines) + "\n"


def run(binary, seconds, folder):
    process, management = start(binary, folder)
    try:
        settings = f"{folder}/schemathesis.toml"
        with open(settings, "w") as file:
            file.write(configuration(furnish(management)))
        program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
        command = [program, "--config-file", settings, "run", f"{management}/openapi.json", "--url", f"{management}/client/v4"]
        command += ["--header", f"Authorization: Bearer {TOKEN}", "--checks", CHECKS, "--phases", "coverage,fuzzing"]
        command += ["--seed", "1", "--generation-database", "none", "--max-time", str(seconds), "--no-color"]
        done = subprocess.run(command, cwd=folder)
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        ended = process.wait(20)
    with open(f"{folder}/notices") as notices:
        text = notices.read()
    assert "panicked" not in text, text
    assert done.returncode == 0 and ended == 0, (done.returncode, ended)
    print("schemathesis: every answer is as described")


with tempfile.TemporaryDirectory() as folder:
    run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40, folder)
