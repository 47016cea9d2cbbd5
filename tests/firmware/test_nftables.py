"""The appliance's packet filter, loaded in a network namespace: the LAN passes, a trap behind the router hears nothing.

Needs root, `ip` (iproute2) and `nft` (nftables).
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from networks import inside
from walls import LISTEN, RULES, attempt, nft, running, walled

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture
def here() -> Iterator[str]:
    """A namespace whose default route leads to a machine that answers for the whole world."""
    with walled() as (here, there), running(there, LISTEN, "80", "443", "53", "123"):
        yield here


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
