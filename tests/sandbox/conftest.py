"""A jail of this machine, at the level that this machine has."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mycoswarm.sandbox.ground import find_level
from mycoswarm.sandbox.jail import Errand, Jail
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.runner import Ended
from mycoswarm.sandbox.workspace import Workspaces

Use = Callable[..., Ended]


@pytest.fixture(scope="session")
def level() -> SandboxLevel:
    found = asyncio.run(find_level())
    if not found.is_sandbox:
        pytest.skip(f"this machine has no sandbox: {found.why}")
    return found


class Room:
    """A jail with workspaces; `use` runs one call in one of them."""

    def __init__(self, level: SandboxLevel, folder: Path) -> None:
        scratch = folder / "scratch"
        scratch.mkdir()
        self.folder = folder
        self.jail = Jail(level, folder=scratch, hidden=(folder,))
        self.workspaces = Workspaces(folder / "workspaces")

    def errand(self, tool: str, workspace: str = "run", within_s: float = 30.0, **arguments: Any) -> Errand:
        path, user_id = self.workspaces.open(workspace)
        text = json.dumps(arguments)
        return Errand(tool=tool, arguments=text, workspace=path, within_s=within_s, user_id=user_id)

    def use(self, tool: str, workspace: str = "run", within_s: float = 30.0, **arguments: Any) -> Ended:
        return asyncio.run(self.jail.run(self.errand(tool, workspace, within_s, **arguments)))

    def shell(self, command: str, **more: Any) -> Ended:
        return self.use("run_shell", command=command, **more)

    def python(self, code: str, **more: Any) -> Ended:
        return self.use("run_python", code=code, **more)


@pytest.fixture
def room(level: SandboxLevel, tmp_path: Path) -> Room:
    assert os.access(tmp_path, os.W_OK)
    return Room(level, tmp_path)
