"""What a tool takes where nobody looks: memory of no process, children of threads, folders behind links, leftovers."""

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mycoswarm.sandbox.cage import caged
from mycoswarm.sandbox.ground import find_level
from mycoswarm.sandbox.jail import Errand, Jail, is_exhausted
from mycoswarm.sandbox.kin import descendants
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.sandbox.workshop import SCRATCH, Workshop, WorkshopServices
from mycoswarm.sandbox.workspace import Workspaces
from sandbox.conftest import Room

BARE = SandboxLevel("limits", None, False, (), (), "there is none")


@pytest.mark.parametrize(
    "call",
    [
        "libc.memfd_create(b'x', 0)",
        "libc.shmget(0, 1 << 20, 0o1600)",
        "libc.msgget(0, 0o1600)",
        "libc.semget(0, 1, 0o1600)",
        "libc.klogctl(3, ctypes.create_string_buffer(100), 100)",
    ],
)
def test_there_is_no_memory_that_belongs_to_no_process(room: Room, call: str) -> None:
    ended = room.python(f"import ctypes\nlibc = ctypes.CDLL(None)\nprint({call})")
    assert ended.text == "-1\n", ended


def test_children_of_every_thread_are_seen() -> None:
    code = "import subprocess, threading, time\n"
    code += "def begin():\n  print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)\n"
    code += "threading.Thread(target=begin).start()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert descendants(process.pid) == [child]
        finally:
            os.kill(child, 9)
            process.kill()


@pytest.mark.parametrize("named", ["real/data", "data", "root/data"])
def test_a_hidden_folder_is_hidden_wherever_links_lead_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    data = tmp_path / "real" / "data"
    data.mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    (tmp_path / "data").symlink_to(data)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "root"))  # a Python that is reached through a link
    level = SandboxLevel("bubblewrap", "/usr/bin/bwrap", False, (), ())
    words = caged(level, workspace=tmp_path, scratch=tmp_path, hidden=(tmp_path / named,), seccomp_fd=None)
    shown = {path for word, path in itertools.pairwise(words) if word == "--ro-bind"}
    hidden = {path for word, path in itertools.pairwise(words) if word == "--tmpfs"}
    assert {str(tmp_path / "root"), str(tmp_path / "real")} <= shown
    assert hidden == {str(tmp_path / "root" / "data"), str(data)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tools become another user")
def test_without_a_sandbox_root_s_harmless_tools_work_though_the_data_folder_is_root_s_alone(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    workspace, user_id = Workspaces(tmp_path / "workspaces").open("run")
    jail = Jail(BARE, folder=tmp_path / "scratch")
    errand = Errand(
        tool="calculator", arguments='{"expression": "1+1"}', workspace=workspace, within_s=10, user_id=user_id
    )
    assert asyncio.run(jail.run(errand)).text == "2"


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/bin/echo", "/nowhere/bwrap"])
def test_what_is_no_sandbox_is_not_taken_for_one(program: str) -> None:
    level = asyncio.run(find_level(program))
    assert level.name != "bubblewrap" and "bubblewrap does not work" in level.why


@pytest.mark.parametrize(
    ("total_mib", "left_mib", "exhausted"),
    [(65_536, 255, True), (65_536, 256, False), (1024, 63, True), (1024, 64, False), (1024, None, False)],
)
def test_a_machine_is_exhausted_below_a_sixteenth_and_256_mib(
    total_mib: int, left_mib: int | None, exhausted: bool
) -> None:
    table = f"MemTotal:       {total_mib << 10} kB\nHugePages_Total:       0\n"
    table += "" if left_mib is None else f"MemAvailable:    {left_mib << 10} kB\n"
    assert is_exhausted(table) is exhausted
    assert not is_exhausted("")


def test_what_a_lost_daemon_left_in_scratch_goes_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / SCRATCH / "scratch-lost"
    left.mkdir(parents=True)
    (left / "program.py").write_text("secret")

    async def nothing(*given: object) -> None:
        return None

    services = WorkshopServices(
        node_id="n",
        swarm_id="s",
        folder=tmp_path,
        is_signed=lambda sealed: False,
        record=nothing,
        refuse=nothing,
        reach=nothing,
    )
    asyncio.run(Workshop(services, BARE).jail())
    assert not left.exists()
