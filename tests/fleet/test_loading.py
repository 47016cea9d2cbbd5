"""Models loaded and unloaded over real daemons."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from daemons import PAIR, Answer, stages_of, until
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet

pytestmark = pytest.mark.slow


def rings(fleet: Fleet) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = fleet.coordinator.call.ask("GET", "/api/rings")["rings"]
    return told


def type_in(fleet: Fleet, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--data", str(fleet.coordinator.folder), "models", *words], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_a_model_is_loaded_over_two_workers_serves_and_leaves_them(own_fleet: Fleet) -> None:
    call = own_fleet.coordinator.call
    assert rings(own_fleet) == []
    code, said = type_in(own_fleet, "load", "spore", "--route", PAIR)
    assert code == 0 and "worker-1" in said and "worker-2" in said, said
    (ring,) = rings(own_fleet)
    assert (
        ring["is_open"] and ring["tokens"] == 0 and {one["node"] for one in ring["stages"]} == {"worker-1", "worker-2"}
    )
    assert all(len(stages_of(worker)) == 1 for worker in own_fleet.workers)

    (row,) = call.ask("GET", "/api/ledger")["requests"]
    assert (row["outcome"], row["rule"], row["completion_tokens"]) == ("loaded", "any adopted node on this LAN", 0)
    readers = call.ask("GET", f"/api/ledger/{row['receipt']}/exposure")["readers"]
    assert [one["what"] for one in readers] == ["coordinator"], "no node has seen a prompt"
    for worker in own_fleet.workers:
        (ticket,) = worker.call.ask("GET", "/api/ledger?kind=ticket")["rows"]
        assert ticket["request_id"] == row["receipt"]
    found = [json.loads(line) for line in call.stream("POST", "/api/ledger/verify", {})]
    assert not any(one.get("findings") or one.get("discrepancies") for one in found), found

    Answer(own_fleet, PAIR, tokens=20).rest()
    (same,) = rings(own_fleet)
    assert same["ring_id"] == ring["ring_id"] and same["tokens"] > 0, "the answer came from the ring that was loaded"
    fit = call.ask("GET", "/api/models/spore/fit")
    (measured,) = fit["measured"]
    assert measured["decode_tokens_per_s"] == same["decode_tokens_per_s"] and measured["is_loaded"]

    code, said = type_in(own_fleet, "unload", "spore")
    assert code == 0 and "has left" in said and rings(own_fleet) == []
    until(lambda: not any(stages_of(worker) for worker in own_fleet.workers), 5, "the stages end")
    assert type_in(own_fleet, "unload", "spore")[0] == 1


def test_a_model_in_use_is_not_unloaded_and_what_the_rules_refuse_is_not_loaded(own_fleet: Fleet) -> None:
    call = own_fleet.coordinator.call
    one = Answer(own_fleet, PAIR, tokens=400, temperature=1.5, seed=4)
    one.more(2)
    with pytest.raises(SwarmError) as caught:
        call.ask("POST", "/api/models/spore/unload", {})
    assert caught.value.code == "model_in_use"
    one.hang_up()
    until(lambda: rings(own_fleet)[0]["in_use_by"] == 0, 5, "the answer is cancelled")
    call.ask("POST", "/api/models/spore/unload", {})
    call.ask("POST", "/api/rules", {"rule": {"name": "no", "then": {"do": "deny"}}, "position": 1})
    code, said = type_in(own_fleet, "load", "spore")
    assert code == 3 and "error" in said and rings(own_fleet) == []
    assert not call.ask("GET", "/api/models/spore/fit")["decision"]["allowed"]
