"""Jails of this machine, at each level that shuts a tool in and that this machine has."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mycoswarm.sandbox.filter import program
from mycoswarm.sandbox.ground import find_landlock, find_level
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.landlock import WITH_SCOPES, version
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.workspace import Workspaces
from sandbox.lodger import lodging, room_of_its_own, serve

Use = Callable[..., Ended]
Found = TypeVar("Found")
# A workspace is a user's, whose processes are counted: runs of these tests at once must not share one.
RUN = f"run-{os.getpid()}"
# "lodger": another user than root, though the tests run as root; "in place": without namespaces.
KINDS = ("bubblewrap", "landlock", "landlock, lodger", "landlock, lodger, in place")


@pytest.fixture(scope="session")
def lodger() -> Iterator[ProcessPoolExecutor]:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    with lodging() as pool:
        yield pool


def find(kind: str) -> SandboxLevel:
    """The level of this kind, or the bare one that says why not; to be called as the user whose level it is."""
    if kind == "bubblewrap":
        return asyncio.run(find_level())
    return asyncio.run(find_landlock("not asked for", in_place="in place" in kind))


class Room:
    """A jail with workspaces; `use` runs one call in one of them. `pool` is the process of the user whose it is, where
    that is not the user who tests."""

    def __init__(self, level: SandboxLevel, folder: Path, pool: ProcessPoolExecutor | None = None) -> None:
        self.folder, self.pool = folder, pool
        self.do(os.mkdir, folder / "scratch")
        self.jail = Jail(level, folder=folder / "scratch", hidden=(folder,))
        self.workspaces = Workspaces(folder / "workspaces")

    def do(self, work: Callable[..., Found], *given: Any) -> Found:
        """Do something as the user whose room it is."""
        return self.pool.submit(work, *given).result() if self.pool else work(*given)

    def place(self, workspace: str = RUN) -> tuple[Path, int | None]:
        """The folder of a workspace and whose it is."""
        return self.do(_open, self.folder, workspace)

    def seen(self, workspace: str = RUN) -> str:
        """That folder as tools see it."""
        return "/workspace" if self.jail.level.has_own_root else str(self.place(workspace)[0])

    def errand(
        self, tool: str, workspace: str = RUN, within_s: float = 30.0, unconfined: bool = False, **arguments: Any
    ) -> Errand:
        path, user_id = self.place(workspace)
        return Errand(
            tool=tool,
            arguments=json.dumps(arguments),
            workspace=path,
            within_s=within_s,
            user_id=user_id,
            unconfined=unconfined,
        )

    def use(self, tool: str, workspace: str = RUN, **more: Any) -> Ended:
        return self.do(serve, self.jail, [self.errand(tool, workspace, **more)])[0]

    def shell(self, command: str, **more: Any) -> Ended:
        return self.use("run_shell", command=command, **more)

    def python(self, code: str, **more: Any) -> Ended:
        return self.use("run_python", code=code, **more)


def _open(folder: Path, workspace: str) -> tuple[Path, int | None]:
    return Workspaces(folder / "workspaces").open(workspace)


@pytest.fixture(scope="session")
def levels() -> dict[str, SandboxLevel]:
    return {}


@pytest.fixture(params=KINDS)
def room(request: pytest.FixtureRequest, levels: dict[str, SandboxLevel], tmp_path: Path) -> Iterator[Room]:
    """A room at each level in turn."""
    kind = request.param
    pool = request.getfixturevalue("lodger") if "lodger" in kind else None
    if kind not in levels:
        levels[kind] = pool.submit(find, kind).result() if pool else find(kind)
    level = levels[kind]
    if level.name != kind.partition(",")[0] or level.in_place is not ("in place" in kind):
        told = f"this machine has not {kind}: {level.why}"
        may_lack = kind == "bubblewrap" or "the kernel refuses" in level.why
        assert may_lack or version() < WITH_SCOPES or program() is None, told  # else it is a fault of ours
        pytest.skip(told)
    with ExitStack() as stack:
        folder = stack.enter_context(room_of_its_own()) if pool else tmp_path
        yield Room(level, folder, pool)
