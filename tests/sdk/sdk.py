"""The official Python SDKs through the gateway: plain, streamed and failing calls.

Usage: sdk.py RINGGATE_BINARY
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import anthropic
import boto3
import botocore.exceptions
import openai
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from google import genai
from google.genai import errors as genai_errors

QUESTION = [{"role": "user", "content": "hi"}]


TOKEN = "sdk-test-token-0123456789-0123456789"


def start(binary, folder):
    config = Path(folder) / "ringgate.toml"
    config.write_text("[gateways.open]\nauthentication = false\n")
    arguments = ["demo", "--config", str(config), "--listen", "127.0.0.1:0", "--management-listen", "127.0.0.1:0", "--ttft", "2", "--tps", "2000"]
    environment = {**os.environ, "RINGGATE_BOOTSTRAP_TOKEN": TOKEN}
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    for line in process.stdout:
        found = re.search(r"curl -N (http://\S+/v1/demo/default)/", line)
        if found:
            return process, found.group(1).removesuffix("default")
    raise SystemExit("the demo did not start")


def expect(error, call):
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")


def test_openai(base):
    client = openai.OpenAI(base_url=f"{base}/openai", api_key="sk-test", max_retries=0)
    answer = client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert answer.choices[0].message.content and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    stream = client.chat.completions.create(
        model="gpt-4o+sim-tokens-12", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) == 12
    assert chunks[-1].usage.completion_tokens == 12
    events = list(client.responses.create(model="gpt-4o", input="hi", stream=True))
    assert events[-1].type == "response.completed", events[-1]
    assert len(client.embeddings.create(model="e", input=["a", "b"], dimensions=8).data) == 2
    assert client.models.list().data
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="hi").read()
    assert client.files.create(file=("a.jsonl", b'{"a":1}\n' * 1000), purpose="batch").bytes == 8000
    limited = expect(openai.RateLimitError, lambda: client.chat.completions.create(model="sim-status-429+retry-after-1", messages=QUESTION))
    assert limited.status_code == 429
    broken = client.chat.completions.create(model="sim-reset-after-3", messages=QUESTION, stream=True)
    expect(Exception, lambda: list(broken))
    # Retries of the SDK's own reach the provider each time.
    patient = client.with_options(max_retries=1)
    expect(openai.InternalServerError, lambda: patient.chat.completions.create(model="sim-status-503", messages=QUESTION))
    wrong = openai.OpenAI(base_url=base.replace("/open", "/missing") + "/openai", api_key="k", max_retries=0)
    refused = expect(openai.BadRequestError, lambda: wrong.chat.completions.create(model="m", messages=QUESTION))
    assert refused.body[0]["code"] == 2001 if isinstance(refused.body, list) else "2001" in str(refused), refused.body


def test_anthropic(base):
    client = anthropic.Anthropic(base_url=f"{base}/anthropic", api_key="sk-ant-test", max_retries=0)
    answer = client.messages.create(model="claude-sonnet-4-5", max_tokens=50, messages=QUESTION)
    assert answer.content[0].text and answer.usage.output_tokens > 0
    with client.messages.stream(model="claude+sim-tokens-9", max_tokens=50, messages=QUESTION) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) == 9 and final.usage.output_tokens == 9
    expect(anthropic.InternalServerError, lambda: client.messages.create(model="sim-status-529", max_tokens=5, messages=QUESTION))
    bad = expect(anthropic.BadRequestError, lambda: client.messages.create(model="sim-status-400", max_tokens=5, messages=QUESTION))
    assert bad.body["type"] == "error", bad.body


def test_google(base):
    client = genai.Client(api_key="AIza-test", http_options={"base_url": f"{base}/google-ai-studio"})
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    assert answer.text and answer.usage_metadata.total_token_count
    chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash+sim-tokens-7", contents="hi"))
    assert len(chunks) >= 7 and "".join(chunk.text or "" for chunk in chunks)
    failed = expect(genai_errors.ClientError, lambda: client.models.generate_content(model="sim-status-404", contents="hi"))
    assert failed.code == 404


def test_bedrock(base):
    """boto3 signs for AWS's own host; only where the request is sent changes."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        config=Config(retries={"max_attempts": 1}),
    )

    def redirect(request, **_):
        request.url = request.url.replace(
            "https://bedrock-runtime.us-east-1.amazonaws.com", f"{base}/aws-bedrock/bedrock-runtime/us-east-1"
        )

    client.meta.events.register("before-send.bedrock-runtime", redirect)
    messages = [{"role": "user", "content": [{"text": "hi"}]}]
    answer = client.converse(modelId="us.anthropic.claude-haiku-4-5-20251001-v1:0", messages=messages)
    assert answer["output"]["message"]["content"][0]["text"] and answer["usage"]["totalTokens"]
    stream = client.converse_stream(modelId="sim-tokens-6", messages=messages)["stream"]
    events = list(stream)
    assert sum("contentBlockDelta" in event for event in events) == 6 and "metadata" in events[-1]
    expect(botocore.exceptions.ClientError, lambda: client.converse(modelId="sim-status-429", messages=messages))


def test_bedrock_signatures(base):
    """A signature made for AWS's own host and path is still valid behind the gateway."""
    path = "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]})

    def send(secret):
        request = AWSRequest("POST", f"https://bedrock-runtime.us-east-1.amazonaws.com{path}", data=body, headers={"Content-Type": "application/json"})
        SigV4Auth(Credentials("AKIDEXAMPLE", secret), "bedrock", "us-east-1").add_auth(request)
        headers = dict(request.headers.items())
        target = f"{base}/aws-bedrock/bedrock-runtime/us-east-1{path}"
        with urllib.request.urlopen(urllib.request.Request(target, body.encode(), headers)) as answer:
            return json.load(answer)

    assert send("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")["usage"]["totalTokens"]
    refused = expect(urllib.error.HTTPError, lambda: send("another secret"))
    assert refused.code == 403


def test_tokens(base):
    """The gateway's token in the place of the provider's key, as SDKs can send it without a further header."""
    client = openai.OpenAI(api_key=TOKEN, base_url=f"{base}/openai", max_retries=0)
    assert client.chat.completions.create(model="gpt-4o", messages=QUESTION).usage.total_tokens
    client = anthropic.Anthropic(api_key=TOKEN, base_url=f"{base}/anthropic", max_retries=0)
    assert client.messages.create(model="claude-sonnet-4-5", max_tokens=50, messages=QUESTION).content
    client = genai.Client(api_key=TOKEN, http_options={"base_url": f"{base}/google-ai-studio"})
    assert client.models.generate_content(model="gemini-2.5-flash", contents="hi").text
    stranger = openai.OpenAI(api_key="sk-other", base_url=f"{base}/openai", max_retries=0)
    refused = expect(openai.AuthenticationError, lambda: stranger.models.list())
    assert refused.response.json()["internalCode"] == 2009


def main():
    with tempfile.TemporaryDirectory() as folder:
        run(folder)


def run(folder):
    process, root = start(sys.argv[1], folder)
    base = f"{root}open"
    try:
        test_tokens(f"{root}default")
        test_openai(base)
        test_anthropic(base)
        test_google(base)
        test_bedrock(base)
        test_bedrock_signatures(base)
    finally:
        process.terminate()
    assert process.wait(10) == 0
    print("python SDKs: openai, anthropic, google-genai, boto3 pass")


main()
