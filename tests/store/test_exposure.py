"""Who could have read a prompt, and a request in one line, out of rows that may have been altered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.store.chain import Row
from mycoswarm.store.exposure import exposure_of
from mycoswarm.store.summary import shown, summary_of

NODE = {"id": "a1", "name": "attic", "place": "LAN", "layers": [0, 4]}
OTHER = {"id": "c1", "name": "cellar", "place": "LAN", "layers": [4, 8]}
ASKED = {"model": "spore", "model_digest": "d", "key": "desk", "user": "ana", "task": "chat"}


def row(seq: int, kind: str, body: Any) -> Row:
    text = body if isinstance(body, str) else json.dumps(body)
    return Row(seq, 100.0 + seq, kind, "r1", text, "", "", b"")


def run_on(seq: int, attempt: int, *nodes: Any, **more: Any) -> Row:
    body = {"outcome": "run", "attempt": attempt, "rule": "all", "nodes": list(nodes), "asked": ASKED} | more
    return row(seq, "decision", body)


def exposed(*rows: Row) -> dict[str, Any]:
    return exposure_of("r1", rows, coordinator=("p1", "pi"), names={"h1": "holder", "t1": "toolbox"})


def machines(told: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(one["what"], one["name"], one.get("try")) for one in told["readers"]]


def test_all_tries_count_and_the_holder_of_the_model_is_apart() -> None:
    rows = (
        run_on(1, 1, NODE, OTHER, holder="h1"),
        run_on(2, 2, OTHER, holder="c1"),
        row(3, "decision", {"outcome": "external", "attempt": 3, "endpoint": "rack", "place": "LAN", "rule": "x"}),
        row(4, "tool", {"node": "t1", "name": "search", "whatever": 1}),
        row(5, "answer", {"outcome": "stop", "nodes": ["attic", "cellar", "rack"]}),
    )
    told = exposed(*rows)
    assert machines(told) == [
        ("coordinator", "pi", None),
        ("layers", "attic", 1),
        ("layers", "cellar", 1),
        ("layers", "cellar", 2),
        ("endpoint", "rack", 3),
        ("tool", "toolbox", None),
    ]
    assert told["informed"] == [{"what": "holder", "id": "h1", "name": "holder", "at": 101.0}]
    assert told["readers"][1]["layers"] == [0, 4] and told["readers"][4]["was_reached"] is True
    assert not told["has_prompt"] and not told["notes"]


def test_a_model_that_was_only_loaded_showed_no_node_a_prompt() -> None:
    told = exposed(run_on(1, 1, NODE, OTHER, holder="h1", only_loads=True), row(2, "answer", {"outcome": "loaded"}))
    assert machines(told) == [("coordinator", "pi", None)] and not told["informed"]
    assert "no prompt" in told["notes"][0]


def test_an_endpoint_that_was_not_reached_or_of_which_nothing_is_known_yet_is_listed_so() -> None:
    sent = row(1, "decision", {"outcome": "external", "endpoint": "rack"})
    assert exposed(sent)["readers"][1]["was_reached"] is None
    assert exposed(sent, row(2, "answer", {"nodes": []}))["readers"][1]["was_reached"] is False


def test_a_refused_request_was_read_by_the_coordinator_alone() -> None:
    assert machines(exposed(row(1, "decision", {"outcome": "refused"}))) == [("coordinator", "pi", None)]


def test_a_kept_prompt_and_an_altered_row_are_said_and_never_shown() -> None:
    told = exposed(run_on(1, 1, NODE, prompt="the heliotrope"), row(2, "decision", "altered"))
    assert told["has_prompt"] and any("row 2 was altered" in text for text in told["notes"])
    assert "heliotrope" not in json.dumps(told)


def test_a_row_is_shown_without_its_prompt_unless_asked() -> None:
    kept = run_on(1, 1, NODE, prompt="the heliotrope")
    assert shown(kept)["has_prompt"] and "heliotrope" not in json.dumps(shown(kept))
    assert shown(kept, with_prompt=True)["body"]["prompt"] == "the heliotrope"
    assert shown(row(1, "answer", "altered"))["body"] is None


def test_a_request_is_one_line_from_its_rows() -> None:
    end = {"outcome": "stop", "key": "desk", "nodes": ["attic"], "ran": "LAN", "completion_tokens": 9, "seconds": 1.5}
    told = summary_of("r1", (run_on(1, 1, NODE), run_on(2, 2, OTHER), row(3, "answer", end)))
    assert (told["tries"], told["nodes"], told["outcome"], told["user"], told["at"]) == (
        2,
        ["attic"],
        "stop",
        "ana",
        101,
    )
    running = summary_of("r1", (run_on(1, 1, NODE),))
    assert (running["outcome"], running["nodes"], running["key"]) == (None, ["attic"], "desk")
    there = summary_of("r1", (row(1, "ticket", {"rule": "all", "layers": [0, 4], "model_digest": "d"}),))
    assert (there["rule"], there["layers_here"], there["tries"]) == ("all", [0, 4], 0)


NAMES = st.sampled_from(["id", "outcome", "nodes", "asked", "holder", "endpoint", "node", "name", "layers", "prompt"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)
BODIES = st.dictionaries(NAMES, JSON | st.just("run") | st.just("external"), max_size=5) | st.text(max_size=9)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(["decision", "answer", "ticket", "tool"]), BODIES), min_size=1, max_size=5))
def test_rows_that_say_anything_at_all_break_nothing(said: list[tuple[str, Any]]) -> None:
    rows = tuple(row(seq, kind, body) for seq, (kind, body) in enumerate(said, 1))
    json.dumps(exposure_of("r1", rows, coordinator=("p", "pi"), names={}))
    json.dumps([summary_of("r1", rows), *(shown(one) for one in rows)])


@pytest.mark.parametrize("odd", [[], {}, 5, None, "x"])
def test_values_of_other_kinds_break_nothing(odd: Any) -> None:
    rows = (
        row(1, "decision", {"outcome": "external", "endpoint": odd}),
        row(2, "decision", {"outcome": "run", "nodes": [{"id": odd, "name": odd}], "holder": odd}),
        row(3, "answer", {"nodes": [odd]}),
        row(4, "answer", {"nodes": odd}),
    )
    for some in (rows, rows[:3]):
        exposed(*some)
        assert all(isinstance(name, str) for name in summary_of("r1", some)["nodes"])
