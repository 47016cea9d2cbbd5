"""The sandbox without bubblewrap: what it keeps from a tool, and when it is not taken for one."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil
import pytest

from daemons import until
from mycoswarm.base.errors import SetupError
from mycoswarm.base.program import module_words
from mycoswarm.sandbox.cage import locked
from mycoswarm.sandbox.ground import find_landlock
from mycoswarm.sandbox.landlock import version
from mycoswarm.sandbox.level import SandboxLevel
from sandbox.conftest import Room
from sandbox.lodger import USER, room_of_its_own
from sandbox.outside import DEPENDING, TRIES, outside, reached

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user"),
    pytest.mark.skipif(version() < 6, reason="this kernel's Landlock has no scopes"),
]

BARE = SandboxLevel("limits", None, False, (), (), "there is none")
IN_PLACE = SandboxLevel("landlock", None, False, (), (), known=min(version(), 7), in_place=True)


@pytest.fixture
def place(lodger: ProcessPoolExecutor) -> Iterator[Room]:
    """A room without namespaces."""
    with room_of_its_own() as folder:
        yield Room(IN_PLACE, folder, lodger)


def test_what_is_outside_can_be_reached_where_nothing_keeps_it(lodger: ProcessPoolExecutor) -> None:
    with room_of_its_own() as folder, outside() as table:
        assert set(TRIES) - reached(Room(BARE, folder, lodger), table, unconfined=True) <= DEPENDING


def test_nothing_outside_is_reached_from_a_sandbox(room: Room) -> None:
    with outside() as table:
        kept = Path(str(table["file"])).stat()
        # Where /tmp is the tool's own, it may write there.
        assert reached(room, table) == ({"write in /tmp"} if room.jail.level.has_own_root else set())
        assert Path(str(table["file"])).stat() == kept
        assert psutil.Process(int(table["process"])).nice() == os.nice(0)


def test_a_signal_to_all_ends_none_but_the_tool_s_own(place: Room) -> None:
    with outside() as table:
        assert place.python("import os; os.kill(-1, 9)").code == "ended"
        assert place.shell("kill -9 -1; kill -9 $PPID; sleep 5").code == "ended"
        assert psutil.Process(int(table["process"])).status() == psutil.STATUS_SLEEPING
    assert place.shell("echo still here").ok


def test_a_tool_reaches_itself_and_its_runner_and_not_who_shut_it_in(place: Room) -> None:
    code = "import os\nown, found = os.getpid(), set()\nfor pid in range(max(2, own - 3000), own + 50):\n"
    code += "  try:\n    os.kill(pid, 0)\n  except OSError: continue\n  found.add(pid)\n"
    code += "print(found == {own, os.getppid()})"
    assert place.python(code).text == "True\n"


def test_processes_that_multiply_and_leave_all_end_with_their_call(place: Room) -> None:
    others = {place.do(os.getpid)}
    breed = "import os\nwhile True:\n  try:\n    os.fork() or os.setsid()\n  except OSError: pass"
    assert not place.python(breed, seconds=1).ok
    until(lambda: _lodgers() == others, 5, "all end")


def _lodgers() -> set[int]:
    return {one.pid for one in psutil.process_iter(["uids"]) if one.info["uids"] and one.info["uids"].real == USER}


def test_programs_do_what_is_allowed_also_without_namespaces(place: Room) -> None:
    work = "touch new; mkdir -p a/b; mv new a/b; ln -s a/b link; cp a/b/new copied; mkfifo pipe; ls link; rm -r a"
    assert place.shell(f"{work}; date >/dev/null").text == "new\n"
    code = "import asyncio, multiprocessing.pool, socket, tempfile\n"
    code += "socket.socketpair()\nasyncio.run(asyncio.sleep(0))\n"
    code += "with tempfile.TemporaryDirectory() as name: open(name + '/x', 'w').close()\n"
    code += "import resource, os\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0]); os.nice(1)"
    assert place.python(code).text == "256\n"


@pytest.mark.parametrize("known", [3, 4, 5, 6])
def test_older_kernels_hold_too_with_namespaces(tmp_path: Path, known: int) -> None:
    room = Room(SandboxLevel("landlock", None, False, (), (), known=known), tmp_path)
    with outside() as table:
        assert reached(room, table) == {"write in /tmp"}
    assert room.shell("kill 1; kill -2 1; kill -9 1; sleep 0.1; echo still here").text.endswith("still here\n")


def test_a_folder_below_one_that_tools_read_stays_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lodger: ProcessPoolExecutor
) -> None:
    (tmp_path / "python" / "data").mkdir(parents=True)
    (tmp_path / "python" / "data" / "key").write_text("secret")
    (tmp_path / "python" / "part").write_text("of python")
    monkeypatch.setattr(sys, "base_exec_prefix", str(tmp_path / "python"))
    room = Room(SandboxLevel("landlock", None, False, (), (), known=3), tmp_path / "python" / "data")
    said = room.shell(
        f"cat {tmp_path}/python/part {tmp_path}/python/data/key; echo x > {tmp_path}/python/data/new"
    ).text
    assert said.startswith("of python") and "secret" not in said and "Read-only" in said
    level = lodger.submit(_find, Path("/usr/lib")).result()
    assert level.name == "limits" and "/usr/lib must stay hidden" in level.why
    with pytest.raises(SetupError, match="must stay hidden"):
        locked(IN_PLACE, workspace=tmp_path, scratch=tmp_path, hidden=(Path("/usr/lib"),), user_id=None)


def _find(hidden: Path) -> SandboxLevel:
    return asyncio.run(find_landlock("not asked for", (hidden,), in_place=True))


def test_without_namespaces_root_and_kernels_without_scopes_have_no_sandbox(lodger: ProcessPoolExecutor) -> None:
    level = asyncio.run(find_landlock("not asked for", in_place=True))
    assert not level.is_sandbox and "must not be root" in level.why
    old = SandboxLevel("landlock", None, False, (), (), known=5, in_place=True)
    with room_of_its_own() as folder:
        ended = Room(old, folder, lodger).shell("echo ran")
    assert ended.code == "ended" and "cannot shut a tool in" in ended.text
    folder = Path("/tmp")
    words = locked(IN_PLACE, workspace=folder, scratch=folder, hidden=(), user_id=None, words=("/bin/echo", "ran"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0 and not done.stdout and "cannot shut a tool in" in done.stderr


def test_the_trial_tells_a_sandbox_from_none(tmp_path: Path) -> None:
    (tmp_path / "outside").touch()
    words = [*module_words("mycoswarm.sandbox.prover"), str(tmp_path / "outside"), str(os.getpid()), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, env={"TMPDIR": str(tmp_path)})
    assert done.returncode != 0 and "reading a file outside was not refused" in done.stderr and not done.stdout


def test_a_daemon_that_dies_before_the_tool_begins_is_noticed(tmp_path: Path) -> None:
    level = SandboxLevel("landlock", None, False, (), (), known=3)
    (tmp_path / "scratch").mkdir()
    words = locked(
        level, workspace=tmp_path, scratch=tmp_path / "scratch", hidden=(), user_id=None, words=("/bin/echo", "ran")
    )
    words[4] = words[4].replace(f'"daemon":{os.getpid()}', '"daemon":1')
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and not done.stdout


def test_what_is_started_ends_as_its_program_ends(tmp_path: Path) -> None:
    level = SandboxLevel("landlock", None, False, (), (), known=3)
    (tmp_path / "scratch").mkdir()
    for command, status in (("exit 3", 3), (f"kill -{int(signal.SIGKILL)} $$", 137), ("cat; exit 0", 0)):
        words = locked(
            level,
            workspace=tmp_path,
            scratch=tmp_path / "scratch",
            hidden=(),
            user_id=None,
            words=("/bin/sh", "-c", command),
        )
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, input="said")
        assert (done.returncode, done.stdout) == (status, "said" if "cat" in command else "")
