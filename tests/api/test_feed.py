"""Events as JSON lines: what a source tells, and how its end is told."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mycoswarm.api.feed import feed, line
from mycoswarm.base.errors import StorageError


async def told(error: Exception | None) -> tuple[list[Any], bool]:
    """All lines of a source that ends with this error, and whether it was closed."""
    closed = []

    async def source() -> AsyncGenerator[dict[str, Any], None]:
        try:
            yield {"n": 1}
            if error is not None:
                raise error
        finally:
            closed.append(True)

    return [json.loads(each) async for each in feed(source())], bool(closed)


@pytest.mark.parametrize(
    ("error", "code"), [(StorageError("the disk is full"), "storage_failed"), (ZeroDivisionError(), "internal_error")]
)
def test_an_error_is_the_last_line(error: Exception, code: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    lines, is_closed = asyncio.run(told(error))
    assert lines[0] == {"n": 1} and lines[1]["error"]["code"] == code and is_closed
    assert "ZeroDivision" not in str(lines)


def test_a_source_that_ends_well_adds_nothing() -> None:
    assert asyncio.run(told(None)) == ([{"n": 1}], True)


def test_who_stops_reading_closes_the_source() -> None:
    closed = []

    async def source() -> AsyncGenerator[dict[str, Any], None]:
        try:
            while True:
                yield {}
        finally:
            closed.append(True)

    async def work() -> None:
        lines = feed(source())
        assert await anext(lines) == b"{}\n" and not closed
        await lines.aclose()
        assert closed

    asyncio.run(work())


def test_text_that_is_not_utf8_goes_out_escaped() -> None:
    assert line({"x": "\udcff"}) == b'{"x":"\\udcff"}\n'
