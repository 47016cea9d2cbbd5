"""The tools that the swarm offers to MCP clients, and serving them. Of the protocol itself it knows nothing.

None of them changes anything but what every request changes: the ledger, and the limits of its key.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mycoswarm.api.body import Given, only, text
from mycoswarm.api.completion import Completions
from mycoswarm.api.explanation import explanation_of
from mycoswarm.api.provenance import Provenance
from mycoswarm.api.question import Envelope, read_route
from mycoswarm.api.refusal import bug, error_body
from mycoswarm.base.errors import BusyError, InputError, SwarmError, TrustError
from mycoswarm.chat.failing import plainly
from mycoswarm.chat.job import Decided, Event
from mycoswarm.routing.allotment import ToolDecision
from mycoswarm.routing.decision import Outcome
from mycoswarm.routing.snapshot import Narrowing
from mycoswarm.store.apikey import Key
from mycoswarm.wire.report import Piece

log = logging.getLogger(__name__)

_CHAT = ("model", "messages", "prompt", "max_tokens", "temperature")
_EXPLAIN = ("model", "task", "characters")
# What an answer of /v1 says too. The other reasons name rules, keys and machines that are not the asker's business.
_FOR_ALL = frozenset(
    {"allowed", "rule", "reason", "code", "action", "ask_s", "note", "predicted_tokens_per_s"}
    | {"tool_node", "endpoint", "stages"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuServices:
    """What the tools need. `models` as `/v1/models` lists them; `rules` and `nodes` as the owner's routes show them;
    `explain` decides on an example request and sends nothing. `admit` counts a request against its key's limits."""

    completions: Completions
    models: Callable[[], list[dict[str, Any]]]
    explain: Callable[[Any, Narrowing], Awaitable[Outcome | ToolDecision]]
    rules: Callable[[], Awaitable[dict[str, Any]]]
    nodes: Callable[[], Awaitable[dict[str, Any]]]
    admit: Callable[[Key | None], None]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who calls a tool. `key` None is the owner at the machine itself. `hear` is told each piece of an answer's text.
    The envelope's request id is of no use: each call gets its own."""

    envelope: Envelope
    key: Key | None
    hear: Callable[[str], None] = lambda piece: None

    @property
    def is_owner(self) -> bool:
        """Whether the owner's tools are for them."""
        return self.key is None or self.key.is_owner


@dataclass(frozen=True, slots=True)
class Served:
    """What a call gives: text for the model that called, and the same and more as plain values."""

    text: str
    values: dict[str, Any]
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One tool as clients see it; `parameters` is a JSON schema."""

    name: str
    title: str
    description: str
    parameters: dict[str, Any] = field(default_factory=lambda: _schema())
    for_owner: bool = False


def _schema(*required: str, **properties: Any) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**shape, "required": list(required)} if required else shape


_MODEL = {"type": "string", "description": "A model's name, as list_models gives it."}
_ROLES = {"type": "string", "enum": ["system", "user", "assistant"]}
OFFERS = (
    Offer(
        name="chat",
        title="Ask a model of the swarm",
        description="Has a model of this swarm answer, on the machine that the owner's rules choose. The answer says "
        "where it ran, by which rule, and its receipt in the ledger.",
        parameters=_schema(
            "model",
            model=_MODEL,
            prompt={"type": "string", "description": "What to ask. Give this or messages."},
            messages={
                "type": "array",
                "description": "A conversation so far, in the place of a prompt.",
                "items": _schema("role", "content", role=_ROLES, content={"type": "string"}),
            },
            max_tokens={"type": "integer", "minimum": 1, "description": "The most tokens of the answer."},
            temperature={"type": "number", "minimum": 0, "maximum": 2},
        ),
    ),
    Offer(
        name="list_models",
        title="List the models",
        description="Lists the models of this swarm, and which machines or endpoints have each of them.",
    ),
    Offer(
        name="explain_route",
        title="Explain where a request would go",
        description="Says where a request of this asker would go by the owner's rules, and why. Sends nothing.",
        parameters=_schema(
            "model",
            model=_MODEL,
            task={"type": "string", "description": "chat, completion, embedding, agent or tool:NAME. Usually chat."},
            characters={"type": "integer", "minimum": 0, "description": "How long the prompt would be. Usually 0."},
        ),
    ),
    Offer(
        name="list_rules",
        title="List the rules",
        description="Lists the owner's rules in their order: the first that matches decides where a request goes.",
        for_owner=True,
    ),
    Offer(
        name="list_nodes",
        title="List the machines",
        description="Lists the machines of this swarm: how near each is, and whether it is ready or has trouble.",
        for_owner=True,
    ),
)
NAMES = frozenset(offer.name for offer in OFFERS)


class Menu:
    """Serves the tools to whom they are for."""

    def __init__(self, services: MenuServices) -> None:
        self._from = services

    def offers(self, visit: Visit) -> tuple[Offer, ...]:
        """The tools that this visitor may call."""
        return tuple(offer for offer in OFFERS if visit.is_owner or not offer.for_owner)

    async def serve(self, name: str, given: Given, visit: Visit) -> Served:
        """Call one of `NAMES`. What goes wrong is served too, as an error with its code and hint."""
        request_id = self._from.new_id()
        provenance = Provenance(request_id)
        try:
            return await self._serve(name, given, visit, provenance)
        except SwarmError as error:
            log.info("MCP: %s for request %s failed: %s", name, request_id, plainly(error))
            return _failed(error, provenance.shown() if name == "chat" else {})
        except asyncio.CancelledError:
            log.info("MCP: the client of request %s left", request_id)
            raise
        except Exception:
            log.exception("MCP: %s for request %s failed: a bug of ours", name, request_id)
            return _failed(bug(), {})

    async def _serve(self, name: str, given: Given, visit: Visit, provenance: Provenance) -> Served:
        if name not in {offer.name for offer in self.offers(visit)}:
            raise TrustError(
                f"{name} is for the owner, and the key is not an owner's",
                hint="Make one with `mycoswarm-node keys create NAME --owner`.",
                code="not_an_owner_key",
            )
        if name == "chat":
            return await self._chat(given, visit, provenance)
        if name == "explain_route":
            return await self._explain(given, visit)
        only(given)
        if name == "list_models":
            return _listed({"models": self._from.models()})
        if name == "list_rules":
            shown = await self._from.rules()
            return _listed({"version": shown["version"], "rules": shown["rules"]})
        return _listed({"nodes": [_node(one) for one in (await self._from.nodes())["nodes"]]})

    async def _chat(self, given: Given, visit: Visit, provenance: Provenance) -> Served:
        def hear(event: Event) -> None:
            if isinstance(event, Decided):
                provenance.take(event)
            elif isinstance(event, Piece):
                visit.hear(event.text)

        envelope = msgspec.structs.replace(visit.envelope, request_id=provenance.receipt)
        answer = await self._from.completions.whole(_chat_body(given), envelope, visit.key, hear)
        (choice,) = answer["choices"]
        said: str = choice["message"]["content"] or ""
        values = {"text": said, "model": answer["model"], "finish_reason": choice["finish_reason"]}
        return Served(said, {**values, "usage": answer["usage"], **answer["mycoswarm"]})

    async def _explain(self, given: Given, visit: Visit) -> Served:
        only(given, *_EXPLAIN)
        self._from.admit(visit.key)
        asker = visit.envelope.asker
        request = {
            **{name: value for name, value in given.items() if value is not None},
            "model": text(given, "model"),
            "key": asker.key_name,
            "user": asker.user,
            "labels": sorted(asker.labels),
            "added": sorted(asker.added),
            "client": asker.client or "",
        }
        found = explanation_of(await self._from.explain(request, read_route(visit.envelope.route)))
        if not visit.is_owner:
            found = {name: value for name, value in found.items() if name in _FOR_ALL}
        return _listed(found)


def _chat_body(given: Given) -> bytes:
    """The arguments as a body of `/v1/chat/completions`, which is read as strictly as any other."""
    only(given, *_CHAT)
    given = {name: value for name, value in given.items() if value is not None}
    if ("prompt" in given) == ("messages" in given):
        raise InputError("give either prompt or messages")
    body = {name: given[name] for name in _CHAT if name in given and name != "prompt"}
    if "prompt" in given:
        if not isinstance(given["prompt"], str):
            raise InputError("prompt must be a text")
        body["messages"] = [{"role": "user", "content": given["prompt"]}]
    try:
        return msgspec.json.encode(body)
    except (ValueError, OverflowError, RecursionError) as exc:  # half a character, a number of a thousand digits
        raise InputError(f"the arguments cannot be sent on: {exc}") from exc


def _node(shown: dict[str, Any]) -> dict[str, Any]:
    trouble = shown["trouble"]
    return {"name": shown["name"], "place": shown["place"], "is_ready": trouble is None, "trouble": trouble}


def _listed(values: dict[str, Any]) -> Served:
    return Served(msgspec.json.format(msgspec.json.encode(values)).decode(), values)


def _failed(error: SwarmError, more: dict[str, Any]) -> Served:
    values = error_body(error)["error"]
    if isinstance(error, BusyError):
        values["retry_after_s"] = error.retry_after_s
    return Served(f"{error.message}. {error.hint} ({error.code})", {"error": values, **more}, is_error=True)
