// The official npm SDKs through the gateway: plain, streamed and failing calls.
// Usage: node sdk.mjs RINGGATE_BINARY

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { generateText, streamText } from "ai";
import { createAiGateway } from "ai-gateway-provider";
import { createOpenAI } from "ai-gateway-provider/providers/openai";
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

// Cloudflare's provider for the Vercel AI SDK speaks the universal endpoint, at one host alone.
async function testFallbacks(base) {
  const cloud = "https://gateway.ai.cloudflare.com/v1/demo/default";
  const original = globalThis.fetch;
  let step;
  globalThis.fetch = async (url, init) => {
    const answer = await original(String(url).replace(cloud, base), init);
    step = answer.headers.get("cf-aig-step");
    return answer;
  };
  const options = { retries: { maxAttempts: 2, retryDelayMs: 1, backoff: "linear" } };
  const gateway = createAiGateway({ accountId: "demo", gateway: "default", apiKey: TOKEN, options });
  const openai = createOpenAI();
  const ask = (models) => ({ model: gateway(models.map((model) => openai.chat(model))), prompt: "hi", maxRetries: 0 });
  try {
    assert.ok((await generateText(ask(["sim-status-500", "gpt-4o"]))).text);
    assert.equal(step, "1");
    let text = "";
    for await (const piece of streamText(ask(["sim-error-first", "gpt-4o"])).textStream) text += piece;
    assert.ok(text);
    assert.equal(step, "1");
    assert.ok((await generateText(ask(["gpt-4o+sim-status-503+first-1"]))).text);
    assert.equal(step, "0");
    await assert.rejects(generateText(ask(["sim-status-400", "sim-status-503"])));
  } finally {
    globalThis.fetch = original;
  }
}

const { child, base } = await start(process.argv[2]);
const ended = new Promise((resolve) => child.on("exit", resolve));
try {
  await testOpenAI(base);
  await testAnthropic(base);
  await testFallbacks(base);
} finally {
  child.kill("SIGTERM");
}
assert.equal(await ended, 0);
console.log("npm SDKs: openai, @anthropic-ai/sdk, ai-gateway-provider pass");
process.exit(0);
