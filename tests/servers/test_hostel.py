"""Servers in the sandbox: a real one, what none can reach, and how those that misbehave end."""

import pytest

from hostels import TIME, Lodge, processes_with

pytestmark = pytest.mark.slow


def test_a_real_server_lists_its_tools_and_answers(lodge: Lodge) -> None:
    async def course() -> None:
        wares = await lodge.wares(TIME)
        assert set(wares) == {"get_current_time", "convert_time"} and not any(ware.fault for ware in wares.values())
        ware = wares["convert_time"]
        given = {"source_timezone": "UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"}
        ended = await lodge.call(TIME, "convert_time", ware, **given)
        assert ended.ok and "21:30" in ended.text, ended
        wrong = await lodge.call(TIME, "convert_time", ware, **{**given, "time": "soon"})
        assert not wrong.ok and wrong.code == "failed"

    lodge.run(course)
    assert not processes_with("mcp_server_time")
