"""Network namespaces on one bridge, for tests that need several machines. Needs root and `ip` (iproute2).

Nothing of it touches the machine's own network, and no namespace outlives the stack that holds it.
"""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack


def why_not() -> str | None:
    """Why this machine cannot do it, or None."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "network namespaces need Linux with iproute2's `ip`"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    name = f"myco-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (subprocess.SubprocessError, OSError) as exc:
        return f"network namespaces cannot be made here: {getattr(exc, 'stderr', exc)}"
    return None


def lay_network(stack: ExitStack, count: int) -> list[str]:
    """Lay a bridge and `count` nodes on it, 10.77.0.N and fd77::N; gives their namespaces. The stack takes all down."""
    names = [f"myco{os.getpid()}-{part}" for part in ("bridge", *map(str, range(count)))]
    for name in names:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        for conf in ("all", "default"):
            path = f"/proc/sys/net/ipv6/conf/{conf}/accept_dad"
            # Duplicate address detection would keep each IPv6 address unusable for its first second.
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", f"echo 0 > {path}"], check=True, timeout=10)
        _ip("-n", name, "link", "set", "lo", "up")
    bridge, *nodes = names
    _ip("-n", bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    _ip("-n", bridge, "link", "set", "br0", "up")
    for number, node in enumerate(nodes):
        port = f"port{number}"
        _ip("-n", bridge, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", node)
        _ip("-n", bridge, "link", "set", port, "master", "br0", "up")
        _ip("-n", node, "link", "set", "eth0", "up")
        _ip("-n", node, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
        _ip("-n", node, "addr", "add", f"fd77::{number + 1}/64", "dev", "eth0", "nodad")
    return nodes


def inside(namespace: str) -> list[str]:
    """The words before a command that make it run there."""
    return ["ip", "netns", "exec", namespace]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
