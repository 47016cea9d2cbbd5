"""A lodge of this machine, at the level that this machine has."""

import asyncio
from pathlib import Path

import pytest

from hostels import Lodge
from mycoswarm.sandbox.ground import find_level
from mycoswarm.sandbox.level import SandboxLevel


@pytest.fixture(scope="session")
def level() -> SandboxLevel:
    found = asyncio.run(find_level())
    if not found.is_sandbox:
        pytest.skip(f"this machine has no sandbox: {found.why}")
    return found


@pytest.fixture
def lodge(level: SandboxLevel, tmp_path: Path) -> Lodge:
    return Lodge(level, tmp_path)
