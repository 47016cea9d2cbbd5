"""What the egress guard costs: nanoseconds for an audit event that concerns it not, a connect, a datagram, a look-up.

    build/bench hook

Each figure is the least of several rounds in a process of its own, with and without the guard.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from mycoswarm.base.egress import Guard, install, permit

ROUNDS, NODES = 7, 50


def least_ns(work: Callable[[], object], times: int) -> float:
    """The least time of one call over the rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(times):
            work()
        found.append((time.perf_counter_ns() - began) / times)
    return min(found)


def measure() -> dict[str, float]:
    """Figures by name."""
    with (
        socket.socket() as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(type=socket.SOCK_DGRAM) as sink,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as server,
    ):
        sink.bind(("127.0.0.1", 0))
        here, target = server.getsockname(), sink.getsockname()

        def connect() -> None:
            socket.create_connection(here).close()
            server.accept()[0].close()

        return {
            "an event that is none of its own": least_ns(lambda: sys.audit("os.listdir", "/"), 100_000),
            "judging a node's address among 50 nodes": least_ns(
                lambda: sys.audit("socket.connect", tcp, ("10.0.49.3", 6927)), 5_000
            ),
            "connect, accept and close on loopback": least_ns(connect, 500),
            "a datagram on loopback": least_ns(lambda: udp.sendto(b"x", target), 5_000),
            "getaddrinfo of a number": least_ns(lambda: socket.getaddrinfo("127.0.0.1", 80), 2_000),
        }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        if sys.argv[1] == "guarded":
            nodes = tuple(permit("nodes", addresses=[f"10.0.{n}.{k}:6927" for k in range(5)]) for n in range(NODES))
            install(Guard()).stand(lambda: nodes)
        print(json.dumps(measure()))
        sys.exit()
    figures = []
    for kind in ("bare", "guarded"):
        done = subprocess.run([sys.executable, __file__, kind], capture_output=True, text=True, check=True, timeout=120)
        figures.append(json.loads(done.stdout))
    for name in figures[0]:
        bare, guarded = (each[name] for each in figures)
        print(f"{name:<42} {bare:>9.0f} ns without, {guarded:>9.0f} ns with: {guarded - bare:+.0f} ns")
