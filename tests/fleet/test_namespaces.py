"""Three daemons on three machines, as far as the kernel can tell: network namespaces on one bridge.

They find each other by mDNS on their default interfaces, make one swarm by token, and answer over two of them.
"""

import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemons import Answer, logs_of, until
from mycoswarm.cli.fleet import ARGV, Fleet, Member
from networks import inside, lay_network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.root]

NAMES = ("coordinator", "worker-1", "worker-2")
ROUNDS = 4
LIMIT_S = 0.3


@pytest.fixture
def namespaces() -> Iterator[list[str]]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lay_network(stack, len(NAMES))


def spread(namespaces: list[str], folder: Path, gap: random.Random) -> Fleet:
    """A daemon in each namespace, with the default interfaces and all addresses; started one after the other."""
    fleet = Fleet(workers=len(NAMES) - 1, folder=folder)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
    try:
        for namespace, name in zip(namespaces, NAMES, strict=True):
            home = folder / name
            home.mkdir(mode=0o700, exist_ok=True)
            own = ("--data", str(home), "run", "--name", name, "--peer", ":0", "--threads", "1", "--with-stdin")
            with (home / "daemon.log").open("ab") as sink:
                process = subprocess.Popen(
                    [*inside(namespace), *ARGV, *own],
                    stdin=subprocess.PIPE,
                    stdout=sink,
                    stderr=sink,
                    env=environment,
                    start_new_session=True,
                )
            fleet.members.append(Member(name, home, process, home / "daemon.log"))
            time.sleep(gap.uniform(0, 0.7))  # machines are not switched on at one moment
        for member in fleet.members:
            until(lambda m=member: m.process.poll() is not None or m.call.is_alive(), 60, f"{member.name} serves")
            assert member.process.poll() is None, member.last_words()
    except BaseException:
        fleet.__exit__(None, None, None)
        raise
    return fleet


def stop(fleet: Fleet) -> None:
    fleet.__exit__(None, None, None)
    assert all(member.process.returncode == 0 for member in fleet.members), logs_of(fleet)


def test_three_daemons_find_each_other_and_answer_as_one_swarm(
    namespaces: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gap, took = random.Random(11), []
    for number in range(ROUNDS):
        fleet = spread(namespaces, tmp_path, gap)
        try:
            took.append(fleet.find())
            if number == ROUNDS - 1:
                answer_as_one(fleet)
        finally:
            stop(fleet)
    with capsys.disabled():
        figures = ", ".join(f"{seconds * 1000:.0f}" for seconds in took)
        median_ms = statistics.median(took) * 1000
        print(f"\nthree daemons in namespaces: complete after {median_ms:.0f} ms (median of {figures})")
    assert statistics.median(took) < LIMIT_S


def answer_as_one(fleet: Fleet) -> None:
    fleet.enrol()
    nodes = {node["name"]: node for node in fleet.nodes()}
    assert set(nodes) == set(NAMES)
    split, whole = Answer(fleet, "split; nodes=worker-1,worker-2"), Answer(fleet, "solo; nodes=coordinator")
    assert split.rest() == whole.rest() != ""
    stages = split.reply.mycoswarm["stages"]
    assert {(stage["node"], stage["place"]) for stage in stages} == {("worker-1", "LAN"), ("worker-2", "LAN")}
