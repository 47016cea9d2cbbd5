"""The stage process itself, over its pipes, as its daemon never behaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from models import write_random_model
from mycoswarm.stage.process import FAILED
from mycoswarm.wire.line import decode_report, encode_line
from mycoswarm.wire.order import Admit, AnyOrder, Configure, Generate, Join, Ping
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Admitted, AnyReport, Barred, Failed, Finished, Joined, Pong, Progress, Ready
from nodes import generation, stage_launch

pytestmark = pytest.mark.slow


class Pipes:
    """A stage process and its two pipes. Reading has no limit of its own: the whole test run has one."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def tell(self, *orders: AnyOrder) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(encode_line, orders)))
        self.process.stdin.flush()

    def hear(self) -> AnyReport:
        """The next report that is no mere progress."""
        assert self.process.stdout is not None
        while isinstance(report := decode_report(self.process.stdout.readline()), Progress):
            pass
        return report


@contextmanager
def stage(folder: Path, *, prelude: str = "") -> Iterator[Pipes]:
    launch = stage_launch(folder)
    argv = launch.argv
    if prelude:
        argv = (sys.executable, "-c", f"{prelude}\nfrom mycoswarm.stage.process import main\nmain()")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, env=launch.environment) as process:
        try:
            pipes = Pipes(process)
            assert pipes.hear() == Pong()  # it is up
            yield pipes
        finally:
            process.kill()


def configure(model: Path, *, n_layer: int = 2) -> Configure:
    plan = RingPlan(
        ring_id="ring",
        model_digest="d",
        n_layer=n_layer,
        holder_id="here",
        stages=(StagePlan(node_id="here", first=0, last=n_layer),),
        conditions=Conditions(n_ctx=256),
    )
    return Configure(
        plan=plan, index=0, shard_paths=(str(model),), table_path=None, addresses=("127.0.0.1",), gpu=False
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "model.gguf", n_layer=2)


def test_orders_are_answered_and_closing_stdin_ends_it_with_zero(model: Path, tmp_path: Path) -> None:
    with stage(tmp_path) as pipes:
        pipes.tell(configure(model))
        ready = pipes.hear()
        assert isinstance(ready, Ready) and len(ready.layer_devices) == 2
        pipes.tell(Join(previous=None, following=None), Ping())
        assert {type(pipes.hear()) for _ in range(2)} == {Joined, Pong}
        pipes.tell(Admit(request_id="r"))
        assert pipes.hear() == Admitted(request_id="r")
        pipes.tell(Generate(generation=generation("r", max_tokens=3)))
        while not isinstance(report := pipes.hear(), Finished):
            pass
        assert report.completion_tokens == 3
        assert pipes.process.stdin is not None
        pipes.process.stdin.close()
        assert pipes.process.wait(5) == 0


def test_closing_stdin_ends_it_while_it_computes(model: Path, tmp_path: Path) -> None:
    """A decode that never returns stands for a long step of llama.cpp: it lets go of Python's lock as that does."""
    endless = (
        "import time, mycoswarm.stage.engine as e\n"
        "e.Engine.decode = lambda self, batch: print('computing', file=__import__('sys').stderr, flush=True)"
        " or time.sleep(600)"
    )
    with stage(tmp_path, prelude=endless) as pipes:
        pipes.tell(configure(model), Join(previous=None, following=None))
        assert isinstance(pipes.hear(), Ready) and isinstance(pipes.hear(), Joined)
        pipes.tell(Admit(request_id="r"), Generate(generation=generation("r")))
        assert pipes.process.stderr is not None and pipes.process.stdin is not None
        while b"computing" not in pipes.process.stderr.readline():
            pass
        pipes.process.stdin.close()
        assert pipes.process.wait(5) == 0


def test_what_a_library_prints_does_not_reach_the_reports(model: Path, tmp_path: Path) -> None:
    noisy = (
        "import os, mycoswarm.stage.engine as e\n"
        "real = e.Engine.open\n"
        "def open(*a, **k):\n    print('hello', flush=True)\n    os.write(1, b'from C\\n')\n    return real(*a, **k)\n"
        "e.Engine.open = open"
    )
    with stage(tmp_path, prelude=noisy) as pipes:
        pipes.tell(configure(model))
        assert isinstance(pipes.hear(), Ready)
        assert pipes.process.stderr is not None
        pipes.process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
        said = pipes.process.stderr.read()
        assert b"hello" in said and b"from C" in said


@pytest.mark.parametrize(
    "line", [b"nonsense\n", json.dumps({"order": "join", "previous": None, "following": None}).encode() + b"\n"]
)
def test_an_order_that_has_no_place_ends_it_with_a_report(tmp_path: Path, line: bytes) -> None:
    with stage(tmp_path) as pipes:
        assert pipes.process.stdin is not None
        pipes.process.stdin.write(line)
        pipes.process.stdin.flush()
        report = pipes.hear()
        assert isinstance(report, Failed) and report.code == "protocol_error" and report.request_id is None
        assert pipes.process.wait(5) == FAILED


def test_a_file_that_is_no_model_is_reported_as_that(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with stage(tmp_path) as pipes:
        pipes.tell(configure(tmp_path / "model.gguf"))
        report = pipes.hear()
        assert isinstance(report, Failed) and report.code == "bad_model_file" and report.lost_node_id == "here"
        assert pipes.process.wait(5) == FAILED


def test_a_request_without_a_ticket_computes_nothing(model: Path, tmp_path: Path) -> None:
    with stage(tmp_path) as pipes:
        pipes.tell(configure(model), Join(previous=None, following=None))
        assert isinstance(pipes.hear(), Ready) and isinstance(pipes.hear(), Joined)
        pipes.tell(Generate(generation=generation("stranger")))
        report = pipes.hear()
        assert isinstance(report, Failed) and (report.code, report.request_id) == ("bad_ticket", "stranger")
        pipes.tell(Ping())
        assert pipes.hear() == Pong()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed; its stdin stays open elsewhere, so only the kernel can tell."""
    launch = stage_launch(tmp_path)
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen({list(launch.argv)!r}, stdin=0, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    kept_open, stdin = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", parent], stdin=kept_open, stdout=subprocess.PIPE, env=launch.environment
        ) as process:
            assert process.stdout is not None
            child = psutil.Process(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            process.wait(5)
            child.wait(5)
    finally:
        os.close(kept_open)
        os.close(stdin)


def test_ctrl_c_in_the_terminal_is_left_to_the_daemon(model: Path, tmp_path: Path) -> None:
    with stage(tmp_path) as pipes:
        pipes.process.send_signal(signal.SIGINT)
        pipes.tell(Ping())
        assert pipes.hear() == Pong()


def test_what_its_guard_refuses_is_reported_before_its_end(tmp_path: Path) -> None:
    """The kernel itself sends nothing to a link-local address without a scope."""
    prelude = (
        "import asyncio, socket\n"
        "from mycoswarm.stage import lifetime, fence\n"
        "async def configured(self):\n"
        "    loop = asyncio.get_running_loop()\n"
        "    assert type(loop) is fence.FencedLoop\n"
        "    for way in (asyncio.to_thread(socket.create_connection, ('fe80::1', 9)),\n"
        "                loop.create_connection(asyncio.Protocol, 'fe80::1', 9),\n"
        "                loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=('fe80::1', 9))):\n"
        "        try:\n"
        "            await way\n"
        "        except OSError:\n"
        "            pass\n"
        "    socket.create_connection(('fe80::1', 10))\n"
        "lifetime.Stage._configured = configured\n"
    )
    with stage(tmp_path, prelude=prelude) as pipes:
        assert pipes.hear() == Barred(kind="connect", where="[fe80::1]:9", count=2)
        assert pipes.hear() == Barred(kind="send", where="('fe80::1', 9)", count=1)
        assert pipes.hear() == Barred(kind="connect", where="[fe80::1]:10", count=1)
        report = pipes.hear()
        assert isinstance(report, Failed) and report.code == "egress_refused" and report.status == 403
        assert pipes.process.wait(5) == FAILED
