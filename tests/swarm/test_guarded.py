"""Dialling under the egress guard: a refused address is one failed attempt, and an opening ends with the dial."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "fenced"])
def test_a_refused_address_is_one_failed_attempt_with_its_reason(loop: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("guarded.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), loop, str(tmp_path / "node")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr  # a socket that leaks would be on stderr
    told = json.loads(done.stdout)
    for key in ("opened", "name opened", "one of two", "visit opened"):
        assert told.pop(key) == ["connected"], key
    kind, code, why = told.pop("unreachable")
    assert (kind, code) == ("UnreachableError", "unreachable") and "Connection refused" in why
    kind, code, why = told.pop("visit refused")
    assert kind == "UnreachableError" and "this process may not connect to 127.0.0.1:" in why
    for kind, code, why in told.values():
        assert (kind, code) == ("EgressError", "egress_refused"), why
    assert "127.0.0.2:9: this process may not connect to 127.0.0.2:9" in told["refused"][2]
    assert "stranger.test:9: this process may not look up stranger.test" in told["name refused"][2]
    assert "localhost:" in told["name refused"][2] and "may not connect to 127.0.0.1:" in told["name refused"][2]
