"""Measures a binary: warm starts, time to readiness, and a coordinator's memory with idle streams open.

    python3 build/pack/measure.py BINARY

Each figure is printed beside what is wanted. Memory is as /proc/PID/status says: VmRSS now, VmHWM
at its highest, which is what /usr/bin/time -v calls its maximum.
"""

import contextlib
import http.client
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

STREAMS = 50
STARTS = 10


class _Owner(http.client.HTTPConnection):
    """The daemon's own socket, as the command line uses it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def main() -> int:
    """All figures."""
    binary = Path(sys.argv[1]).resolve()
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"machine: {platform.machine()}, {len(os.sched_getaffinity(0))} cores, load {load}")
    print(f"size: {binary.stat().st_size / (1 << 20):.1f} MiB; for download {_download(binary)} (wanted: 45 MB)")
    with tempfile.TemporaryDirectory(prefix="mycoswarm-measure-") as name:
        environment = {"HOME": name}
        cold_s = _timed([str(binary), "version"], environment)
        warm = sorted(_timed([str(binary), "version"], environment) for _ in range(STARTS))
        print(f"version: first {cold_s:.2f} s; warm {_spread(warm)} s (wanted: 0.5)")
        inner = next(Path(name, ".cache", "mycoswarm", "node").glob("*/*.bin"))
        direct = sorted(_timed([str(inner), "version"], environment) for _ in range(STARTS))
        print(f"version, inner program alone: {_spread(direct)} s")
        ready = sorted(_ready(binary, Path(name) / f"data-{number}", environment) for number in range(5))
        print(f"daemon ready on a fresh folder: {_spread(ready)} s (wanted: 1.5)")
        again = sorted(_ready(binary, Path(name) / "data-0", environment) for _ in range(5))
        print(f"daemon ready on a known folder: {_spread(again)} s (wanted: 1.5)")
        _memory(binary, Path(name) / "data-0", environment)
    return 0


def _memory(binary: Path, data: Path, environment: dict[str, str]) -> None:
    process, _ = _start(binary, data, environment)
    try:
        _ask(data, "POST", "/api/init", {"name": "measured"})
        time.sleep(3)
        address = str(_ask(data, "GET", "/api/node")["console"])
        key = str(_ask(data, "POST", "/api/keys", {"name": "m", "is_owner": True})["key"])
        headers = {"Authorization": f"Bearer {key}"}
        _show("coordinator, after it was founded", process.pid)
        streams = []
        for _ in range(STREAMS):
            stream = http.client.HTTPConnection(address, timeout=30)
            stream.request("GET", "/api/events", headers=headers)
            answer = stream.getresponse()
            if answer.status != 200:
                raise SystemExit(f"a stream was refused: {answer.status} {answer.read()[:200]!r}")
            answer.readline()
            streams.append((stream, answer))
        for path in ("/", "/web/app.js", "/api/nodes", "/api/rules", "/v1/models"):
            page = http.client.HTTPConnection(address, timeout=30)
            page.request("GET", path, headers=headers)
            if page.getresponse().status != 200:
                raise SystemExit(f"{path} is not served")
        ledger = _ask(data, "GET", "/api/ledger")
        time.sleep(5)
        _show(
            f"coordinator serving console, ledger ({len(json.dumps(ledger))} bytes) and {len(streams)} idle streams",
            process.pid,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def _show(what: str, daemon: int) -> None:
    pids = [daemon, *_children(daemon)]
    print(f"{what} (wanted: 120 MB):")
    for name, pid in zip(("the daemon", *["child"] * len(pids)), pids, strict=False):
        resident, most, own = (_field(pid, "status", field) * 1024 / 1e6 for field in ("VmRSS:", "VmHWM:", "RssAnon:"))
        print(
            f"  {name}: {resident:.0f} MB resident ({most:.0f} at its highest), {own:.0f} of it its own; "
            "the rest are pages of files, which the kernel may drop"
        )


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(text), *_children(int(text))]
    return found


def _field(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text("ascii", "replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def _timed(words: Sequence[str], environment: dict[str, str]) -> float:
    begun = time.monotonic()
    subprocess.run(words, env=environment, check=True, capture_output=True, timeout=120)
    return time.monotonic() - begun


def _start(binary: Path, data: Path, environment: dict[str, str]) -> tuple["subprocess.Popen[bytes]", float]:
    flags = ("--console", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--interface", "127.0.0.1")
    begun = time.monotonic()
    process = subprocess.Popen(
        [str(binary), "--data", str(data), "run", *flags],
        env=environment,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stderr is not None  # it is a pipe
    for line in process.stderr:
        if re.search(rb"ready: ", line):
            return process, time.monotonic() - begun
    raise SystemExit("the daemon did not get ready")


def _ready(binary: Path, data: Path, environment: dict[str, str]) -> float:
    process, took_s = _start(binary, data, environment)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return took_s


def _ask(data: Path, method: str, path: str, body: object = None) -> dict[str, object]:
    connection = _Owner(data / "owner.sock")
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    raw = answer.read()
    if answer.status >= 400:
        raise SystemExit(f"{path}: {answer.status} {raw[:300]!r}")
    found: dict[str, object] = json.loads(raw)
    return found


def _spread(times: Sequence[float]) -> str:
    return f"{times[0]:.2f} (best), {statistics.median(times):.2f} (median), {times[-1]:.2f} (worst)"


def _download(binary: Path) -> str:
    packed = binary.with_name(f"{binary.name}.xz")
    return f"{packed.stat().st_size / 1e6:.1f} MB" if packed.exists() else "not made"


if __name__ == "__main__":
    sys.exit(main())
