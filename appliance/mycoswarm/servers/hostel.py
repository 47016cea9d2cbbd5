"""The MCP servers of one node: stdio servers kept in the sandbox for a run, HTTP servers asked for one call.

Covered: a server that hangs, dies, floods, talks nonsense, changes its tools, takes too much, or is left behind: its
call is a typed failure within its time, and its processes end. Not covered: what a server does with what it is told.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mycoswarm.base.errors import BusyError, EndpointError, InputError, SetupError, StorageError, SwarmError
from mycoswarm.external.target import Limits, Passage
from mycoswarm.sandbox.guest import Program
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.runner import Ended
from mycoswarm.servers.definition import Definition, Means, is_reached, read_means
from mycoswarm.servers.ware import Ware

if TYPE_CHECKING:
    from mycoswarm.servers.dialogue import Session

Got = TypeVar("Got")

STOP_S = 10.0
BUSY_S = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseRules:
    """`stays`: servers on one node at once; each may take a gibibyte. `idle_s`: so long one stays that nobody uses.
    `look_s`: for the list of a server's tools; it is started for that. `greet_s`: for its greeting; some load for long
    on a slow card."""

    stays: int = 8
    idle_s: float = 300.0
    look_s: float = 60.0
    greet_s: float = 60.0


USUAL = HouseRules()


@dataclass(slots=True)
class _Stay:
    """One server at work for one workspace. `session` is set once it has greeted, or holds why it never did."""

    definition: Definition
    session: "asyncio.Future[Session]"
    calls: int = 0
    used_at: float = 0.0
    why: str = ""
    code: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    keeping: "asyncio.Task[None] | None" = None

    @classmethod
    def of(cls, definition: Definition) -> "_Stay":
        """One that begins now."""
        return cls(definition, asyncio.get_running_loop().create_future(), used_at=time.monotonic())

    def end(self, why: str, code: str = "ended") -> None:
        """Have it ended, for this reason, unless there was one before."""
        if not self.why:
            self.why, self.code = self.definition.masked(why), code
        self.over.set()

    def failure(self) -> BaseException | None:
        """Why it never greeted, if that is known."""
        return self.session.exception() if self.session.done() and not self.session.cancelled() else None


class Hostel:
    """`passage`: how this node reaches out, for servers over HTTP."""

    def __init__(self, passage: Passage, rules: HouseRules = USUAL) -> None:
        self._passage, self._rules = passage, rules
        self._stays: dict[tuple[str, str], _Stay] = {}  # by workspace and server
        self._housing = asyncio.Lock()
        self._leaving: set[asyncio.Task[Any]] = set()

    async def call(self, errand: Errand, means_text: str, workspace_id: str, jail: Jail) -> Ended:
        """Do one call; `errand` is of the tool's name in the swarm. What its server does wrong is in the outcome.

        Raises:
            InputError: what came with the call is not sound.
            BusyError: there are too many servers here.
            SetupError: this machine has no sandbox for it.
            StorageError: there is no room for it.
        """
        means, arguments = read_means(means_text, errand.tool), _arguments(errand)
        await asyncio.to_thread(_load)
        if means.definition.url:
            ended = await self._reach(means, arguments, errand.within_s)
        else:
            ended = await self._ask(means, arguments, errand, workspace_id=workspace_id, jail=jail)
        # A server that tells its own key tells it to no model; one that hides it in its words is not found out.
        return msgspec.structs.replace(ended, text=means.definition.masked(ended.text))

    def needs_files(self, means_text: str) -> bool:
        """Whether a call works in its run's workspace. Where that cannot be read, `call` says so."""
        return not is_reached(means_text)

    async def _ask(
        self, means: Means, arguments: dict[str, Any], errand: Errand, *, workspace_id: str, jail: Jail
    ) -> Ended:
        jail.need_sandbox(errand)  # at each call: the rule may have changed since the server began
        async with self._housing:
            stay = await self._stay(means.definition, errand, workspace_id, jail)
        stay.calls += 1
        try:
            return await self._spoken(stay, means, arguments, errand.within_s)
        finally:
            stay.calls -= 1
            stay.used_at = time.monotonic()

    async def listing(self, definition: Definition, errand: Errand, jail: Jail) -> Mapping[str, Ware]:
        """Start a server, or ask it, for its tools, and nothing else.

        Raises:
            SwarmError: it does not tell, in time or at all; says why, and its last words.
        """
        await asyncio.to_thread(_load)
        try:
            async with asyncio.timeout(self._rules.look_s):
                if definition.url:
                    return await self._reached(definition, self._rules.look_s, lambda session: session.wares())
                async with _living(_Stay.of(definition), errand, jail, self._rules.greet_s) as session:
                    return await session.wares()
        except TimeoutError as exc:
            raise EndpointError(
                f"the MCP server {definition.server} did not tell its tools within {self._rules.look_s:g} s",
                code="mcp_slow",
            ) from exc

    async def release(self, workspace_id: str) -> None:
        """The workspace goes: all servers that work in it end first."""
        await self._end([key for key in self._stays if key[0] == workspace_id], "its run is over")

    async def close(self) -> None:
        """End them all."""
        await self._end(list(self._stays), "the daemon stops")
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=STOP_S)

    async def _end(self, keys: list[tuple[str, str]], why: str) -> None:
        keeping = []
        for key in keys:
            stay = self._stays[key]
            stay.end(why)
            if stay.keeping is not None:
                stay.keeping.cancel()
                keeping.append(stay.keeping)
        if keeping:
            await asyncio.wait(keeping, timeout=STOP_S)

    async def _stay(self, definition: Definition, errand: Errand, workspace_id: str, jail: Jail) -> _Stay:
        """The server of this workspace, begun where there is none; another definition of it is another server."""
        key = workspace_id, definition.server
        stay = self._stays.get(key)
        if stay is not None and stay.definition != definition:
            await self._end([key], "it was registered anew")
            stay = self._stays.get(key)
        if stay is not None and not stay.over.is_set():
            return stay
        if len(self._stays) >= self._rules.stays:
            idle = [(one.used_at, at) for at, one in self._stays.items() if not one.calls]
            if not idle:
                raise BusyError(f"this node runs {self._rules.stays} MCP servers already", retry_after_s=BUSY_S)
            await self._end([min(idle)[1]], "another needed its place")
        stay = _Stay.of(definition)
        self._stays[key] = stay
        stay.keeping = asyncio.create_task(self._keep(key, stay, errand, jail), name=f"MCP server {definition.server}")
        return stay

    async def _keep(self, key: tuple[str, str], stay: _Stay, errand: Errand, jail: Jail) -> None:
        """A server's whole stay."""
        try:
            async with _living(stay, errand, jail, self._rules.greet_s) as session:
                stay.session.set_result(session)
                while not stay.over.is_set():
                    idle_s = self._rules.idle_s
                    left_s = idle_s if stay.calls else stay.used_at + idle_s - time.monotonic()
                    if left_s <= 0:
                        stay.end("nobody used it")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(left_s, 0.0)):
                            await stay.over.wait()
        except SwarmError as error:
            stay.end(error.message, error.code)
            if not stay.session.done():
                stay.session.set_exception(error)
                stay.session.exception()  # whoever waits for it is told; nobody may be
        except Exception:
            log.exception("the MCP server %s of %s: a bug of ours", key[1], key[0])
        finally:
            stay.end("it was stopped")
            if not stay.session.done():
                stay.session.cancel()
            if self._stays.get(key) is stay:
                del self._stays[key]
            log.info("the MCP server %s of %s ends: %s", key[1], key[0], stay.why)

    async def _spoken(self, stay: _Stay, means: Means, arguments: dict[str, Any], within_s: float) -> Ended:
        async def ask() -> Ended:
            session = await asyncio.shield(stay.session)
            return await session.call(means.tool, means.digest, arguments)

        over = asyncio.create_task(stay.over.wait())
        asking = asyncio.create_task(ask())
        try:
            done, _ = await asyncio.wait({asking, over}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:  # whether it still works at it cannot be known
                stay.end(f"a call took longer than {within_s:g} s", "timeout")
                if stay.keeping is not None and not stay.session.done():
                    stay.keeping.cancel()  # while it is greeted, nobody looks whether it is over
                return Ended(f"[stopped: it took longer than {within_s:g} s]", False, "timeout")
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                return asking.result()
            failure = stay.failure()
            if isinstance(failure, SetupError | StorageError):
                raise failure
            if failure is None and not stay.over.is_set() and isinstance(error := asking.exception(), SwarmError):
                return Ended(f"error: {error.message}", False, error.code)
            return Ended(f"[stopped: {stay.why}]", False, stay.code)
        finally:
            over.cancel()
            self._leave(asking)

    def _leave(self, task: "asyncio.Task[Any]") -> None:
        """Cancel, without waiting: the package may still tell the server that nobody waits any more."""
        task.cancel()
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        task.add_done_callback(lambda one: one.cancelled() or one.exception())  # has been told, or nobody waits

    async def _reach(self, means: Means, arguments: dict[str, Any], within_s: float) -> Ended:
        """One call over HTTP, with a session for it alone."""
        try:
            async with asyncio.timeout(within_s):
                return await self._reached(
                    means.definition, within_s, lambda session: session.call(means.tool, means.digest, arguments)
                )
        except TimeoutError:
            return Ended(f"[stopped: it took longer than {within_s:g} s]", False, "timeout")
        except SwarmError as error:
            return Ended(f"error: {error.message}", False, error.code)

    async def _reached(
        self, definition: Definition, within_s: float, act: "Callable[[Session], Awaitable[Got]]"
    ) -> "Got":
        from mycoswarm.servers.carrier import MAX_ANSWER_BYTES, calling  # noqa: PLC0415  # see there
        from mycoswarm.servers.dialogue import Ending  # noqa: PLC0415  # as above

        limits = Limits(head_s=within_s, silence_s=within_s, whole_s=within_s, answer_bytes=MAX_ANSWER_BYTES)
        ending = Ending()
        try:
            async with calling(definition, replace(self._passage, limits=limits), ending) as session:
                return await act(session)
        except SwarmError as error:
            raise ending.error or error from error


@contextlib.asynccontextmanager
async def _living(stay: _Stay, errand: Errand, jail: Jail, greet_s: float) -> AsyncIterator["Session"]:
    """A session with a server that lives in the sandbox. What ends it is told to `stay`.

    Raises:
        SwarmError: it could not be started, or is no MCP server; the hint has its last words, for the owner.
    """
    from mycoswarm.servers.dialogue import Ending  # noqa: PLC0415  # as above
    from mycoswarm.servers.pipe import speaking  # noqa: PLC0415  # see there

    ending, definition = Ending(), stay.definition
    async with jail.hold(errand, Program(definition.command, definition.secrets)) as tenant:

        async def follow() -> None:
            await ending.told.wait()
            assert ending.error is not None  # it is told with one
            if tenant.why:
                stay.end(tenant.why, "too_much")
            stay.end(ending.error.message, ending.error.code)

        following = asyncio.create_task(follow())
        try:
            async with speaking(definition.server, tenant, ending, greet_s=greet_s) as session:
                yield session
        except SwarmError as error:
            error.hint = f"Its last words: {definition.masked(tenant.why or await tenant.complaint())}"
            raise
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _load() -> None:
    """Import the package, in a thread: it takes as long as a short answer."""
    import mycoswarm.servers.carrier  # noqa: PLC0415  # as the line says
    import mycoswarm.servers.pipe  # noqa: F401, PLC0415


def _arguments(errand: Errand) -> dict[str, Any]:
    """They were read strictly by the coordinator; here they are only JSON.

    Raises:
        InputError: they are not.
    """
    try:
        given = json.loads(errand.arguments.strip() or "{}")
    except (ValueError, RecursionError) as exc:
        raise InputError("the arguments are no JSON", code="bad_arguments") from exc
    if not isinstance(given, dict):
        raise InputError("the arguments must be a JSON object", code="bad_arguments")
    return given
