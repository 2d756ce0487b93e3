"""Every client dialect to every provider: the official SDKs read the answers strictly, and what the providers got is held against
the providers' own SDKs.

Usage: dialects.py RINGGATE_BINARY [PROVIDER ...]

With RINGGATE_RECORDED, a folder of recorded exchanges (JSON lines with `path` and `req_body`), every conversation in it goes to every
translated provider as well.
"""

import base64
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import anthropic
import openai
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import wire_types

TOKEN = "sdk-test-token-0123456789-0123456789"
IMAGE = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
    )
).decode()
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


class Provider:
    """A model and what is special about its provider."""

    def __init__(self, model, speaks, tools="forced", schema="followed", usage=True):
        self.model = model
        # The check of wire_types for what it gets.
        self.speaks = speaks
        # `forced`; `free`: it cannot be made to call one; `refused`; `ignored`.
        self.tools = tools
        # `followed`; `json`: any object may come; `told`: only in words, which the simulator does not read.
        self.schema = schema
        self.usage = usage

    def caller(self):
        """The model, so named that the simulator calls a tool also where it cannot be forced."""
        return self.model if self.tools == "forced" else f"{self.model}+sim-tool"


PROVIDERS = [
    Provider("openai/gpt-4o", "chat"),
    Provider("anthropic/claude-sonnet-4-5", "messages"),
    Provider("anthropic/claude-3-5-haiku-20241022", "messages"),
    Provider("anthropic/claude-opus-4-7", "messages"),
    Provider("google-ai-studio/gemini-2.5-flash", "gemini"),
    Provider("google-ai-studio/gemini-3-flash-preview", "gemini"),
    Provider("google-vertex-ai/google/gemini-2.5-pro", "gemini"),
    Provider("google-vertex-ai/anthropic/claude-haiku-4-5@20251001", "messages"),
    Provider("google-vertex-ai/meta/llama-3.3-70b-instruct-maas", "others"),
    Provider("google-vertex-ai/mistralai/mistral-medium-3", "mistral"),
    Provider("aws-bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock"),
    Provider("aws-bedrock/us.amazon.nova-pro-v1:0", "bedrock"),
    Provider("aws-bedrock/us.meta.llama3-3-70b-instruct-v1:0", "bedrock", tools="free", schema="told"),
    Provider("cohere/command-a-03-2025", "cohere"),
    Provider("cohere/command-a-reasoning-08-2025", "cohere"),
    Provider("mistral/mistral-large-latest", "mistral"),
    Provider("azure-openai/resource/gpt-4o", "chat"),
    Provider("workers-ai/@cf/meta/llama-3.3-70b-instruct-fp8-fast", "others"),
    Provider("groq/llama-3.3-70b-versatile", "others"),
    Provider("deepseek/deepseek-chat", "others", schema="json"),
    Provider("perplexity/sonar", "others", tools="ignored"),
    Provider("grok/grok-4", "others"),
    Provider("openrouter/openai/gpt-5-mini", "others"),
    Provider("cerebras/llama-3.3-70b", "others"),
    Provider("huggingface/meta-llama/Llama-3.3-70B-Instruct", "others"),
    Provider("baseten/deepseek-ai/DeepSeek-V3.1", "others"),
    Provider("parallel/speed", "others", tools="refused", usage=False),
    Provider("fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct", "others"),
    Provider("custom-local/any/model", "others"),
]


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


# --- chat ---


def chat(client, provider):
    model = provider.model
    create = client.chat.completions.create
    question = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    answer = create(
        model=model,
        messages=question,
        max_tokens=200,
        temperature=0.5,
        top_p=0.9,
        stop=["\n\n\n"],
        seed=7,
        user="someone",
        presence_penalty=0,
        frequency_penalty=0,
    )
    expect(answer.object == "chat.completion" and answer.id and answer.model and answer.created, "the answer's head")
    expect(answer.choices[0].message.content and answer.choices[0].finish_reason == "stop", answer.choices)
    if provider.usage:
        usage_agrees(answer.usage)
    chat_stream(create, provider, question)
    if provider.tools in ("forced", "free"):
        chat_tools(create, provider)
    elif provider.tools == "refused":
        refused(lambda: create(model=model, messages=question, tools=[chat_tool()]))
    if provider.schema != "told":
        chat_form(create, provider, question)


def chat_form(create, provider, question):
    model = provider.model
    form = {"type": "json_schema", "json_schema": {"name": "stay", "strict": True, "schema": PARAMETERS}}
    answer = create(model=model, messages=question, response_format=form, max_tokens=500)
    form_agrees(provider, answer.choices[0].message.content)
    pieces = create(model=model, messages=question, response_format=form, max_tokens=500, stream=True)
    form_agrees(provider, "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices))


def chat_stream(create, provider, question):
    model = provider.model
    chunks = list(create(model=model, messages=question, stream=True, stream_options={"include_usage": True}))
    expect(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    expect(len({chunk.id for chunk in chunks}) == 1, "the chunks' ids differ")
    if provider.usage:
        last = chunks.pop()
        expect(last.choices == [] and last.usage, last)
        usage_agrees(last.usage)
    expect("".join(chunk.choices[0].delta.content or "" for chunk in chunks), "no text")
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]
    expect(ends == ["stop"], ends)
    # Who did not ask for the usage does not get a chunk without choices.
    chunks = list(create(model=model, messages=question, stream=True))
    expect(all(chunk.choices for chunk in chunks), "a chunk without choices")


def chat_tool():
    return {"type": "function", "function": {"name": "weather", "description": "Tells it", "parameters": PARAMETERS}}


def chat_tools(create, provider):
    model = provider.caller()
    conversation = [{"role": "user", "content": "Weather in Rome?"}]
    asked = {"model": model, "tools": [chat_tool()], "tool_choice": "required"}
    answer = create(messages=conversation, **asked)
    choice = answer.choices[0]
    expect(choice.finish_reason == "tool_calls", choice)
    call = choice.message.tool_calls[0]
    expect(call.id and call.function.name == "weather", call)
    expect(isinstance(json.loads(call.function.arguments), dict), call)

    chunks = list(create(messages=conversation, stream=True, **asked))
    deltas = [delta for chunk in chunks if chunk.choices for delta in chunk.choices[0].delta.tool_calls or []]
    opened = [delta for delta in deltas if delta.id]
    expect([delta.index for delta in opened] == list(range(len(opened))) and opened[0].function.name == "weather", deltas)
    for delta in opened:
        pieces = [other.function.arguments or "" for other in deltas if other.index == delta.index]
        expect(isinstance(json.loads("".join(pieces)), dict), pieces)
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    expect(ends == ["tool_calls"], ends)

    # What came back goes up again as it came, with its result, twice.
    for _ in range(2):
        conversation.append(choice.message.model_dump(exclude_none=True))
        for call in choice.message.tool_calls:
            conversation.append({"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 20}'})
        choice = create(messages=conversation, **asked).choices[0]
    conversation[-1]["content"] = "20 degrees"
    expect(create(model=provider.model, messages=conversation, tools=[chat_tool()]).choices[0].message, "no answer")
    for call in (call for message in conversation for call in message.get("tool_calls", [])):
        # Some providers number the calls of whole answers too.
        call.pop("index", None)
    HISTORIES[provider.model] = conversation


def usage_agrees(usage):
    expect(usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage)
    expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)


def form_agrees(provider, text):
    value = json.loads(text)
    if provider.schema == "followed":
        expect(set(value) >= {"city", "days"} and isinstance(value["days"], int), value)


# --- messages ---


def messages(client, provider):
    model = provider.model
    question = [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}]
    answer = client.messages.create(model=model, max_tokens=200, system="Be short.", messages=question, metadata={"user_id": "u"})
    expect(answer.type == "message" and answer.role == "assistant" and answer.id and answer.model, answer)
    expect(any(block.type == "text" and block.text for block in answer.content) and answer.stop_reason == "end_turn", answer)
    if provider.usage:
        expect(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage)
    with client.messages.stream(model=model, max_tokens=200, messages=question) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    expect(kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds)
    expect(final.stop_reason == "end_turn", final)
    if provider.usage:
        expect(final.usage.output_tokens > 0 and final.usage.input_tokens > 0, final.usage)
    if provider.tools in ("forced", "free"):
        message_tools(client, provider.caller())


def message_tools(client, model):
    tool = {"name": "weather", "description": "Tells it", "input_schema": PARAMETERS}
    conversation = [{"role": "user", "content": "Weather in Rome?"}]
    asked = {"model": model, "max_tokens": 500, "tools": [tool], "tool_choice": {"type": "any"}}
    answer = client.messages.create(messages=conversation, **asked)
    expect(answer.stop_reason == "tool_use", answer)
    calls = [block for block in answer.content if block.type == "tool_use"]
    expect(calls and calls[0].name == "weather" and isinstance(calls[0].input, dict), answer.content)
    with client.messages.stream(messages=conversation, **asked) as stream:
        final = stream.get_final_message()
    streamed = [block for block in final.content if block.type == "tool_use"]
    expect(final.stop_reason == "tool_use" and isinstance(streamed[0].input, dict), final)
    conversation.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]})
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "20"}]} for call in calls]
    conversation.append({"role": "user", "content": [*results, {"type": "text", "text": "So?"}]})
    again = {**asked, "tool_choice": {"type": "auto"}}
    expect(client.messages.create(messages=conversation, **again).content, "no answer")


# --- responses ---


def responses(client, provider):
    model = provider.model
    answer = client.responses.create(model=model, input="Hello", instructions="Be short.", max_output_tokens=200, store=False)
    expect(answer.object == "response" and answer.status == "completed" and answer.output_text, answer)
    if provider.usage:
        expect(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage)
    events = list(client.responses.create(model=model, input=[{"role": "user", "content": "Hello"}], stream=True, store=False))
    expect(events[0].type == "response.created" and events[-1].type == "response.completed", [event.type for event in events])
    numbers = [event.sequence_number for event in events]
    expect(numbers == sorted(set(numbers)), numbers)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    expect(text and text == events[-1].response.output_text, "the pieces are not the text")
    if provider.tools in ("forced", "free"):
        response_tools(client, provider.caller())


def response_tools(client, model):
    tool = {"type": "function", "name": "weather", "description": "Tells it", "parameters": PARAMETERS, "strict": False}
    conversation = [{"role": "user", "content": "Weather in Rome?"}]
    asked = {"model": model, "tools": [tool], "tool_choice": "required", "store": False}
    answer = client.responses.create(input=conversation, **asked)
    calls = [item for item in answer.output if item.type == "function_call"]
    expect(calls and calls[0].name == "weather" and isinstance(json.loads(calls[0].arguments), dict), answer.output)
    events = list(client.responses.create(input=conversation, stream=True, **asked))
    done = [event.item for event in events if event.type == "response.output_item.done"]
    expect(any(item.type == "function_call" and item.name == "weather" for item in done), done)
    conversation += [item.model_dump(exclude_none=True) for item in answer.output]
    conversation += [{"type": "function_call_output", "call_id": call.call_id, "output": "20 degrees"} for call in calls]
    again = {**asked, "tool_choice": "auto"}
    expect(client.responses.create(input=conversation, **again).output, "no answer")


# --- from provider to provider ---

# Conversations with calls, by the model they were had with.
HISTORIES = {}


def crossing(client, provider):
    """A conversation that was begun with any model goes on with this one."""
    if provider.speaks == "others" or provider.tools not in ("forced", "free"):
        return
    for model, conversation in HISTORIES.items():
        try:
            answer = client.chat.completions.create(model=provider.model, messages=conversation, tools=[chat_tool()])
        except openai.APIError as error:
            raise AssertionError(f"begun with {model}: {told(error)}") from error
        expect(answer.choices[0].message.content, answer)


# --- media ---


def media(client, provider):
    """A picture goes to every provider that is translated to."""
    if provider.speaks not in ("messages", "gemini", "cohere"):
        return
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
    question = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]
    expect(client.chat.completions.create(model=provider.model, messages=question).choices[0].message.content, "no answer")


def thinking(client, provider):
    """Every effort is said in the provider's words, or left out."""
    if provider.speaks == "others":
        return
    question = [{"role": "user", "content": "Hello"}]
    for effort in ("none", "minimal", "low", "medium", "high"):
        answer = client.chat.completions.create(model=provider.model, messages=question, reasoning_effort=effort)
        expect(answer.choices[0].message.content, answer)


def refused(call):
    try:
        call()
    except openai.BadRequestError as error:
        expect(error.param or "param" in str(error.body), error.body)
        return
    raise AssertionError("nothing was refused")


# --- the gateway, with a simulator behind it ---


class Google(http.server.BaseHTTPRequestHandler):
    """Gives tokens for service accounts."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"access_token": "ya29.test", "expires_in": 3599, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def service_account(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "project-1",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "test@project-1.iam.gserviceaccount.com",
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
        "region": "europe-west4",
    }
    path = Path(folder) / "account.json"
    path.write_text(json.dumps(account))
    path.chmod(0o600)
    return path


class Gateway:
    def __init__(self, binary, folder):
        sim = subprocess.Popen([binary, "sim", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.simulator = found(sim, r"(http://127\.0\.0\.1:\d+)")
        self.processes = [sim]
        config = Path(folder) / "ringgate.toml"
        config.write_text(self.configuration(service_account(folder)))
        arguments = ["demo", "--config", str(config), "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0"]
        environment = {**os.environ, "RINGGATE_BOOTSTRAP_TOKEN": TOKEN}
        demo = subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        self.processes.append(demo)
        self.base = found(demo, r"curl -N (http://\S+/v1/demo/default)/")
        for process in self.processes:
            threading.Thread(target=process.stdout.read, daemon=True).start()

    def configuration(self, account):
        at_root = {"aws-bedrock", "azure-openai", "workers-ai", "custom-local"}
        names = {provider.model.split("/")[0] for provider in PROVIDERS}
        names = {"perplexity-ai" if name == "perplexity" else name for name in names}
        text = ""
        for name in sorted(names):
            place = self.simulator if name in at_root else f"{self.simulator}/{name}"
            key = f"file:{account}" if name == "google-vertex-ai" else "env:RINGGATE_BOOTSTRAP_TOKEN"
            text += f'[providers.{name}]\nbase_url = "{place}"\napi_key = "{key}"\n'
        return text

    def received(self):
        """What the providers got since the last call."""
        with urllib.request.urlopen(f"{self.simulator}/sim/requests") as answer:
            requests = json.load(answer)["requests"]
        urllib.request.urlopen(urllib.request.Request(f"{self.simulator}/sim/requests", method="DELETE")).read()
        return [request for request in requests if request["method"] == "POST"]

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)


def found(process, pattern):
    for line in process.stdout:
        match = re.search(pattern, line)
        if match:
            return match.group(1)
    raise SystemExit(f"{process.args} did not start")


def told(error):
    """An error in one line, with what is wrong where the SDK found an answer invalid."""
    cause = str(error.__cause__ or "").replace("\n", " ")
    return f"{type(error).__name__}: {error} {cause}"[:600]


# --- recorded conversations ---

ENDPOINTS = {"/chat/completions": "chat/completions", "/v1/messages": "messages", "/responses": "responses"}
TRANSLATED = {"messages", "gemini", "bedrock", "cohere", "mistral"}


def recorded(folder):
    """Endpoint and body of every conversation in one of the clients' dialects."""
    for file in sorted(Path(folder).glob("*.jsonl")):
        for line in file.read_text().splitlines():
            exchange = json.loads(line)
            path = exchange["path"].split("?")[0]
            endpoint = next((ours for theirs, ours in ENDPOINTS.items() if path.endswith(theirs)), None)
            if exchange["method"] == "POST" and endpoint and exchange.get("req_body"):
                yield exchange["id"], endpoint, json.loads(exchange["req_body"])


def replay(gateway, folder):
    """Sends each to each: it is answered, or refused with the place of what cannot be said; yields what is wrong."""
    for name, endpoint, body in recorded(folder):
        for provider in (provider for provider in PROVIDERS if provider.speaks in TRANSLATED):
            # Messages to Claude are relayed, whatever newer features they use.
            if endpoint == "messages" and "claude" in provider.model:
                continue
            request = urllib.request.Request(
                f"{gateway.base}/compat/{endpoint}",
                data=json.dumps({**body, "model": provider.model}).encode(),
                headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                told = error.read().decode()
                if error.code != 400 or not re.search(r'"param":\s*"|"message":\s*"[^"]', told):
                    yield f"{name} to {provider.model}: {error.code} {told[:300]}"
            for received in gateway.received():
                problem = wire_types.problem(provider.speaks, received)
                if problem:
                    yield f"{name} to {provider.model}, as it went up: {problem}"


CASES = [("chat", chat), ("messages", messages), ("responses", responses), ("crossing", crossing), ("media", media), ("thinking", thinking)]


def main():
    wanted = sys.argv[2:]
    failures, done = [], 0
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(sys.argv[1], folder)
        try:
            # The gateway's token stands where the SDKs put a key; the providers' keys are the gateway's.
            settings = {"base_url": f"{gateway.base}/compat", "api_key": TOKEN, "max_retries": 0, "_strict_response_validation": True}
            open_ai = openai.OpenAI(**settings)
            claude = anthropic.Anthropic(**settings)
            providers = [provider for provider in PROVIDERS if not wanted or provider.model.startswith(tuple(wanted))]
            for name, case in CASES:
                for provider in providers:
                    done += 1
                    try:
                        case(claude if name == "messages" else open_ai, provider)
                    except Exception as error:
                        failures.append(f"{provider.model} {name}: {told(error)}")
                    for request in gateway.received():
                        problem = wire_types.problem(provider.speaks, request)
                        if problem:
                            failures.append(f"{provider.model} {name}, as it went up: {problem}")
            if folder_of_recorded := os.environ.get("RINGGATE_RECORDED"):
                failures += replay(gateway, folder_of_recorded)
        finally:
            gateway.stop()
    for failure in dict.fromkeys(failures):
        print(failure)
    if failures:
        raise SystemExit(f"{len(set(failures))} failures in {done} cases")
    print(f"dialects: {done} cases with {len(providers)} models pass in the SDKs of OpenAI and Anthropic, and in those of the providers")


main()
