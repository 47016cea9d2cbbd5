"""Certificates over a real daemon: spore takes the exam, the score is shown, and agents are held to it."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from daemons import until
from mycoswarm.agents.exam import KINDS
from mycoswarm.agents.restraint import CASES
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet, Member
from planner import Planner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swarm() -> Iterator[Fleet]:
    """A coordinator alone."""
    with Fleet(workers=0) as running:
        running.enrol()
        yield running


def type_in(member: Member, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--data", str(member.folder), *words], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def run(member: Member, name: str, certificate: int | None) -> list[dict[str, Any]]:
    asks = "" if certificate is None else f"certificate = {certificate}\n"
    member.call.ask("PUT", f"/api/agents/{name}", {"toml": f'model = "spore"\n{asks}tools = ["calculator"]\n'})
    body = {"task": "what is 12 plus 30?"}
    return [json.loads(line) for line in member.call.stream("POST", f"/api/agents/{name}/run", body, timeout_s=60)]


def certificate(member: Member) -> Any:
    (spore,) = member.call.ask("GET", "/api/models")["models"]
    return spore["certificate"]


def test_spore_is_examined_and_agents_are_held_to_its_score(swarm: Fleet) -> None:
    first = swarm.coordinator
    assert certificate(first) is None and "none" in type_in(first, "models", "list")[1]
    end = run(first, "strict", 1)[-1]
    assert (end["end"], end["code"]) == ("error", "not_certified") and "models certify spore" in end["message"]
    code, said = type_in(first, "models", "certify", "spore")
    print(said)
    assert code == 0
    kept = certificate(first)
    assert 0 <= kept["percent"] <= 100 and kept["cases"] == len(CASES) >= 60 and set(kept["kinds"]) == set(KINDS)
    assert kept["right"] == sum(kind["right"] for kind in kept["kinds"].values())
    assert f"{kept['percent']} %" in said and f"{kept['percent']} %" in type_in(first, "models", "list")[1]
    assert f"Certificate of spore: {kept['percent']} %" in type_in(first, "agent", "show", "helper")[1]
    assert (run(first, "strict", max(1, kept["percent"]))[-1]["end"] == "answer") == (kept["percent"] > 0)
    if kept["percent"] < 100:
        end = run(first, "strict", kept["percent"] + 1)[-1]
        assert (end["end"], end["code"]) == ("error", "certificate_too_low") and not end["answer"]
    rows = first.call.ask("GET", "/api/ledger?kind=decision&limit=500")["rows"]
    assert sum(str(row["request_id"]).startswith("exam-") for row in rows) == len(CASES)


def test_a_sub_agent_is_held_to_the_certificate_of_its_own_file(swarm: Fleet) -> None:
    first = swarm.coordinator
    with Planner("strict") as planner:
        endpoint = {"name": "planner", "url": planner.url, "place": "LAN", "check": True, "secret": None}
        first.call.ask("POST", "/api/endpoints", endpoint)
        code, said = type_in(
            first, "rules", "add", "the planner", "--model", "planner", "--external", "planner", "--position", "1"
        )
        assert code == 0, said
        run(first, "strict", 100)
        first.call.ask("PUT", "/api/agents/lead", {"toml": 'model = "planner"\ntools = ["spawn", "calculator"]\n'})
        body = {"task": "what is 12 plus 30?"}
        told = [json.loads(line) for line in first.call.stream("POST", "/api/agents/lead/run", body, timeout_s=60)]
    ends = [event["told"]["code"] for event in told if "told" in event and event["told"]["event"] == "end"]
    assert len(ends) == 1 and ends[0] in ("not_certified", "certificate_too_low")
    assert "certificate of 100 %" in told[-1]["answer"]


def test_an_unknown_model_is_not_examined_and_a_client_that_leaves_ends_the_exam(swarm: Fleet) -> None:
    first = swarm.coordinator
    code, said = type_in(first, "models", "certify", "nobody")
    assert code == 1 and "nobody" in said
    before = certificate(first)
    lines = first.call.stream("POST", "/api/models/spore/certify", {}, timeout_s=30)
    assert json.loads(next(lines))["event"] == "exam" and json.loads(next(lines))["event"] == "case"
    lines.close()  # type: ignore[attr-defined]  # the stream is a generator
    assert certificate(first) == before

    def is_free() -> bool:
        again = first.call.stream("POST", "/api/models/spore/certify", {}, timeout_s=30)
        event = json.loads(next(again))
        again.close()  # type: ignore[attr-defined]  # as above
        return event.get("event") == "exam"

    until(is_free, 10, "the model may be examined again")


def test_the_exam_is_the_owners(swarm: Fleet) -> None:
    host, _, port = swarm.console().rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    headers = {"authorization": f"Bearer {swarm.key('guest')}", "content-type": "application/json"}
    connection.request("POST", "/api/models/spore/certify", b"{}", headers)
    assert connection.getresponse().status == 403
    connection.close()
