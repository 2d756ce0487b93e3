// The official Cloudflare npm client, unmodified, against the management API.
// Usage: node cloudflare_api.mjs RINGGATE_BINARY

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import Cloudflare from "cloudflare";

const TOKEN = "sdk-test-token-0123456789-0123456789";
const account_id = "0123456789abcdef0123456789abcdef";
const required = {
  cache_invalidate_on_update: true,
  cache_ttl: 0,
  collect_logs: true,
  rate_limiting_interval: 0,
  rate_limiting_limit: 0,
};

async function start(binary, folder) {
  const options = ["serve", "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0", "--data-dir", join(folder, "data"), "--account-id", account_id];
  const child = spawn(binary, options, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, RINGGATE_BOOTSTRAP_TOKEN: TOKEN } });
  for await (const line of createInterface({ input: child.stderr })) {
    const found = /serves (http:\/\/[^ ,]+).*management (http:\/\/\S+)/.exec(line);
    if (found) {
      child.stderr.resume();
      return { child, data: found[1], baseURL: `${found[2]}/client/v4` };
    }
  }
  throw new Error("the gateway did not start");
}

async function testGateways(client) {
  const gateways = client.aiGateway;
  const made = await gateways.create({ account_id, id: "npm", ...required, cache_ttl: 60, retry_backoff: "linear" });
  assert.equal(made.cache_ttl, 60);
  assert.deepEqual(await gateways.get("npm", { account_id }), made);
  const changed = await gateways.update("npm", { account_id, ...required });
  assert.equal(changed.cache_ttl, 0);
  assert.equal(changed.retry_backoff, "linear");
  await assert.rejects(gateways.create({ account_id, id: "npm", ...required }), (error) => {
    return error instanceof Cloudflare.BadRequestError && error.errors[0].code === 7001;
  });
  await assert.rejects(gateways.get("nowhere", { account_id }), Cloudflare.NotFoundError);
  for (let number = 0; number < 25; number++) {
    await gateways.create({ account_id, id: `page-${String(number).padStart(2, "0")}`, ...required });
  }
  const ids = [];
  for await (const gateway of gateways.list({ account_id, search: "page-", per_page: 10 })) {
    ids.push(gateway.id);
  }
  assert.equal(ids.length, 25);
  assert.equal(new Set(ids).size, 25);
  assert.match(await gateways.urls.get("openai", { account_id, gateway_id: "npm" }), /\/npm\/openai$/);
  assert.equal((await gateways.delete("npm", { account_id })).id, "npm");
}

async function testTokens(client, baseURL) {
  const groups = [];
  for await (const group of client.accounts.tokens.permissionGroups.list({ account_id })) {
    groups.push(group);
  }
  const read = groups.find((group) => group.name === "AI Gateway Read");
  const policies = [{ effect: "allow", permission_groups: [{ id: read.id }], resources: { [`com.cloudflare.api.account.${account_id}`]: "*" } }];
  const made = await client.accounts.tokens.create({ account_id, name: "npm", policies });
  const reader = new Cloudflare({ apiToken: made.value, baseURL, maxRetries: 0 });
  assert.equal((await reader.user.tokens.verify()).status, "active");
  assert.ok(await reader.aiGateway.get("default", { account_id }));
  await assert.rejects(reader.aiGateway.delete("default", { account_id }), Cloudflare.PermissionDeniedError);
  const rolled = await client.accounts.tokens.value.update(made.id, { account_id, body: {} });
  await assert.rejects(reader.aiGateway.get("default", { account_id }), Cloudflare.AuthenticationError);
  assert.ok(await new Cloudflare({ apiToken: rolled, baseURL }).aiGateway.get("default", { account_id }));
  assert.equal((await client.accounts.tokens.delete(made.id, { account_id })).id, made.id);
}

async function testLogs(client, data) {
  // Nothing listens there: such requests fail, and are logged.
  const custom = { account_id, slug: "nobody", name: "Nobody", base_url: "http://127.0.0.1:1", enable: true };
  const provider = await client.post(`/accounts/${account_id}/ai-gateway/custom-providers`, { body: custom });
  const sent = [];
  for (let number = 0; number < 25; number++) {
    const headers = { "cf-aig-authorization": TOKEN, "cf-aig-metadata": JSON.stringify({ number }) };
    const answer = await fetch(`${data}/v1/${account_id}/default/custom-nobody/x`, { method: "POST", headers, body: "{}" });
    sent.push(answer.headers.get("cf-aig-log-id"));
  }
  const logs = client.aiGateway.logs;
  const listed = async (query) => {
    const ids = [];
    for await (const log of logs.list("default", { account_id, ...query })) {
      ids.push(log.id);
    }
    return ids;
  };
  for (let tries = 0; (await listed({})).length < 25 && tries < 500; tries++) {
    await new Promise((done) => setTimeout(done, 20));
  }
  // Two data threads agree on a request's time to the millisecond only.
  assert.deepEqual(await listed({ order_by_direction: "asc", per_page: 10 }), [...sent].sort());
  const filters = [
    { key: "provider", operator: "contains", value: ["nobody"] },
    { key: "metadata.value", operator: "eq", value: ["7", 9] },
    { key: "success", operator: "eq", value: [false] },
  ];
  assert.deepEqual((await listed({ filters })).sort(), [sent[7], sent[9]].sort());
  assert.deepEqual(await listed({ filters: [{ key: "id", operator: "eq", value: [sent[3]] }] }), [sent[3]]);
  const read = await logs.get(sent[3], { account_id, gateway_id: "default" });
  assert.equal(read.success, false);
  assert.equal(read.metadata, '{"number":3}');
  await logs.edit(sent[3], { account_id, gateway_id: "default", feedback: -1, score: 10 });
  const edited = await logs.get(sent[3], { account_id, gateway_id: "default" });
  assert.equal(edited.feedback, -1);
  assert.equal((await logs.response(sent[3], { account_id, gateway_id: "default" })).internalCode, 2005);
  await assert.rejects(logs.response(sent[3].replace(/^.{8}/, "00000000"), { account_id, gateway_id: "default" }), Cloudflare.NotFoundError);
  assert.equal((await logs.delete("default", { account_id, filters })).success, true);
  assert.equal((await listed({})).length, 23);
  await client.delete(`/accounts/${account_id}/ai-gateway/custom-providers/${provider.result.id}`);
}

async function testDatasets(client) {
  const { datasets, evaluations, evaluationTypes } = client.aiGateway;
  const here = { account_id, gateway_id: "default" };
  const filters = [{ key: "success", operator: "eq", value: [false] }];
  const made = await datasets.create("default", { account_id, name: "failures", enable: true, filters });
  assert.deepEqual(made.filters, filters);
  assert.deepEqual(await datasets.get(made.id, here), made);
  const changed = await datasets.update(made.id, { ...here, name: "failed", enable: true, filters });
  assert.equal(changed.name, "failed");
  const listed = [];
  for await (const dataset of datasets.list("default", { account_id, enable: true, search: "fail" })) {
    listed.push(dataset.id);
  }
  assert.deepEqual(listed, [made.id]);
  const types = [];
  for await (const type of evaluationTypes.list({ account_id })) {
    types.push(type.id);
  }
  assert.equal(types.length, 3);
  const asked = { account_id, name: "how many", dataset_ids: [made.id], evaluation_type_ids: types };
  let evaluation = await evaluations.create("default", asked);
  assert.equal(evaluation.processed, false);
  for (let tries = 0; !evaluation.processed && tries < 500; tries++) {
    await new Promise((done) => setTimeout(done, 20));
    evaluation = await evaluations.get(evaluation.id, here);
  }
  assert.equal(evaluation.total_logs, 23);
  const speed = evaluation.results.find((result) => result.evaluation_type_id === "speed");
  assert.equal(speed.status, 2);
  assert.equal(speed.total_logs, 23);
  assert.ok(Number(speed.result) >= 0);
  const found = [];
  for await (const one of evaluations.list("default", { account_id, processed: true })) {
    found.push(one.id);
  }
  assert.deepEqual(found, [evaluation.id]);
  assert.equal((await evaluations.delete(evaluation.id, here)).id, evaluation.id);
  assert.equal((await datasets.delete(made.id, here)).id, made.id);
  await assert.rejects(datasets.get(made.id, here), Cloudflare.NotFoundError);
}

const folder = mkdtempSync(join(tmpdir(), "ringgate-sdk-"));
const { child, data, baseURL } = await start(process.argv[2], folder);
try {
  const client = new Cloudflare({ apiToken: TOKEN, baseURL });
  await testGateways(client);
  await testTokens(client, baseURL);
  await testLogs(client, data);
  await testDatasets(client);
} finally {
  child.kill();
}
const code = await new Promise((resolve) => child.on("exit", resolve));
rmSync(folder, { recursive: true });
assert.equal(code, 0);
console.log("npm client: cloudflare passes");
