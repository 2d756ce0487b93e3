// The official npm SDKs through the gateway: plain, streamed and failing calls.
// Usage: node sdk.mjs RINGGATE_BINARY

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

// The gateway's own token in the place of the provider's key: no further header is needed.
const TOKEN = "sdk-test-token-0123456789-0123456789";
const messages = [{ role: "user", content: "hi" }];

async function start(binary) {
  const options = ["demo", "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0", "--ttft", "2", "--tps", "2000"];
  const child = spawn(binary, options, { stdio: ["ignore", "pipe", "ignore"], env: { ...process.env, RINGGATE_BOOTSTRAP_TOKEN: TOKEN } });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /curl -N (http:\/\/\S+\/v1\/demo\/default)\//.exec(line);
    if (found) {
      child.stdout.resume();
      return { child, base: found[1] };
    }
  }
  throw new Error("the demo did not start");
}

async function testOpenAI(base) {
  const client = new OpenAI({ baseURL: `${base}/openai`, apiKey: TOKEN, maxRetries: 0 });
  const answer = await client.chat.completions.create({ model: "gpt-4o", messages });
  assert.ok(answer.choices[0].message.content);
  const stream = await client.chat.completions.create({
    model: "gpt-4o+sim-tokens-12", messages, stream: true, stream_options: { include_usage: true },
  });
  let deltas = 0, usage;
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta?.content) deltas += 1;
    usage = chunk.usage ?? usage;
  }
  assert.equal(deltas, 12);
  assert.equal(usage.completion_tokens, 12);
  await assert.rejects(client.chat.completions.create({ model: "sim-status-429", messages }), OpenAI.RateLimitError);
  const left = await client.chat.completions.create({ model: "sim-hang-after-2", messages, stream: true });
  for await (const _ of left) break; // Leaves the stream: the gateway lets the provider go.
}

async function testAnthropic(base) {
  const client = new Anthropic({ baseURL: `${base}/anthropic`, apiKey: TOKEN, maxRetries: 0 });
  const answer = await client.messages.create({ model: "claude-sonnet-4-5", max_tokens: 50, messages });
  assert.equal(answer.type, "message");
  const final = await client.messages.stream({ model: "claude+sim-tokens-9", max_tokens: 50, messages }).finalMessage();
  assert.equal(final.usage.output_tokens, 9);
  await assert.rejects(client.messages.create({ model: "sim-status-529", max_tokens: 5, messages }), Anthropic.InternalServerError);
}

const { child, base } = await start(process.argv[2]);
const ended = new Promise((resolve) => child.on("exit", resolve));
try {
  await testOpenAI(base);
  await testAnthropic(base);
} finally {
  child.kill("SIGTERM");
}
assert.equal(await ended, 0);
console.log("npm SDKs: openai, @anthropic-ai/sdk pass");
process.exit(0);
