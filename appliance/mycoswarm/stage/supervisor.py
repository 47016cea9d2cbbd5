"""One stage as its daemon sees it: a child process that is told orders and says reports, and that may die at any time.

Whatever the child does, the daemon gets a `StageError` with llama.cpp's own last words, and no process stays behind.
The child starts without a shell, in a given folder, with only those environment variables that a stage needs: no API
key of the daemon's environment reaches the process that parses model files.
"""

import asyncio
import contextlib
import logging
import re
import signal
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mycoswarm.base.errors import ProtocolError, StageError, SwarmError
from mycoswarm.hardware.plugin import FOLDER_NAME
from mycoswarm.wire.line import LineSplitter, decode_report, encode_line
from mycoswarm.wire.order import AnyOrder, Ping
from mycoswarm.wire.report import AnyReport, Failed, Pong, Ready

START_S = 60.0  # Python, numpy and llama.cpp's libraries from a cold SD card; until the first sign of life
BEAT_S = 0.5
SILENT_S = 2.0  # DESIGN 7, once the stage is ready
LOADING_SILENT_S = 30.0  # loading a GPU's libraries can hold Python's lock for seconds
LOAD_S = 60.0  # for any model, and more by its bytes:
LOAD_BYTES_PER_S = 10e6  # a quarter of what an SD card reads
CLOSE_S = 2.0  # from closed stdin to SIGTERM, and from there to SIGKILL
KEPT_LINES = 40
SHOWN_LINES = 8
MAX_LINE = 500
MAX_REPORTS = 256  # waiting to be taken; then the child waits

_SYSTEM = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH"})
_PYTHON = frozenset({"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"})
_OWN = frozenset({FOLDER_NAME})
_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "HIP_", "ROCR_", "HSA_", "VK_", "MESA_")
_GRAVE = re.compile(
    r"error|fail|assert|abort|fatal|unable|cannot|exception|invalid|out of memory|killed", re.IGNORECASE
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a stage is started: the first words of its command line, its folder and its environment."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str]


def stage_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that a stage gets."""
    return {
        name: value
        for name, value in environment.items()
        if name in _SYSTEM | _PYTHON | _OWN or name.startswith(_PREFIXES)
    }


def load_limit_s(total_bytes: int) -> float:
    """How long a stage may take to load so many bytes."""
    return LOAD_S + total_bytes / LOAD_BYTES_PER_S


def telling_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines of a log that tell why a process died: those with grave words, else simply the last ones."""
    grave = [line for line in lines if _GRAVE.search(line)]
    return tuple((grave or [line for line in lines if line.strip()])[-SHOWN_LINES:])


class StageProcess:
    """A running stage. An async context manager: entering starts the process, leaving ends it, always."""

    def __init__(self, launch: Launch, *, node_id: str) -> None:
        self._launch, self._node_id = launch, node_id
        self._process: asyncio.subprocess.Process | None = None
        self._reports: asyncio.Queue[AnyReport | StageError] = asyncio.Queue(MAX_REPORTS)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = 0.0
        self._silent_s = START_S
        self._is_held_up = False
        self._error: StageError | None = None
        self._telling = asyncio.Lock()
        self._is_closing = False

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._launch.argv,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                cwd=self._launch.cwd,
                env=dict(self._launch.environment),
            )
        except OSError as exc:
            raise StageError(f"a stage cannot be started: {exc.strerror}") from exc
        self._heard = asyncio.get_running_loop().time()
        log = self._start(self._read_log())
        self._start(self._read_reports(log))
        self._start(self._beat())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_closing = True
        await _finish(asyncio.get_running_loop().create_task(self._end()))

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def last_words(self) -> tuple[str, ...]:
        """What the stage last said about trouble."""
        return telling_lines(self._lines)

    async def tell(self, order: AnyOrder) -> None:
        """Hand an order to the stage.

        Raises:
            StageError: the stage has ended, or takes nothing.
        """
        assert self._process is not None and self._process.stdin is not None
        line = encode_line(order)
        async with self._telling:
            try:
                async with asyncio.timeout(LOADING_SILENT_S):
                    self._process.stdin.write(line)
                    await self._process.stdin.drain()
            except (OSError, TimeoutError) as exc:
                raise self._error or self._failure("a stage takes no orders") from exc

    async def hear(self) -> AnyReport:
        """Wait for the next report. Signs of life are kept out.

        Raises:
            StageError: the stage ended, went silent or spoke nonsense; once and for all.
        """
        if self._error is not None and self._reports.empty():
            raise self._error
        report = await self._reports.get()
        if isinstance(report, StageError):
            raise report
        return report

    async def _read_reports(self, log: asyncio.Task[None]) -> None:
        """Read stdout to its end, which is the process's end."""
        assert self._process is not None and self._process.stdout is not None
        splitter = LineSplitter()
        try:
            while data := await self._process.stdout.read(1 << 16):
                self._heard = asyncio.get_running_loop().time()
                for line in splitter.feed(data):
                    await self._take(decode_report(line))
        except ProtocolError as exc:
            await self._fail(self._failure(f"a stage spoke nonsense: {exc.message}"))
            return
        await asyncio.wait((log,), timeout=CLOSE_S)  # its last words may still be in the pipe
        code = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                code = await self._process.wait()
        await self._fail(self._failure(f"a stage ended: {_exit_text(code)}"))

    async def _take(self, report: AnyReport) -> None:
        if self._silent_s == START_S:
            self._silent_s = LOADING_SILENT_S
        if isinstance(report, Pong):
            return
        if isinstance(report, Ready):
            self._silent_s = SILENT_S
        if isinstance(report, Failed) and report.request_id is None:
            self._is_closing = True  # its own end follows, and needs no second error
        self._is_held_up = True
        await self._reports.put(report)
        self._is_held_up = False

    async def _read_log(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        rest = b""
        while data := await self._process.stderr.read(1 << 14):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-MAX_LINE:]
            for line in lines:
                self._keep(line)
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()[:MAX_LINE]
        if text:
            self._lines.append(text)
            _log.debug("stage %d: %s", self.pid, text)

    async def _beat(self) -> None:
        """Say that we are here, and see that the stage is."""
        loop = asyncio.get_running_loop()
        while self._error is None:
            before = loop.time()
            with contextlib.suppress(SwarmError):  # the end of the process is seen at its stdout
                if not self._telling.locked():
                    await self.tell(Ping())
            await asyncio.sleep(BEAT_S)
            now = loop.time()
            if self._is_held_up or now - before > SILENT_S:  # it is us who did not listen
                self._heard = now
            if now - self._heard > self._silent_s:
                await self._fail(self._failure(f"a stage has been silent for {self._silent_s:.0f} s"))

    async def _fail(self, error: StageError) -> None:
        if self._error is None:
            self._error = error
            if not self._is_closing:
                _log.warning("%s; last words: %s", error.message, " | ".join(error.last_words))
            await self._reports.put(error)

    def _failure(self, message: str) -> StageError:
        error = StageError(f"{message} (node {self._node_id})", last_words=self.last_words)
        error.lost_node_id = self._node_id
        return error

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def _end(self) -> None:
        """Close stdin, which ends a stage at once; then ask; then force. One that has failed is not asked."""
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        if self._error is not None and process.returncode is None:
            process.kill()
        for sign in (signal.SIGTERM, signal.SIGKILL, None):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await process.wait()
                break
            if sign is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(sign)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _close_pipes(process)


async def _finish(task: "asyncio.Task[None]") -> None:
    """Wait for a task to its end, even where the waiter is cancelled meanwhile; the cancellation is passed on then."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    task.result()


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    """Close what is left of the pipes now, not when the garbage is collected."""
    transport = getattr(process, "_transport", None)  # asyncio offers no public way
    if transport is not None:
        transport.close()


def _exit_text(code: int | None) -> str:
    if code is None:
        return "its output closed, but the process stays"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
