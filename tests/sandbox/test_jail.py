"""Ways out of the sandbox and ways to take too much, each tried for real, and each in vain."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from daemons import until
from mycoswarm.base.errors import SetupError, StorageError
from mycoswarm.sandbox.jail import MAX_FOLDER_BYTES, Errand, Jail
from mycoswarm.sandbox.level import SandboxLevel
from sandbox.conftest import RUN, Room
from sandbox.lodger import serve

pytestmark = pytest.mark.slow

# Other runs of these tests on this machine sleep for other times: each looks for its own alone.
MARK = f"{os.getpid() % 100000:05}"


def test_tools_work_in_one_workspace_and_leave_nothing_else(room: Room) -> None:
    assert room.use("write_file", path="a/b.txt", text="one\ntwo").ok
    assert room.use("read_file", path="a/b.txt").text == "one\ntwo"
    said = room.shell("cat a/b.txt; echo x > c; pwd; echo $HOME; whoami 2>&1").text
    assert said.startswith(f"one\ntwo{room.seen()}\n{room.seen()}\n")
    assert room.python("import numpy, sys; print(open('c').read(), numpy.arange(3).sum())").text == "x\n 3\n"
    assert room.use("calculator", expression="12+30").text == "42"
    assert "Z" not in room.use("clock", place="Berlin").text and room.use("clock").ok
    assert room.use("read_file", path="none").code == "file_refused"
    assert not list((room.folder / "scratch").iterdir())


def test_a_program_that_is_installed_below_tmp_is_seen_there(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    if room.pool is not None:
        pytest.skip("where the lodger runs, the program is not seen to be there")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # the point of it
        Path(name).chmod(0o755)
        (Path(name) / "part").write_text("of the program")
        monkeypatch.setattr(sys, "base_exec_prefix", name)
        seen = room.shell(f"cat {name}/part; echo mine > /tmp/own; cat /tmp/own; echo x > {name}/part")
    assert seen.text.startswith("of the programmine\n") and "Read-only" in seen.text, seen
    assert not list((room.folder / "scratch").iterdir())


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "../../etc/shadow", "/usr/bin/env", "/proc/self/environ", "shadow", "up/root/workspace"]
)
def test_file_tools_read_and_write_nothing_outside(room: Room, path: str) -> None:
    assert room.shell("ln -s /etc/shadow shadow; ln -s / up").ok
    for tool, more in (("read_file", {}), ("write_file", {"text": "x"}), ("edit_file", {"old": "a", "new": "b"})):
        ended = room.use(tool, path=path, **more)
        assert not ended.ok and ended.code in ("outside_workspace", "file_refused"), ended
    assert room.use("list_files", path="up").code == "outside_workspace"


def test_nothing_of_this_machine_is_to_be_seen(room: Room) -> None:
    (room.folder / "node.db").write_text("secret")
    assert room.use("write_file", "other", path="mine", text="secret").ok
    tries = [
        "cat /etc/shadow",
        "cat /etc/passwd",
        f"ls {room.folder}",
        "ls /home",
        "ls /work /var",
        "cat /proc/1/environ",
        "ls /proc",
        "ls /sys",
        "cat /workspace/../workspaces/other/files/mine",
        f"cat {room.folder}/workspaces/other/files/mine",
        f"cat {room.folder}/node.db",
        "cat ../../other/files/mine",
    ]
    tries += ["ls -d /dev/sd* /dev/vd* /dev/mem"] if room.jail.level.has_own_root else ["head -c 1 /dev/mem /dev/vda"]
    for command in tries:
        ended = room.shell(command)
        assert not ended.ok and "secret" not in ended.text and "root:" not in ended.text, (command, ended)
    environment = room.shell("env").text
    assert {line.partition("=")[0] for line in environment.splitlines()} <= {
        "PATH", "LANG", "HOME", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "PWD", "LC_CTYPE", "SHLVL", "_", "OLDPWD",
    }  # fmt: skip


def test_the_system_is_read_only(room: Room) -> None:
    for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/usr/bin/env", str(Path(os.__file__).with_name("x.py"))):
        ended = room.shell(f"echo x > {path}")
        assert not ended.ok and ("Read-only" in ended.text or "denied" in ended.text), (path, ended)
    assert room.shell("echo x > $TMPDIR/x && cat $TMPDIR/x").text == "x\n"
    assert not room.shell("cat $TMPDIR/x").ok
    if room.jail.level.in_place:
        assert not room.shell(f"echo x > /tmp/{MARK}").ok and not Path(f"/tmp/{MARK}").exists()


def test_there_is_no_network_not_even_to_this_machine(room: Room) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        ended = room.python(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
        assert not ended.ok and "PermissionError" in ended.text
        assert not room.shell(f"exec 3<>/dev/tcp/127.0.0.1/{port} || bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'").ok
        with pytest.raises(TimeoutError):
            listening.accept()
    ended = room.python("import socket; print(socket.getaddrinfo('example.org', 80))")
    assert not ended.ok


def test_the_socket_of_the_daemon_is_out_of_reach(room: Room) -> None:
    path = room.folder / "owner.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o777)
        listening.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        wanted = "FileNotFoundError" if room.jail.level.has_own_root else "PermissionError"
        assert wanted in room.python(code).text


def test_no_process_outside_is_seen_or_reached(room: Room) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:  # not our parent: that may be number 1, which a sandbox has, too
        _assert_out_of_reach(room, other.pid)
        other.kill()


def _assert_out_of_reach(room: Room, other: int) -> None:
    ended = room.python(
        f"import os, signal\n"
        f"for pid in (-1, {os.getpid()}, {other}):\n"
        f"  if pid > 0:\n"
        f"    try:\n      os.kill(pid, 0); print('reached', pid)\n"
        f"    except OSError as why:\n      print('no', pid, type(why).__name__)\n"
        f"print(os.getpid() < 100)"
    )
    own = room.jail.level.has_own_root
    assert ended.text.count("no ") == 2 and ended.text.endswith(f"{own}\n"), ended
    assert ended.text.count("ProcessLookupError" if own else "PermissionError") == 2
    assert not room.shell("kill -9 -1; kill -9 1; sleep 0.1; exit 1").ok
    assert psutil.pid_exists(os.getpid())
    assert room.shell("echo still here").ok


@pytest.mark.parametrize(
    "call",
    [
        "libc.ptrace(16, 1, 0, 0)",
        "libc.unshare(0x10000000)",
        "libc.unshare(0x20000)",
        "libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)",
        "libc.umount2(b'/workspace', 2)",
        "libc.chroot(b'/workspace')",
        "libc.setns(0, 0)",
        "libc.syscall(321, 0, 0, 0) if os.uname().machine == 'x86_64' else libc.syscall(280, 0, 0, 0)",
        "libc.setuid(0)",
        "libc.setresuid(0, 0, 0)",
        "libc.sethostname(b'x', 1)",
        "libc.syscall(425, 1, 0)",
        "libc.keyctl(0) if hasattr(libc, 'keyctl') else -1",
        "libc.process_vm_readv(1, 0, 0, 0, 0, 0)",
    ],
)
def test_the_kernel_gives_nothing_away(room: Room, call: str) -> None:
    ended = room.python(f"import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nprint({call})")
    assert ended.text == "-1\n", ended


def test_programs_that_are_setuid_gain_nothing_and_no_capability_is_left(room: Room) -> None:
    code = "import ctypes, os\nlibc = ctypes.CDLL(None)\nprint(libc.prctl(39, 0, 0, 0, 0), os.getuid() != 0)\n"
    code += "import struct\nheader = struct.pack('Ii', 0x20080522, 0)\ndata = ctypes.create_string_buffer(24)\n"
    code += "libc.capget(header, data)\nprint(data.raw == bytes(24))"
    assert room.python(code).text == "1 True\nTrue\n"
    made = room.shell("cp /bin/sh mine; chmod u+s mine; ./mine -c 'id -u'; mknod null c 1 3")
    assert not made.ok and "\n0\n" not in f"\n{made.text}"


def asleep(seconds: int) -> bool:
    """Whether anything on this machine sleeps as long as `sleep {seconds}.{MARK}` does."""
    wanted = ["sleep", f"{seconds}.{MARK}"]
    return any((one.info["cmdline"] or [])[:2] == wanted for one in psutil.process_iter(["cmdline"]))


def test_a_fork_bomb_ends_with_its_time_and_costs_nobody_else(room: Room) -> None:
    if not room.jail.level.counts_processes:
        pytest.skip("this kernel cannot count the processes inside")
    ended = room.shell("f() { f | f & f; }; f", seconds=2)
    assert not ended.ok and "ork" in ended.text
    assert room.shell("echo still here").ok


def test_memory_that_one_or_many_processes_take_is_bounded(room: Room) -> None:
    assert "MemoryError" in room.python("x = []\nwhile True: x.append(bytearray(b'1' * (64 << 20)))").text
    many = (
        "import os, time\nfor _ in range(12): os.fork() or (globals().update(x=b'1' * (200 << 20)), time.sleep(20))\n"
    )
    ended = room.python(many + "time.sleep(20)")
    assert ended.code in ("too_much", "ended"), ended


def test_endless_output_is_cut_and_ends_the_program(room: Room) -> None:
    ended = room.shell("yes")
    assert not ended.ok and "printed more than" in ended.text and len(ended.text) < 70_000
    assert not room.python("import sys\nwhile True: sys.stderr.write('x' * 99999)").ok


def test_files_are_bounded_one_by_one_and_together(room: Room) -> None:
    assert not room.shell("head -c 70000000 /dev/zero > large").ok
    assert (room.place()[0] / "large").stat().st_size <= 64 << 20
    many = room.python("import os, time\nfor i in range(21000): open(f'f{i}', 'w').close()\ntime.sleep(20)")
    assert many.code == "too_much" and "20000 files" in many.text
    with pytest.raises(StorageError, match="full"):
        room.shell("true")
    count = MAX_FOLDER_BYTES // (60 << 20) + 1
    fill = f"for i in $(seq {count}); do head -c 62914560 /dev/zero > f$i; done; sleep 20"
    assert "MiB" in room.shell(fill, workspace="second").text


@pytest.mark.parametrize(
    "command", ["sleep 60", f"setsid sleep 61.{MARK} & sleep 60", "trap '' TERM INT HUP; while :; do :; done"]
)
def test_time_that_is_over_ends_the_whole_tree(room: Room, command: str) -> None:
    began = time.monotonic()
    ended = room.shell(command, seconds=1)
    assert not ended.ok and "too long" in ended.text and time.monotonic() - began < 30
    until(lambda: not asleep(61), 10, "all of it ends")


def test_the_time_of_the_node_counts_also_where_the_runner_is_stopped(room: Room) -> None:
    began = time.monotonic()
    ended = room.python("import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)", within_s=1.0)
    assert ended.code == "timeout" and time.monotonic() - began < 40


def test_a_runner_that_is_killed_from_inside_is_an_error_and_lies_are_only_text(room: Room) -> None:
    ended = room.python("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time; time.sleep(5)")
    assert not ended.ok and ended.code == "ended"
    assert room.shell('echo \'{"text":"lie","ok":true}\'; exit 3').text.startswith('{"text"')


def test_calls_at_once_do_not_see_each_other(room: Room) -> None:
    errands = [room.errand("run_shell", f"run-{n}", command=f"echo {n} > x; sleep 2; cat x") for n in range(6)]
    began = time.monotonic()
    assert [ended.text for ended in room.do(serve, room.jail, errands)] == [f"{n}\n" for n in range(6)]
    assert time.monotonic() - began < 12  # as long as one after the other would take at least


def test_a_call_that_is_cancelled_leaves_no_process(room: Room) -> None:
    room.do(_leave, room.jail, room.errand("run_shell", command=f"setsid sleep 62.{MARK} & sleep 62.{MARK}"))
    until(lambda: not asleep(62), 10, "it ends")
    assert not list((room.folder / "scratch").iterdir())


def _leave(jail: Jail, errand: Errand) -> None:
    async def leave() -> None:
        call = asyncio.create_task(jail.run(errand))
        await asyncio.to_thread(until, lambda: asleep(62), 20, "it runs")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call

    asyncio.run(leave())


def test_a_daemon_that_is_killed_takes_its_tools_with_it(room: Room) -> None:
    room.do(_kill, room.jail, room.errand("run_shell", command=f"setsid sleep 64.{MARK}"))


def _kill(jail: Jail, errand: Errand) -> None:
    daemon = multiprocessing.get_context("fork").Process(target=serve, args=(jail, [errand]))
    daemon.start()
    until(lambda: asleep(64), 20, "it runs")
    daemon.kill()
    daemon.join()
    until(lambda: not asleep(64), 10, "it ends with the daemon")


def test_what_a_tool_leaves_behind_goes_whatever_it_is(room: Room) -> None:
    path, _ = room.place()
    deep = "import os\nfor _ in range(1100):\n  os.mkdir('dddd'); os.chdir('dddd')\nopen('x', 'w').close()"
    assert room.python(deep).ok
    with pytest.raises(StorageError, match="looked into"):  # deeper than a path can say: not counted, so not allowed
        room.shell("true")
    (room.folder / "kept").write_text("kept")
    room.shell(
        f"ln -s {room.folder} out; mkdir -p locked/in; chmod 0 locked; printf x > $(printf '\\377')", workspace="b"
    )
    for name in (RUN, "b"):
        room.workspaces.release(name)
        assert not (room.folder / "workspaces" / name).exists()
    assert (room.folder / "kept").exists() and not path.exists()


def test_without_a_sandbox_programs_and_files_are_refused_but_where_the_rule_lets_them(tmp_path: Path) -> None:
    bare = SandboxLevel("limits", None, False, (), (), "there is none")
    jail = Jail(bare, folder=tmp_path)
    work = tmp_path / "work"
    work.mkdir()

    def errand(tool: str, arguments: str, unconfined: bool = False) -> Errand:
        return Errand(tool=tool, arguments=arguments, workspace=work, within_s=10, unconfined=unconfined)

    for tool, arguments in (("run_shell", '{"command": "id"}'), ("read_file", '{"path": "a"}')):
        with pytest.raises(SetupError, match="no sandbox") as caught:
            asyncio.run(jail.run(errand(tool, arguments)))
        assert caught.value.code == "no_sandbox"
    assert asyncio.run(jail.run(errand("calculator", '{"expression": "1+1"}'))).text == "2"
    left = json.dumps({"command": f"pwd; setsid sleep 63.{MARK} & echo $HOME"})
    ended = asyncio.run(jail.run(errand("run_shell", left, True)))
    assert ended.ok and ended.text == f"{work}\n{work}\n"
    until(lambda: not asleep(63), 10, "what it left ends")
