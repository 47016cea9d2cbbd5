"""The dashboard's code that needs no browser, under node's own test runner: tests/web/*.test.mjs."""

import json
import math
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from house.tree import ROOT

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def figures() -> list[tuple[float, int, str]]:
    """Numbers with as many decimals as asked, as Python writes them: any, short ones, and those just between two."""
    source = random.Random(5)
    found = []
    for _ in range(4000):
        digits = source.choice((0, 1))
        any_size = source.uniform(0, 1) * 10 ** source.randint(-3, 6)
        value = source.choice((any_size, round(any_size, 2), math.floor(any_size * 8) / 8))
        found.append((value, digits, f"{value:.{digits}f}"))
    return found


def test_the_dashboards_code_passes_its_tests_in_node(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: apt install nodejs")
    # A copy, where node can be told that these are modules: older ones look for that in package.json alone.
    shutil.copytree(ROOT / "web", tmp_path / "web")
    (tmp_path / "tests" / "base").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "base" / "units.json", tmp_path / "tests" / "base")
    (tmp_path / "tests" / "web").mkdir()
    files = [Path(shutil.copy(path, tmp_path / "tests" / "web")) for path in sorted(HERE.glob("*.mjs"))]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "figures.json").write_text(json.dumps(figures()))
    done = subprocess.run(
        [node, "--test", *(str(file) for file in files if file.name.endswith(".test.mjs"))],
        cwd=tmp_path,
        env={**os.environ, "FIGURES": str(tmp_path / "figures.json")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout
