"""The owner decides: rules over real daemons, a real endpoint that must not hear, and nodes that die in mid-answer."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from daemons import endless, logs_of, until
from mycoswarm.base.errors import InputError, SwarmError
from mycoswarm.cli.fleet import Fleet, Member
from rack import Rack

pytestmark = pytest.mark.slow

SECRET = "The heliotrope password of my aunt is Zanzibar-77"
PRIVATE = {
    "name": "private only on worker-1",
    "when": {"labels": {"any": ["private"]}},
    "then": {"do": "run", "nodes": ["worker-1"], "split": "solo"},
}
ANYWHERE = {
    "name": "the rest anywhere, else the rack",
    "then": {"do": "run"},
    "fallback": [{"do": "external", "name": "rack"}],
}


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with Rack() as running:
        yield running


@pytest.fixture(scope="module")
def house(rack: Rack) -> Iterator[Fleet]:
    """A coordinator and two workers; worker-1 is for private prompts, the rack for what fits nowhere."""
    with Fleet(workers=2) as running:
        running.enrol()
        call = running.coordinator.call
        given = {"name": "rack", "url": rack.url, "place": "LAN", "secret": "sk-rack-secret"}
        call.ask("POST", "/api/endpoints", given)
        call.ask("PUT", "/api/rules", {"rules": [PRIVATE, ANYWHERE], "tests": {}})
        yield running
        assert "Traceback" not in logs_of(running)


@pytest.fixture
def fleet(house: Fleet) -> Fleet:
    """The same, whole again whatever the test before did."""
    for member in house.members:
        if member.process.poll() is not None:
            house.restart(member)
    house.wait_ready()
    return house


def client(fleet: Fleet, name: str, **terms: object) -> openai.OpenAI:
    """An OpenAI client with a key of its own."""
    made = fleet.coordinator.call.ask("POST", "/api/keys", {"name": name, **terms})
    return openai.OpenAI(base_url=f"http://{fleet.console()}/v1", api_key=made["key"], max_retries=0, timeout=60)


def tickets(member: Member, receipt: str) -> list[object]:
    """What a node keeps of a request."""
    found: list[object] = member.call.ask("GET", f"/api/ledger/{receipt}")["rows"]
    return found


def test_a_private_prompt_runs_on_its_node_and_nowhere_else_also_when_that_dies(fleet: Fleet, rack: Rack) -> None:
    before = len(rack.heard)
    asked = {
        "model": "spore",
        "messages": [{"role": "user", "content": SECRET}],
        "max_tokens": 1500,
        "temperature": 0,
        "logit_bias": endless(),
    }
    receipts = []
    for number, (terms, headers) in enumerate([({"labels": ["private"]}, {}), ({}, {"x-mycoswarm-labels": "private"})]):
        fleet.wait_ready()
        with client(fleet, f"diary-{number}", **terms) as diary:
            stream = diary.chat.completions.with_raw_response.create(**asked, stream=True, extra_headers=headers)  # type: ignore[call-overload]  # built above
            assert stream.headers["x-mycoswarm-nodes"] == "worker-1"
            receipts.append(stream.headers["x-mycoswarm-receipt"])
            with pytest.raises(openai.APIError) as caught:
                for count, _ in enumerate(stream.parse()):
                    if count == 10:
                        fleet.workers[0].process.kill()
            assert "no node that the rule" in str(caught.value)
            with pytest.raises(openai.APIStatusError) as refused:
                diary.chat.completions.create(**asked, extra_headers=headers)  # type: ignore[call-overload]  # built above
            assert refused.value.status_code in (403, 404, 502, 503)
        fleet.restart(fleet.workers[0])
    assert len(rack.heard) == before, "the endpoint never hears of it"
    for receipt in receipts:
        exposed = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}/exposure")
        assert "worker-2" not in json.dumps(exposed) and "rack" not in json.dumps(exposed)
        with pytest.raises(SwarmError):
            tickets(fleet.workers[1], receipt)
        assert tickets(fleet.workers[0], receipt)
    assert "Zanzibar" not in logs_of(fleet)
    for member in fleet.members:
        for file in member.folder.glob("node.db*"):
            assert b"Zanzibar" not in file.read_bytes(), "no prompt text in the ledger"


def test_what_no_node_can_do_goes_to_the_endpoint_that_the_rule_names(fleet: Fleet, rack: Rack) -> None:
    with client(fleet, "open", labels=["public"]) as anybody:
        raw = anybody.chat.completions.with_raw_response.create(
            model="big", messages=[{"role": "user", "content": "Hello, rack!"}], max_tokens=20
        )
        told = raw.parse()
        assert told.choices[0].message.content == "From the rack."
        assert raw.headers["x-mycoswarm-nodes"] == "rack" and raw.headers["x-mycoswarm-ran"] == "this-machine"
        assert rack.keys[-1] == "Bearer sk-rack-secret" and b"Hello, rack!" in rack.heard[-1]
        streamed = anybody.chat.completions.create(
            model="big", messages=[{"role": "user", "content": "Again!"}], max_tokens=20, stream=True
        )
        chunks = list(streamed)
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "From the rack."
        extra = next(c.model_extra["mycoswarm"] for c in chunks if c.model_extra and "mycoswarm" in c.model_extra)
        assert extra["ran"] == "this-machine" and extra["nodes"] == ["rack"] and extra["receipt"]
    shown = json.dumps(fleet.coordinator.call.ask("GET", "/api/endpoints"))
    assert "sk-rack-secret" not in shown and "sk-rack-secret" not in logs_of(fleet)


def test_texts_to_embed_go_to_the_endpoint_and_private_ones_do_not(fleet: Fleet, rack: Rack) -> None:
    with client(fleet, "vectors", labels=["public"]) as anybody:
        raw = anybody.embeddings.with_raw_response.create(model="big", input=["Hello!", "Hi"])
        told = raw.parse()
        assert [one.embedding for one in told.data] == [[6, 1], [2, 1]] and told.usage.prompt_tokens == 5
        assert raw.headers["x-mycoswarm-nodes"] == "rack" and b"Hello!" in rack.heard[-1]
        assert told.model_extra["mycoswarm"]["endpoint"] == {"name": "rack", "model": "big"}
    before = len(rack.heard)
    with client(fleet, "secret vectors", labels=["private"]) as diary:
        with pytest.raises(openai.APIStatusError):
            diary.embeddings.create(model="big", input="Zanzibar")
        told = diary.embeddings.create(model="spore", input="Zanzibar")
        assert told.model_extra["mycoswarm"]["nodes"] == ["worker-1"]
    assert len(rack.heard) == before


def test_an_endpoint_that_leads_back_here_ends_after_one_turn(fleet: Fleet) -> None:
    call = fleet.coordinator.call
    key = call.ask("POST", "/api/keys", {"name": "mirror"})["key"]
    mirror = {"name": "mirror", "url": f"http://{fleet.console()}/v1", "place": "LAN", "secret": key}
    call.ask("POST", "/api/endpoints", mirror)
    rule = {"name": "mirror", "when": {"model": "seen-*"}, "then": {"do": "external", "name": "mirror"}}
    call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
    try:
        with client(fleet, "narcissus") as one, pytest.raises(openai.APIStatusError, match="came back to this node"):
            one.chat.completions.create(model="seen-twice", messages=[{"role": "user", "content": "Who?"}])
    finally:
        call.ask("DELETE", "/api/rules/mirror", {})
        call.ask("DELETE", "/api/endpoints/mirror", {})


def test_models_of_endpoints_that_rules_name_are_listed(fleet: Fleet) -> None:
    with client(fleet, "browser") as browser:
        listed = {model.id: model for model in browser.models.list()}
        assert listed["big"].owned_by == "rack" and listed["spore"].owned_by == "mycoswarm"
        assert browser.models.retrieve("big").id == "big"


def test_a_request_can_stay_near_but_reach_no_further(fleet: Fleet) -> None:
    with client(fleet, "near") as near, pytest.raises(openai.APIStatusError) as caught:
        near.chat.completions.create(
            model="big",
            messages=[{"role": "user", "content": "Hello!"}],
            extra_headers={"x-mycoswarm-route": "nodes=worker-2"},
        )
    assert caught.value.status_code in (403, 404)
    receipt = caught.value.response.headers["x-mycoswarm-receipt"]
    shown = fleet.coordinator.call.ask("GET", f"/api/ledger/{receipt}")
    assert [row["kind"] for row in shown["rows"]] == ["decision", "answer"], "what is refused leaves its rows too"


def test_the_owner_is_asked_before_it_goes(fleet: Fleet, rack: Rack) -> None:
    call = fleet.coordinator.call
    asking = {
        "name": "the rack when I say so",
        "when": {"model": "big", "keys": ["asker"]},
        "then": {"do": "ask", "then": {"do": "external", "name": "rack"}, "within_s": 30},
    }
    call.ask("POST", "/api/rules", {"rule": asking, "position": 1})
    before = len(rack.heard)
    try:
        with client(fleet, "asker") as asker, ThreadPoolExecutor(1) as pool:
            for allow in (True, False):
                coming = pool.submit(
                    asker.chat.completions.create,
                    model="big",
                    messages=[{"role": "user", "content": SECRET}],
                )
                until(lambda: call.ask("GET", "/api/approvals")["approvals"], 10, "the request waits")
                (waiting,) = call.ask("GET", "/api/approvals")["approvals"]
                assert "Zanzibar" not in json.dumps(waiting) and waiting["key"] == "asker"
                assert len(rack.heard) == before + (not allow), "nothing goes before the yes"
                call.ask("POST", f"/api/approvals/{waiting['id']}", {"allow": allow})
                if allow:
                    assert coming.result(20).choices[0].message.content == "From the rack."
                else:
                    with pytest.raises(openai.PermissionDeniedError, match="said no"):
                        coming.result(20)
    finally:
        call.ask("DELETE", f"/api/rules/{asking['name'].replace(' ', '%20')}", {})
    assert len(rack.heard) == before + 1


def test_an_edit_that_breaks_a_test_changes_nothing(fleet: Fleet) -> None:
    call = fleet.coordinator.call
    test = {
        "request": {"model": "spore", "labels": ["private"]},
        "expect": {"outcome": "run", "only": ["worker-1"], "never": ["worker-2", "rack", "outside"]},
    }
    call.ask("POST", "/api/rules/tests", {"tests": {"private stays": test}})
    before = call.ask("GET", "/api/rules")
    wider = {**PRIVATE, "then": {"do": "run"}}
    with pytest.raises(InputError, match="private stays") as caught:
        call.ask("PUT", f"/api/rules/{PRIVATE['name'].replace(' ', '%20')}", {"rule": wider})
    assert caught.value.code == "breaks_rule_tests"
    assert call.ask("GET", "/api/rules") == before
    call.ask("POST", "/api/rules/tests", {"tests": {"private stays": None}})


def test_a_key_has_limits_and_is_told_when_to_come_again(fleet: Fleet) -> None:
    with client(fleet, "slow", requests_per_minute=2) as slow:
        for _ in range(2):
            slow.chat.completions.create(model="spore", messages=[{"role": "user", "content": "Hello!"}], max_tokens=2)
        with pytest.raises(openai.RateLimitError) as caught:
            slow.chat.completions.create(model="spore", messages=[{"role": "user", "content": "Hello!"}])
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


def test_an_ordinary_key_is_no_owner(fleet: Fleet) -> None:
    made = fleet.coordinator.call.ask("POST", "/api/keys", {"name": "guest"})["key"]
    owner = fleet.coordinator.call.ask("POST", "/api/keys", {"name": "mistress", "is_owner": True})["key"]
    for key, status in ((made, 403), (owner, 200)):
        with openai.OpenAI(base_url=f"http://{fleet.console()}", api_key=key, max_retries=0) as http:
            if status == 200:
                assert "rules" in http.get("/api/rules", cast_to=object)  # type: ignore[operator]  # JSON
            else:
                with pytest.raises(openai.PermissionDeniedError):
                    http.get("/api/rules", cast_to=object)


def test_every_nodes_chain_and_the_coordinators_agree(fleet: Fleet) -> None:
    began = time.monotonic()
    told = list(fleet.coordinator.call.stream("POST", "/api/ledger/verify", {}))
    last = json.loads(told[-1])
    assert "error" not in last and not last.get("findings"), last
    assert time.monotonic() - began < 30
