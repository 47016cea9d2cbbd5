"""What a new user does first: `mycoswarm-node demo`. It shows the job and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

DEMO = [sys.executable, "-P", "-m", "mycoswarm.cli.entry", "demo"]
MARK = "mycoswarm.cli.entry"


def strays(before: set[int]) -> list[str]:
    """Processes of ours that were not there before, after a moment to end."""
    deadline = time.monotonic() + 8
    while True:
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if "mycoswarm" in words and process.info["pid"] not in before and "pytest" not in words:
                found.append(words)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_the_demo_shows_the_main_job() -> None:
    before = set(psutil.pids())
    done = subprocess.run([*DEMO, "--nodes", "3", "--max-tokens", "24"], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout + done.stderr
    for part in ("found each other", "Left alone it would run on", "worker-3", "tokens/s", "µs per hop", "bit for bit"):
        assert part in told, told
    assert not strays(before)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    before = set(psutil.pids())
    child = subprocess.Popen(
        [*DEMO, "--max-tokens", "4000", "--prompt", "Count from 1 to 90."],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "joined" in line:
            break
    child.send_signal(how)
    child.stderr.close()
    child.wait(timeout=20)
    assert not strays(before)


def test_a_file_that_is_no_model_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    done = subprocess.run([*DEMO, "--model", str(path)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 1 and "error:" in done.stderr and "Traceback" not in done.stderr
