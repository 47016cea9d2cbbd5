"""The owner's rules over real daemons: they decide, they last, and only the owner's keys reach them."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from daemons import until
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet, Member
from mycoswarm.routing.rule import DEFAULT_RULE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    """A coordinator and one worker."""
    with Fleet(workers=1) as running:
        running.enrol()
        yield running


def type_in(member: Member, *words: str) -> tuple[int, str]:
    """Run a command on a member's folder: its exit code and what it wrote."""
    done = CliRunner().invoke(main, ["--data", str(member.folder), *words])
    return done.exit_code, done.output


def over_the_console(member: Member, path: str, key: str) -> tuple[int, Any]:
    """GET with a key, over TCP."""
    address = member.call.ask("GET", "/api/node")["console"]
    request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ran_on(member: Member) -> list[str]:
    """Ask spore for a word; the nodes that it ran on."""
    body = {"model": "spore", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    told = member.call.ask("POST", "/v1/chat/completions", body, timeout_s=60.0)
    return [stage["node"] for stage in told["mycoswarm"]["stages"]]


def test_rules_decide_at_once_and_after_a_new_start(pair: Fleet) -> None:
    first = pair.coordinator
    assert ran_on(first)
    assert type_in(first, "rules", "add", "there", "--task", "chat", "--node", "worker-1", "--position", "1")[0] == 0
    assert ran_on(first) == ["worker-1"]
    code, said = type_in(
        first, "rules", "add", "no texts", "--task", "completion", "--deny", "chats only", "--position", "1"
    )
    assert code == 0, said
    again = pair.restart(first)
    assert [rule["name"] for rule in again.call.ask("GET", "/api/rules")["rules"]] == [
        "no texts",
        "there",
        DEFAULT_RULE.name,
    ]
    until(lambda: again.call.ask("GET", "/v1/models")["data"], 20, "the coordinator knows its own models")
    with pytest.raises(SwarmError, match="chats only"):
        again.call.ask("POST", "/v1/completions", {"model": "spore", "prompt": "Hello"})
    code, said = type_in(again, "rules", "explain", "--task", "completion")
    assert code == 0 and "would be refused" in said and "no texts" in said
    assert type_in(again, "rules", "undo")[0] == 0
    assert again.call.ask("POST", "/v1/completions", {"model": "spore", "prompt": "Hello"}, timeout_s=60.0)["choices"]


def test_a_worker_keeps_no_rules(pair: Fleet) -> None:
    code, said = type_in(pair.workers[0], "rules", "list")
    assert code == 1 and "coordinator" in said


def test_the_owners_key_reaches_the_owners_routes_over_the_console_and_no_other_key_does(pair: Fleet) -> None:
    first = pair.coordinator
    boss, guest = (
        type_in(first, "keys", "create", *words)[1].strip().splitlines()[0]
        for words in (("boss", "--owner"), ("guest",))
    )
    status, told = over_the_console(first, "/api/rules", boss)
    assert status == 200 and told["rules"][-1]["name"] == DEFAULT_RULE.name
    assert over_the_console(first, "/api/nodes", boss)[0] == 200
    for path in ("/api/rules", "/api/nodes", "/api/endpoints", "/api/keys"):
        status, told = over_the_console(first, path, guest)
        assert (status, told["error"]["code"]) == (403, "not_an_owner_key")
    assert over_the_console(first, "/v1/models", guest)[0] == 200
