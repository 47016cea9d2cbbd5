"""Vectors of texts, made by the swarm like any embedding: requests that the rules decide, with labels and receipts."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mycoswarm.agents.examiner import endpoint_subject
from mycoswarm.agents.turn import FULL
from mycoswarm.base.errors import ModelError, RefusedError, RingError, SwarmError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.chat.failing import refused
from mycoswarm.chat.job import Asker, Decided, Job
from mycoswarm.chat.life import Chat
from mycoswarm.routing.decision import Dispatch, Refusal
from mycoswarm.routing.snapshot import EMBEDDING
from mycoswarm.wire.report import Vector

POOLED = ("mean", "cls", "last")
HALVINGS = 3  # of a passage that is longer than the model reads: 1,500 characters become 188
QUERY_S = 20.0  # a query waits no longer for its vector: words find something, too


@dataclass(frozen=True, slots=True)
class Made:
    """Vectors, float32, and what made them: a model's digest, or what names a model of an endpoint. An empty vector:
    the text is longer than the model reads."""

    maker: str
    vectors: tuple[bytes, ...]


class Likeness:
    """`named` is the model that the owner set, empty where he did not. `models`: all that the swarm holds."""

    def __init__(
        self,
        chat: Chat,
        *,
        named: str,
        models: Callable[[], Sequence[ModelFacts]],
        find: Callable[[str], ModelFacts],
        new_id: Callable[[], str],
    ) -> None:
        """`find` gives a model by its name or raises NotFoundError."""
        self._chat, self._named, self._models, self._find, self._new_id = chat, named, models, find, new_id

    def model(self) -> str | None:
        """The model to use: the owner's, else the first whose file says that it makes a vector of a text."""
        if self._named:
            return self._named
        return next((facts.name for facts in self._models() if facts.pooling in POOLED), None)

    async def maker(self, asker: Asker, characters: int) -> str:
        """What would make vectors for this asker now. Nothing is sent.

        Raises:
            ModelError: there is no model for it.
            RefusedError: the rules ask the owner each time, which is too often for a library.
            SwarmError: the rules let none do it; says why.
        """
        job = self._job("", (), asker, characters)
        outcome = await self._chat.explain(job)
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        if outcome.ground.ask_s is not None:
            raise RefusedError(f"the rule {outcome.rule} asks you each time", code="not_approved")
        if isinstance(outcome, Dispatch):
            return endpoint_subject(outcome)
        return self._find(job.model).digest

    async def vectors(self, texts: Sequence[str], asker: Asker) -> Made:
        """A vector of each text; one that is too long is embedded by its beginning.

        Raises:
            SwarmError: the rules let none do it, or it failed.
        """
        try:
            return await self._ask(texts, asker)
        except SwarmError as error:
            if error.code != FULL:
                raise
        if len(texts) == 1:
            return await self._shortened(texts[0], asker)
        middle = len(texts) // 2
        first = await self.vectors(texts[:middle], asker)
        second = await self.vectors(texts[middle:], asker)
        if first.maker != second.maker:
            raise RingError("the model was changed while texts were embedded", code="embedding_mixed")
        return Made(first.maker, first.vectors + second.vectors)

    async def query(self, text: str, asker: Asker) -> Made:
        """The vector of what is looked for.

        Raises:
            SwarmError: there is none, or not in time.
        """
        try:
            async with asyncio.timeout(QUERY_S):
                return await self.vectors((text,), asker)
        except TimeoutError as exc:
            raise RingError(f"no vector came within {QUERY_S:g} s", code="timeout") from exc

    async def _shortened(self, text: str, asker: Asker) -> Made:
        for _ in range(HALVINGS):
            text = text[: len(text) // 2]
            try:
                if text:
                    return await self._ask((text,), asker)
            except SwarmError as error:
                if error.code != FULL:
                    raise
        return Made(await self.maker(asker, 0), (b"",))

    async def _ask(self, texts: Sequence[str], asker: Asker) -> Made:
        maker, found = "", list[bytes]()
        job = self._job(self._new_id(), tuple(texts), asker, sum(map(len, texts)))
        async with contextlib.aclosing(self._chat.answer(job)) as events:
            async for event in events:
                if isinstance(event, Decided):  # another try makes all of them anew
                    to = event.decision
                    maker = endpoint_subject(to) if isinstance(to, Dispatch) else ""
                    maker = event.plan.model_digest if event.plan is not None else maker
                    found.clear()
                elif isinstance(event, Vector):
                    found.append(event.values)
        if len(found) != len(texts):
            raise RingError("the answer does not hold a vector for each text", code="answer_broken")
        return Made(maker, tuple(found))

    def _job(self, request_id: str, texts: tuple[str, ...], asker: Asker, characters: int) -> Job:
        model = self.model()
        if model is None:
            raise ModelError(
                "no model for embeddings is there: words find passages, meaning does not",
                hint="Add one with `mycoswarm-node models add FILE`, or set `library_embedding_model`.",
                code="no_embeddings",
            )
        return Job(request_id=request_id, model=model, task=EMBEDDING, inputs=texts, asker=asker, characters=characters)
