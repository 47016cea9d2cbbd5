"""The appliance's packet filter, loaded in a network namespace: the LAN passes, a trap behind the router hears nothing.

Needs root, `ip` (iproute2) and `nft` (nftables).
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from house.tree import ROOT
from networks import inside, lay_network, why_not

RULES = ROOT / "firmware" / "nftables.conf"
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

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture
def here() -> Iterator[str]:
    """A namespace whose default route leads to a machine that answers for the whole world."""
    if reason := why_not() or (None if shutil.which("nft") else "nft is missing: apt install nftables"):
        pytest.skip(reason)
    with ExitStack() as stack:
        here, there = lay_network(stack, 2)
        ip(here, "route", "add", "default", "via", "10.77.0.2")
        ip(here, "-6", "route", "add", "default", "via", "fd77::2")
        ip(there, "addr", "add", "203.0.113.7/32", "dev", "lo")
        ip(there, "addr", "add", "2001:db8::7/128", "dev", "lo", "nodad")
        command = [*inside(there), sys.executable, "-c", LISTEN, "80", "443", "53", "123"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as listening:
            assert listening.stdin is not None and listening.stdout is not None
            try:
                assert listening.stdout.readline() == "ready\n"
                yield here
            finally:
                listening.kill()


def ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True, capture_output=True, timeout=10)


def nft(namespace: str, *words: str) -> str:
    command = [*inside(namespace), "nft", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


def attempt(namespace: str, *ways: str) -> list[str]:
    command = [*inside(namespace), sys.executable, "-c", TRY, *ways]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


OUTSIDE = (
    "tcp/203.0.113.7/443",
    "tcp/2001:db8::7/443",
    "udp/203.0.113.7/53",
    "tcp/203.0.113.7/53",
    "udp/203.0.113.7/443",
)
LAN = ("tcp/10.77.0.2/80", "tcp/fd77::2/80")


def test_the_lan_passes_and_the_world_does_not_until_it_is_named(here: str) -> None:
    assert attempt(here, *OUTSIDE, *LAN) == ["passed"] * 7  # the way there is open
    nft(here, "-f", str(RULES))
    assert "passed" not in attempt(here, *OUTSIDE, *LAN)
    refused = nft(here, "list", "counter", "inet", "mycoswarm", "refused")
    assert "packets 0 " not in refused
    nft(here, "add", "element", "inet", "mycoswarm", "lan4", "{ 10.77.0.0/24 }")
    nft(here, "add", "element", "inet", "mycoswarm", "lan6", "{ fd77::/64 }")
    assert attempt(here, *LAN) == ["passed"] * 2
    assert "passed" not in attempt(here, *OUTSIDE)
    assert attempt(here, "udp/203.0.113.7/123") == ["passed"]  # the time
    nft(here, "add", "element", "inet", "mycoswarm", "allowed4", "{ 203.0.113.7 . 443 }")
    nft(here, "add", "element", "inet", "mycoswarm", "allowed6", "{ 2001:db8::7 . 443 }")
    nft(here, "add", "element", "inet", "mycoswarm", "resolvers4", "{ 203.0.113.7 }")
    assert attempt(here, *OUTSIDE)[:4] == ["passed"] * 4
    assert "passed" not in attempt(here, "tcp/203.0.113.7/80", "udp/203.0.113.7/443")
    nft(here, "-f", str(RULES))
    assert "passed" not in attempt(here, *OUTSIDE)  # loading anew empties the sets


def test_multicast_dns_passes(here: str) -> None:
    nft(here, "-f", str(RULES))
    send = (
        "import socket\n"
        "with socket.socket(type=socket.SOCK_DGRAM) as sock: sock.sendto(b'x', ('224.0.0.251', 5353))\n"
        "with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:\n"
        "    sock.sendto(b'x', ('ff02::fb', 5353, 0, socket.if_nametoindex('eth0')))\n"
    )
    subprocess.run([*inside(here), sys.executable, "-c", send], check=True, capture_output=True, timeout=20)
    assert "packets 0 " in nft(here, "list", "counter", "inet", "mycoswarm", "refused")


def test_the_file_is_sound() -> None:
    if shutil.which("nft") is None:
        pytest.skip("nft is missing: apt install nftables")
    done = subprocess.run(["nft", "-c", "-f", str(RULES)], capture_output=True, text=True, timeout=10, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft asks the kernel, which needs root")
    assert done.returncode == 0, done.stderr
