"""A coordinator and workers as real daemons on 127.0.0.1, for the demo, the benchmarks and the tests.

Each daemon has its own data folder and ends when its stdin closes, so a killed starter leaves none behind.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mycoswarm.base.errors import SetupError, SwarmError
from mycoswarm.base.program import entry_words
from mycoswarm.cli.call import Call
from mycoswarm.cli.enrol import wait_for_role

ARGV = entry_words()
START_S = 60.0  # of a daemon, on a slow card
FIND_S = 20.0
READY_S = 60.0  # until every node has looked at its machine and shown its card
STOP_S = 8.0

Found = TypeVar("Found")


@dataclass(slots=True)
class Member:
    """One daemon. `log` is its stderr."""

    name: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    log: Path
    call: Call = field(init=False)

    def __post_init__(self) -> None:
        self.call = Call(self.folder)

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])


class Fleet:
    """`with Fleet(workers=2) as fleet`: daemons run while inside; `find` and `enrol` make them a swarm."""

    def __init__(self, *, workers: int, folder: Path | None = None, flags: Sequence[str] = ("--threads", "1")) -> None:
        self._workers, self._flags = workers, tuple(flags)
        self._given = folder
        self.folder = folder or Path()
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        if self._given is None:
            self.folder = Path(tempfile.mkdtemp(prefix="mycoswarm-"))
        try:
            for name in ("coordinator", *(f"worker-{number}" for number in range(1, self._workers + 1))):
                self.members.append(self._start(name))
            for member in self.members:
                self._wait(member, START_S, lambda member=member: member.call.is_alive(), "start")  # type: ignore[misc]  # the loop's own
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            if member.process.stdin:
                member.process.stdin.close()
        deadline = time.monotonic() + STOP_S
        for member in self.members:
            try:
                member.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait(timeout=STOP_S)
        if self._given is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def coordinator(self) -> Member:
        """The member that decides."""
        return self.members[0]

    @property
    def workers(self) -> list[Member]:
        """All others."""
        return self.members[1:]

    def restart(self, member: Member, *flags: str) -> Member:
        """Start a member again on its folder; what is left of its process ends first. `flags` hold for this start."""
        if member.process.stdin:
            member.process.stdin.close()
        member.process.kill()
        member.process.wait(timeout=STOP_S)
        fresh = self._start(member.name, *flags)
        self.members[self.members.index(member)] = fresh
        self._wait(fresh, START_S, fresh.call.is_alive, "start")
        return fresh

    def find(self) -> float:
        """Wait until every daemon has heard all others by multicast DNS; gives the seconds that took.

        They count from the last one's first announcement to the last entry of the last list, on the machine's one
        monotonic clock.

        Raises:
            SwarmError: they did not find each other in time.
        """
        # By id: another fleet on this machine has members of the same names.
        ids = {str(member.call.ask("GET", "/api/node")["node_id"]) for member in self.members}
        told = {}
        for member in self.members:
            told[member.name] = self._wait(member, FIND_S, lambda m=member: self._heard(m, ids), "hear the others")  # type: ignore[misc]  # the loop's own
        announced = max(one["announced_s"] for one in told.values())
        return max(0.0, max(one["complete_s"] for one in told.values()) - announced)

    def enrol(self) -> None:
        """Found a swarm on the coordinator and have every worker join with a token; returns when all can work.

        Raises:
            SwarmError: one of them did not.
        """
        first = self.coordinator
        first.call.ask("POST", "/api/init", {"name": first.name})
        wait_for_role(first.call, "coordinator")
        for worker in self.workers:
            token = first.call.ask("POST", "/api/token", {"lifetime_s": 300, "uses": 1})["token"]
            worker.call.ask("POST", "/api/join", {"token": token})
        for worker in self.workers:  # they take up their roles at the same time
            wait_for_role(worker.call, "worker")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the coordinator sees every node ready and measured.

        Raises:
            SwarmError: a node is not ready in time.
        """
        self._wait(self.coordinator, READY_S, self._all_ready, "see all nodes ready")

    def _all_ready(self) -> bool:
        nodes = self.coordinator.call.ask("GET", "/api/nodes")["nodes"]
        fit = [n for n in nodes if n["trouble"] is None and n["class"] and n["free_memory_bytes"] and n["models"]]
        return len(fit) == len(self.members)

    def _heard(self, member: Member, ids: set[str]) -> dict[str, float] | None:
        told = member.call.ask("GET", "/api/nodes")
        heard = [c["first_heard_s"] for c in told["candidates"] if c["node_id"] in ids]
        if len(heard) < len(ids) - 1 or told["announced_s"] is None:
            return None
        return {"announced_s": told["announced_s"], "complete_s": max(heard, default=0.0)}

    def _start(self, name: str, *flags: str) -> Member:
        folder = self.folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = folder / "daemon.log"
        own = ("run", "--name", name, "--console", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--interface", "127.0.0.1")
        # The daemons of a demo are this machine's alone, whatever the owner's own settings in the environment say.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
        with log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603  # our own program, no shell, a list of words
                [*ARGV, "--data", str(folder), *own, "--with-stdin", *self._flags, *flags],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the starter, which then stops them in order
            )
        return Member(name, folder, process, log)

    def _wait(self, member: Member, limit_s: float, look: Callable[[], Found | None], what: str) -> Found:
        """Ask until the answer is true.

        Raises:
            SwarmError: it never was, or the daemon ended.
        """
        deadline, problem = time.monotonic() + limit_s, ""
        while time.monotonic() < deadline:
            if member.process.poll() is not None:
                raise SetupError(f"the daemon {member.name} ended:\n{member.last_words()}")
            try:
                if found := look():
                    return found
            except SwarmError as error:
                problem = error.message
            time.sleep(0.02)
        raise SwarmError(f"{member.name} did not {what} within {limit_s:.0f} s. {problem}\n{member.last_words()}")

    def console(self) -> str:
        """The coordinator's console, "host:port"."""
        return str(self.coordinator.call.ask("GET", "/api/node")["console"])

    def key(self, name: str = "fleet") -> str:
        """Make an API key on the coordinator."""
        return str(self.coordinator.call.ask("POST", "/api/keys", {"name": name})["key"])

    def nodes(self) -> list[dict[str, Any]]:
        """The coordinator's view of its nodes."""
        told: list[dict[str, Any]] = self.coordinator.call.ask("GET", "/api/nodes")["nodes"]
        return told
