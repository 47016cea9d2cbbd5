"""What a node's side of a ring stream keeps to itself."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from mycoswarm.base.errors import RingError
from mycoswarm.stage.host import MAX_BARRED, Host, HostServices
from mycoswarm.stage.supervisor import StageProcess
from mycoswarm.wire.line import LineSplitter, decode_report
from mycoswarm.wire.order import Join, Neighbour
from mycoswarm.wire.report import AnyReport, Barred, Joined, Progress
from stage.test_supervisor import launch


class Coordinator:
    """The other end of the stream."""

    def __init__(self) -> None:
        self.heard: list[AnyReport] = []
        self._splitter = LineSplitter()

    async def send(self, data: bytes) -> None:
        self.heard += map(decode_report, self._splitter.feed(data))

    async def receive(self) -> bytes | None:
        return None


def test_what_a_stages_guard_refused_is_for_its_own_node_and_bounded(tmp_path: Path) -> None:
    program = (
        "def barred(kind, where, count):\n"
        "    print(json.dumps(dict(report='barred', kind=kind, where=where, count=count)), flush=True)\n"
        "for number in range(1500): barred('connect', f'10.0.0.1:{number}', 1)\n"
        "say('progress', what='loading layers', done_bytes=1, total_bytes=2)\n"
        "barred('look up', 'stranger.test', 3)\n"
        "say('joined')\n"
        "for order in orders(): pass"
    )
    barred: list[Barred] = []
    coordinator = Coordinator()
    nothing = cast(Any, None)
    services = HostServices(
        node_id="here",
        swarm_id="swarm",
        is_signed=nothing,
        record=nothing,
        refuse=nothing,
        prepare=nothing,
        launch=launch(program, tmp_path),
        addresses=tuple,
        barred=barred.append,
    )

    async def main() -> None:
        async with asyncio.timeout(20), StageProcess(services.launch, node_id="here") as stage:
            joined = await Host(coordinator, services)._carry(stage, until=Joined, limit_s=10, doing="join")
            assert isinstance(joined, Joined)

    asyncio.run(main())
    assert coordinator.heard == [Progress(what="loading layers", done_bytes=1, total_bytes=2)]
    assert barred == [Barred(kind="connect", where=f"10.0.0.1:{number}", count=1) for number in range(MAX_BARRED)]


def test_hidden_states_go_to_no_address_outside_that_another_node_names() -> None:
    nothing = cast(Any, None)
    services = HostServices(
        node_id="here",
        swarm_id="swarm",
        is_signed=nothing,
        record=nothing,
        refuse=nothing,
        prepare=nothing,
        launch=nothing,
        addresses=tuple,
        barred=nothing,
    )
    host = Host(Coordinator(), services)

    def following(*addresses: str) -> Join:
        return Join(
            previous=None, following=Neighbour(node_id="there", certificate_pem="x", addresses=addresses, port=1)
        )

    near = host._near(following("203.0.113.7", "127.0.0.1", "evil.example", "2001:db8::1", "fe80::1"))
    assert near.following is not None and near.following.addresses == ("127.0.0.1", "fe80::1")
    with pytest.raises(RingError) as caught:
        host._near(following("203.0.113.7", "evil.example"))
    assert caught.value.lost_node_id == "there"
    assert host._near(Join(previous=None, following=None)) == Join(previous=None, following=None)
