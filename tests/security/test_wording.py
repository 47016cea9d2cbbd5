"""Odd words beside a request: model names, lists of daemons, endless narrowings. All are refused at the edge."""

import asyncio
import json

import pytest

from consoles import KEY, console
from mycoswarm.api.question import Envelope, read_chat, read_completion, read_route
from mycoswarm.base.errors import InputError
from mycoswarm.chat.job import Asker

ENVELOPE = Envelope(request_id="r", asker=Asker(key_name="k"))


@pytest.mark.parametrize(
    "model", ["", " gpt-4", "gpt-4 ", "gpt-4\n", "a\x1b[2Jb", "gpt\u200b-4", "x" * 257, "\u202egpt", "a\x00"]
)
def test_a_model_that_no_rule_can_name_is_refused(model: str) -> None:
    with pytest.raises(InputError, match="model must be"):
        read_chat(json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}]}).encode(), ENVELOPE)
    with pytest.raises(InputError, match="model must be"):
        read_completion(json.dumps({"model": model, "prompt": "x"}).encode(), ENVELOPE)


def test_an_endless_narrowing_is_refused() -> None:
    with pytest.raises(InputError, match="more than"):
        read_route("nodes=" + "a," * 4096)


@pytest.mark.parametrize(
    ("via", "status"),
    [(b"0123abcd", 200), (b"0123abcd, 4567", 200), (b"", 200), (b"\xe9", 400), (b"a b", 400), (b"a" * 401, 400)],
)
def test_a_list_of_daemons_is_read_as_one_or_refused(via: bytes, status: int) -> None:
    body = json.dumps({"model": "spore", "messages": [{"role": "user", "content": "hi"}]})

    async def ask() -> bytes:
        async with console() as made:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{made.port}\r\nAuthorization: Bearer {KEY}\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\nX-Mycoswarm-Via: "
            )
            return await made.raw(head.encode() + via + f"\r\n\r\n{body}".encode())

    assert int(asyncio.run(ask()).split()[1]) == status
