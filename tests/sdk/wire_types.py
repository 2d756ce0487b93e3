"""Holds a request's body against the types of the provider's own SDK."""

import collections.abc
import inspect
import json
import re
import types
import typing
import urllib.parse

import botocore.session
import botocore.validate
import pydantic
import typing_extensions
from anthropic.types import message_create_params
from cohere.types import ChatMessageV2, ResponseFormatV2, Thinking, ToolV2
from cohere.v2.client import V2Client
from google.genai import types as google
from mistralai.client import models as mistral
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params


def problem(speaks, request):
    """What is wrong with a request that the simulator received; None where it is right."""
    body = json.loads(request["body"])
    try:
        CHECKS[speaks](request["path"], body)
    except (Wrong, pydantic.ValidationError) as error:
        return f"{request['path']}: {error}"
    return None


class Wrong(Exception):
    """A value that the SDK's types do not allow."""


# --- typed dictionaries, as the SDKs of OpenAI and Anthropic write them ---


def check(value, kind, place=""):
    """Holds JSON against a type; names that a typed dictionary does not have are wrong too."""
    if isinstance(kind, typing.ForwardRef) or kind in (object, typing.Any):
        return
    if hasattr(kind, "__value__"):
        return check(value, kind.__value__, place)
    origin = typing.get_origin(kind)
    if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated):
        return check(value, typing.get_args(kind)[0], place)
    if origin in (typing.Union, types.UnionType):
        return check_union(value, typing.get_args(kind), place)
    if origin in (typing.Literal, typing_extensions.Literal):
        return require(value in typing.get_args(kind), place, f"is {value!r}, not one of {typing.get_args(kind)}")
    if typing_extensions.is_typeddict(kind):
        return check_fields(value, kind, place)
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence, collections.abc.Collection):
        require(isinstance(value, list), place, "is no list")
        for at, item in enumerate(value):
            check(item, typing.get_args(kind)[0], f"{place}[{at}]")
        return
    if origin in (dict, collections.abc.Mapping):
        require(isinstance(value, dict), place, "is no object")
        for name, item in value.items():
            check(item, typing.get_args(kind)[1], f"{place}.{name}")
        return
    plain(value, kind, place)


def check_fields(value, kind, place):
    require(isinstance(value, dict), place, "is no object")
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    for name in kind.__required_keys__ - set(value):
        require(False, f"{place}.{name}", "is missing")
    for name, item in value.items():
        require(name in hints, f"{place}.{name}", "is not known")
        check(item, hints[name], f"{place}.{name}")


def check_union(value, kinds, place):
    errors = []
    for kind in kinds:
        try:
            return check(value, kind, place)
        except Wrong as error:
            errors.append(str(error))
    # The most telling error is the deepest.
    raise Wrong(max(errors, key=lambda error: error.count(".") + error.count("[")))


def plain(value, kind, place):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        str: isinstance(value, str),
        bool: isinstance(value, bool),
        int: is_number and float(value).is_integer(),
        float: is_number,
        type(None): value is None,
        dict: isinstance(value, dict),
        list: isinstance(value, list),
    }
    require(fits.get(kind, False), place, f"is {value!r:.60}, not {kind}")


def require(condition, place, message):
    if not condition:
        raise Wrong(f"{place} {message}")


# --- one check for each way to speak ---


def chat(path, body):
    kind = completion_create_params if path.endswith("/chat/completions") else response_create_params
    prefix = "CompletionCreateParams" if kind is completion_create_params else "ResponseCreateParams"
    check(body, getattr(kind, prefix + ("Streaming" if body.get("stream") else "NonStreaming")))
    messages = body.get("messages", [])
    require(all("content" in message or message.get("tool_calls") for message in messages), "messages", "lack content")


def messages(path, body):
    body = dict(body)
    if "rawPredict" in path or "RawPredict" in path:
        require(body.pop("anthropic_version", None) == "vertex-2023-10-16", "anthropic_version", "is missing")
        body["model"] = "in the path"
    elif "/model/" in path:
        require(body.pop("anthropic_version", None) == "bedrock-2023-05-31", "anthropic_version", "is missing")
        body.pop("anthropic_beta", None)
        body["model"] = "in the path"
    # Models before Opus 4.7 take them; the SDK has them no more.
    for name, kind in {"temperature": float, "top_p": float, "top_k": int}.items():
        if name in body:
            plain(body.pop(name), kind, name)
    streams = body.get("stream")
    check(body, message_create_params.MessageCreateParamsStreaming if streams else message_create_params.MessageCreateParamsNonStreaming)
    roles = [message["role"] for message in body["messages"]]
    require(roles[0] == "user", "messages[0]", "is not the user's")
    ids = {block["id"] for block in blocks(body) if block["type"] == "tool_use"}
    for block in blocks(body):
        if block["type"] == "tool_result":
            require(block["tool_use_id"] in ids, "messages", f"answer a call {block['tool_use_id']} that was not made")
        if block["type"] == "tool_use":
            require(re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]), "messages", f"have a call with the id {block['id']}")


def blocks(body):
    contents = [message["content"] for message in body["messages"]]
    return [block for content in contents if isinstance(content, list) for block in content]


class GeminiRequest(pydantic.BaseModel):
    """A request as it goes over the wire; the SDK has its parts."""

    model_config = pydantic.ConfigDict(extra="forbid")

    contents: list[google.Content]
    systemInstruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    toolConfig: google.ToolConfig | None = None
    generationConfig: google.GenerationConfig | None = None
    safetySettings: list[google.SafetySetting] | None = None
    labels: dict[str, str] | None = None
    cachedContent: str | None = None


def gemini(path, body):
    decoded = urllib.parse.unquote(path)
    require(re.search(r"/models/[^/]+:(generateContent|streamGenerateContent)$", decoded), "path", decoded)
    request = GeminiRequest.model_validate(body)
    roles = [content.role for content in request.contents]
    require(roles[0] == "user", "contents[0]", "is not the user's")
    require(all(before != after for before, after in zip(roles, roles[1:])), "contents", f"do not alternate: {roles}")
    require(all(content.parts for content in request.contents), "contents", "have a turn without parts")
    for before, after in zip(request.contents, request.contents[1:]):
        calls = [part.function_call.name for part in before.parts if part.function_call]
        answers = [part.function_response.name for part in after.parts if part.function_response]
        require(calls == answers, "contents", f"call {calls} and answer {answers}")
    for part in (part for content in request.contents for part in content.parts):
        kinds = [part.text, part.inline_data, part.file_data, part.function_call, part.function_response]
        require(sum(kind is not None for kind in kinds) == 1, "parts", f"hold {part}")
    config = request.generationConfig
    thinking = config.thinking_config if config else None
    if thinking:
        require(thinking.thinking_budget is None or thinking.thinking_level is None, "thinkingConfig", "says it twice")
        level = "gemini-3" in decoded
        require(not (level and thinking.thinking_budget), "thinkingConfig", "has a budget for Gemini 3")
        require(not (not level and thinking.thinking_level), "thinkingConfig", "has a level for Gemini 2.5")


def bedrock(path, body):
    operation = re.search(r"/model/([^/]+)/([a-z-]+)$", path)
    require(operation, "path", path)
    if operation.group(2).startswith("invoke"):
        return messages(path, body)
    name = {"converse": "Converse", "converse-stream": "ConverseStream"}[operation.group(2)]
    shape = BEDROCK.operation_model(name).input_shape
    report = botocore.validate.ParamValidator().validate({"modelId": urllib.parse.unquote(operation.group(1)), **body}, shape)
    require(not report.has_errors(), name, report.generate_report())
    roles = [message["role"] for message in body["messages"]]
    require(roles[0] == "user" and all(a != b for a, b in zip(roles, roles[1:])), "messages", f"do not alternate: {roles}")
    for content in (block for message in body["messages"] for block in message["content"]):
        require(content.get("text") != "", "messages", "have an empty text")


BEDROCK = botocore.session.get_session().get_service_model("bedrock-runtime")


def cohere(path, body):
    require(path.endswith("/v2/chat"), "path", path)
    known = set(inspect.signature(V2Client.chat).parameters) - {"self", "request_options"} | {"stream"}
    require(set(body) <= known, "body", f"has {set(body) - known}")
    for name, kind in {"messages": list[ChatMessageV2], "tools": list[ToolV2], "response_format": ResponseFormatV2, "thinking": Thinking}.items():
        if name in body:
            no_more(pydantic.TypeAdapter(kind).validate_python(body[name]), name)
    for name, kind in {"max_tokens": int, "temperature": float, "p": float, "k": int, "seed": int, "logprobs": bool, "stream": bool}.items():
        if name in body:
            plain(body[name], kind, name)
    require(body.get("tool_choice") in (None, "REQUIRED", "NONE"), "tool_choice", body.get("tool_choice"))
    require(0 <= body.get("temperature", 0) <= 1, "temperature", body.get("temperature"))
    require(0.01 <= body.get("p", 0.5) <= 0.99, "p", body.get("p"))
    require("tools" not in body or "response_format" not in body, "response_format", "stands beside tools")


def no_more(value, place):
    """No field that the SDK's models do not have: they take more."""
    if isinstance(value, pydantic.BaseModel):
        require(not value.model_extra, place, f"has {value.model_extra}")
        for name in type(value).model_fields:
            no_more(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            no_more(item, f"{place}[{at}]")


def mistral_chat(path, body):
    kind = mistral.ChatCompletionStreamRequest if body.get("stream") else mistral.ChatCompletionRequest
    known = {field.alias or name for name, field in kind.model_fields.items()}
    require(set(body) <= known, "body", f"has {set(body) - known}")
    kind.model_validate(body)
    for message in body["messages"]:
        for call in message.get("tool_calls") or []:
            require(re.fullmatch(r"[a-zA-Z0-9]{9}", call["id"]), "tool_calls", f"have the id {call['id']}")


def others(path, body):
    """Providers that follow OpenAI, each with fields of its own: the common ones must be right."""
    if path.endswith("/messages"):
        return messages(path, body)
    if path.endswith("/responses"):
        return chat(path, body)
    if "/openrouter/" in path:
        body = without(body, "cache_control")
    check(body.get("messages", []), typing_extensions.get_type_hints(completion_create_params.CompletionCreateParamsBase, include_extras=True)["messages"], "messages")


def without(value, name):
    """JSON without a field wherever it stands."""
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return [without(item, name) for item in value] if isinstance(value, list) else value


CHECKS = {
    "chat": chat,
    "messages": messages,
    "gemini": gemini,
    "bedrock": bedrock,
    "cohere": cohere,
    "mistral": mistral_chat,
    "others": others,
}
