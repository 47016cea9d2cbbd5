"""The search is a tool where a server is registered, and only there."""

import json
from pathlib import Path

from desks import desk, search_server
from household import run
from mycoswarm.daemon.seeker import with_search
from mycoswarm.sandbox.toolset import TOOLS


def test_a_registered_server_makes_the_tool_and_travels_as_its_means(tmp_path: Path) -> None:
    with search_server(tmp_path) as finder:
        assert set(with_search(TOOLS, finder)) == set(TOOLS) - {"search_web"}
        finder.set("http://searx.lan:8080", by="owner", now=1.0)
        found = with_search(TOOLS, finder)
        assert set(found) == set(TOOLS)
        assert json.loads(found["search_web"].means) == {"url": "http://searx.lan:8080"}
        assert "searx" not in repr(found["search_web"]) and not found["fetch_page"].means


def test_the_commands_set_show_and_forget_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            assert "No search server is set" in await d.done("search", "show")
            assert "tool:search_web" in await d.done("search", "set", "http://searx.lan:8080/")
            assert "http://searx.lan:8080, set by owner" in await d.done("search", "show")
            assert json.loads(await d.done("search", "show", "--json"))["url"] == "http://searx.lan:8080"
            bad = await d.command("search", "set", "http://u:p@x")
            assert bad.exit_code == 1 and "no address of a search server" in bad.output
            assert "forgotten" in await d.done("search", "unset")
            assert (await d.command("search", "unset")).exit_code != 0

    run(work)
