"""A request's own narrowing is never overheard: what cannot be kept whole is refused."""

import asyncio
import json

import pytest

from consoles import KEY, console
from mycoswarm.api.question import read_route
from mycoswarm.base.errors import InputError


@pytest.mark.parametrize(
    "header", ["nodes=,", "nodes= , ,", "nodes=attic; nodes=cellar", "solo; split", "stages=2;stages=1"]
)
def test_a_narrowing_that_would_be_lost_is_refused(header: str) -> None:
    with pytest.raises(InputError):
        read_route(header)


@pytest.mark.parametrize(("second", "status"), [("nodes=cellar", 400), ("solo", 200), ("nodes=", 400)])
def test_of_two_route_headers_both_count(second: str, status: int) -> None:
    body = json.dumps({"model": "spore", "messages": [{"role": "user", "content": "hi"}]})

    async def ask() -> bytes:
        async with console() as made:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\nAuthorization: Bearer {KEY}\r\n"
            )
            routes = f"X-Mycoswarm-Route: nodes=attic\r\nX-Mycoswarm-Route: {second}\r\nConnection: close\r\n"
            return await made.raw(f"{head}{routes}Content-Length: {len(body)}\r\n\r\n{body}")

    answer = asyncio.run(ask())
    assert int(answer.split()[1]) == status
    if status == 200:
        assert b"x-mycoswarm-nodes: attic\r\n" in answer
