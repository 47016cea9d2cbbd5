"""Rings that answer by script, and a coordinator's surroundings built on them."""

import asyncio
import itertools
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mycoswarm.base.errors import NotFoundError, RingError, SwarmError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.consent import Approvals
from mycoswarm.chat.job import Asker, Job
from mycoswarm.chat.life import Chat
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.external.errand import Reached
from mycoswarm.routing.decision import Dispatch
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.routing.snapshot import EndpointState, Narrowing, NodeState, SwarmState, WarmRing
from mycoswarm.stage.pool import Opening, RingPool
from mycoswarm.wire.line import decode_order, encode_line
from mycoswarm.wire.order import Embed, Generate
from mycoswarm.wire.plan import Conditions, RingPlan
from mycoswarm.wire.report import AnyReport, Finished, Piece, Timing, TokenLogprob, TopLogprob, Vector
from mycoswarm.wire.request import Embedding, Generation, Prompt, Sampling, Work
from mycoswarm.wire.ticket import Warrant

TOKENS = ("Three", " small", " rings", " answer", ",", " one", " by", " one", ".")
TEXT = "".join(TOKENS)

FACTS = ModelFacts(
    digest="d" * 64,
    name="spore",
    architecture="llama",
    quantisation="Q8_0",
    parameters=600,
    file_bytes=1000,
    n_layer=6,
    n_embd=64,
    n_vocab=100,
    n_ctx_train=512,
    layer_bytes=(100_000,) * 6,
    kv_bytes_per_token=(8,) * 6,
    table_bytes=100,
    output_bytes=100,
    template="{{ messages }}",
    splittable=True,
    split_reason="listed",
    cuts=(1, 2, 3, 4, 5),
)


def lost_at(node_id: str, message: str = "the cable was pulled", code: str = "ring_failed") -> RingError:
    """The error of a ring that lost a node."""
    error = RingError(f"node {node_id}: {message}", code=code)
    error.lost_node_id = node_id
    return error


class FakeRing:
    """Says `tokens`, from where an earlier ring stopped. `faults` maps a count of tokens to the error raised there.

    `gate` holds every token back until it is set. What was asked is in `generations`, how each ended in `ends`.
    """

    def __init__(
        self, plan: RingPlan, *, tokens: tuple[str, ...] = TOKENS, faults: dict[int, SwarmError] | None = None
    ) -> None:
        self.plan, self.tokens, self.faults = plan, tokens, faults or {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.generations: list[Generation] = []
        self.embeddings: list[Embedding] = []
        self.warrants: list[Warrant] = []
        self.ends: list[str] = []
        self.is_closed = False
        self.timing: Timing | None = None  # that it tells at the end
        self._lost: RingError | None = None

    @property
    def lost(self) -> RingError | None:
        """Why the ring broke."""
        return self._lost

    def lose(self, error: RingError) -> None:
        """Break while nothing runs."""
        self._lost = error

    async def close(self) -> None:
        """End the ring."""
        self.is_closed = True
        self._lost = self._lost or lost_at(self.plan.head.node_id, "closed", "ring_closed")

    async def generate(self, work: Work, warrant: Warrant, lifetime_s: float) -> AsyncGenerator[AnyReport, None]:
        """Speak the script, under the limits that were asked for; or embed, where the plan is for that."""
        order = Embed(embedding=work) if isinstance(work, Embedding) else Generate(generation=work)
        assert decode_order(encode_line(order).rstrip(b"\n")) == order  # it can travel
        assert isinstance(work, Embedding) == (self.plan.conditions.pooling is not None)
        self.embeddings += [work] if isinstance(work, Embedding) else []
        self.generations += [work] if isinstance(work, Generation) else []
        self.warrants.append(warrant)
        end = "cancelled"
        try:
            if self._lost:
                raise self._lost
            async for report in self._embed(work) if isinstance(work, Embedding) else self._speak(work):
                yield report
            end = "finished"
        except SwarmError as error:
            end = error.code
            raise
        finally:
            self.ends.append(end)

    async def _embed(self, embedding: Embedding) -> AsyncIterator[AnyReport]:
        """A vector of `vector_of` for each text; a token for each of its characters."""
        for index, text in enumerate(embedding.inputs):
            await asyncio.sleep(0)
            await self.gate.wait()
            self._fail_at(index)
            yield Vector(request_id=embedding.request_id, index=index, values=struct.pack("<3f", *vector_of(text)))
        count = sum(map(len, embedding.inputs))
        yield Finished(request_id=embedding.request_id, reason="stop", prompt_tokens=count, completion_tokens=0)

    def _fail_at(self, count: int) -> None:
        if count in self.faults:
            error = self.faults.pop(count)
            if isinstance(error, RingError):
                self._lost = error
            raise error

    async def _speak(self, generation: Generation) -> AsyncIterator[AnyReport]:
        sampling, request_id = generation.sampling, generation.request_id
        text = "".join(self.tokens)
        cuts = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        cut = min(cuts, default=len(text))
        count, said = len(generation.continued), sum(map(len, self.tokens[: len(generation.continued)]))
        reason = "stop"
        for token_id in range(count, len(self.tokens)):
            if said >= cut and cuts:
                break
            if sampling.max_tokens is not None and count >= sampling.max_tokens:
                reason = "length"
                break
            await asyncio.sleep(0)
            await self.gate.wait()
            self._fail_at(token_id)
            token = self.tokens[token_id]
            logprobs = _logprobs(token_id, token, sampling) if sampling.top_logprobs is not None else None
            yield Piece(request_id=request_id, text=token[: cut - said], token_ids=(token_id,), logprobs=logprobs)
            count, said = count + 1, said + len(token)
        yield Finished(
            request_id=request_id,
            reason=reason,
            prompt_tokens=7,
            completion_tokens=count,
            seed=sampling.seed or 99,
            timing=self.timing,
        )


def vector_of(text: str) -> tuple[float, float, float]:
    """What the scripted rings make of a text."""
    return 0.6, -0.8, float(len(text))


def _logprobs(token_id: int, token: str, sampling: Sampling) -> tuple[TokenLogprob, ...]:
    top = tuple(TopLogprob(other, TOKENS[other].encode(), -float(other)) for other in range(sampling.top_logprobs or 0))
    return (TokenLogprob(token_id, token.encode(), -0.5, top),)


def node(name: str, *, free: int | None = 10**9, trouble: str | None = None) -> NodeState:
    """A node of the LAN."""
    return NodeState(name, name, "LAN", free, 1e9, 0.001, trouble=trouble)


@dataclass
class Bench:
    """A coordinator without network: its chat and pool, and what its tests may turn and look at.

    `ring_for` makes a ring (or raises) for a plan; by default one that speaks `TOKENS`.
    """

    nodes: tuple[NodeState, ...] = (node("attic"), node("cellar"))
    facts: ModelFacts = FACTS
    rules: RuleSet = field(default_factory=lambda: RuleSet.of((DEFAULT_RULE,)))
    request_s: float = 30.0
    ring_for: Callable[[RingPlan], FakeRing] = FakeRing
    rings: list[FakeRing] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    endpoints: tuple[EndpointState, ...] = ()
    relay: Callable[[Dispatch, Job], AsyncGenerator[Reached | Piece | Vector | Finished, None]] | None = None
    approvals: Approvals = field(default_factory=lambda: Approvals(lambda: 1000.0))
    spent: list[tuple[str, int]] = field(default_factory=list)
    keeps_prompts: bool = False
    note_faults: dict[str, SwarmError] = field(default_factory=dict)
    now_s: float = 0.0
    is_known: Callable[[Asker], bool] = lambda asker: True
    is_poor: Callable[[str, str], bool] = lambda digest, task: False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def find(self, reference: str) -> ModelFacts:
        """The one model there is."""
        if reference != FACTS.name:
            raise NotFoundError(f"no node holds {reference[:50]!r}")
        return self.facts

    def new_id(self) -> str:
        """A number of its own."""
        return f"id{next(self._numbers)}"

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of one kind of rows."""
        return [body for each, body, _ in self.notes if each == kind]

    def _swarm(self, digest: str | None) -> SwarmState:
        warm = tuple(WarmRing(ring.plan.model_digest, ring.shape, ring.reach, ring.embeds) for ring in self.pool.warm())
        holders = {digest: frozenset({self.nodes[0].node_id})} if digest else {}
        return SwarmState("attic", self.nodes, holders, warm, self.endpoints)

    def _note(self, kind: str, body: Mapping[str, Any], request_id: str) -> str:
        if (fault := self.note_faults.get(kind)) is not None:
            raise fault
        json.dumps(body)  # it can be kept
        self.notes.append((kind, dict(body), request_id))
        return f"digest {len(self.notes)}"

    def _relay(self, dispatch: Dispatch, job: Job) -> AsyncGenerator[Reached | Piece | Vector | Finished, None]:
        assert self.relay is not None, "no endpoint was to be asked"
        return self.relay(dispatch, job)

    async def open(self, opening: Opening) -> FakeRing:
        """Open a scripted ring."""
        await asyncio.sleep(0)
        ring = self.ring_for(opening.plan)
        self.rings.append(ring)
        return ring

    @asynccontextmanager
    async def chat(self) -> AsyncIterator[Chat]:
        """A chat; at the end its pool is closed, and no task may be left."""
        before = asyncio.all_tasks()
        around = Surroundings(
            swarm=self._swarm,
            models=self,
            rules=lambda: self.rules,
            conditions=lambda facts, ids: Conditions(n_ctx=512, n_ubatch=8),
            note=self._note,
            relay=self._relay,
            approvals=self.approvals,
            grade=lambda plan, facts, finished: None,
            spend=lambda key, tokens: self.spent.append((key, tokens)),
            keeps_prompts=self.keeps_prompts,
            is_poor=self.is_poor,
            new_id=self.new_id,
            wall_clock=lambda: 1000.0,
            request_s=self.request_s,
            is_known=lambda asker: self.is_known(asker),
        )
        async with RingPool(self.open, idle_s=60, clock=lambda: self.now_s) as pool:
            self.pool = pool
            yield Chat(around, pool)
        assert asyncio.all_tasks() <= before
        assert all(ring.is_closed for ring in self.rings)


def job(
    request_id: str = "r1",
    *,
    sampling: Sampling | None = None,
    model: str = "spore",
    asker: Asker | None = None,
    **narrowing: object,
) -> Job:
    """A chat request."""
    return Job(
        request_id=request_id,
        model=model,
        task="chat",
        prompt=Prompt(messages=({"role": "user", "content": "The heliotrope is purple"},)),
        sampling=sampling or Sampling(),
        narrowing=Narrowing(**narrowing),  # type: ignore[arg-type]  # test input
        asker=asker or Asker(key_name="desk", client="127.0.0.1"),
        characters=2,
    )


async def until(is_true: Callable[[], object], limit_s: float = 5.0) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(limit_s):
        while not is_true():
            await asyncio.sleep(0.002)
