"""OpenAI's request bodies, checked once at the edge and turned into a `Job`. What is not supported is named."""

from dataclasses import replace
from typing import Any, Literal, TypeVar

import msgspec

from mycoswarm.api.objection import MAX_DEPTH, is_shallow, unsupported, wrong
from mycoswarm.api.offer import read_calls, read_tools
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker, Job
from mycoswarm.routing.clause import is_label, is_word
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.swarm.place import PLACES, Place
from mycoswarm.wire.request import MAX_TOP_LOGPROBS, Prompt, Sampling

MAX_MESSAGES = 2048
MAX_STOPS = 16
MAX_LABELS = 16
MAX_MODEL = 256  # characters, as in rules
MAX_ROUTE = 4096  # characters: the ledger keeps what it says
MAX_TOKEN_ID = 2**31 - 1  # llama.cpp's token type
ROLES = {"system", "developer", "user", "assistant", "tool"}
# Taken and without effect here: they ask for nothing that changes an answer.
_IDLE = {"user", "metadata", "safety_identifier", "prompt_cache_key"}
_MESSAGE = {"role", "content", "name", "tool_calls", "tool_call_id"}
# Fields of OpenAI's API whose harmless value may be sent.
_HARMLESS = {
    "n": (1,),
    "best_of": (1,),
    "store": (False,),
    "echo": (False,),
    "suffix": ("",),
    "service_tier": ("auto", "default"),
    "parallel_tool_calls": (True, False),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
}


class _Shared(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    response_format: dict[str, Any] | None = None


class _ChatBody(_Shared, frozen=True, kw_only=True):
    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] = []
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True


class _CompletionBody(_Shared, frozen=True, kw_only=True):
    prompt: str | list[str]
    logprobs: int | None = None


_Body = TypeVar("_Body", bound=msgspec.Struct)
_MODES: dict[str, Literal["any", "solo", "split"]] = {"any": "any", "solo": "solo", "split": "split"}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the console answers it: the job, and how the client wants to hear."""

    job: Job
    stream: bool
    include_usage: bool


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What comes beside a body: who asks, under which id, and `X-Mycoswarm-Route`."""

    request_id: str
    asker: Asker
    route: str | None = None


def read_chat(body: bytes, envelope: Envelope) -> Question:
    """Read a body of `/v1/chat/completions`.

    Raises:
        InputError: not JSON, a missing or wrong field; says which.
        UnsupportedError: a field or value that this software does not serve.
    """
    given = read_fields(body, _ChatBody)
    if not given.messages or len(given.messages) > MAX_MESSAGES:
        raise wrong("messages", f"messages must hold 1 to {MAX_MESSAGES} messages")
    messages = tuple(_message(index, message) for index, message in enumerate(given.messages))
    if given.top_logprobs is not None and not given.logprobs:
        raise wrong("top_logprobs", "top_logprobs needs logprobs: true")
    top = (given.top_logprobs or 0) if given.logprobs else None
    limit = given.max_completion_tokens if given.max_completion_tokens is not None else given.max_tokens
    tools, choice = read_tools(given.tools, given.tool_choice, given.parallel_tool_calls)
    if tools and given.response_format not in (None, {"type": "text"}):
        raise unsupported("response_format", "response_format beside tools is not supported")
    prompt = Prompt(messages=messages, tools=tools)
    job = _job(given, "chat", prompt, top, limit, _characters(prompt), envelope)
    job = replace(job, choice=choice)
    return Question(job=job, stream=given.stream, include_usage=_include_usage(given))


def read_completion(body: bytes, envelope: Envelope) -> Question:
    """Read a body of `/v1/completions`.

    Raises:
        InputError: not JSON, a missing or wrong field; says which.
        UnsupportedError: a field or value that this software does not serve.
    """
    given = read_fields(body, _CompletionBody)
    prompts = [given.prompt] if isinstance(given.prompt, str) else given.prompt
    if len(prompts) != 1:
        raise unsupported("prompt", f"prompt holds {len(prompts)} texts; one request is one text")
    # OpenAI's default for this endpoint is 16 tokens; clients rely on it.
    limit = given.max_tokens if given.max_tokens is not None else 16
    text = prompts[0]
    job = _job(given, "completion", Prompt(text=text), given.logprobs, limit, len(text), envelope)
    return Question(job=job, stream=given.stream, include_usage=_include_usage(given))


def read_route(text: str | None) -> Narrowing:
    """Read `X-Mycoswarm-Route`: "solo" or "split", `stages=N`, `nodes=a,b`, `within=LAN`, parted by semicolons.

    Each at most once: of two, either one would have to be overheard, and the request would run where it must not.

    Raises:
        InputError: anything else.
    """
    if len(text or "") > MAX_ROUTE:
        raise InputError(f"X-Mycoswarm-Route has more than {MAX_ROUTE} characters", hint="Name fewer nodes.")
    mode: Literal["any", "solo", "split"] = "any"
    stages: int | None = None
    nodes: tuple[str, ...] = ()
    within: Place | None = None
    seen: set[str] = set()
    for part in filter(None, (part.strip() for part in (text or "").split(";"))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        kind = name if equals else "mode"
        if kind in seen:
            raise InputError(f"X-Mycoswarm-Route names {kind} more than once", hint="Name it once.")
        seen.add(kind)
        if not equals and name in _MODES:
            mode = _MODES[name]
        elif name == "stages" and value.isascii() and value.isdecimal() and len(value) < 3 and int(value) > 0:
            stages = int(value)
        elif name == "nodes" and value.strip(", "):
            nodes = tuple(node.strip() for node in value.split(",") if node.strip())
        elif name == "within" and (near := next((each for each in PLACES if each == value), None)) is not None:
            within = near
        else:
            raise InputError(
                f"X-Mycoswarm-Route says {part[:80]!r}, which is no way to narrow a request",
                hint='Write for example "split; stages=2; nodes=attic,cellar".',
            )
    return Narrowing(mode=mode, stages=stages, nodes=nodes, within=within)


def read_labels(text: str) -> frozenset[str]:
    """Read `X-Mycoswarm-Labels`: labels that a request adds to those of its key, parted by commas.

    Raises:
        InputError: one that is no label, or too many: the request would be less private than it says.
    """
    labels = frozenset(part.strip() for part in text.split(",") if part.strip())
    wrong = sorted(label for label in labels if not is_label(label))
    if wrong or len(labels) > MAX_LABELS:
        said = f"says {wrong[0][:40]!r}, which is no label" if wrong else f"has more than {MAX_LABELS} labels"
        raise InputError(f"X-Mycoswarm-Labels {said}", hint='Write for example "private, homework".')
    return labels


def read_fields(body: bytes, kind: type[_Body]) -> _Body:
    """Read a body's fields; what asks for nothing is left out.

    Raises:
        InputError: not JSON, a missing or wrong field; says which.
        UnsupportedError: a field or value that this software does not serve.
    """
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InputError(f"the body is not JSON: {exc}") from exc
    if not isinstance(raw, dict):
        raise InputError("the body must be a JSON object")
    raw = {name: value for name, value in raw.items() if value is not None and name not in _IDLE}
    known = {field.name for field in msgspec.structs.fields(kind)}
    for name in sorted(set(raw) - known):
        if name not in _HARMLESS or raw[name] not in _HARMLESS[name]:
            raise unsupported(name, f"{name[:80]!r} is not supported")
    try:
        return msgspec.convert({name: raw[name] for name in known & set(raw)}, kind)
    except msgspec.ValidationError as exc:
        raise InputError(f"the request is wrong: {exc}") from exc


def _message(index: int, message: dict[str, Any]) -> dict[str, Any]:
    """One message as chat templates expect it: content is one text."""
    where = f"messages[{index}]"
    kept = {name: value for name, value in message.items() if value is not None}
    for name in sorted(set(kept) - _MESSAGE):
        if kept[name] != []:  # empty lists of annotations and the like come back with an answer of ours
            raise unsupported(f"{where}.{name}", f"{where}.{name[:80]} is not supported")
    role, content = kept.get("role"), kept.get("content")
    if not isinstance(role, str) or role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise wrong(f"{where}.role", f"{where}.role is {str(role)[:40]!r}; it must be one of {known}")
    if isinstance(content, list):
        content = "".join(_part(where, part) for part in content)
    if content is None and not kept.get("tool_calls"):
        raise wrong(f"{where}.content", f"{where}.content is missing")
    if content is not None and not isinstance(content, str):
        raise wrong(f"{where}.content", f"{where}.content must be text")
    for name in ("name", "tool_call_id"):
        if not isinstance(kept.get(name, ""), str):
            raise wrong(f"{where}.{name}", f"{where}.{name} must be text")
    if "tool_calls" in kept:
        kept["tool_calls"] = read_calls(where, kept["tool_calls"])
    more = {name: kept[name] for name in ("name", "tool_calls", "tool_call_id") if kept.get(name)}
    return {"role": "system" if role == "developer" else role, "content": content or "", **more}


def _characters(prompt: Prompt) -> int:
    """How much text a chat's prompt is: what is said, what was called, and the tools."""
    messages = prompt.messages or ()
    called = [call["function"]["arguments"] for message in messages for call in message.get("tool_calls", ())]
    offered = [msgspec.json.encode(tool).decode() for tool in prompt.tools]
    return sum(map(len, (*(message["content"] for message in messages), *called, *offered)))


def _part(where: str, part: Any) -> str:
    kind, text = (part.get("type"), part.get("text")) if isinstance(part, dict) else (type(part).__name__, None)
    if kind != "text" or not isinstance(text, str):
        raise unsupported(f"{where}.content", f"{where}.content holds a part of type {str(kind)[:40]!r}; only text")
    return text


def _job(
    given: _Shared,
    task: str,
    prompt: Prompt,
    top_logprobs: int | None,
    limit: int | None,
    characters: int,
    envelope: Envelope,
) -> Job:
    # Rules match it sign by sign, and the owner reads it where he is asked.
    if not is_word(given.model, MAX_MODEL) or given.model != given.model.strip():
        raise wrong("model", f"model must be a name of 1 to {MAX_MODEL} visible characters with no space at its ends")
    stops = (given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ())
    sampling = Sampling(
        temperature=_within("temperature", given.temperature, 0, 2, 1.0),
        top_k=int(_within("top_k", given.top_k, 0, 1_000_000, 0)),
        top_p=_within("top_p", given.top_p, 0, 1, 1.0),
        min_p=_within("min_p", given.min_p, 0, 1, 0.0),
        repeat_penalty=_within("repeat_penalty", given.repeat_penalty, 0.01, 10, 1.0),
        frequency_penalty=_within("frequency_penalty", given.frequency_penalty, -2, 2, 0.0),
        presence_penalty=_within("presence_penalty", given.presence_penalty, -2, 2, 0.0),
        seed=None if given.seed is None else given.seed & 0xFFFFFFFF,
        stop=tuple(stop for stop in stops if stop),
        logit_bias=_biases(given.logit_bias or {}),
        top_logprobs=None if top_logprobs is None else int(_within("logprobs", top_logprobs, 0, MAX_TOP_LOGPROBS, 0)),
        json_schema=_schema(given.response_format),
        max_tokens=None if limit is None else int(_within("max_tokens", limit, 1, 1 << 24, 1)),
    )
    if len(sampling.stop) > MAX_STOPS:
        raise wrong("stop", f"stop holds {len(stops)} strings; at most {MAX_STOPS}")
    return Job(
        request_id=envelope.request_id,
        model=given.model,
        task=task,
        prompt=prompt,
        sampling=sampling,
        narrowing=read_route(envelope.route),
        asker=envelope.asker,
        characters=characters,
    )


def _within(name: str, value: float | None, low: float, high: float, default: float) -> float:
    if value is None:
        return default
    if not low <= value <= high:
        raise wrong(name, f"{name} is {str(value)[:40]}; it must be from {low} to {high}")
    return value


def _biases(given: dict[str, float]) -> dict[int, float]:
    biases = {}
    for text, bias in given.items():
        if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_TOKEN_ID):
            raise wrong("logit_bias", f"logit_bias names {text[:40]!r}, which is no token id")
        biases[int(text)] = _within("logit_bias", bias, -100, 100, 0.0)
    return biases


def _schema(given: dict[str, Any] | None) -> dict[str, Any] | None:
    kind = (given or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    if kind != "json_schema":
        raise unsupported("response_format", f"response_format of type {str(kind)[:40]!r} is not supported")
    schema = (given or {}).get("json_schema", {})
    schema = schema.get("schema") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not is_shallow(schema):
        field = "response_format.json_schema.schema"
        raise wrong(field, f"{field} must be a JSON schema, nested at most {MAX_DEPTH} deep")
    return schema


def _include_usage(given: _Shared) -> bool:
    options = given.stream_options or {}
    for name in sorted(set(options) - {"include_usage", "include_obfuscation"}):
        raise unsupported(f"stream_options.{name}", f"stream_options.{name[:80]} is not supported")
    return options.get("include_usage", False) is True
