"""The life of one request: decide, note it, do it, stream the answer; decide again when a node is lost; note the end.

The rules are asked before each try, so an answer goes on only where they allow it. What has been streamed stays: a
request continues after the last token, never with another model, and never at an endpoint, which could not go on there.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator

from mycoswarm.base.errors import BusyError, NotFoundError, SwarmError, UnreachableError
from mycoswarm.chat.account import Account
from mycoswarm.chat.course import Course, Question
from mycoswarm.chat.job import Event, Job
from mycoswarm.chat.load import fitted, load_of
from mycoswarm.chat.surroundings import Surroundings
from mycoswarm.routing.decision import Outcome, decide
from mycoswarm.routing.snapshot import Asked, Narrowing
from mycoswarm.stage.pool import RingPool
from mycoswarm.store.record import ANSWER

MAX_AT_ONCE = 64  # the most that a ring takes, and more than a household asks
MAX_OF_KEY = 48  # of one key, so that no client takes all
STOP_S = 2.0

log = logging.getLogger(__name__)


class Chat:
    """Answers requests, up to `MAX_AT_ONCE` at once; each one's errors are its own."""

    def __init__(self, surroundings: Surroundings, rings: RingPool) -> None:
        self._around, self._rings = surroundings, rings
        self._running: dict[asyncio.Task[None], str | None] = {}  # by task: the key
        self._durations_s: deque[float] = deque(maxlen=32)
        self._is_closed = False

    async def stop(self) -> None:
        """End what is under way, whatever it waits for, with a typed error; nothing is begun any more."""
        self._is_closed = True
        for work in self._running:
            work.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=STOP_S)

    async def explain(self, job: Job) -> Outcome:
        """Decide without doing anything: the same function that a real request runs, with the full explanation.

        Raises:
            InputError: this node decides nothing.
            ModelError: texts are to be embedded, and the model makes no vector of one.
        """
        return (await self.survey(job))[0]

    async def survey(self, job: Job) -> tuple[Outcome, Question]:
        """The same, with all that was looked at.

        Raises:
            InputError: this node decides nothing.
            ModelError: as `explain`.
        """
        account, _ = self._begin(job)
        question = self._question(account, job.narrowing)
        return await asyncio.to_thread(lambda: decide(*question, explain=True)), question

    async def answer(self, job: Job) -> AsyncGenerator[Event, None]:
        """Produce one answer. Closing the generator cancels the work on every stage and waits until that is done.

        The work is a task of its own, so the generator may be advanced from any task, and a slow reader holds no ring.

        Raises:
            BusyError: too many answers are being produced already.
            UnreachableError: this node is stopping.
            SwarmError: typed and final; what was streamed before it stays true.
        """
        if self._is_closed:
            raise _stopping()
        self._make_sure_of_room(job.asker.key_name)
        account, missing = self._begin(job)
        # Without a bound: an answer is no longer than the model's context.
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(self._work(account, missing, events), name=f"request {job.request_id}")
        self._running[work] = job.asker.key_name
        work.add_done_callback(self._running.pop)
        try:
            while (event := await events.get()) is not None:
                yield event
            await asyncio.wait({work})
            if work.cancelled():
                raise _stopping()
            work.result()
        finally:
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()  # a client that left has no ears for it; the ledger has the code

    def _begin(self, job: Job) -> tuple[Account, NotFoundError | None]:
        """The request's account, and why no node holds its model, where none does: an endpoint may."""
        try:
            return Account(job, self._around.models.find(job.model), self._around.wall_clock()), None
        except NotFoundError as missing:
            return Account(job, None, self._around.wall_clock()), missing

    async def _work(
        self, account: Account, missing: NotFoundError | None, events: "asyncio.Queue[Event | None]"
    ) -> None:
        """Produce the whole answer into `events`, None at its end, and its row in the ledger, whatever happens."""
        try:
            async with asyncio.timeout(self._around.request_s) as limit:
                course = Course(
                    self._around,
                    self._rings,
                    account,
                    missing=missing,
                    question=self._question,
                    tell=events.put_nowait,
                )
                await course.run(limit)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            account.outcome = "timeout"
            raise UnreachableError(
                f"the answer took longer than {self._around.request_s:g} s",
                hint="Ask for fewer tokens, or raise `request_s` in the settings.",
                code="timeout",
            ) from exc
        except asyncio.CancelledError:
            account.outcome = account.outcome or "cancelled"
            raise
        except SwarmError as error:
            account.outcome = error.code
            raise
        finally:
            try:
                await self._end(account)
            finally:
                self._durations_s.append(account.watch.elapsed_s())
                events.put_nowait(None)

    def _question(self, account: Account, narrowing: Narrowing) -> Question:
        """All that `decide` looks at, as it is now."""
        job, facts, asker = account.job, account.facts, account.job.asker
        swarm = self._around.swarm(facts.digest if facts else None)
        ids = tuple(node.node_id for node in swarm.nodes)
        asked = Asked(
            model=facts.name if facts else job.model,
            model_digest=facts.digest if facts else None,
            task=job.task,
            prompt_characters=job.characters,
            narrowing=narrowing,
            key_name=asker.key_name,
            user=asker.user,
            labels=asker.labels,
            added=asker.added,
            client=asker.client,
            at=account.at,
        )
        load = load_of(facts, fitted(self._around.conditions(facts, ids), facts, job.task)) if facts else None
        return asked, load, self._around.rules(), swarm

    def _make_sure_of_room(self, key_name: str | None) -> None:
        """Refuse what is too much. Who waits for the owner takes no place: consent.py bounds those by itself."""
        waiting = self._around.approvals
        if len(self._running) - waiting.count() >= MAX_AT_ONCE:
            raise BusyError(f"{MAX_AT_ONCE} requests are being answered", retry_after_s=self._retry_after_s())
        if key_name is None:
            return
        of_key = sum(each == key_name for each in self._running.values()) - waiting.count(key_name)
        if of_key >= MAX_OF_KEY:
            why = f"{MAX_OF_KEY} requests of the key {key_name!r} are being answered"
            raise BusyError(why, retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> int:
        """About when the next answer ends: answers lately took so long, and so many are under way."""
        usual_s = sum(self._durations_s) / len(self._durations_s) if self._durations_s else self._around.request_s / 2
        return max(1, math.ceil(usual_s / MAX_AT_ONCE))

    async def _end(self, account: Account) -> None:
        """Write the row to its end, also while being cancelled: it takes milliseconds."""
        writing = asyncio.create_task(asyncio.to_thread(self._write, account))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    def _write(self, account: Account) -> None:
        request_id, key_name = account.job.request_id, account.job.asker.key_name
        try:
            self._around.note(ANSWER, account.answer(), request_id)
        except SwarmError as error:
            log.error("the ledger could not keep the end of request %s: %s", request_id, error.message)
        if key_name is None:
            return
        try:
            self._around.spend(key_name, account.spent())
        except SwarmError as error:
            log.error("the tokens of request %s were not counted on the disk: %s", request_id, error.message)


def _stopping() -> UnreachableError:
    return UnreachableError("this node is stopping", hint="Send the request again later.", code="node_stopping")
