"""The owner's routes for endpoints and approvals, over the real socket and database."""

import json
from pathlib import Path
from typing import Any

import pytest

from desks import NOW, RACK, SECRET, Desk, desk
from household import run
from mycoswarm.base.errors import EndpointError, InputError, NotFoundError, SwarmError

URL = "http://192.168.1.9:8000/v1"
GIVEN = {"name": "rack", "url": URL, "place": "LAN", "secret": SECRET}


async def everything_said(d: Desk) -> str:
    """All that the owner's routes answer about endpoints, errors too."""
    said: list[Any] = []
    for method, path, body in (
        ("POST", "/api/endpoints", GIVEN),
        ("POST", "/api/endpoints", GIVEN),
        ("POST", "/api/endpoints", {**GIVEN, "name": "No!"}),
        ("POST", "/api/endpoints", {**GIVEN, "name": "x", "url": f"http://user:{SECRET}@host/v1"}),
        ("POST", "/api/endpoints", {**GIVEN, "name": "x", "place": SECRET}),
        ("POST", "/api/endpoints", {**GIVEN, "name": "x", "secret": SECRET + "\n"}),
        ("POST", "/api/endpoints", {**GIVEN, "name": "x", "secret": [SECRET]}),
        ("GET", "/api/endpoints", None),
        ("POST", "/api/rules/explain", {"request": {"model": "big-one"}}),
        ("DELETE", "/api/endpoints/rack", None),
        ("DELETE", "/api/endpoints/rack", None),
    ):
        try:
            said.append(await d.ask(method, path, body))
        except SwarmError as error:
            said.append([error.message, error.hint])
    return json.dumps(said)


def test_the_secret_of_an_endpoint_is_in_no_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            await d.ask("POST", "/api/rules", {"rule": RACK, "position": 1})
            said = await everything_said(d)
            assert SECRET not in said and "has_secret" in said
            assert d.probe.asked == [
                ("rack", URL, SECRET, "LAN"),
                ("No!", URL, SECRET, "LAN"),
                ("x", URL, SECRET + "\n", "LAN"),
            ]

    run(work)


def test_an_endpoint_is_tried_first_and_shows_who_leads_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            told = await d.ask("POST", "/api/endpoints", GIVEN)
            assert told["models"] == ["big-one"] and told["place"] == "LAN" and told["is_checked"]
            assert told["has_secret"] and not told["is_reachable"] and d.endpoints.secret("rack") == SECRET
            await d.ask("POST", "/api/rules", {"rule": RACK, "position": 1})
            (one,) = (await d.ask("GET", "/api/endpoints"))["endpoints"]
            assert one["rules"] == ["rack"] and one["is_reachable"]
            await d.ask("POST", "/api/rules/rack/disable")
            (one,) = (await d.ask("GET", "/api/endpoints"))["endpoints"]
            assert one["rules"] == [] and not one["is_reachable"]
            await d.ask("POST", "/api/rules/rack/enable")
            assert (await d.ask("DELETE", "/api/endpoints/rack"))["rules"] == ["rack"]
            assert (await d.ask("GET", "/api/endpoints"))["endpoints"] == []

    run(work)


def test_one_that_is_not_where_it_is_said_to_be_is_not_registered_unless_it_is_not_tried(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            d.probe.error = EndpointError("it is outside", code="endpoint_elsewhere")
            with pytest.raises(SwarmError, match="it is outside"):
                await d.ask("POST", "/api/endpoints", GIVEN)
            assert d.endpoints.entries() == ()
            told = await d.ask("POST", "/api/endpoints", {**GIVEN, "check": False})
            assert not told["is_checked"] and told["models"] == [] and len(d.probe.asked) == 1

    run(work)


@pytest.mark.parametrize(
    "change",
    [{"name": 5}, {"url": None}, {"place": "moon"}, {"place": "this-machine"}, {"check": "no"}, {"model": "x"}],
)
def test_wrong_endpoints_are_named_and_not_tried(tmp_path: Path, change: dict[str, Any]) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            with pytest.raises(InputError):
                await d.ask("POST", "/api/endpoints", {**GIVEN, **change})
            assert not d.probe.asked and not d.endpoints.entries()

    run(work)


def test_who_waits_is_shown_and_answered_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with desk(tmp_path) as d:
            waits = {"id": "a1", "asked_at": NOW, "expires_at": NOW + 60, "model": "spore"}
            d.approvals.waits.append(waits)
            assert await d.ask("GET", "/api/approvals") == {"approvals": [waits]}
            for wrong in ({}, {"allow": "yes"}, {"allow": True, "by": "me"}):
                with pytest.raises(InputError):
                    await d.ask("POST", "/api/approvals/a1", wrong)
            await d.ask("POST", "/api/approvals/a1", {"allow": True})
            assert d.approvals.answers == [("a1", True, "owner")]
            with pytest.raises(NotFoundError):
                await d.ask("POST", "/api/approvals/a1", {"allow": False})

    run(work)
