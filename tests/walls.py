"""A network namespace behind the appliance's packet filter, and a world behind its router. Needs root, `ip`, `nft`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from networks import inside, lay_network, why_not

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "firmware" / "nftables.conf"
PROGRAMS = ROOT / "firmware" / "root" / "usr" / "lib" / "mycoswarm"
WORLD = ("203.0.113.7", "2001:db8::7")  # of documentation, and so of nobody
PUBLIC = "9.9.9.9"  # which a tool may ask for a page: there is no way from in there to the one that has it
TRY = """
import socket, sys
for kind, host, port in (word.rsplit("/", 2) for word in sys.argv[1:]):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                       socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        try:
            sock.connect((host, int(port)))
            if kind == "udp":
                sock.send(b"x")
                sock.recv(1)
            print("passed")
        except OSError as exc:
            print(type(exc).__name__)
"""
LISTEN = """
import socket, sys, threading
def answer(sock):
    while True:
        _, who = sock.recvfrom(9)
        sock.sendto(b"y", who)
for port in map(int, sys.argv[1:]):
    tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("203.0.113.7", port))
    globals()[f"kept{port}"] = tcp
    threading.Thread(target=answer, args=(udp,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def walled() -> Iterator[tuple[str, str]]:
    """Two namespaces: one whose default route leads to a machine that answers for the whole world, and that machine."""
    if reason := why_not() or (None if shutil.which("nft") else "nft is missing: apt install nftables"):
        pytest.skip(reason)
    with ExitStack() as stack:
        here, there = lay_network(stack, 2)
        ip(here, "route", "add", "default", "via", "10.77.0.2")
        ip(here, "-6", "route", "add", "default", "via", "fd77::2")
        for address in (f"{WORLD[0]}/32", f"{PUBLIC}/32"):
            ip(there, "addr", "add", address, "dev", "lo")
        ip(there, "addr", "add", f"{WORLD[1]}/128", "dev", "lo", "nodad")
        yield here, there


@contextmanager
def running(
    namespace: str | None, program: str, *words: str, folders: tuple[Path, ...] = (), **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """A Python program in a namespace, or in ours, from its line "ready" on; killed in the end. `folders`: whose
    modules it sees."""
    before = [] if namespace is None else inside(namespace)
    paths = os.pathsep.join(map(str, folders))
    with subprocess.Popen(
        [*before, sys.executable, "-c", program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    ) as going:
        assert going.stdin is not None and going.stdout is not None
        try:
            assert going.stdout.readline() == "ready\n"
            yield going
        finally:
            going.kill()


def ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True, capture_output=True, timeout=10)


def nft(namespace: str, *words: str, given: str | None = None) -> str:
    command = [*inside(namespace), "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10, input=given).stdout


def attempt(namespace: str, *ways: str) -> list[str]:
    """Whether each way ("tcp/host/port") is open: "passed", or the name of the error."""
    command = [*inside(namespace), sys.executable, "-c", TRY, *ways]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
