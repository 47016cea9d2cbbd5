"""Bytes of a server into lines: the same whatever the chunks are, and never more than is bounded."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EndpointError
from mycoswarm.servers.intake import CHANGED, MAX_BYTES, MAX_LINE_BYTES, MAX_LINES, Intake

ANSWER, ASKS = b'{"jsonrpc": "2.0", "id": 1, "result": {}}', b'{"jsonrpc": "2.0", "id": "a", "method": "ping"}'
NOTICE, GREETING = b'{"jsonrpc": "2.0", "method": "notifications/message"}', b"Listening on stdin..."


@given(st.lists(st.integers(1, 60)))
def test_lines_are_the_same_in_any_chunks(sizes: list[int]) -> None:
    data = b"\n".join((GREETING, ANSWER, b"", NOTICE, ASKS, b'{"id": null, "result": {}}', ANSWER, b""))
    intake, found, start = Intake("s"), list[bytes](), 0
    for size in (*sizes, len(data)):
        found += intake.feed(data[start : start + size])
        start += size
    assert found == [ANSWER, ASKS, ANSWER] and not intake.has_changed


def test_what_a_notification_says_of_the_tools_is_heard() -> None:
    intake = Intake("s")
    assert not list(intake.feed(json.dumps({"method": CHANGED}).encode() + b"\n")) and intake.has_changed


@pytest.mark.parametrize(
    "data",
    [
        b"x" * (MAX_LINE_BYTES + 1),
        b"x" * (MAX_LINE_BYTES + 1) + b"\n",
        b"\n" + b"x" * (MAX_LINE_BYTES + 1),
        (ANSWER + b"\n") * (MAX_LINES + 1),
        (NOTICE + b"\n") * (MAX_LINES + 1),
        b"x\n" * (MAX_LINES + 1),
        (b"x" * (1 << 20) + b"\n") * ((MAX_BYTES >> 20) + 1),
    ],
    ids=["endless", "long", "rest", "answers", "notices", "nonsense", "bytes"],
)
def test_a_server_that_says_too_much_is_found_out(data: bytes) -> None:
    with pytest.raises(EndpointError) as caught:
        list(Intake("s").feed(data))
    assert caught.value.code == "mcp_flood"


def test_each_question_of_ours_is_counted_anew() -> None:
    intake = Intake("s")
    for _ in range(4):
        intake.asked()
        assert len(list(intake.feed((ANSWER + b"\n") * MAX_LINES))) == MAX_LINES


@pytest.mark.slow
def test_a_daemon_that_serves_no_mcp_server_does_not_load_the_package() -> None:
    look = "import sys, mycoswarm.daemon.node; print(*(one in sys.modules for one in ('mcp', 'pydantic')))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["False", "False"], done.stderr
