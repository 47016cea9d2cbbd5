"""The folders of a build, and how its commands are run: each says how long it took, and where its log is."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "out"
CACHE = OUT / "cache"
LOGS = OUT / "logs"
VENV = CACHE / "venv"
PYTHON = VENV / "bin" / "python"
JOBS = os.environ.get("MYCOSWARM_JOBS", str(len(os.sched_getaffinity(0))))
LIMIT_S = 4 * 3600  # of one command: everything cold, on a small machine


class BuildError(Exception):
    """A step failed; the message says which, and where its log is."""


def run(
    what: str, command: Sequence[str | Path], *, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> float:
    """Run one command with its output in a log; gives its wall seconds."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{what.replace(' ', '-')}.log"
    begun, used = time.monotonic(), os.times()
    with log.open("wb") as sink:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    took_s, now = time.monotonic() - begun, os.times()
    cpu_s = now.children_user + now.children_system - used.children_user - used.children_system
    if done.returncode != 0:
        words = "\n".join(log.read_text("utf-8", "replace").splitlines()[-25:])
        raise BuildError(f"{what} failed; the whole log is {log}\n{words}")
    say(f"{what}: {took_s:.1f} s ({cpu_s:.1f} CPU s)")
    return took_s


def run_quietly(command: Sequence[str | Path]) -> None:
    """Run a short command that says nothing where it works."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise BuildError(f"{command[0]} failed: {done.stderr.strip()}")


def say(line: str) -> None:
    """One line to whoever builds."""
    print(line, flush=True)


def warn(line: str) -> None:
    """One line that must not be overlooked."""
    print(line, file=sys.stderr, flush=True)


def digest(paths: Sequence[Path], *words: str) -> str:
    """A SHA-256 over files, by their names below the root and their bytes, and over further words."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    for word in words:
        found.update(f"{word}\0".encode())
    return found.hexdigest()


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2].strip()
    raise BuildError(f"constraints.txt does not name {package}")


def mebibytes(path: Path) -> str:
    """A file's size, for people."""
    return f"{path.stat().st_size / (1 << 20):.1f} MiB"


def folder_mebibytes(folder: Path) -> str:
    """The size of all files in a folder, for people."""
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return f"{total / (1 << 20):.1f} MiB"
