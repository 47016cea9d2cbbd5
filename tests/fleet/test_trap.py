"""Nothing leaves: a machine whose way out leads into a trap that hears every frame, while all there is runs on it."""

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from mycoswarm.cli.fleet import ARGV
from networks import inside, lay_network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.root]

ETH_P_ALL = 0x0003  # linux/if_ether.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
TESTS = Path(__file__).resolve().parents[1]
KEPT_BYTES = 120


class Trap:
    """Hears every frame that a machine sends to a namespace, by a packet socket of a thread of its own in there."""

    def __init__(self, namespace: str, machine: str) -> None:
        self._namespace, self._sender = namespace, _mac(machine)
        self._ready = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._listen)
        self.frames: list[bytes] = []
        self.fault: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10) and self.fault is None, self.fault
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._thread.join(10)

    def _listen(self) -> None:
        try:
            with Path(f"/run/netns/{self._namespace}").open() as there:
                # A thread may move alone; the socket stays where it was made.
                if _setns(there.fileno()) != 0:
                    raise OSError("setns failed")
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as ear:
                ear.bind(("eth0", 0))
                ear.settimeout(0.1)
                self._ready.set()
                while not self._is_over:
                    try:
                        frame, (_, _, kind, _, _) = ear.recvfrom(65535)
                    except TimeoutError:
                        continue
                    if kind != socket.PACKET_OUTGOING and frame[6:12] == self._sender:  # the bridge speaks too
                        self.frames.append(frame[:KEPT_BYTES])
        except BaseException as exc:
            self.fault = exc
            self._ready.set()
            raise


def _mac(namespace: str) -> bytes:
    """The hardware address of a namespace's eth0."""
    told = run_in(namespace, "cat", "/sys/class/net/eth0/address").stdout
    return bytes.fromhex(told.strip().replace(":", ""))


def _setns(descriptor: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET))


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """A namespace for us, and one that is its way out to everywhere."""
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        ours, trap = lay_network(stack, 2)
        for name in (ours, trap):
            # The kernel itself announces IPv6 groups; what our programs send is to stand alone.
            off = "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6"
            subprocess.run([*inside(name), "sh", "-c", off], check=True, timeout=10)
        subprocess.run(["ip", "-n", ours, "route", "add", "default", "via", "10.77.0.2"], check=True, timeout=10)
        yield ours, trap


def run_in(namespace: str, *words: str, limit_s: float = 120) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
    environment["PYTHONPATH"] = f"{TESTS}:{TESTS.parent / 'appliance'}"
    return subprocess.run(
        [*inside(namespace), *words], capture_output=True, text=True, timeout=limit_s, env=environment
    )


def test_the_trap_hears_a_single_look_up_and_a_single_connect(pair: tuple[str, str]) -> None:
    """Without this the silence below would prove nothing."""
    ours, namespace = pair
    for line in (
        "import socket; s = socket.socket(); s.settimeout(0.5); s.connect(('198.51.100.7', 443))",
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('198.51.100.7', 53))",
    ):
        with Trap(namespace, ours) as trap:
            run_in(ours, sys.executable, "-c", line)
        assert trap.frames, line


def test_a_demo_sends_nothing_out(pair: tuple[str, str]) -> None:
    ours, namespace = pair
    with Trap(namespace, ours) as trap:
        done = run_in(ours, *ARGV, "demo")
    assert done.returncode == 0 and "Split = whole" in done.stdout, done.stdout + done.stderr
    assert not trap.frames, trap.frames[:3]


def test_every_feature_there_is_sends_nothing_out(pair: tuple[str, str]) -> None:
    ours, namespace = pair
    with Trap(namespace, ours) as trap:
        done = run_in(ours, sys.executable, str(TESTS / "fleet" / "parade.py"))
    assert done.returncode == 0 and "the parade is over" in done.stdout, done.stdout + done.stderr
    assert not trap.frames, trap.frames[:3]
