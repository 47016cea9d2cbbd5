"""Tries a binary out in an empty folder, as an unprivileged user, with an empty environment and no Python on PATH.

Needs Python here, for itself alone, and root to become somebody else; without root it runs as whoever asked. Every line
is one look; the first that is wrong ends it with status 1. With `--emulated` it has more patience, and says what it
cannot try. A folder that holds the inner program is tried as it is: it has no cache to look at.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

USER_ID = 61987  # nobody's
LIMIT_S = 180.0
SLOW_S = 10.0  # a warm start on a machine with much else to do; what is wanted is printed beside
PATIENCE = 15  # Python takes 12 to 14 times as long under qemu
# Found by any program that looks for modules or libraries where it is or where it was called.
PLANTED = ("click.py", "sitecustomize.py", "mycoswarm.py", "segno.py", "libggml-cpu-haswell.so", "libggml-vulkan.so")


class Wrong(Exception):
    """What was looked at is not as it must be."""


@dataclass(slots=True)
class Trial:
    """One stranger's folder. `program` is the binary in it; waits are `patience` times as long as on a real machine."""

    folder: Path
    program: Path
    user_id: int | None
    patience: int
    begun: list[int] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The stranger's home."""
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        """Where the binary unpacks itself."""
        return self.home / ".cache" / "mycoswarm" / "node"

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, where: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start the binary; all that it has is a home."""
        own = {} if self.user_id is None else {"user": self.user_id, "group": self.user_id, "extra_groups": []}
        process = subprocess.Popen(
            [str(self.program), *words],
            env={"HOME": str(self.home)} if environment is None else dict(environment),
            cwd=where or self.folder / "empty",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **own,
        )
        self.begun.append(process.pid)
        return process

    def call(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        where: Path | None = None,
        wanted: int | None = 0,
    ) -> tuple[str, str, float]:
        """Run it to its end; gives output, complaints and seconds."""
        begun = time.monotonic()
        process = self.start(*words, environment=environment, where=where)
        try:
            output, errors = process.communicate(timeout=LIMIT_S * self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Wrong(f"{words} did not end within {LIMIT_S * self.patience:.0f} s") from None
        took_s = time.monotonic() - begun
        said, complained = output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
        if wanted is not None and process.returncode != wanted:
            raise Wrong(f"{words} ended with {process.returncode}\n{said[-2000:]}\n{complained[-2000:]}")
        return said, complained, took_s


def main() -> int:
    """All looks in order."""
    binary, emulated = Path(sys.argv[1]).resolve(), "--emulated" in sys.argv[2:]
    of_both = [versions, bare, locales, detect, licences]
    of_file = [planted, tampered, closed_home]
    if emulated:
        told("emulated: no demo and no daemon (qemu cannot ask a network interface for its speed), no sandbox")
    else:
        of_both += [demo, daemon]
        of_file.insert(1, killed)
    with tempfile.TemporaryDirectory(prefix="mycoswarm-smoke-") as name:
        trial = _prepare(Path(name), binary, PATIENCE if emulated else 1)
        try:
            for look in of_both if binary.is_dir() else [*of_both, *of_file]:
                look(trial)
        except Wrong as error:
            print(f"smoke: WRONG: {error}", flush=True)
            return 1
        finally:
            for pid in _alive(trial):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    print("smoke: all is well", flush=True)
    return 0


def _prepare(folder: Path, binary: Path, patience: int) -> Trial:
    user_id = USER_ID if os.geteuid() == 0 else None
    folder.chmod(0o755)
    for name in ("home", "empty", "bin"):
        (folder / name).mkdir(mode=0o755)
        if user_id is not None:
            os.chown(folder / name, user_id, user_id)
    program = folder / "bin" / "mycoswarm-node"
    if binary.is_dir():
        shutil.copytree(binary, program.parent, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(binary, program)
    program.chmod(0o755)
    return Trial(folder, program, user_id, patience)


def told(line: str) -> None:
    """One look that was well."""
    print(f"smoke: {line}", flush=True)


def versions(trial: Trial) -> None:
    """It starts, and starts fast from the second time on."""
    said, _, cold_s = trial.call("version")
    if not re.match(r"mycoswarm-node \d+\.\d+\.\d+ \(llama-cpp-python \d", said):
        raise Wrong(f"version says {said!r}")
    times = sorted(trial.call("version")[2] for _ in range(5))
    told(
        f"version: {said.strip()}; first start {cold_s:.2f} s, later {times[0]:.2f} to {times[-1]:.2f} s (wanted: 0.5)"
    )
    if times[0] > SLOW_S * trial.patience:
        raise Wrong(f"a warm start takes {times[0]:.2f} s")


def bare(trial: Trial) -> None:
    """With nothing at all in its environment it works, or says what it lacks."""
    said, complained, _ = trial.call("version", environment={}, wanted=None)
    if not said.startswith("mycoswarm-node ") and not complained.strip():
        raise Wrong("with an empty environment it ends without a word")
    told(f"empty environment: {(said or complained).strip().splitlines()[-1][:150]}")


def locales(trial: Trial) -> None:
    """In any locale, also one that this system does not have."""
    for name in ("C", "POSIX", "xx_XX.UTF-8", "de_DE.ISO-8859-1"):
        trial.call("version", environment={"HOME": str(trial.home), "LC_ALL": name, "LANG": name})
    told("locales: C, POSIX and two that are not installed")


def planted(trial: Trial) -> None:
    """Nothing that lies where it is called from, or beside it, is run."""
    trap = trial.folder / "trap"
    trap.mkdir(mode=0o755)
    places = (trap, trial.program.parent)
    for place in places:
        for name in PLANTED:
            (place / name).write_text("import os\nos.write(2, b'PLANTED')\nos._exit(9)\n")
    for words in (("version",), ("detect",)):
        _, complained, _ = trial.call(*words, where=trap)
        if "PLANTED" in complained:
            raise Wrong(f"{words} ran a planted file")
    for place in places:
        for name in PLANTED:
            (place / name).unlink()
    told("planted modules and libraries in its own folder and the current one: not touched")


def detect(trial: Trial) -> None:
    """It knows the machine, through llama.cpp's own list."""
    said, _, took_s = trial.call("detect")
    if "could not be had" in said:
        raise Wrong(f"detect did not get llama.cpp's list:\n{said}")
    told(f"detect in {took_s:.2f} s: {' | '.join(line.strip() for line in said.splitlines()[:4])[:200]}")


def licences(trial: Trial) -> None:
    """The licences of others are inside."""
    said, _, _ = trial.call("licenses")
    text, _, _ = trial.call("licenses", "llama.cpp")
    if "numpy" not in said or "MIT License" not in text:
        raise Wrong("the licences are not inside")
    told(f"licenses: {len(said.splitlines())} lines")


def demo(trial: Trial) -> None:
    """The main job: two workers, one model, and split = whole."""
    said, complained, took_s = trial.call("demo")
    if "Split = whole" not in said or "bit for bit" not in said:
        raise Wrong(f"the demo does not show the main job:\n{said}\n{complained}")
    _wait_gone(trial, "the demo")
    speed = re.search(r"Speed: ([\d.]+ tokens/s)", said)
    told(f"demo in {took_s:.1f} s: split = whole, {speed[1] if speed else 'no speed'}; nothing left behind")


@contextlib.contextmanager
def _daemon(
    trial: Trial, environment: Mapping[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", str, float]]:
    folder = trial.home / "data"
    flags = ("--console", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--interface", "127.0.0.1", "--name", "smoke")
    begun = time.monotonic()
    process = trial.start("--data", str(folder), "run", *flags, environment=environment)
    assert process.stderr is not None  # it is a pipe
    seen: list[str] = []
    for raw in process.stderr:
        seen.append(raw.decode("utf-8", "replace"))
        if found := re.search(r"ready: clients connect to http://(\S+)/v1", seen[-1]):
            yield process, found[1], time.monotonic() - begun
            return
    raise Wrong(f"the daemon did not get ready:\n{''.join(seen[-20:])}")


def daemon(trial: Trial) -> None:
    """It serves the dashboard, answers, runs tools, and leaves nothing when it is told to stop."""
    with _daemon(trial) as (process, address, ready_s):
        page = _fetch(trial, f"http://{address}/")
        if b"<script" not in page or b"mycoSwarm" not in page:
            raise Wrong("the dashboard is not served")
        part = re.search(rb'(?:src|href)="/?(web/[^"]+\.js)"', page)
        script = _fetch(trial, f"http://{address}/{part[1].decode() if part else 'web/app.js'}")
        _fetch(trial, f"http://{address}/healthz")
        data = ("--data", str(trial.home / "data"))
        answer, _, _ = trial.call(*data, "ask", "What is mycoSwarm?")
        if "mycoSwarm" not in answer:
            raise Wrong(f"asked what mycoSwarm is, it says {answer!r}")
        sum_, _, _ = trial.call(*data, "tool", "run", "calculator", '{"expression": "6*7"}')
        if "42" not in sum_:
            raise Wrong(f"the calculator says {sum_!r}")
        trial.call(
            *data, "rules", "add", "tools here", "--task", "tool:*", "--place", "this-machine", "--position", "1"
        )
        _tools(trial, data, {"HOME": str(trial.home)})
        _embassy(trial, data, address)
        told(f"daemon ready in {ready_s:.2f} s (wanted: 1.5); dashboard of {len(page) + len(script)} bytes; it answers")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60 * trial.patience)
    _wait_gone(trial, "a daemon after SIGTERM")
    told(f"SIGTERM: status {process.returncode}, no process left")
    lonely = {"HOME": str(trial.home), "PATH": str(trial.folder / "empty")}  # no bubblewrap is found there
    with _daemon(trial, lonely) as (process, _, again_s):
        told(f"second start: ready in {again_s:.2f} s")
        _tools(trial, data, lonely)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60 * trial.patience)
    _wait_gone(trial, "a second daemon")


def _embassy(trial: Trial, data: tuple[str, ...], address: str) -> None:
    """MCP clients are answered: that part is loaded only when the first one comes."""
    key, _, _ = trial.call(*data, "keys", "create", "smoke")
    said = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "smoke", "version": "1"}}
    request = urllib.request.Request(
        f"http://{address}/mcp",
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": said}).encode(),
        headers={
            "Authorization": f"Bearer {key.strip()}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60 * trial.patience) as answer:
            told_ = answer.read()
    except urllib.error.HTTPError as exc:
        raise Wrong(f"/mcp answers {exc.code}: {exc.read()[:500]!r}") from exc
    if b'"serverInfo"' not in told_:
        raise Wrong(f"/mcp says {told_[:500]!r}")


def _tools(trial: Trial, data: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Tools run in the sandbox where this machine has one, programs with the system's Python."""
    said, _, _ = trial.call(*data, "doctor", environment=environment)
    level = re.match(r"Sandbox: (bubblewrap|landlock)", said)
    if level is None:
        told(f"sandbox: this machine has none for this user, so no tool was tried in one ({said.splitlines()[0]})")
        return
    files, _, _ = trial.call(*data, "tool", "run", "write_file", '{"path": "a.txt", "text": "hello"}')
    shell, _, _ = trial.call(*data, "tool", "run", "run_shell", '{"command": "ls /proc/* 2>/dev/null; echo $((6*7))"}')
    code, complained, _ = trial.call(*data, "tool", "run", "run_python", '{"code": "print(6*7)"}', wanted=None)
    if "42" not in shell or ("42" not in code and "no Python" not in code + complained):
        raise Wrong(f"tools in the sandbox say {files!r}, {shell!r}, {code!r}, {complained!r}")
    told(f"sandbox: files, a shell and {'a Python program' if '42' in code else 'no Python, said so,'} in {level[1]}")


def killed(trial: Trial) -> None:
    """It is one process, and killed it leaves nothing behind."""
    with _daemon(trial) as (process, _, _):
        ran = Path(f"/proc/{process.pid}/exe").readlink()
        if trial.patience == 1 and not ran.is_relative_to(trial.cache):  # an emulated program's file is qemu's
            raise Wrong("the program that unpacks is still there while the daemon runs")
        process.kill()
        process.wait(timeout=60 * trial.patience)
    _wait_gone(trial, "a daemon that was killed")
    told("SIGKILL: no process left")


def tampered(trial: Trial) -> None:
    """What was changed in the cache is put right before it runs."""
    unpacked = next(path for path in trial.cache.iterdir() if path.is_dir())
    targets = [next(unpacked.rglob(name)) for name in ("libllama.so", "_json*.so", "index.html")]
    before = [path.read_bytes() for path in targets]
    for path, data in zip(targets, before, strict=True):
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    targets[0].unlink()
    trial.call("version")
    if [path.read_bytes() for path in targets] != before:
        raise Wrong("a changed file in the cache was not put right")
    told("cache: two changed files and a missing one put right at the next start")


def closed_home(trial: Trial) -> None:
    """Where it may not write it says so, and names the place."""
    shut = trial.folder / "shut"
    shut.mkdir(mode=0o555)
    _, complained, _ = trial.call("version", environment={"HOME": str(shut)}, wanted=None)
    if os.geteuid() == 0 and str(shut) not in complained:
        raise Wrong(f"with a read-only home it says {complained!r}")
    told(f"read-only home: {complained.strip().splitlines()[-1][:160] if complained.strip() else 'works'}")
    cache = {"HOME": str(shut), "XDG_CACHE_HOME": str(trial.home / ".cache")}
    _, complained, _ = trial.call("run", environment=cache, wanted=None)
    if "Traceback" in complained or (os.geteuid() == 0 and str(shut) not in complained):
        raise Wrong(f"with a read-only home the daemon says {complained!r}")
    told(f"read-only home with a cache elsewhere: {complained.strip().splitlines()[0][:160]}")


def _fetch(trial: Trial, url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=20 * trial.patience) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.URLError as exc:
        raise Wrong(f"{url}: {exc}") from exc


def _alive(trial: Trial) -> list[int]:
    """Processes that run the trial's binary, or what was unpacked from it. An emulated one is qemu's, by its words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                pid = int(entry.name)
                ran = [str((entry / "exe").readlink()), *(_words(pid)[:2] if trial.patience > 1 else ())]
                if any(Path(each).is_relative_to(trial.folder) for each in ran):
                    found.append(pid)
    return found


def _words(pid: int) -> Sequence[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    return ()


def _wait_gone(trial: Trial, what: str) -> None:
    until = time.monotonic() + 15 * trial.patience
    while left := _alive(trial):
        if time.monotonic() > until:
            raise Wrong(f"{what} leaves processes: {[' '.join(_words(pid))[:200] for pid in left]}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
