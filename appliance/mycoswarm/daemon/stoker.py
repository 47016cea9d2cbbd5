"""Has models loaded and unloaded as the owner wishes, and says where one would fit and how fast it would be.

Every number is one that deciding itself reckons with, or that an answer showed.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, get_args

from mycoswarm.api.explanation import explanation_of
from mycoswarm.api.stockroom import StockroomServices
from mycoswarm.base.errors import NotFoundError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.job import Asker, Decided, Job
from mycoswarm.chat.life import Chat
from mycoswarm.daemon.odometer import Odometer
from mycoswarm.daemon.outlook import Outlook
from mycoswarm.routing.placement import Load, place_whole, usable_bytes
from mycoswarm.routing.snapshot import EMBEDDING, Narrowing, NodeState
from mycoswarm.stage.pool import RingPool, Shape, shape_of
from mycoswarm.store.apikey import Key
from mycoswarm.wire.plan import Pooling

TELL_S = 1.0  # between two words on how far the loading is
MIN_BEGINNING = 6  # signs of a digest that stand for the whole, as elsewhere


class Stoker:
    """All of it on the node that decides; on a worker each question is an InputError."""

    def __init__(
        self, chat: Chat, outlook: Outlook, rings: RingPool, odometer: Odometer, *, tell_s: float = TELL_S
    ) -> None:
        self._chat, self._outlook, self._rings, self._odometer = chat, outlook, rings, odometer
        self._tell_s = tell_s

    def services(self, admit: Callable[[Key | None], None]) -> StockroomServices:
        """What the owner's routes need. `admit` counts a loading against its key's limits."""
        return StockroomServices(
            load=self.load, unload=self.unload, fit=self.fit, admit=admit, new_id=lambda: secrets.token_hex(12)
        )

    async def load(
        self, name: str, narrowing: Narrowing, asker: Asker, request_id: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Load a model where the rules say, telling of it: `decided` (again where a node was lost), `loading`, at the
        end `loaded`. Closing the generator stops the waiting; what is being loaded goes on.

        Raises:
            NotFoundError: no node holds it.
            SwarmError: the rules let it be loaded nowhere, or that failed; typed as for an answer.
        """
        facts = self._outlook.find(name)
        events = self._chat.answer(_job(facts, narrowing, asker, request_id, only_loads=True))
        decided: Decided | None = None
        async with contextlib.aclosing(_ticking(events, self._tell_s)) as told:
            async for event in told:
                if isinstance(event, Decided):
                    decided = event
                    yield {"event": "decided", "receipt": request_id, **self._decided(event)}
                elif event is None and decided is not None:
                    yield {"event": "loading", "nodes": self._progress(decided)}
        assert decided is not None and decided.plan is not None  # it ended without an error
        yield {"event": "loaded", "model": facts.name, "ring_id": decided.plan.ring_id, **self._decided(decided)}

    async def unload(self, name: str) -> dict[str, Any]:
        """End all rings of a model. It is named as the swarm names it, or, where no node holds it any more, by the
        beginning of its digest.

        Raises:
            NotFoundError: it is not loaded, or no such model is known.
            BusyError: it is in use.
            InputError: this node decides nothing.
        """
        ended = await self._rings.unload(self._digest(name))
        names = self._names()
        return {"model": name, "rings": [{"stages": _stages(shape_of(plan), names)} for plan in ended]}

    async def fit(self, name: str, narrowing: Narrowing, asker: Asker) -> dict[str, Any]:
        """Where a model would fit now: each node by itself, and where it would really go.

        Raises:
            NotFoundError: no node holds it.
            InputError: this node decides nothing.
        """
        facts = self._outlook.find(name)
        outcome, (_, load, _, swarm) = await self._chat.survey(_job(facts, narrowing, asker, "fit"))
        assert load is not None  # its facts are known
        reasons = {one.node_id: one.reason for one in outcome.explanation.verdicts}
        names = {node.node_id: node.name for node in swarm.nodes}
        loaded = {ring.shape for ring in self._rings.warm() if ring.plan.model_digest == facts.digest}
        return {
            "model": facts.name,
            "digest": facts.digest,
            "task": _task(facts),
            "needed_bytes": load.total_bytes,
            "nodes": [_alone(node, load, reasons.get(node.node_id)) for node in swarm.nodes],
            "decision": explanation_of(outcome),
            "measured": [
                {"stages": _stages(shape, names), "decode_tokens_per_s": speed, "is_loaded": shape in loaded}
                for shape, speed in self._odometer.speeds(facts.digest).items()
            ],
        }

    def _digest(self, name: str) -> str:
        try:
            return self._outlook.find(name).digest
        except NotFoundError:
            digests = {ring.plan.model_digest for ring in self._rings.warm()}
            found = [digest for digest in digests if len(name) >= MIN_BEGINNING and digest.startswith(name.lower())]
            if len(found) != 1:
                raise
            return found[0]

    def _decided(self, event: Decided) -> dict[str, Any]:
        told = explanation_of(event.decision)
        return {name: told[name] for name in ("rule", "reason", "stages", "predicted_tokens_per_s", "note")}

    def _progress(self, decided: Decided) -> list[dict[str, Any]]:
        """How far each node is, as far as it has said."""
        if decided.plan is None:
            return []
        names = self._names()
        loading: Mapping[str, dict[str, Any]] = self._odometer.shown(decided.plan.ring_id)["loading"]
        return [{"node": names.get(node_id, node_id), **told} for node_id, told in loading.items()]

    def _names(self) -> dict[str, str]:
        return {node.node_id: node.name for node in self._outlook.swarm(None).nodes}


def _task(facts: ModelFacts) -> str:
    """What the model is for: one whose file says how it pools is for embedding."""
    return EMBEDDING if facts.pooling in get_args(Pooling) else "chat"


def _job(facts: ModelFacts, narrowing: Narrowing, asker: Asker, request_id: str, *, only_loads: bool = False) -> Job:
    return Job(
        request_id=request_id,
        model=facts.digest,
        task=_task(facts),
        narrowing=narrowing,
        asker=asker,
        only_loads=only_loads,
    )


def _alone(node: NodeState, load: Load, reason: str | None) -> dict[str, Any]:
    """One node, if it were to hold the whole model. `reason`: why it is in or out of what was decided."""
    whole = place_whole(load, [node])
    return {
        "node_id": node.node_id,
        "name": node.name,
        "place": node.place,
        "free_bytes": node.free_bytes,
        "usable_bytes": usable_bytes(node),
        "fits_whole": whole is not None,
        "predicted_tokens_per_s": 1 / whole.token_s if whole is not None and whole.token_s > 0 else None,
        "reason": reason,
    }


def _stages(shape: Shape, names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"node": names.get(node_id, node_id), "layers": [first, last]} for node_id, first, last in shape]


async def _ticking(events: AsyncGenerator[Any, None], every_s: float) -> AsyncGenerator[Any, None]:
    """The same events, and None each time that so long none has come. The events are closed with it."""
    waiting: asyncio.Task[Any] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({waiting}, timeout=every_s)
            if not done:
                yield None
                continue
            try:
                event = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield event
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await events.aclose()
