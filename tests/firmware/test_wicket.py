"""The wicket in the packet filter: exactly what is asked for is let through for a while, and only the node may ask."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.daemon.barrier import Barrier, Errand
from pi import load
from walls import LISTEN, PROGRAMS, RULES, WORLD, attempt, nft, running, walled

wicket = load("wicket")
border = load("border")
FOUR, SIX = WORLD
KEEP = """
import sys
from pathlib import Path
import wicket
listener = wicket.listening(Path(sys.argv[1]))
print("ready", flush=True)
wicket.Wicket(listener, lambda peer: True, held_s=float(sys.argv[2]), client_s=0.5).serve()
"""
ECHO = """
import socket
with socket.create_server(("203.0.113.7", 7000)) as listener:
    print("ready", flush=True)
    sock, _ = listener.accept()
    while data := sock.recv(9):
        sock.sendall(data)
"""
HOLD = """
import socket, sys
with socket.create_connection(("203.0.113.7", 7000), timeout=5) as sock:
    print("ready", flush=True)
    for line in sys.stdin:
        sock.sendall(b"still")
        print(sock.recv(9).decode(), flush=True)
"""
# As another user: it listens as the daemon does, and asks; then a child of it asks.
ASK_AS = """
import os, socket, sys, time
owner, asked, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgid(uid)
os.setuid(uid)
listener = socket.socket(socket.AF_UNIX)
listener.bind(owner)
listener.listen()
print("ready", flush=True)
def ask():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(asked)
        sock.recv(1)
ask()
if os.fork() == 0:
    ask()
    os._exit(0)
os.wait()
"""


def line_of(*ways: tuple[Any, Any], purpose: Any = "page", **more: Any) -> bytes:
    return json.dumps({"purpose": purpose, "ways": ways, **more}).encode()


def tell(path: Path, data: bytes) -> Any:
    """Send this and read the answer; None where there is none."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        sock.sendall(data)
        told = sock.recv(4096)
    return json.loads(told) if told else None


def held(here: str) -> str:
    """All elements that the wicket has put in."""
    listed = (nft(here, "list", "set", "inet", "mycoswarm", name) for name in ("asked4", "asked6"))
    return "".join(text.partition("elements")[2] for text in listed)


def ended(keeping: "subprocess.Popen[str]") -> list[str]:
    """What it has written into the journal, once it is ended."""
    keeping.kill()
    assert keeping.stdout is not None
    return keeping.stdout.read().splitlines()


def test_what_is_asked_is_read() -> None:
    told = wicket.read_ask(line_of((SIX, 443), (FOUR, 8000), (FOUR, 8000), ("::ffff:192.0.2.1", 1), purpose="pull"))
    assert told == ("pull", [("192.0.2.1", 1), ("2001:db8::7", 443), ("203.0.113.7", 8000)])
    assert get_args(Errand) == wicket.PURPOSES


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{", b"[]", b"5", b'"purpose"', b"\xff", b"[" * 4000, b'{"purpose":"page"}', line_of()),
        *(line_of((host, 443)) for host in ("127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.251", "ff02::fb")),
        *(line_of((host, 443)) for host in ("0.0.0.0", "::", "::ffff:127.0.0.1", "fe80::1%eth0", "2001:db8::1%1")),
        *(
            line_of((host, 443))
            for host in ("page.example", "203.0.113.0/24", "203.0.113.7 . 1 }", "", 3405803783, None)
        ),
        *(line_of((FOUR, port)) for port in (0, -1, 65536, "443", 443.0, True, None)),
        *(line_of((FOUR, 443), purpose=one) for one in ("hello", "", None, ["page"], "page\n")),
        line_of((FOUR, 443), more=1),
        line_of((FOUR, 443, 5)),  # type: ignore[arg-type]  # what comes is what it likes
        line_of((FOUR, 443), ("127.0.0.1", 443)),
        line_of(*((FOUR, port) for port in range(1, 34))),
    ],
)
def test_what_is_no_question_or_forbidden_is_refused(line: bytes) -> None:
    with pytest.raises(wicket.Trouble):
        wicket.read_ask(line)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.ip_addresses().map(str),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["purpose", "ways"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | _JSON.map(lambda told: json.dumps(told).encode()))
def test_whatever_comes_is_a_question_or_trouble(line: bytes) -> None:
    try:
        purpose, ways = wicket.read_ask(line)
    except wicket.Trouble:
        return
    assert purpose in wicket.PURPOSES and ways


@pytest.mark.slow
def test_nobody_who_is_slow_silent_or_endless_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "ask"
    with running(None, KEEP, str(path), "60", folders=(PROGRAMS,)), ExitStack() as stack:
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(wicket.MAX_CLIENTS - 1)]
        for each in slow:
            each.settimeout(10)
            each.connect(str(path))
            each.sendall(b'{"purpose"')
        began = time.monotonic()
        assert tell(path, b"junk\n") == {"refused": "that is no question"}
        assert tell(path, b"x" * wicket.ASK_BYTES) == {"refused": "that is no question"}
        assert tell(path, b"x" * (wicket.ASK_BYTES + 5) + b"\n") == {"refused": "that is no question"}
        assert "link's" in tell(path, line_of(("127.0.0.1", 1)) + b"\n")["refused"]
        assert time.monotonic() - began < 0.4  # before the others are sent away
        assert [each.recv(9) for each in slow] == [b""] * len(slow)
        # More than it listens to at a time: these wait until it has room.
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(wicket.MAX_CLIENTS)]
        for each in slow:
            each.connect(str(path))
        assert tell(path, b"junk\n") == {"refused": "that is no question"}


@pytest.mark.slow
def test_many_that_ask_at_once_are_all_answered(tmp_path: Path) -> None:
    barrier = Barrier(tmp_path / "ask", lambda address: "outside")

    async def main() -> list[str | None]:
        return await asyncio.gather(*(barrier.ask("page", ("127.0.0.1:443",)) for _ in range(60)))

    with running(None, KEEP, str(tmp_path / "ask"), "60", folders=(PROGRAMS,)):
        (told,) = set(asyncio.run(main()))
    assert told is not None and "a link's or a group's" in told


@pytest.mark.slow
@pytest.mark.root
def test_only_root_and_the_process_that_is_the_node_may_ask() -> None:
    if os.geteuid() != 0:
        pytest.skip("being another user needs root")
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listener:
        folder = Path(name)
        folder.chmod(0o777)
        owner, asked = folder / "owner.sock", folder / "ask"
        listener.bind(str(asked))
        listener.listen()
        listener.settimeout(20)
        asked.chmod(0o666)
        with running(None, ASK_AS, str(owner), str(asked), "600"):
            daemon, child = [], []
            for told in (daemon, child):
                sock, _ = listener.accept()
                with sock:
                    peer = wicket.peer_of(sock)
                    assert peer[1:] == (600, 600)
                    told += [wicket.may_ask(peer, uid, owner) for uid in (600, 601, None)]
                    told.append(wicket.may_ask(peer, 600, folder / "none"))
        assert daemon == [True, False, False, False]
        assert child == [False, False, False, False]  # as each stage, reader and tool of the same user
        assert wicket.may_ask((os.getpid(), 0, 0), None, owner)


@pytest.mark.slow
def test_who_may_not_ask_is_told_so_and_opens_nothing(tmp_path: Path) -> None:
    nobody = KEEP.replace("lambda peer: True", "lambda peer: False")
    path = tmp_path / "ask"
    with running(None, nobody, str(path), "60", folders=(PROGRAMS,)):
        assert tell(path, line_of((FOUR, 443)) + b"\n") == {"refused": "only the node's daemon is listened to"}


@pytest.fixture
def wall() -> Iterator[tuple[str, str]]:
    """Behind the filter, which is loaded; and the world, which listens."""
    with walled() as (here, there), running(there, LISTEN, "80", "443"):
        nft(here, "-f", str(RULES))
        yield here, there


@pytest.mark.slow
@pytest.mark.root
def test_an_address_is_open_at_its_port_for_its_time_and_what_is_connected_stays(
    wall: tuple[str, str], tmp_path: Path
) -> None:
    here, there = wall
    path, ways = tmp_path / "ask", (f"tcp/{FOUR}/443", f"tcp/{SIX}/443", f"tcp/{FOUR}/80", f"tcp/{SIX}/80")
    with running(here, KEEP, str(path), "4", folders=(PROGRAMS,)) as keeping, running(there, ECHO):
        assert "passed" not in attempt(here, *ways)
        began = time.monotonic()
        assert tell(path, line_of((FOUR, 443), (SIX, 443), (FOUR, 7000)) + b"\n") == {"open_s": 2.0}
        with running(here, HOLD) as holding:
            assert holding.stdin is not None and holding.stdout is not None
            assert attempt(here, *ways[:2]) == ["passed"] * 2
            nft(here, "-f", "-", given=border.script(["10.77.0.0/24"], [], []))  # as border.py fills its own sets
            assert "203.0.113.7 . 443" in held(here)
            assert time.monotonic() - began < 4, "this machine is too slow for this test's time"
            assert "passed" not in attempt(here, *ways[2:])
            time.sleep(max(0.0, began + 5.5 - time.monotonic()))
            assert "passed" not in attempt(here, *ways, f"tcp/{FOUR}/7000")
            assert not held(here)
            holding.stdin.write("\n")
            holding.stdin.flush()
            assert holding.stdout.readline() == "still\n"
        assert ended(keeping) == [
            "let through for 4 s, for page: 2001:db8::7 port 443",
            "let through for 4 s, for page: 203.0.113.7 port 443",
            "let through for 4 s, for page: 203.0.113.7 port 7000",
        ]


@pytest.mark.slow
@pytest.mark.root
def test_asking_again_gives_an_address_its_time_anew_once_half_of_it_is_over(
    wall: tuple[str, str], tmp_path: Path
) -> None:
    here, _ = wall
    path, ask = tmp_path / "ask", line_of((FOUR, 443)) + b"\n"
    with running(here, KEEP, str(path), "2", folders=(PROGRAMS,)) as keeping:
        for _ in range(3):
            assert tell(path, ask) == tell(path, ask) == {"open_s": 1.0}
            time.sleep(1.2)
        assert "203.0.113.7 . 443" in held(here)  # 3.6 s after the first
        assert len(ended(keeping)) == 3


@pytest.mark.slow
@pytest.mark.root
def test_what_is_refused_opens_nothing_and_the_kernel_bounds_the_rest(wall: tuple[str, str], tmp_path: Path) -> None:
    here, _ = wall
    path = tmp_path / "ask"
    with running(here, KEEP, str(path), "60", folders=(PROGRAMS,)):
        for line in (line_of((FOUR, 443), ("127.0.0.1", 1)), line_of((FOUR, 443), purpose="x"), b"junk"):
            assert "refused" in tell(path, line + b"\n")
        assert not held(here)
        told = [
            tell(path, line_of(*((f"198.51.100.{last}", port) for port in range(1, 33))) + b"\n")
            for last in range(1, 21)
        ]
        assert told[0] == {"open_s": 30.0} and told[-1] == {"refused": "nft did not take it"}
        assert held(here).count("timeout") <= 512


def test_the_program_finds_its_parts() -> None:
    told = subprocess.run(
        [sys.executable, "-s", "-E", "-B", "-c", "import border"], cwd=PROGRAMS, capture_output=True, timeout=30
    )
    assert told.returncode == 0, told.stderr
